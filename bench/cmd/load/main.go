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
	serve := flag.Bool("serve", false, "be the gateway's process (used by the command itself)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *serve {
		err = load.Serve(ctx, o.Peers, os.Stdin, os.Stdout)
	} else {
		err = measure(ctx, o, *asJSON)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		stop()
		os.Exit(1)
	}
}

func measure(ctx context.Context, o load.Options, asJSON bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o.Progress = func(s string) { fmt.Fprintln(os.Stderr, s) }
	results, err := load.Run(ctx, o, func(ctx context.Context, peers int) *exec.Cmd {
		cmd := exec.CommandContext(ctx, self, "-serve", "-peers", strconv.Itoa(peers))
		cmd.Stderr = os.Stderr
		return cmd
	})
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(results)
	}
	fmt.Println("  peers   established   per second   per core second   heap/tunnel   back after kill   core seconds for that")
	for _, r := range results {
		wall, core := r.PerSecond()
		fmt.Printf("%7d %13v %12.0f %17.0f %9.1f KiB %17v %23v\n", r.Peers, r.Establish.Round(time.Millisecond), wall, core,
			float64(r.HeapPerTunnel())/1024, r.Return.Round(time.Millisecond), r.ReturnCPU.Round(time.Millisecond))
	}
	return nil
}
