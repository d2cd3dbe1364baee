package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"culvert/espcrypto/aesgcm"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version, and what this machine does AES-GCM with",
		Long: `Prints the version, and what this machine does AES-GCM with: the best that its
processor has, or what ` + aesgcm.Variable + ` names ("stdlib").`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(cmd.OutOrStdout(), versionText())
			if _, err := aesgcm.Path(); err != nil {
				return usageError(err)
			}
			return nil
		},
	}
}

func versionText() string {
	path, _ := aesgcm.Path()
	return fmt.Sprintf("culvert %s %s %s/%s, AES-GCM: %s", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, path)
}

// stamped is the version of a release: -ldflags "-X main.stamped=v1.2.3".
var stamped string

func version() string {
	if stamped != "" {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
