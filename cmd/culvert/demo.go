package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"culvert/lab"
)

// demoStage is where the demo plays: a network with two gateways in it.
type demoStage interface {
	// describe says what was built, for people.
	describe() string
	// start runs the gateway of a side; its events go to the show.
	start(ctx context.Context, side demoSide, show *demoShow) error
	ping(ctx context.Context, count int) (lab.PingStats, error)
	tcp(ctx context.Context, d time.Duration, progress func(lab.Throughput)) (lab.Throughput, error)
	// enter says how to look around, where that is possible.
	enter() []string
	// stopGateways ends them as a signal would, and is an error when one did not end well.
	stopGateways() error
	io.Closer
}

// demoSide is one gateway of the situation.
type demoSide struct{ name, file string }

var demoSides = []demoSide{{"A", "side-a.toml"}, {"B", "side-b.toml"}}

type demoOptions struct {
	json, keep, memory bool
	duration           time.Duration
}

const (
	demoUpTime = 30 * time.Second // for the tunnel to come up
	demoPings  = 5
)

func demoCommand() *cobra.Command {
	var opts demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "bring up a tunnel through a 1:1 NAT on this machine, and use it",
		Long: `Builds a network out of namespaces on this machine (two LANs, two gateways, a
1:1 NAT in front of one of them), runs a culvert on each gateway from the two
example configurations, shows what happens as it happens, pings and moves TCP
from LAN to LAN, and takes everything down again.

As root it uses namespaces directly; otherwise in a user namespace of its own;
where neither is allowed, both gateways run in this process over a NAT in
memory. It touches nothing outside what it makes.`,
		Example: `  culvert demo
  culvert demo --json | jq 'select(.type == "throughput")'
  sudo culvert demo --keep      # leave it up to look around; Ctrl-C ends it`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.duration <= 0 {
				return usageError(errors.New("--duration takes more than 0"))
			}
			return demo(cmd.Context(), cmd.OutOrStdout(), opts)
		},
	}
	cmd.Flags().BoolVar(&opts.json, "json", false, "print one JSON object a line")
	cmd.Flags().BoolVar(&opts.keep, "keep", false, "leave the network up until Ctrl-C, and print how to enter it")
	cmd.Flags().BoolVar(&opts.memory, "memory", false, "no namespaces: both gateways in this process, over a NAT in memory")
	cmd.Flags().DurationVar(&opts.duration, "duration", 3*time.Second, "the `time` to move TCP for")
	return cmd
}

func demo(ctx context.Context, out io.Writer, opts demoOptions) error {
	rights := lab.CheckRights()
	if opts.memory {
		rights = lab.Rights{Reason: "as asked for by --memory"}
	}
	if rights.Kind == lab.UserNamespace && rights.Device == nil {
		code, err := lab.ReexecInUserNamespace(os.Args[1:])
		if err == nil {
			return exitWith(code)
		}
		rights = lab.Rights{Reason: "a user namespace could not be made: " + err.Error()}
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	show := newDemoShow(out, opts.json)
	stage, err := openStage(rights)
	if err != nil {
		return failure(err)
	}
	defer func() { _ = stage.Close() }()
	if err := play(ctx, stage, show, opts); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted; everything is taken down")
		}
		return failure(err)
	}
	return nil
}

// exitWith ends as the program in the user namespace did, which has said why.
func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return &exitError{code: code}
}

// openStage takes real namespaces where it may, and memory elsewhere.
func openStage(r lab.Rights) (demoStage, error) {
	if r.Kind == lab.Direct && r.Device == nil {
		return newLabStage()
	}
	why := r.Reason
	if r.Device != nil {
		why = r.Device.Error()
	}
	return newMemoryStage(why)
}

func play(ctx context.Context, stage demoStage, show *demoShow, opts demoOptions) error {
	show.step("network", stage.describe())
	for _, side := range demoSides {
		if err := stage.start(ctx, side, show); err != nil {
			return fmt.Errorf("gateway %s: %w", side.name, err)
		}
	}
	if err := show.waitUp(ctx, demoUpTime); err != nil {
		return err
	}
	if err := pingDemo(ctx, stage, show); err != nil {
		return err
	}
	if err := tcpDemo(ctx, stage, show, opts.duration); err != nil {
		return err
	}
	if opts.keep {
		for _, line := range stage.enter() {
			show.step("enter", line)
		}
		show.step("keep", "The network stays up until Ctrl-C.")
		<-ctx.Done()
	}
	show.step("down", "taking everything down")
	if err := stage.stopGateways(); err != nil {
		return err
	}
	if err := stage.Close(); err != nil {
		return err
	}
	show.result()
	return nil
}

func pingDemo(ctx context.Context, stage demoStage, show *demoShow) error {
	stats, err := stage.ping(ctx, demoPings)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	show.write(fmt.Sprintf("ping %v -> %v: %d of %d answered, round trip min/avg/max %s/%s/%s", lab.HostBAddr, lab.HostAAddr,
		stats.Received, stats.Sent, ms(stats.Min), ms(stats.Avg), ms(stats.Max)),
		"ping", map[string]any{"sent": stats.Sent, "received": stats.Received,
			"min_ms": stats.Min.Seconds() * 1e3, "avg_ms": stats.Avg.Seconds() * 1e3, "max_ms": stats.Max.Seconds() * 1e3})
	if stats.Received < stats.Sent {
		return fmt.Errorf("ping: %d of %d echoes were lost", stats.Lost(), stats.Sent)
	}
	return nil
}

func tcpDemo(ctx context.Context, stage demoStage, show *demoShow, d time.Duration) error {
	second := 0
	total, err := stage.tcp(ctx, d, func(t lab.Throughput) {
		second++
		show.write(fmt.Sprintf("  TCP, second %d: %s", second, rate(t)), "progress", map[string]any{"gbit_per_second": t.BitsPerSecond() / 1e9})
	})
	if err != nil {
		return fmt.Errorf("TCP: %w", err)
	}
	show.write(fmt.Sprintf("TCP %v -> %v: %s, %s in %.1f s", lab.HostAAddr, lab.HostBAddr, rate(total), bytesText(uint64(total.Bytes)), total.Duration.Seconds()),
		"throughput", map[string]any{"bytes": total.Bytes, "seconds": total.Duration.Seconds(), "gbit_per_second": total.BitsPerSecond() / 1e9})
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1e3) }

func rate(t lab.Throughput) string {
	if b := t.BitsPerSecond(); b < 1e9 {
		return fmt.Sprintf("%.0f Mbit/s", b/1e6)
	}
	return fmt.Sprintf("%.2f Gbit/s", t.BitsPerSecond()/1e9)
}

// demoShow prints what happens, and knows when both sides are up.
type demoShow struct {
	mu      sync.Mutex
	out     io.Writer
	json    bool
	started time.Time
	up      map[string]bool
	changed chan struct{}
	failed  error
}

func newDemoShow(out io.Writer, asJSON bool) *demoShow {
	return &demoShow{out: out, json: asJSON, started: time.Now(), up: map[string]bool{}, changed: make(chan struct{}, 1)}
}

func (s *demoShow) step(kind, text string) { s.write(text, kind, map[string]any{"text": text}) }

// event shows a gateway's log record: attrs has slog's keys, "msg" and "event" among them.
func (s *demoShow) event(side string, attrs map[string]any) {
	s.mu.Lock()
	if attrs["event"] == "child_up" {
		s.up[side] = true
	}
	s.mu.Unlock()
	s.wake()
	fields := map[string]any{"side": side}
	for k, v := range attrs {
		fields[k] = v
	}
	s.write(fmt.Sprintf("[%s] %v", side, attrs["msg"]), "event", fields)
}

// ended tells that a gateway stopped before it should.
func (s *demoShow) ended(side string, err error) {
	s.mu.Lock()
	s.failed = fmt.Errorf("gateway %s ended early: %w", side, err)
	s.mu.Unlock()
	s.wake()
}

func (s *demoShow) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *demoShow) waitUp(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		s.mu.Lock()
		done, err := len(s.up) == len(demoSides), s.failed
		s.mu.Unlock()
		if done || err != nil {
			return err
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return fmt.Errorf("the tunnel did not come up within %v", limit)
		}
	}
}

func (s *demoShow) result() {
	s.write("The tunnel went through the NAT, and nothing of it is left on this machine.", "result", map[string]any{"ok": true})
}

func (s *demoShow) write(text, kind string, fields map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.json {
		fmt.Fprintf(s.out, "%7.3f  %s\n", time.Since(s.started).Seconds(), text)
		return
	}
	fields["type"], fields["seconds_in"] = kind, time.Since(s.started).Seconds()
	line, err := json.Marshal(fields)
	if err == nil {
		_, _ = s.out.Write(append(line, '\n'))
	}
}
