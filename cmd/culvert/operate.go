package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"culvert/api"
	"culvert/gateway"
)

// door is how a command reaches a running gateway, and how it prints.
type door struct {
	socket string
	json   bool
}

func (d *door) flags(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&d.json, "json", false, "print JSON")
	return d.socketFlag(cmd)
}

// peers completes the name of a peer, of those that the running gateway has.
func (d *door) peers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var s gateway.Status
	if len(args) > 0 || api.Get(cmd.Context(), d.socket, "/v1/status", &s) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, p := range s.Peers {
		names = append(names, p.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (d *door) socketFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&d.socket, "socket", api.DefaultSocket(), "control socket of the gateway, a `path`")
	if strings.Contains(cmd.Use, "PEER") {
		cmd.ValidArgsFunction = d.peers
	} else {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	return cmd
}

// post has the gateway do something, and prints what it says: as JSON, or else
// as text words it. A failure in JSON goes to standard output too.
func post[T any](cmd *cobra.Command, d *door, path string, body any, text func(T) string) error {
	var answer T
	err := api.Post(cmd.Context(), d.socket, path, body, &answer)
	if err != nil {
		return d.failed(cmd, err)
	}
	if d.json {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), text(answer))
	return err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// failed gives an error its exit code: 2 where the configuration or the names
// are wrong, 1 otherwise.
func (d *door) failed(cmd *cobra.Command, err error) error {
	var e *api.Error
	if !errors.As(err, &e) {
		e = &api.Error{Message: err.Error()}
	}
	exit := &exitError{exitFailure, err}
	if e.Status == http.StatusNotFound || e.Status == http.StatusUnprocessableEntity {
		exit.code = exitUsage
	}
	switch {
	case d.json:
		_ = printJSON(cmd.OutOrStdout(), e)
		exit.err = nil
	case e.Diagnostics != nil:
		fmt.Fprintln(cmd.ErrOrStderr(), e.Message)
		exit.err = errors.New("nothing is reloaded")
	default:
		exit.err = e
	}
	return exit
}

func said(d done) string { return d.Done }

// peerPath is a peer's place in the API; names may have any characters.
func peerPath(peer, verb string) string { return "/v1/peers/" + url.PathEscape(peer) + "/" + verb }

// verbPath is where something is done to a peer, or to a tunnel of it.
func verbPath(args []string, verb string) string {
	if len(args) == 2 {
		verb = "tunnels/" + url.PathEscape(args[1]) + "/" + verb
	}
	return peerPath(args[0], verb)
}

// takes is cobra.RangeArgs in words that help.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if least <= len(args) && len(args) <= most {
			return nil
		}
		return usageError(fmt.Errorf("%s takes %s (see '%s --help')", cmd.Name(), what, cmd.CommandPath()))
	}
}

var (
	noArguments = takes(0, 0, "no arguments")
	oneFile     = takes(1, 1, "one configuration file")
	peerTunnel  = takes(1, 2, "the name of one peer, and of a tunnel of it or none")
	anyPeer     = takes(0, 1, "the name of one peer, or none for all")
)

func reloadCommand() *cobra.Command {
	var d door
	return d.flags(&cobra.Command{
		Use:   "reload",
		Short: "have a running gateway read its configuration again",
		Long: `Has a running gateway read its file again, as SIGHUP does. Peers that the file
says the same about lose no packet. Of the others, those keep their connection
whose intervals, lifetimes, proposals or tunnels are others; the rest connect
anew, and those that are gone are told so.

A file that is not right changes nothing: the exit code is 2, and what is wrong
is printed with its line. Addresses, ports, device and MTU of the gateway itself
need a restart.`,
		Example: `  sudo culvert reload
  sudo culvert reload --json | jq .reestablished
  sudo kill -HUP "$(pidof culvert)"        # the same, with the answer in the log`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return post(cmd, &d, "/v1/reload", nil, func(r reloaded) string {
				for _, w := range r.Warnings {
					fmt.Fprintln(cmd.ErrOrStderr(), w)
				}
				return fmt.Sprintf("%s: %v", r.File, r.Reloaded)
			})
		},
	})
}

func connectCommand() *cobra.Command {
	var d door
	return d.flags(&cobra.Command{
		Use:   "connect PEER [TUNNEL]",
		Short: "bring a peer or one tunnel up, and keep it up",
		Long: `Has a running gateway connect to PEER, or bring up one TUNNEL of it, and keep it so
until it ends or is told to disconnect, whatever the configuration says. What
waits for its next attempt is tried at once. 'culvert status' shows what comes
of it.`,
		Example: `  sudo culvert connect office
  sudo culvert connect office lan`,
		Args: peerTunnel,
		RunE: func(cmd *cobra.Command, args []string) error {
			return post(cmd, &d, verbPath(args, "connect"), nil, said)
		},
	})
}

func disconnectCommand() *cobra.Command {
	var d door
	return d.flags(&cobra.Command{
		Use:   "disconnect PEER [TUNNEL]",
		Short: "take a peer or one tunnel down, and leave it down",
		Long: `Has a running gateway delete its SAs with PEER, or those of one TUNNEL, and not
bring them up again until it is told to, or restarted. Traffic for its tunnels is
dropped meanwhile, and does not leave in the clear. The peer itself may connect,
and bring the tunnel up: one that is to stay down has to be taken down there.`,
		Example: `  sudo culvert disconnect office
  sudo culvert connect office
  sudo culvert disconnect office lan`,
		Args: peerTunnel,
		RunE: func(cmd *cobra.Command, args []string) error {
			return post(cmd, &d, verbPath(args, "disconnect"), nil, said)
		},
	})
}

func rekeyCommand() *cobra.Command {
	var d door
	var ike bool
	cmd := d.flags(&cobra.Command{
		Use:   "rekey PEER [TUNNEL]",
		Short: "give a peer's tunnels, or its connection, new keys",
		Long: `Has a running gateway replace the keys of one tunnel of PEER, of all its tunnels,
or with --ike of the connection that they hang on, before their lifetime is over.
No packet is lost.`,
		Example: `  sudo culvert rekey office
  sudo culvert rekey office lan
  sudo culvert rekey office --ike`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 || len(args) == 2 && !ike {
				return nil
			}
			return usageError(fmt.Errorf("rekey takes a peer, and a tunnel of it or --ike (see '%s --help')", cmd.CommandPath()))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			path := verbPath(args, "rekey")
			if len(args) == 1 && !ike {
				path = peerPath(args[0], "tunnels/rekey")
			}
			return post(cmd, &d, path, nil, said)
		},
	})
	cmd.Flags().BoolVar(&ike, "ike", false, "the keys of the connection itself")
	return cmd
}

func drainCommand() *cobra.Command {
	var d door
	var to string
	cmd := d.flags(&cobra.Command{
		Use:   "drain",
		Short: "take no new peers, and send those there are elsewhere",
		Long: `Has a running gateway take no new peers until it ends. With --to, peers that can
be redirected (RFC 5685) are sent to another gateway: an address or a host name.
Those that hold a ticket can resume after a restart (RFC 5723). Tunnels that are
up stay up until the gateway ends.`,
		Example: `  sudo culvert drain --to gw2.example.net
  sudo culvert drain`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return post(cmd, &d, "/v1/drain", map[string]string{"to": to}, said)
		},
	})
	cmd.Flags().StringVar(&to, "to", "", "the `gateway` that peers are sent to")
	return cmd
}
