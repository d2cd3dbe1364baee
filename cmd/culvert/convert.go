package main

import (
	"errors"

	"github.com/spf13/cobra"

	"culvert/config"
)

// printers are the forms that a configuration can be printed in.
var printers = map[string]func(*config.Config) []byte{
	string(config.FormatTOML):    (*config.Config).TOML,
	string(config.FormatSwanctl): (*config.Config).Swanctl,
}

func convertCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "convert FILE",
		Short: "print a configuration in culvert's own form, or strongSwan's",
		Long: `Reads FILE, in culvert's own form, as VyOS has it, or a swanctl.conf, and
prints it as TOML, or with --to swanctl as a swanctl.conf for strongSwan; what
that has no words for becomes comments. Warnings go to standard error.

A key that stands in FILE itself is printed too, so mind where the output goes;
a key in a file of its own or in an environment variable is not.`,
		Example: `  (umask 077; culvert convert vpn.vyos > site.toml)
  (umask 077; culvert convert --to swanctl site.toml > swanctl.conf)`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			print := printers[to]
			if print == nil {
				return usageError(errors.New("--to takes toml or swanctl"))
			}
			cfg, err := loadConfig(cmd.ErrOrStderr(), args[0])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(print(cfg))
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", string(config.FormatTOML), "the `form` to print: toml or swanctl")
	return cmd
}
