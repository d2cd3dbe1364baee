package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"culvert/api"
	"culvert/gateway"
)

func statusCommand() *cobra.Command {
	var d door
	var details, watch bool
	w := watching{interval: 2 * time.Second}
	cmd := d.flags(&cobra.Command{
		Use:   "status",
		Short: "show what a running gateway is doing",
		Long: `Asks a running gateway, through its control socket, what its peers and tunnels
do: since when, through which NAT, how much a second, and in a line why what is
down is down. --details has identities, SPIs, suites, totals, virtual addresses
and drop counters; --json everything.

--watch shows it again and again, with the last half minute of rates as
sparklines; on a terminal in place, until q or Ctrl-C. Round trips are taken
while it watches, by one small message to each peer in ten seconds.

Only the user who runs the gateway may ask.`,
		Example: `  sudo culvert status
  sudo culvert status --watch
  sudo culvert status --details
  sudo culvert status --json | jq '.peers[] | {name, state, why}'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := w.check(); err != nil {
				return err
			}
			if d.json && details {
				return usageError(errors.New("--json has all details, and goes without --details"))
			}
			f := cmd.Flags()
			if !watch && (f.Changed("interval") || f.Changed("count")) {
				return usageError(errors.New("--interval and --count go with --watch"))
			}
			out := cmd.OutOrStdout()
			show := func(ctx context.Context, to io.Writer) error {
				return d.showStatus(ctx, to, details, watch, onTerminal(out))
			}
			run := show
			if watch {
				run = func(ctx context.Context, to io.Writer) error { return w.run(ctx, to, show) }
			}
			if err := run(cmd.Context(), out); err != nil {
				return d.failed(cmd, err)
			}
			return nil
		},
	})
	f := cmd.Flags()
	f.BoolVar(&details, "details", false, "all there is to know, a paragraph a peer")
	f.BoolVarP(&watch, "watch", "w", false, "show it again and again")
	f.DurationVar(&w.interval, "interval", w.interval, "with --watch, the `time` between two looks")
	f.IntVar(&w.count, "count", 0, "with --watch, end after so many looks; 0 is never")
	return cmd
}

// showStatus asks and prints once.
func (d *door) showStatus(ctx context.Context, w io.Writer, details, past, colour bool) error {
	var s gateway.Status
	if err := api.Get(ctx, d.socket, "/v1/status", &s); err != nil {
		return err
	}
	t := table{now: time.Now(), colour: colour}
	switch {
	case d.json:
		return printJSON(w, s)
	case details:
		printStatus(w, s, t.now)
		return nil
	case past:
		if err := api.Get(ctx, d.socket, "/v1/history", &t.past); err != nil {
			return err
		}
	}
	t.print(w, s)
	return nil
}

// printStatus is the status with all details. now is when it was asked.
func printStatus(w io.Writer, s gateway.Status, now time.Time) {
	fmt.Fprintf(w, "culvert, up %s, %s\n", ago(now, s.Started), s.Config)
	fmt.Fprintf(w, "device %s, MTU %d, offload: TUN %s, UDP %s, AES-GCM: %s\n", s.Device.Name, s.Device.MTU, s.Device.Offload, s.Device.UDPOffload, s.AESGCM)
	for _, p := range s.Peers {
		printPeer(w, p, s.Device.Lanes, now)
	}
	printFindings(w, s.Findings)
	printLeases(w, s.Leases)
	printDrops(w, s.Drops)
}

// printFindings are those that are not their peer's problem already.
func printFindings(w io.Writer, findings []gateway.Finding) {
	for _, f := range findings {
		if f.Wrong {
			fmt.Fprintf(w, "\n%s [%s]\n%s\n", about(f), f.Code, wrapped(f.Text, 100))
		}
	}
}

func printLeases(w io.Writer, leases []gateway.LeaseStatus) {
	if len(leases) == 0 {
		return
	}
	fmt.Fprintln(w, "\nleases")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range leases {
		state := "kept for its return"
		if l.InUse {
			state = "in use"
		}
		fmt.Fprintf(t, "  %v\t%s\t%s\t%s\n", l.Address, l.Pool, l.RemoteID, state)
	}
	_ = t.Flush()
}

func printPeer(w io.Writer, p gateway.PeerStatus, lanes int, now time.Time) {
	fmt.Fprintf(w, "\npeer %s: %s", p.Name, p.State)
	if !p.Since.IsZero() {
		fmt.Fprintf(w, " for %s", ago(now, p.Since))
	}
	if p.Attempt > 0 {
		fmt.Fprintf(w, ", attempt %d", p.Attempt)
	}
	fmt.Fprintln(w)
	t := fields{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.add("identities", "%v (here) <-> %v (peer)", p.LocalID, p.RemoteID)
	if p.RemoteAddress.IsValid() {
		t.add("addresses", "%v <-> %v", p.LocalAddress, p.RemoteAddress)
	}
	if p.InitiatorSPI != "" {
		t.add("IKE SA", "%s, SPIs %s_i %s_r, started by %s", p.Suite, p.InitiatorSPI, p.ResponderSPI, starter(p.Initiator))
		t.add("post-quantum", "%s", yesNo(p.PostQuantum))
		t.add("NAT", "%s", p.NAT)
	}
	if p.Assigned != nil {
		t.assigned(p.Assigned)
	}
	if p.Problem != "" {
		t.add("problem", "%s", p.Problem)
	}
	for _, c := range p.Children {
		t.child(c, lanes, now)
	}
	if len(p.Drops) > 0 {
		t.add("dropped", "%s", countsText(p.Drops))
	}
	_ = t.Flush()
}

// fields are names and what they stand for, below each other.
type fields struct{ *tabwriter.Writer }

func (t fields) add(name, format string, args ...any) {
	fmt.Fprintf(t, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
}

func (t fields) assigned(a *gateway.AssignedStatus) {
	t.add("our addresses", "%s", join(a.Addresses))
	if len(a.DNS) > 0 {
		t.add("name servers", "%s (not set on this host)", join(a.DNS))
	}
	if len(a.Domains) > 0 {
		t.add("domains", "%s", strings.Join(a.Domains, ", "))
	}
	if len(a.Subnets) > 0 {
		t.add("its networks", "%s", join(a.Subnets))
	}
}

func (t fields) child(c gateway.ChildStatus, lanes int, now time.Time) {
	name := "tunnel " + c.Name
	if lanes > 1 {
		name += fmt.Sprintf(", lane %d", c.Lane)
	}
	t.add(name, "%s <-> %s", strings.Join(c.Local, ", "), strings.Join(c.Remote, ", "))
	t.add("", "%s, SPIs %s in, %s out, up %s", c.Suite, c.InboundSPI, c.OutboundSPI, ago(now, c.Since))
	t.add("", "in  %d packets, %s, last %s", c.PacketsIn, bytesText(c.BytesIn), last(now, c.LastIn))
	t.add("", "out %d packets, %s, last %s", c.PacketsOut, bytesText(c.BytesOut), last(now, c.LastOut))
}

func join[T fmt.Stringer](list []T) string {
	words := make([]string, len(list))
	for i, x := range list {
		words[i] = x.String()
	}
	return strings.Join(words, ", ")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func starter(here bool) string {
	if here {
		return "us"
	}
	return "the peer"
}

// printDrops lists the counters that are not zero.
func printDrops(w io.Writer, drops map[string]uint64) {
	if text := countsText(drops); text != "" {
		fmt.Fprintf(w, "\ncounters: %s\n", text)
	}
}

// countsText has those that are not zero, by name.
func countsText(of map[string]uint64) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if of[name] > 0 {
			words = append(words, fmt.Sprintf("%s %d", name, of[name]))
		}
	}
	return strings.Join(words, ", ")
}

func ago(now, t time.Time) string { return now.Sub(t).Round(time.Second).String() }

func last(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return ago(now, t) + " ago"
}

// bytesText is a number of bytes in the unit that fits it.
func bytesText(n uint64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v, i := float64(n), 0
	for ; v >= 1000 && i < len(units)-1; i++ {
		v /= 1000
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
