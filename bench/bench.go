// Package bench measures what goes through a tunnel: one implementation on both
// gateways of package lab's situation, another on both, in turns, because only
// what ran in the same minutes on the same machine compares.
//
//	round 1                 round 2                 round 3
//	culvert relay other     other relay culvert     culvert relay other    ...    medians of figures and ratios
//
// Every run has a network of its own, built before and gone after it, so that
// nothing that a kernel remembers of one (routes, TCP metrics, NAT mappings)
// helps or hurts the next.
package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"culvert/lab"
)

// System is something that carries packets between the gateways of the situation.
type System struct {
	Name    string
	Version string // "" where it does not matter or nobody knows
	// Start starts it on both gateways. It ends with the lab. The returned
	// function is its log, to explain a failure.
	Start func(ctx context.Context, s *lab.SiteToSite) (log func() string, err error)
}

// Options say how to measure. The zero value is three rounds of every measure,
// at 1500 bytes.
type Options struct {
	Rounds   int                         // 0 means 3
	Duration time.Duration               // of each measure; 0 means its own, some 2 s
	MTU      int                         // of every link in bytes; 0 means 1500
	Measures []Measure                   // nil means Measures()
	Began    func(round int, who string) // told of every run as it begins; may be nil
	Progress func(Sample)                // told of every run as it ends; may be nil
}

func (o Options) withDefaults() Options {
	if o.Rounds <= 0 {
		o.Rounds = 3
	}
	if o.Measures == nil {
		o.Measures = Measures()
	}
	if o.Began == nil {
		o.Began = func(int, string) {}
	}
	if o.Progress == nil {
		o.Progress = func(Sample) {}
	}
	return o
}

// Sample is one run.
type Sample struct {
	Round   int                `json:"round"` // from 1
	System  string             `json:"system"`
	Figures map[string]float64 `json:"figures"` // by Figure.Name, in its unit
}

// Samples are the runs of a comparison, in the order in which they were.
type Samples []Sample

// Median is the median of a figure of a system, 0 without runs of it.
func (s Samples) Median(system, figure string) float64 {
	var v []float64
	for _, of := range s.byRound(system, figure) {
		v = append(v, of...)
	}
	return median(v)
}

// Ratio is how many times one system's figure is another's: the median of the
// rounds, since what slows the machine down slows all of a round. 0 where no
// round has both.
func (s Samples) Ratio(figure, system, to string) float64 {
	var v []float64
	ours, theirs := s.byRound(system, figure), s.byRound(to, figure)
	for round, of := range ours {
		for i := range min(len(of), len(theirs[round])) {
			v = append(v, of[i]/theirs[round][i])
		}
	}
	return median(v)
}

func (s Samples) byRound(system, figure string) map[int][]float64 {
	v := map[int][]float64{}
	for _, x := range s {
		if f, ok := x.Figures[figure]; ok && x.System == system {
			v[x.Round] = append(v[x.Round], f)
		}
	}
	return v
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// Systems are those that there are runs of, the first first.
func (s Samples) Systems() (names []string) {
	for _, x := range s {
		if !slices.Contains(names, x.System) {
			names = append(names, x.System)
		}
	}
	return names
}

// Compare runs the systems in turns, in the opposite order every other round. A
// run that fails is an error, with the log of what failed in it.
func Compare(ctx context.Context, systems []System, o Options) (Samples, error) {
	o = o.withDefaults()
	systems = slices.Clone(systems)
	var all Samples
	for round := 1; round <= o.Rounds; round++ {
		for _, system := range systems {
			o.Began(round, system.Name)
			figures, err := run(ctx, system, o)
			if err != nil {
				return all, fmt.Errorf("round %d of %s: %w", round, system.Name, err)
			}
			all = append(all, Sample{round, system.Name, figures})
			o.Progress(all[len(all)-1])
		}
		slices.Reverse(systems)
	}
	return all, nil
}

// run takes all measures of one system.
func run(ctx context.Context, system System, o Options) (figures map[string]float64, err error) {
	figures = map[string]float64{}
	err = system.in(ctx, o.MTU, func(s *lab.SiteToSite) error {
		for _, m := range o.Measures {
			err := awaitTunnel(ctx, s)
			var got map[string]float64
			if err == nil {
				got, err = m.take(ctx, s, o.Duration)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			maps.Copy(figures, got)
		}
		return nil
	})
	return figures, err
}

// in starts the system in a network of its own for f, whose error gets the
// system's log.
func (system System) in(ctx context.Context, mtu int, f func(*lab.SiteToSite) error) (err error) {
	s, err := lab.Situation(labPrefix, mtu)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	log, err := system.Start(ctx, s)
	if err != nil {
		return err
	}
	if err := f(s); err != nil {
		return fmt.Errorf("%w\n%s", err, log())
	}
	return nil
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
