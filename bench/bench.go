// Package bench measures TCP through a tunnel: one IPsec implementation on both
// gateways of package lab's situation, another on both, in turns, because only
// what ran in the same minutes on the same machine compares.
//
//	round 1          round 2          round 3
//	culvert other    other culvert    culvert other    ...    medians, ratio
//
// Every run has a network of its own, built before and gone after it, so that
// nothing that a kernel remembers of one (routes, TCP metrics, NAT mappings)
// helps or hurts the next.
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"culvert/lab"
)

// System is an IPsec implementation that can run the situation's tunnel.
type System struct {
	Name string
	// Start starts it on both gateways. It ends with the lab. The returned
	// function is its log, to explain a failure.
	Start func(ctx context.Context, s *lab.SiteToSite) (log func() string, err error)
}

// Options say how to measure. The zero value is three rounds of one TCP stream
// for three seconds, at 1500 bytes.
type Options struct {
	Rounds   int           // 0 means 3
	Duration time.Duration // of TCP in each run; 0 means 3 s
	Streams  int           // side by side; 0 means 1
	MTU      int           // of every link in bytes; 0 means 1500
	Progress func(Sample)  // told of every run as it ends; may be nil
}

func (o Options) withDefaults() Options {
	if o.Rounds <= 0 {
		o.Rounds = 3
	}
	if o.Duration <= 0 {
		o.Duration = 3 * time.Second
	}
	return o
}

// Sample is one run.
type Sample struct {
	Round         int     `json:"round"` // from 1
	System        string  `json:"system"`
	BitsPerSecond float64 `json:"bits_per_second"` // of TCP payload, LAN A to LAN B
}

// Samples are the runs of a comparison, in the order in which they were.
type Samples []Sample

// Median is the median throughput of a system in bits a second, 0 without runs.
func (s Samples) Median(system string) float64 {
	var v []float64
	for _, x := range s {
		if x.System == system {
			v = append(v, x.BitsPerSecond)
		}
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// Ratio is the median of one system over that of another.
func (s Samples) Ratio(system, to string) float64 { return s.Median(system) / s.Median(to) }

// Compare runs the systems in turns, in the opposite order every other round. A
// run that fails is an error, with the log of what failed in it.
func Compare(ctx context.Context, systems []System, o Options) (Samples, error) {
	o = o.withDefaults()
	systems = slices.Clone(systems)
	var all Samples
	for round := range o.Rounds {
		for _, system := range systems {
			got, err := run(ctx, system, o)
			if err != nil {
				return all, fmt.Errorf("round %d of %s: %w", round+1, system.Name, err)
			}
			all = append(all, Sample{Round: round + 1, System: system.Name, BitsPerSecond: got.BitsPerSecond()})
			if o.Progress != nil {
				o.Progress(all[len(all)-1])
			}
		}
		slices.Reverse(systems)
	}
	return all, nil
}

// run measures one system in a network of its own.
func run(ctx context.Context, system System, o Options) (got lab.Throughput, err error) {
	s, err := lab.Situation(labPrefix, o.MTU)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	log, err := system.Start(ctx, s)
	if err != nil {
		return got, err
	}
	if err := awaitTunnel(ctx, s); err != nil {
		return got, fmt.Errorf("%w\n%s", err, log())
	}
	return lab.TCP(ctx, s.HostA, s.HostB, lab.HostBAddr, lab.TCPOptions{Duration: o.Duration, Streams: o.Streams})
}

// labPrefix starts the names of the namespaces.
const labPrefix = "culvert-bench-"

// upTime bounds the wait for a tunnel.
const upTime = 30 * time.Second

// awaitTunnel pings from LAN to LAN until there is an answer.
func awaitTunnel(ctx context.Context, s *lab.SiteToSite) error {
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	for {
		stats, err := s.HostB.Ping(ctx, lab.HostAAddr, lab.PingOptions{Timeout: 200 * time.Millisecond})
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("no ping came through the tunnel within %v", upTime)
		case err != nil:
			return err
		case stats.Received > 0:
			return nil
		}
	}
}
