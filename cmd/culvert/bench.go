package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"culvert/bench"
	"culvert/bench/pipeline"
	"culvert/espcrypto/aesgcm"
	"culvert/lab"
)

type benchOptions struct {
	json, memory, peers bool
	rounds, turns       int
	duration            time.Duration
}

func benchCommand() *cobra.Command {
	var opts benchOptions
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "measure what this machine can do",
		Long: `Measures on this machine, one core at a time: encryption by itself; the data
path in memory, super-packets to ESP and back, with no kernel at either end; and,
as root, TCP, UDP and ping from host to host through two gateways in a network
out of namespaces. Each line appears when it is known. "out" is from the protected hosts
to the tunnel, "in" the other way; GB/s is of inner packets.

In memory the figure is the fastest of many short turns, because other work on
the machine slows a turn down and nothing makes one too fast. Through the tunnel
it is the median of the rounds, and the hosts share the processors with the
gateways; --peers puts strongSwan (its ESP in user space) and wireguard-go beside
it, those that are installed, in turns.

It touches nothing outside the network it makes, and takes that down.`,
		Example: `  culvert bench --memory          # no root needed, 10 seconds
  sudo culvert bench --peers      # and beside strongSwan and wireguard-go
  culvert bench --json | jq 'select(.part == "pipeline")'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return runBench(ctx, cmd.OutOrStdout(), opts)
		},
	}
	cmd.Flags().BoolVar(&opts.json, "json", false, "print one JSON object a line")
	cmd.Flags().BoolVar(&opts.memory, "memory", false, "leave out what needs root")
	cmd.Flags().BoolVar(&opts.peers, "peers", false, "measure strongSwan and wireguard-go beside it")
	cmd.Flags().IntVar(&opts.turns, "turns", 51, "how many turns of 2 ms each has in memory")
	cmd.Flags().IntVar(&opts.rounds, "rounds", 3, "how often each carries traffic")
	cmd.Flags().DurationVar(&opts.duration, "duration", 0, "the `time` for each thing (default 1s to 3s)")
	return cmd
}

func runBench(ctx context.Context, out io.Writer, opts benchOptions) error {
	switch {
	case opts.turns < 1 || opts.rounds < 1:
		return usageError(errors.New("--turns and --rounds are at least 1"))
	case opts.duration != 0 && opts.duration < 100*time.Millisecond:
		return usageError(errors.New("--duration is at least 100ms"))
	case opts.memory && opts.peers:
		return usageError(errors.New("--peers needs the tunnel that --memory leaves out"))
	}
	if opts.peers {
		_, wireGuard := bench.WireGuardInstalled()
		strongSwan := lab.StrongSwanAvailable()
		if wireGuard != nil && strongSwan != nil {
			return failure(errors.Join(strongSwan, wireGuard))
		}
		if err := bench.Available(); err != nil {
			return failure(err)
		}
	}
	b := &benchReport{out: out, json: opts.json}
	for _, part := range []func(context.Context, benchOptions) error{b.machine, b.inMemory, b.throughTunnel} {
		if err := part(ctx, opts); err != nil {
			if ctx.Err() != nil {
				err = errors.New("interrupted; everything is taken down")
			}
			return failure(err)
		}
	}
	return nil
}

// benchReport prints what is found as it is found.
type benchReport struct {
	out  io.Writer
	json bool
	err  error // the first of the printing
}

func (b *benchReport) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(b.out, format, args...); err != nil && b.err == nil {
		b.err = err
	}
}

// record prints a JSON object of a part, and says whether that is asked for.
func (b *benchReport) record(part string, fields any) bool {
	if !b.json {
		return false
	}
	object := map[string]any{}
	text, err := json.Marshal(fields)
	if err == nil {
		err = json.Unmarshal(text, &object)
	}
	object["part"] = part
	if err == nil {
		err = json.NewEncoder(b.out).Encode(object)
	}
	if b.err == nil {
		b.err = err
	}
	return true
}

func (b *benchReport) machine(context.Context, benchOptions) error {
	path, err := aesgcm.Path()
	if err != nil {
		return err
	}
	if !b.record("machine", map[string]any{"culvert": version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "cpus": runtime.NumCPU(), "aes_gcm": path}) {
		b.printf("culvert %s, %s %s/%s, %d processors, AES-GCM: %s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), path)
	}
	return b.err
}

// inMemory measures encryption alone, then the data path around it.
func (b *benchReport) inMemory(ctx context.Context, opts benchOptions) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, part := range []struct {
		name, title string
		systems     []pipeline.System
		workloads   []*pipeline.Workload
	}{
		{"encryption", "encryption alone", slices.Concat(pipeline.Ciphers(), pipeline.Comparisons()), []*pipeline.Workload{pipeline.Bulk("tcp4", 1420), pipeline.Single("tcp4", 64)}},
		{"pipeline", "data path in memory", pipeline.Suites(), pipeline.Workloads()},
	} {
		if !b.json {
			b.printf("\n%-32s %-11s %26s %26s\n", part.title, "packets", "out", "in")
		}
		for _, w := range part.workloads {
			if err := ctx.Err(); err != nil {
				return err
			}
			results, err := pipeline.Measure(w, part.systems, pipeline.Options{Rounds: opts.turns})
			if err != nil {
				return err
			}
			b.rows(part.name, results)
		}
	}
	return b.err
}

// rows prints results, both directions of a system in one row.
func (b *benchReport) rows(part string, results []pipeline.Result) {
	in := map[string]pipeline.Result{}
	for _, r := range results {
		b.record(part, r)
		if r.Direction == pipeline.In {
			in[r.System] = r
		}
	}
	for _, r := range results {
		if r.Direction == pipeline.Out && !b.json {
			b.printf("%-32s %-11s %26s %26s\n", r.System, r.Workload, rates(r), rates(in[r.System]))
		}
	}
}

func rates(r pipeline.Result) string {
	return fmt.Sprintf("%.2f GB/s  %5.2f M/s", r.BytesPerSecond()/1e9, r.PacketsPerSecond()/1e6)
}

// throughTunnel carries TCP through the whole of it.
func (b *benchReport) throughTunnel(ctx context.Context, opts benchOptions) error {
	if opts.memory {
		return nil
	}
	if err := bench.Available(); err != nil {
		if !b.record("left_out", map[string]string{"what": "tunnel", "why": err.Error()}) {
			b.printf("\nwhat needs a network is left out: %v\n", err)
		}
		return b.err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "culvert-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	systems := []bench.System{bench.Culvert(self, dir)}
	if opts.peers {
		systems = append(systems, b.installedPeers()...)
	}
	if !b.json {
		b.printf("\nthrough the tunnel, %d rounds of some 15 s for each system\n", opts.rounds)
	}
	samples, err := bench.Compare(ctx, systems, bench.Options{Rounds: opts.rounds, Duration: opts.duration, Progress: func(s bench.Sample) {
		if !b.record("tunnel", s) {
			b.printf("round %d   %-14s %6.2f Gbit/s TCP, %6.2f with four streams\n", s.Round, s.System, s.Figures["tcp1"], s.Figures["tcp4"])
		}
	}})
	if err != nil {
		return err
	}
	return errors.Join(b.medians(bench.NewReport(systems, samples)), b.err)
}

// installedPeers are those that can run here; what cannot is told.
func (b *benchReport) installedPeers() (systems []bench.System) {
	binary, wireGuardMissing := bench.WireGuardInstalled()
	for _, peer := range []struct {
		missing error
		system  bench.System
	}{{wireGuardMissing, bench.WireGuard(binary)}, {lab.StrongSwanAvailable(), bench.StrongSwan()}} {
		switch {
		case peer.missing == nil:
			systems = append(systems, peer.system)
		case !b.record("left_out", map[string]string{"what": peer.system.Name, "why": peer.missing.Error()}):
			b.printf("\n%s is left out: %v\n", peer.system.Name, peer.missing)
		}
	}
	return systems
}

// medians prints what everything before comes to.
func (b *benchReport) medians(report bench.Report) error {
	samples := report.Samples
	figures := bench.Figures(bench.Measures())
	if !b.json {
		b.printf("\n%s\n", report.Headline())
		return bench.WriteTable(b.out, samples, figures)
	}
	for _, system := range samples.Systems() {
		medians := map[string]float64{}
		for _, f := range figures {
			medians[f.Name] = samples.Median(system, f.Name)
		}
		b.record("tunnel_median", map[string]any{"system": system, "figures": medians})
	}
	return nil
}
