// Package pipeline measures the data path in memory: super-packets in a slab
// become runs of ESP in a send buffer, and runs in a receive buffer become
// super-packets, with no kernel at either end.
//
//	super-packet ── Out ──▶ runs ··· a wire that copies, off the clock ··· runs ── In ──▶ super-packet
//
// What the kernel does to get bytes into and out of a process is not in the
// figures, for no Carrier; all else is. Carriers are measured in turns in one
// process, so that their ratio outlives a noisy neighbour, and one core does
// all the work of each.
package pipeline

import (
	"fmt"
	"slices"
	"time"
)

// Carrier is one implementation of the work, set up for one Workload.
type Carrier interface {
	// Out turns so many bursts of super-packets into runs, and says how long it took.
	Out(bursts int) (time.Duration, error)
	// In turns so many bursts of runs into super-packets.
	In(bursts int) (time.Duration, error)
}

// System makes Carriers.
type System struct {
	Name string
	New  func(*Workload) (Carrier, error)
}

// Direction is Out or In.
type Direction string

// The directions, seen from the gateway.
const (
	Out Direction = "out"
	In  Direction = "in"
)

// Directions are both.
var Directions = []Direction{Out, In}

// Options say how to measure. The zero value is fine.
type Options struct {
	Rounds   int           // how often the systems take turns; 0 means 101
	Sample   time.Duration // how long each turn is, about; 0 means 2 ms, which a busy machine leaves alone now and then
	Progress func(Result)  // told of every result; may be nil
}

func (o Options) withDefaults() Options {
	if o.Rounds <= 0 {
		o.Rounds = 101
	}
	if o.Sample <= 0 {
		o.Sample = 2 * time.Millisecond
	}
	return o
}

// Result is what a system does with a workload in one direction.
type Result struct {
	Workload  string    `json:"workload"`
	Direction Direction `json:"direction"`
	System    string    `json:"system"`
	// Nanos is the time that an inner packet takes, in ns: the median of the
	// rounds, and the least of them.
	Nanos     float64 `json:"ns_per_packet"`
	BestNanos float64 `json:"best_ns_per_packet"`
	// PacketBytes is the length of an inner packet.
	PacketBytes int `json:"packet_bytes"`
}

// PacketsPerSecond is the best rate: what slows a round down is others on the
// machine, and nothing makes one too fast.
func (r Result) PacketsPerSecond() float64 { return 1e9 / r.BestNanos }

// BytesPerSecond is the best rate in bytes of inner packets.
func (r Result) BytesPerSecond() float64 { return float64(r.PacketBytes) * 1e9 / r.BestNanos }

// Measure runs the systems in turns on a workload, both ways.
func Measure(w *Workload, systems []System, o Options) ([]Result, error) {
	o = o.withDefaults()
	var results []Result
	for _, d := range Directions {
		turns := make([]turn, len(systems))
		for i, s := range systems {
			t, err := newTurn(w, s, d, o.Sample)
			if err != nil {
				return nil, err
			}
			turns[i] = t
		}
		for range o.Rounds {
			for i := range turns {
				if err := turns[i].take(); err != nil {
					return nil, err
				}
			}
		}
		for _, t := range turns {
			r := t.result()
			results = append(results, r)
			if o.Progress != nil {
				o.Progress(r)
			}
		}
	}
	return results, nil
}

// turn is one system's part of a measurement.
type turn struct {
	w      *Workload
	system string
	dir    Direction
	carry  func(int) (time.Duration, error)
	bursts int
	nanos  []float64
}

// newTurn finds how many bursts make a sample, which warms everything up.
func newTurn(w *Workload, s System, d Direction, sample time.Duration) (turn, error) {
	c, err := s.New(w)
	if err != nil {
		return turn{}, fmt.Errorf("%s, %s: %w", s.Name, w.Name, err)
	}
	t := turn{w: w, system: s.Name, dir: d, carry: c.Out, bursts: 1}
	if d == In {
		t.carry = c.In
	}
	for {
		took, err := t.carry(t.bursts)
		if err != nil {
			return turn{}, t.explain(err)
		}
		if took >= sample/4 {
			t.bursts = max(1, int(float64(t.bursts)*float64(sample)/float64(took)))
			return t, nil
		}
		t.bursts *= 2
	}
}

func (t *turn) take() error {
	took, err := t.carry(t.bursts)
	if err != nil {
		return t.explain(err)
	}
	t.nanos = append(t.nanos, float64(took.Nanoseconds())/float64(t.bursts*t.w.Packets()))
	return nil
}

func (t *turn) explain(err error) error {
	return fmt.Errorf("%s, %s %s: %w", t.system, t.w.Name, t.dir, err)
}

func (t *turn) result() Result {
	slices.Sort(t.nanos)
	n := len(t.nanos)
	return Result{
		Workload: t.w.Name, Direction: t.dir, System: t.system, PacketBytes: t.w.PacketBytes(),
		Nanos: (t.nanos[(n-1)/2] + t.nanos[n/2]) / 2, BestNanos: t.nanos[0],
	}
}
