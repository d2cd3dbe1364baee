// Command culvert is an IPsec gateway: IKEv2 with pre-shared keys and explicit
// identities, and ESP inside UDP, between a TUN device and UDP 4500.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:])) }

// run is the whole program but for its end: it returns the exit code, 0 for
// success, 1 for a failure, 2 for a wrong configuration or usage.
func run(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	return complain(os.Stderr, err)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "culvert",
		Short: "IPsec gateway that works behind NAT",
		Long: `culvert is a self-contained IPsec gateway: IKEv2 with pre-shared keys and
explicit identities, and ESP inside UDP, between a TUN device and UDP 4500.
It needs no IPsec in the kernel.`,
		Example: `  culvert demo                    two gateways and a 1:1 NAT on this machine
  culvert check site.toml         is this configuration right?
  sudo culvert up site.toml       run it
  sudo culvert status             what is it doing?
  sudo culvert explain            what is wrong, and which line to change?
  sudo culvert reload             take what has changed in site.toml`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err) })
	root.AddCommand(upCommand(), checkCommand(), convertCommand(), initCommand(), pskCommand(), statusCommand(), pageCommand(), eventsCommand(), captureCommand(), explainCommand(), reloadCommand(), connectCommand(), disconnectCommand(), rekeyCommand(), drainCommand(), demoCommand(), benchCommand(), versionCommand())
	root.AddCommand(manCommand(root))
	return root
}

// complain prints an error and returns its exit code.
func complain(w io.Writer, err error) int {
	var exit *exitError
	if !errors.As(err, &exit) {
		// cobra's own: an unknown command, a wrong number of arguments
		fmt.Fprintf(w, "culvert: %v\nRun 'culvert --help' for usage.\n", err)
		return exitUsage
	}
	if exit.err != nil {
		fmt.Fprintf(w, "culvert: %v\n", exit.err)
	}
	return exit.code
}
