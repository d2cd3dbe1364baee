// Command ratio measures TCP through culvert and through strongSwan's user-space
// ESP, in turns in the same network, and prints the throughput of each and the
// ratio. It needs root and strongSwan.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"culvert/bench"
	"culvert/lab"
)

func main() {
	var o bench.Options
	flag.IntVar(&o.Rounds, "rounds", 5, "how often each runs")
	flag.DurationVar(&o.Duration, "duration", 0, "how long to move TCP in each run (default 3s)")
	flag.IntVar(&o.Streams, "streams", 1, "TCP streams side by side")
	flag.IntVar(&o.MTU, "mtu", 1500, "of every link, in bytes")
	asJSON := flag.Bool("json", false, "print one JSON object")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := compare(ctx, o, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "ratio:", err)
		stop()
		os.Exit(1)
	}
}

func compare(ctx context.Context, o bench.Options, asJSON bool) error {
	if err := bench.Available(); err != nil {
		return err
	}
	if err := lab.StrongSwanAvailable(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "culvert-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary, err := bench.BuildCulvert(ctx, dir)
	if err != nil {
		return err
	}
	ours, theirs := bench.Culvert(binary, dir), bench.StrongSwan()
	if !asJSON {
		o.Progress = func(s bench.Sample) {
			fmt.Printf("round %d   %-10s %6.2f Gbit/s\n", s.Round, s.System, s.BitsPerSecond/1e9)
		}
	}
	samples, err := bench.Compare(ctx, []bench.System{ours, theirs}, o)
	if err != nil {
		return err
	}
	return report(samples, ours.Name, theirs.Name, asJSON)
}

func report(s bench.Samples, ours, theirs string, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(map[string]any{
			"samples":                s,
			"median_bits_per_second": map[string]float64{ours: s.Median(ours), theirs: s.Median(theirs)},
			"ratio":                  s.Ratio(ours, theirs),
		})
	}
	for _, name := range []string{ours, theirs} {
		fmt.Printf("median    %-10s %6.2f Gbit/s\n", name, s.Median(name)/1e9)
	}
	fmt.Printf("ratio     %.1f\n", s.Ratio(ours, theirs))
	return nil
}
