package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"culvert/config"
)

func pskCommand() *cobra.Command {
	var peer string
	cmd := &cobra.Command{
		Use:   "psk",
		Short: "make a strong pre-shared key",
		Long: `Prints a new pre-shared key: 256 random bits, in base64. Every peer takes its
characters but AWS, which wants A-Z, a-z, 0-9, '.' and '_': --for aws keeps to
letters and digits, 64 of them, of which the first is not 0.

Both sides need the same key. It appears on standard output only; whoever has it
can be either side.`,
		Example: `  (umask 077; culvert psk > office.key)     # for psk_file = "office.key"
  (umask 077; culvert psk --for aws > aws.key)`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := newKey(peer)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
			return err
		},
	}
	cmd.Flags().StringVar(&peer, "for", "", "characters that this `kind` of peer takes: aws, or any other preset")
	return cmd
}

// Of what AWS takes, letters and digits alone: a dot or underscore gains nothing.
const (
	awsKeyLen  = 64
	awsKeyText = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

func newKey(peer string) (string, error) {
	if peer != "" && !slices.Contains(config.Presets(), peer) {
		return "", usageError(fmt.Errorf("--for takes %s", strings.Join(config.Presets(), ", ")))
	}
	if peer == "aws" {
		return drawn(awsKeyLen, awsKeyText), nil
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	return base64.StdEncoding.EncodeToString(key[:]), nil
}

// drawn are characters drawn evenly, the first of them a letter.
func drawn(n int, from string) string {
	text := make([]byte, 0, n)
	for len(text) < n {
		var b [1]byte
		_, _ = rand.Read(b[:])
		i := int(b[0]) & 63
		letter := i < 52
		if i < len(from) && (letter || len(text) > 0) {
			text = append(text, from[i])
		}
	}
	return string(text)
}
