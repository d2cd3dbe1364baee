package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"culvert/config"
	"culvert/gateway"
)

func checkCommand() *cobra.Command {
	var here bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "say whether a configuration is right, and what it means",
		Long: `Reads FILE, in culvert's own form, as VyOS has it, or a swanctl.conf, and prints
everything that is wrong or worth knowing, each with its line and what to write
instead. It needs no rights and touches nothing. With --here FILE is for this
machine, and is held against its addresses and networks too. The exit code is 2
when FILE cannot be used; warnings leave it at 0.`,
		Example: `  culvert check site.toml
  culvert check --here site.toml       # on the machine that is to run it
  culvert check vpn.vyos
  culvert check /etc/swanctl/swanctl.conf`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(cmd.ErrOrStderr(), args[0])
			if err != nil {
				return err
			}
			if here {
				host, err := gateway.ThisHost()
				if err != nil {
					return failure(err)
				}
				complaints(cmd.ErrOrStderr(), cfg.LintHost(host))
			}
			describe(cmd.OutOrStdout(), cfg)
			return nil
		},
	}
	cmd.Flags().BoolVar(&here, "here", false, "the file is for this machine: look at its addresses and networks")
	return cmd
}

// loadConfig reads a configuration and prints what there is to say about it.
func loadConfig(stderr io.Writer, file string) (*config.Config, error) {
	cfg, err := readConfig(stderr, file)
	if err == nil {
		complaints(stderr, cfg.Warnings)
	}
	return cfg, err
}

// readConfig reads a configuration and prints what is wrong with one that cannot
// be used.
func readConfig(stderr io.Writer, file string) (*config.Config, error) {
	cfg, err := config.Load(file)
	var wrong *config.Error
	if errors.As(err, &wrong) {
		complaints(stderr, wrong.Diagnostics)
		return nil, usageError(nil)
	}
	if err != nil {
		return nil, usageError(err)
	}
	return cfg, nil
}

// describe says in words what a configuration means.
func describe(w io.Writer, cfg *config.Config) {
	fmt.Fprintf(w, "%s can be used (%s)\n", cfg.File, cfg.Format)
	for _, p := range cfg.Peers {
		remote, does := p.Remote, "we wait for it to connect"
		if remote == "" {
			remote = "any address"
		}
		if p.Initiate {
			does = "we connect to it"
		}
		fmt.Fprintf(w, "peer %s at %s: %s\n", p.Name, remote, does)
		fmt.Fprintf(w, "  we are     %v (%s)\n", p.LocalID, p.LocalID.TypeName())
		fmt.Fprintf(w, "  it must be %v (%s)\n", p.RemoteID, p.RemoteID.TypeName())
		for _, t := range p.Tunnels {
			when := ""
			if t.OnTraffic() {
				when = ", when there is traffic"
			}
			fmt.Fprintf(w, "  tunnel %s: %s here, %s there%s\n", t.Name, strings.Join(t.LocalNetworks(), ", "), strings.Join(t.RemoteNetworks(), ", "), when)
		}
		if lines := p.PresetLines(); lines != nil {
			fmt.Fprintf(w, "  preset %s sets\n    %s\n", p.Preset, strings.Join(lines, "\n    "))
		}
	}
	fmt.Fprintln(w, gateway.MTUText(cfg))
}
