package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/spf13/cobra"

	"culvert/api"
)

func pageCommand() *cobra.Command {
	var d door
	var listen string
	cmd := d.socketFlag(&cobra.Command{
		Use:   "page",
		Short: "show a running gateway in a browser",
		Long: `Opens the status page of a running gateway to a browser on this machine, until
Ctrl-C. It prints the address to open, which has a secret in it and is another
every time: other users of the machine do not see the page. The page only shows,
and shows no key.`,
		Example: `  sudo culvert page
  ssh -t -L 9116:127.0.0.1:9116 GATEWAY sudo culvert page     # for a browser here`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, err := netip.ParseAddrPort(listen)
			if err != nil || !addr.Addr().IsLoopback() {
				return usageError(fmt.Errorf("--listen takes a loopback address and port, such as 127.0.0.1:9116, and not %q: what is on it is HTTP without TLS", listen))
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if err := showPage(ctx, cmd, addr, d.socket); err != nil {
				return failure(err)
			}
			return nil
		},
	})
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9116", "the loopback `address`; port 0 is a free one")
	return cmd
}

// showPage forwards the page until ctx is over.
func showPage(ctx context.Context, cmd *cobra.Command, addr netip.AddrPort, socket string) error {
	s, url, err := api.ForwardPage(addr, socket)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%v is in use, maybe by the page that the configuration has there: --listen 127.0.0.1:0 takes a free port", addr)
	}
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	fmt.Fprintln(cmd.OutOrStdout(), url)
	fmt.Fprintln(cmd.ErrOrStderr(), "the status page, for who has this address, until Ctrl-C")
	return s.Serve()
}
