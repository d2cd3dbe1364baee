package gateway

import (
	"net"
	"os"
	"testing"

	"culvert/espcrypto"
	"culvert/natt"
	"culvert/tun"
)

// TestNoAllocation: in the steady state neither direction allocates, for runs
// and for single packets.
func TestNoAllocation(t *testing.T) {
	for _, s := range suites {
		for name, super := range map[string]tun.Super{
			"64 KB of TCP": bulk(hostA, hostB, 1, noise(1, 60000), 1300),
			"one packet":   whole(udp(hostA, hostB, noise(1, 64))),
		} {
			out := newSender(t, s, super)
			out.loop.opts.Shared = true // which costs what one lane does, and locks
			if n := testing.AllocsPerRun(20, func() { out.carry(t, 10) }); n != 0 {
				t.Errorf("%+v, %s: %v allocations for ten super-packets out", s, name, n)
			}
			in := newReceiver(t, s, super)
			in.loop.opts.Shared = true
			if n := testing.AllocsPerRun(4, func() { in.carry(t, tapeRuns/5) }); n != 0 {
				t.Errorf("%+v, %s: %v allocations for %d runs in", s, name, n, tapeRuns/5)
			}
		}
	}
}

func BenchmarkPipelineOutbound(b *testing.B) {
	super := bulk(hostA, hostB, 1, noise(1, 65000), 1398)
	s := newSender(b, gcm128, super)
	b.SetBytes(int64(len(super.Packet)))
	b.ReportAllocs()
	b.ResetTimer()
	s.carry(b, b.N)
}

func BenchmarkPipelineOutboundSmall(b *testing.B) {
	super := whole(udp(hostA, hostB, noise(1, 64)))
	s := newSender(b, gcm128, super)
	s.source.drain = 64
	b.SetBytes(int64(len(super.Packet)))
	b.ReportAllocs()
	b.ResetTimer()
	s.carry(b, b.N)
}

func BenchmarkPipelineInbound(b *testing.B) {
	super := bulk(hostA, hostB, 1, noise(1, 65000), 1398)
	benchmarkInbound(b, super)
}

func BenchmarkPipelineInboundSmall(b *testing.B) {
	benchmarkInbound(b, whole(udp(hostA, hostB, noise(1, 64))))
}

func benchmarkInbound(b *testing.B, super tun.Super) {
	r := newReceiver(b, gcm128, super)
	b.SetBytes(int64(len(super.Packet)))
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= tapeRuns {
		r.rewind(b)
		r.carry(b, min(left, tapeRuns))
	}
}

// sender is an outbound loop between a device that has the same super-packet
// as often as asked and a socket that takes everything.
type sender struct {
	source source
	sink   sink
	loop   *outbound
}

func newSender(t testing.TB, s espcrypto.Suite, super tun.Super) *sender {
	a, _ := newPair(t, s)
	n := &sender{source: source{super: super, drain: 1}}
	n.loop = newOutbound(&n.source, &n.sink, &a.table, &a.counters, outboundOptions{})
	return n
}

func (s *sender) carry(t testing.TB, n int) {
	s.source.left, s.sink.bytes = n, 0
	if err := s.loop.run(); err != nil || s.sink.bytes < n*len(s.source.super.Packet) {
		t.Fatalf("carried %d bytes: %v", s.sink.bytes, err)
	}
}

type source struct {
	fakeDevice
	super tun.Super
	left  int
	drain int // super-packets there at once
	there int
	bytes int // written
}

func (d *source) Read(slab []byte) (tun.Super, error) {
	if d.left == 0 {
		return tun.Super{}, os.ErrClosed
	}
	d.there = d.drain
	return d.TryRead(slab)
}

func (d *source) TryRead(slab []byte) (tun.Super, error) {
	if d.left == 0 || d.there == 0 {
		return tun.Super{}, tun.ErrWouldBlock
	}
	d.left--
	d.there--
	s := d.super
	s.Packet = slab[10 : 10+copy(slab[10:], s.Packet)]
	return s, nil
}

func (d *source) Write(s tun.Super) error {
	d.bytes += s.Len()
	return nil
}

type sink struct {
	natt.Conn
	bytes int
}

func (s *sink) Send(runs []natt.Run) (int, error) {
	for _, r := range runs {
		s.bytes += len(r.Bytes)
	}
	return len(runs), nil
}

// receiver is an inbound loop between a socket with runs that were sealed
// beforehand and a device that takes everything.
type receiver struct {
	tape tape
	dev  source
	end  *end
	loop *inbound
	each int // packets a run
}

// tapeRuns keeps the ciphertext that is prepared within a replay window, and at
// a few megabytes.
const tapeRuns = 80

func newReceiver(t testing.TB, s espcrypto.Suite, super tun.Super) *receiver {
	a, b := newPair(t, s)
	r := &receiver{end: b, each: len(apart(super))}
	for range tapeRuns {
		r.tape.runs = append(r.tape.runs, cross(a.send(t, super))...)
	}
	for i := range r.tape.slab {
		r.tape.slab[i] = make([]byte, 80<<10)
	}
	r.dev.offload = tun.Offload{TCP: true, UDP: true}
	r.loop = newInbound(&r.dev, &r.tape, &b.table, &b.counters, inboundOptions{})
	return r
}

// rewind makes the tape new to the SA.
func (r *receiver) rewind(t testing.TB) {
	old := r.end.table.RemoveInbound(spiAtB)
	sa, err := espcrypto.NewInbound(spiAtB, old.Suite, testKeys(old.Suite, spiAtB), 4096)
	noError(t, err)
	noError(t, r.end.table.AddInbound(old.Child, sa))
	r.tape.next = 0
}

// carry takes n runs more off the tape.
func (r *receiver) carry(t testing.TB, n int) {
	sa := r.end.table.Load().Inbound(spiAtB).SA
	before := sa.Stats().Packets
	r.tape.left, r.dev.bytes = n, 0
	err := r.loop.run()
	if got := sa.Stats().Packets - before; err != nil || got != uint64(n*r.each) || r.dev.bytes == 0 {
		t.Fatalf("carried %d packets of %d, %d bytes: %v", got, n*r.each, r.dev.bytes, err)
	}
}

// tape copies runs into buffers that it has for all time, as a kernel does.
type tape struct {
	natt.Conn
	runs       []natt.Run
	next, left int
	slab       [8][]byte
}

func (s *tape) Receive(runs []natt.Run) (int, error) {
	if s.left == 0 {
		return 0, net.ErrClosed
	}
	n := min(s.left, len(s.slab))
	for i := range n {
		runs[i] = s.runs[s.next+i]
		runs[i].Bytes = s.slab[i][:copy(s.slab[i], runs[i].Bytes)]
	}
	s.next, s.left = s.next+n, s.left-n
	return n, nil
}
