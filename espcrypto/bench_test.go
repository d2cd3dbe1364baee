package espcrypto

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// batch is a run of equal packets as the data path has it: ESP packets side by
// side in a send buffer, bodies side by side in a slab.
type batch struct {
	segments []Segment
	packets  [][]byte
	opened   []Opened
}

func newBatch(p *pair, n int) *batch {
	const count, head = 44, 52
	stride := p.PacketLen(n)
	first := inner(rand.New(rand.NewPCG(1, 1)), n)
	send, slab := make([]byte, count*stride), slices.Repeat(first[head:], count)
	b := &batch{opened: make([]Opened, count)}
	for k := range count {
		packet := send[k*stride:][:stride:stride]
		copy(packet[p.InnerOffset():], first[:head])
		b.packets = append(b.packets, packet)
		body := slab[k*(n-head):][: n-head : n-head]
		b.segments = append(b.segments, Segment{Packet: packet, HeadLen: head, Body: body, NextHeader: nextHeader(first)})
	}
	return b
}

func forBatches(b *testing.B, run func(*testing.B, *pair, *batch)) {
	for _, s := range []Suite{
		{Encr: 20, KeyBits: 128}, {Encr: 20, KeyBits: 256, ESN: true}, {Encr: 28},
		{Encr: 12, KeyBits: 128, Integ: 12}, {Encr: 12, KeyBits: 256, Integ: 14},
	} {
		for _, n := range []int{64, 1408} {
			b.Run(fmt.Sprintf("%s/44x%d", s.name(), n), func(b *testing.B) {
				p := newPair(b, s)
				batch := newBatch(p, n)
				b.SetBytes(int64(len(batch.segments) * n))
				b.ReportAllocs()
				run(b, p, batch)
			})
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	forBatches(b, func(b *testing.B, p *pair, batch *batch) {
		for b.Loop() {
			if err := p.out.Seal(batch.segments); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	forBatches(b, func(b *testing.B, p *pair, batch *batch) {
		for b.Loop() {
			b.StopTimer() // opening in place leaves what can be sealed again
			if err := p.out.Seal(batch.segments); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			p.in.Open(batch.packets, batch.opened)
		}
		if drop := batch.opened[0].Drop; drop != 0 {
			b.Fatal(drop)
		}
	})
}
