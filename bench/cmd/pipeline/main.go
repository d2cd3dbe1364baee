// Command pipeline measures the data path in memory, beside the same work done
// by wireguard-go's packages: as they are, and with AES-GCM. No root needed.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"text/tabwriter"

	"culvert/bench/pipeline"
	"culvert/bench/wireguard"
)

func main() {
	var o pipeline.Options
	flag.IntVar(&o.Rounds, "rounds", 0, "how often the systems take turns (default 101)")
	flag.DurationVar(&o.Sample, "sample", 0, "how long each turn is (default 2ms)")
	only := flag.String("only", "", "the workloads whose name contains this")
	alone := flag.Bool("alone", false, "measure culvert only")
	asJSON := flag.Bool("json", false, "print one JSON object a line")
	profile := flag.String("cpuprofile", "", "write a profile to this file")
	flag.Parse()
	if err := measure(o, *only, *alone, *asJSON, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "pipeline:", err)
		os.Exit(1)
	}
}

func measure(o pipeline.Options, only string, alone, asJSON bool, profile string) error {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	runtime.LockOSThread()
	systems := append(pipeline.Suites(), pipeline.Ciphers()...)
	ours := systems[0]
	if !alone {
		systems = append(systems, wireguard.Systems()...)
	}
	for _, w := range pipeline.Workloads() {
		if !strings.Contains(w.Name, only) {
			continue
		}
		results, err := pipeline.Measure(w, systems, o)
		if err != nil {
			return err
		}
		if err := report(results, ours.Name, asJSON); err != nil {
			return err
		}
	}
	return nil
}

func report(results []pipeline.Result, ours string, asJSON bool) error {
	if asJSON {
		for _, r := range results {
			if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	nanos := map[pipeline.Direction]float64{}
	for _, r := range results {
		if r.System == ours {
			nanos[r.Direction] = r.BestNanos
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f ns\t%.0f ns\t%.2f GB/s\t%.2f Mpackets/s\t%.2f x\t\n",
			r.Workload, r.Direction, r.System, r.Nanos, r.BestNanos, r.BytesPerSecond()/1e9, r.PacketsPerSecond()/1e6, r.BestNanos/nanos[r.Direction])
	}
	return t.Flush()
}
