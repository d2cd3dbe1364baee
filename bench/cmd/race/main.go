// Command race carries traffic through culvert, wireguard-go, strongSwan's
// user-space ESP and a relay that encrypts nothing, in turns in the same
// network, and prints the medians of what it measured and their ratios to
// culvert's. It needs root, and strongSwan where that is to run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"culvert/bench"
	"culvert/lab"
)

// contestant is a system by the name that picks it.
type contestant struct {
	name    string
	program string // to be built; none for what has to be installed
	system  func(binary, dir string) bench.System
}

var contestants = []contestant{
	{"culvert", bench.CulvertProgram, bench.Culvert},
	{"relay", bench.RelayProgram, func(binary, _ string) bench.System { return bench.Relay(binary) }},
	{"wireguard-go", bench.WireGuardProgram, func(binary, _ string) bench.System { return bench.WireGuard(binary) }},
	{"strongswan", "", func(string, string) bench.System { return bench.StrongSwan() }},
}

func main() {
	var o bench.Options
	flag.IntVar(&o.Rounds, "rounds", 3, "how often each runs")
	flag.DurationVar(&o.Duration, "duration", 0, "of each measure (default: its own, 1s to 3s)")
	flag.IntVar(&o.MTU, "mtu", 1500, "of every link, in bytes")
	systems := flag.String("systems", "culvert,relay,wireguard-go,strongswan", "what runs")
	measures := flag.String("measures", "", "what is measured: "+measureNames()+" (default all of these), sizes")
	var p printing
	flag.BoolVar(&p.json, "json", false, "print one JSON object")
	flag.StringVar(&p.file, "o", "", "add the runs to those of this file, and print all of them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := race(ctx, *systems, *measures, o, p); err != nil {
		fmt.Fprintln(os.Stderr, "race:", err)
		stop()
		os.Exit(1)
	}
}

func measureNames() string {
	var names []string
	for _, m := range bench.Measures() {
		names = append(names, m.Name)
	}
	return strings.Join(names, ",")
}

// printing is what becomes of the runs.
type printing struct {
	json bool
	file string
}

func race(ctx context.Context, names, measures string, o bench.Options, p printing) (err error) {
	if err := bench.Available(); err != nil {
		return err
	}
	if o.Measures, err = bench.Named(measures); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "culvert-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	systems, err := build(ctx, names, dir)
	if err != nil {
		return err
	}
	o.Began = func(round int, who string) { fmt.Fprintf(os.Stderr, "round %d of %d   %s\n", round, o.Rounds, who) }
	samples, err := bench.Compare(ctx, systems, o)
	if err != nil {
		return err
	}
	return p.report(bench.NewReport(systems, samples))
}

func (p printing) report(r bench.Report) error {
	if p.file != "" {
		earlier, err := bench.ReadReport(p.file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if r, err = earlier.With(r); err != nil {
			return err
		}
		if err := r.Save(p.file); err != nil {
			return err
		}
	}
	if p.json {
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	fmt.Println(r.Headline())
	return bench.WriteTable(os.Stdout, r.Samples, r.Figures())
}

// build makes the systems that are named, in that order.
func build(ctx context.Context, names, dir string) (systems []bench.System, err error) {
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(contestants, func(c contestant) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no system %q", name)
		}
		c, binary := contestants[i], ""
		if c.program == "" {
			err = lab.StrongSwanAvailable()
		} else {
			binary, err = bench.Build(ctx, dir, c.program)
		}
		if err != nil {
			return nil, err
		}
		systems = append(systems, c.system(binary, dir))
	}
	if len(systems) == 0 {
		return nil, errors.New("nothing is to run")
	}
	return systems, nil
}
