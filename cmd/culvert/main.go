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
	root, out := rootCommand(), &output{File: os.Stdout}
	root.SetArgs(args)
	root.SetOut(out)
	err := root.Execute()
	if err == nil {
		err = out.failure()
	}
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
		Version:           versionText(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err) })
	for _, g := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Look at what it can do:", []*cobra.Command{demoCommand(), benchCommand()}},
		{"Write a configuration:", []*cobra.Command{initCommand(), pskCommand(), checkCommand(), convertCommand()}},
		{"Run a gateway:", []*cobra.Command{upCommand(), reloadCommand(), connectCommand(), disconnectCommand(), rekeyCommand(), drainCommand()}},
		{"See what it does:", []*cobra.Command{statusCommand(), explainCommand(), pageCommand(), eventsCommand(), captureCommand()}},
	} {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.title
			root.AddCommand(c)
		}
	}
	root.AddCommand(manCommand(root), versionCommand())
	refuseUnknownWords(root)
	return root
}

// refuseUnknownWords makes wrong usage of what cobra answers with help alone.
func refuseUnknownWords(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = func(_ *cobra.Command, args []string) error {
				_, _, err := root.Find(args)
				return err
			}
		case "completion":
			c.Args = nil // it has commands of its own, one for each shell
			c.RunE = func(*cobra.Command, []string) error {
				return usageError(errors.New("completion takes a shell: bash, fish, powershell or zsh"))
			}
		}
	}
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
