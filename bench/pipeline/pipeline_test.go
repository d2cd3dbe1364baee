package pipeline

import (
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
