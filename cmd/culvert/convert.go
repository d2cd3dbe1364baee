package main

import "github.com/spf13/cobra"

func convertCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "convert FILE",
		Short: "print a configuration in culvert's own form",
		Long: `Reads FILE, in culvert's own form or as VyOS has it, and prints it as TOML.
Warnings go to standard error.

A key that stands in FILE itself is printed too, so mind where the output goes;
a key in a file of its own or in an environment variable is not.`,
		Example: `  (umask 077; culvert convert vpn.vyos > site.toml)`,
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(cmd.ErrOrStderr(), args[0])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(cfg.TOML())
			return err
		},
	}
}
