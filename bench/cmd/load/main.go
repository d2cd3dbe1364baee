// Command load measures a gateway with very many peers over loopback:
// handshakes a second, memory of an idle tunnel, and the time in which all
// come back after the gateway was killed. It needs no rights.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"culvert/bench/load"
)

func main() {
	var o load.Options
	flag.IntVar(&o.Peers, "peers", 10_000, "peers of the gateway")
	flag.IntVar(&o.Window, "window", 64, "handshakes under way at once")
	flag.IntVar(&o.Rounds, "rounds", 1, "how often everything is measured")
	asJSON := flag.Bool("json", false, "print one JSON object")
	flag.StringVar(&o.PostQuantum, "post-quantum", "prefer", "off: X25519 alone; prefer: with ML-KEM-768")
	flag.DurationVar(&o.DPD, "dpd", 0, "the silence after which a client asks whether the gateway lives; 0: the default, 30s")
	flag.StringVar(&o.Profile, "profile", "", "a `folder` for cpu.pprof and heap.pprof of the first gateway")
	flag.StringVar(&o.TicketKey, "ticket-key", "", "the gateway's resumption_key_file (used by the command itself)")
	forgetful := flag.Bool("forgetful", false, "the new gateway knows nothing of the old one's tickets")
	serve := flag.Bool("serve", false, "be the gateway's process (used by the command itself)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *serve {
		err = load.Serve(ctx, o.Served, os.Stdin, os.Stdout)
	} else {
		err = measure(ctx, o, *forgetful, *asJSON)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		stop()
		os.Exit(1)
	}
}

func measure(ctx context.Context, o load.Options, forgetful, asJSON bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if !forgetful {
		folder, err := os.MkdirTemp("", "culvert-load-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		o.TicketKey = filepath.Join(folder, "tickets.key")
	}
	o.Progress = func(s string) { fmt.Fprintln(os.Stderr, s) }
	results, err := load.Run(ctx, o, func(ctx context.Context, s load.Served) *exec.Cmd {
		cmd := exec.CommandContext(ctx, self, "-serve", "-peers", strconv.Itoa(s.Peers), "-post-quantum", s.PostQuantum,
			"-ticket-key", s.TicketKey, "-profile", s.Profile)
		cmd.Stderr = os.Stderr
		return cmd
	})
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(results)
	}
	fmt.Println("  peers   established   per second   per core second   median     99 %   heap/tunnel   resident/tunnel   back after kill   resumed   core seconds for that")
	for _, r := range results {
		wall, core := r.PerSecond()
		fmt.Printf("%7d %13v %12.0f %17.0f %8v %8v %9.1f KiB %13.1f KiB %17v %9d %23v\n", r.Peers, r.Establish.Round(time.Millisecond), wall, core,
			r.Median.Round(time.Millisecond), r.Slow.Round(time.Millisecond), kib(r.HeapPerTunnel()), kib(r.ResidentPerTunnel()),
			r.Return.Round(time.Millisecond), r.Resumed, r.ReturnCPU.Round(time.Millisecond))
	}
	return nil
}

func kib(n int64) float64 { return float64(n) / 1024 }
