package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"culvert/api"
	"culvert/gateway"
)

func explainCommand() *cobra.Command {
	var d door
	return d.flags(&cobra.Command{
		Use:   "explain [PEER]",
		Short: "say what is wrong now, why, and what to change",
		Long: `Asks a running gateway what is down or dropped, of PEER or of all of them: a
paragraph each on what happened, why, and which line of which file to change,
here or at the peer. The log has the same text when it happens, and 'culvert
status' the last of it.

The exit code is 0 when nothing is wrong, and 1 when something is, or no gateway
answers; what is only worth knowing is marked so and counts as nothing wrong.`,
		Example: `  sudo culvert explain
  sudo culvert explain office
  sudo culvert explain --json | jq -r '.findings[] | select(.wrong) | .code'`,
		Args: anyPeer,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/explain"
			if len(args) == 1 {
				path = peerPath(args[0], "explain")
			}
			var x gateway.Explanation
			if err := api.Get(cmd.Context(), d.socket, path, &x); err != nil {
				return d.failed(cmd, err)
			}
			if err := d.printExplanation(cmd.OutOrStdout(), x); err != nil {
				return failure(err)
			}
			if x.Wrong {
				return failure(nil)
			}
			return nil
		},
	})
}

func (d *door) printExplanation(w io.Writer, x gateway.Explanation) error {
	if d.json {
		return printJSON(w, x)
	}
	if len(x.Findings) == 0 {
		_, err := fmt.Fprintln(w, "nothing is wrong")
		return err
	}
	for i, f := range x.Findings {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s [%s]\n%s\n", about(f), f.Code, wrapped(f.Text, 100))
	}
	return nil
}

// about says whom a finding is of, and how bad it is.
func about(f gateway.Finding) string {
	who := "the gateway"
	switch {
	case f.Tunnel != "":
		who = fmt.Sprintf("peer %s, tunnel %s", f.Peer, f.Tunnel)
	case f.Peer != "":
		who = "peer " + f.Peer
	}
	if f.Wrong {
		return who + ": wrong"
	}
	return who + ": worth knowing"
}

// wrapped breaks a paragraph into indented lines, at spaces.
func wrapped(text string, width int) string {
	var b strings.Builder
	column := width
	for _, word := range strings.Fields(text) {
		switch {
		case b.Len() == 0:
			b.WriteString("  ")
			column = 2
		case column+1+len(word) > width:
			b.WriteString("\n  ")
			column = 2
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
