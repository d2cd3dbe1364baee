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
		Long: "Print the version, and what this machine does AES-GCM with.\n\n" +
			"The best that the processor has is chosen at start; " + aesgcm.Variable + " set to a name (stdlib) chooses another.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := aesgcm.Path()
			fmt.Fprintf(cmd.OutOrStdout(), "culvert %s %s %s/%s, AES-GCM: %s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, path)
			if err != nil {
				return usageError(err)
			}
			return nil
		},
	}
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
