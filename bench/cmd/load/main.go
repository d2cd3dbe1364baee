// Command load measures a gateway with very many peers over loopback:
// handshakes a second, memory of an idle tunnel, and the time in which all
// come back after the gateway was killed. It needs no rights.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"culvert/bench/load"
)

const usage = `Measures a gateway with very many peers, all on this machine, over loopback. Needs no rights.

    go run ./bench/cmd/load                                  # 10,000 peers: X25519, then with ML-KEM-768; some six minutes
    go run ./bench/cmd/load -post-quantum off -restart none  # X25519 alone; the killed gateway comes back without its keys
    go run ./bench/cmd/load -traffic 1s                      # the clients send a packet a second while the gateway is gone
    go run ./bench/cmd/load -peers 1000 -json | jq .         # times in nanoseconds, sizes in bytes
    go run ./bench/cmd/load -profile /tmp && go tool pprof -top /tmp/off-gateway.pprof

A core second is a second of the gateway's processor time, the system's part in it included.

`

// choices are the values of a flag, and what they stand for.
type choices[T any] map[string][]T

var (
	postQuantum = choices[string]{"off": {"off"}, "prefer": {"prefer"}, "both": {"off", "prefer"}}
	restarts    = choices[load.Restart]{"no": nil, "tickets": {load.WithTickets}, "none": {load.Forgetful}, "both": {load.WithTickets, load.Forgetful}}
)

func (c choices[T]) flag(dst *[]T, name, usage string) {
	*dst = c["both"]
	flag.Func(name, usage+" (default both)", func(s string) (err error) {
		var ok bool
		if *dst, ok = c[s]; !ok {
			err = fmt.Errorf("no such choice")
		}
		return err
	})
}

func main() {
	load.ServeIfAsked()
	o := load.Options{Progress: func(s string) { fmt.Fprintln(os.Stderr, s) }}
	var methods []string
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.IntVar(&o.Peers, "peers", 10_000, "peers of the gateway")
	flag.IntVar(&o.Window, "window", 64, "handshakes under way at once")
	postQuantum.flag(&methods, "post-quantum", "off: X25519 alone; prefer: with ML-KEM-768; both, one after the other")
	restarts.flag(&o.Restarts, "restart", "what the killed gateway has kept: `tickets`, its resumption_key_file; none; both, one after the other; no: it is not killed")
	flag.DurationVar(&o.DPD, "dpd", 0, "the silence after which a client asks whether the gateway lives; 0: the default, 30s")
	flag.DurationVar(&o.Traffic, "traffic", 0, "how often each client sends a packet while the gateway is gone; 0: never")
	flag.StringVar(&o.Profile, "profile", "", "a `folder` for off-gateway.pprof, off-clients.pprof and off-heap.pprof, and the same for prefer")
	asJSON := flag.Bool("json", false, "print a JSON list of results")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, o, methods, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		stop()
		os.Exit(1)
	}
}

func measure(ctx context.Context, o load.Options, methods []string, asJSON bool) error {
	var all []load.Result
	for _, o.PostQuantum = range methods {
		r, err := load.Run(ctx, o)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(all)
	}
	for _, r := range all {
		show(os.Stdout, r)
	}
	return nil
}

var methodNames = map[string]string{"off": "X25519", "prefer": "X25519 and ML-KEM-768"}

func show(w io.Writer, r load.Result) {
	wall, core := r.PerSecond()
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	line("%d peers, %s", r.Peers, methodNames[r.PostQuantum])
	line("  full handshakes   %.0f a core second; all in %v, which is %.0f a second; a tunnel in %v (median), %v (99 %%)",
		core, ms(r.Establish), wall, ms(r.Median), ms(r.Slow))
	line("  an idle tunnel    %.1f KiB of live heap, %.1f KiB of resident memory; a configured peer %.1f KiB of live heap", kib(r.HeapPerTunnel()), kib(r.ResidentPerTunnel()), kib(r.ConfiguredPerPeer()))
	line("  an operator       reads the configuration in %v, reloads it in %v, gets the status in %v", ms(r.Parse), ms(r.Reload), ms(r.Status))
	for _, b := range r.Restarts {
		line("  after a kill      (%s kept) half are back in %v, all in %v, %d with a ticket; %.0f a core second", b.Kept, ms(b.Half), ms(b.Time), b.Resumed,
			float64(r.Peers)/b.CPU.Seconds())
	}
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

func kib(n int64) float64 { return float64(n) / 1024 }
