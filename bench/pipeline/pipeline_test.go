package pipeline

import (
	"errors"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"culvert/espcrypto"
)

var aes128 = espcrypto.Suite{Encr: 20, KeyBits: 128}

// BenchmarkOut and BenchmarkIn are for profiles; the figures come from Measure.
func BenchmarkOut(b *testing.B) { benchmark(b, Out) }
func BenchmarkIn(b *testing.B)  { benchmark(b, In) }

func benchmark(b *testing.B, d Direction) {
	for _, w := range Workloads() {
		b.Run(w.Name, func(b *testing.B) {
			c, err := Culvert("culvert", aes128).New(w)
			if err != nil {
				b.Fatal(err)
			}
			carry := map[Direction]func(int) (time.Duration, error){Out: c.Out, In: c.In}[d]
			b.SetBytes(int64(w.Packets() * w.PacketBytes()))
			b.ReportAllocs()
			b.ResetTimer()
			took, err := carry(b.N)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(b.N*w.Packets()), "ns/packet")
		})
	}
}

// TestNoAllocation: every workload goes both ways without one, and arrives.
func TestNoAllocation(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection counts as some
	runtime.GC()
	for _, w := range Workloads() {
		for _, s := range append(append(Suites(), Ciphers()...), Comparisons()...) {
			c, err := s.New(w)
			if err != nil {
				t.Fatal(err)
			}
			for d, carry := range map[Direction]func(int) (time.Duration, error){Out: c.Out, In: c.In} {
				n := testing.AllocsPerRun(50, func() {
					if _, err := carry(3); err != nil {
						t.Fatal(err)
					}
				})
				if n != 0 {
					t.Errorf("%s, %s %s: %v allocations in three bursts", s.Name, w.Name, d, n)
				}
			}
		}
	}
}

// TestRunsStayWhole: what one super-packet was is one write again, and packets
// that came one by one are joined, those of UDP to as many as any kernel takes.
func TestRunsStayWhole(t *testing.T) {
	for _, w := range Workloads() {
		p, err := newPair(w, aes128)
		if err != nil {
			t.Fatal(err)
		}
		want := 1
		if strings.HasPrefix(w.Name, "udp") {
			want = (w.Packets() + 63) / 64
		}
		if _, err := p.In(1); err != nil || p.there.writes != want {
			t.Errorf("%s: %d writes, want %d, %v", w.Name, p.there.writes, want, err)
		}
	}
}

func TestMeasureTellsWhatFails(t *testing.T) {
	broken := System{Name: "broken", New: func(*Workload) (Carrier, error) { return nil, errors.New("no such thing") }}
	if _, err := Measure(Bulk("tcp4", 1420), []System{broken}, Options{}); err == nil || !strings.Contains(err.Error(), "broken, tcp4/1420: no such thing") {
		t.Error(err)
	}
}
