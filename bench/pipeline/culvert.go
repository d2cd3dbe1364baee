package pipeline

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"culvert/espcrypto"
	"culvert/espcrypto/sad"
	"culvert/gateway"
	"culvert/natt"
	"culvert/tun"
)

// Suites are the data path of this module with the suites that it is for.
func Suites() []System {
	return []System{
		Culvert("culvert, AES-128-GCM", espcrypto.Suite{Encr: 20, KeyBits: 128}),
		Culvert("culvert, AES-256-GCM", espcrypto.Suite{Encr: 20, KeyBits: 256}),
	}
}

// Culvert is the data path of this module with one child SA of a suite.
func Culvert(name string, suite espcrypto.Suite) System {
	return System{Name: name, New: func(w *Workload) (Carrier, error) { return newPair(w, suite) }}
}

// pair is two gateways' data paths, one that the workload comes from and one
// that it goes to.
type pair struct {
	w     *Workload
	out   *gateway.Loops
	in    *gateway.Loops
	here  source
	wire  wire
	there sink
	sa    *sad.Inbound
}

const spi = 0x10100001

func newPair(w *Workload, suite espcrypto.Suite) (*pair, error) {
	p := &pair{w: w, here: source{burst: w.Burst}}
	outTable, inTable, err := tables(suite)
	if err != nil {
		return nil, err
	}
	p.sa = inTable.Load().Inbound(spi)
	p.wire.refill = func() error { return p.send(1) }
	p.out = gateway.NewLoops(&p.here, &p.wire, outTable)
	p.in = gateway.NewLoops(&p.there, &p.wire, inTable)
	return p, nil
}

// tables are the two ends of a child SA.
func tables(suite espcrypto.Suite) (out, in *sad.Table, err error) {
	encr, integ, err := suite.KeyLens()
	if err != nil {
		return nil, nil, err
	}
	keys := espcrypto.Keys{Encr: make([]byte, encr), Integ: make([]byte, integ)}
	for i := range keys.Encr {
		keys.Encr[i] = byte(i)
	}
	sealer, err := espcrypto.NewOutbound(spi, suite, keys)
	if err != nil {
		return nil, nil, err
	}
	opener, err := espcrypto.NewInbound(spi, suite, keys, espcrypto.DefaultWindow)
	if err != nil {
		return nil, nil, err
	}
	a, b := netip.MustParseAddrPort("203.0.113.1:4500"), netip.MustParseAddrPort("192.0.2.10:4500")
	out, in = new(sad.Table), new(sad.Table)
	if err := out.AddOutbound(child(suite, NetworksA(), NetworksB(), a, b), sealer); err != nil {
		return nil, nil, err
	}
	return out, in, in.AddInbound(child(suite, NetworksB(), NetworksA(), b, a), opener)
}

func child(suite espcrypto.Suite, local, remote []netip.Prefix, here, there netip.AddrPort) *sad.Child {
	c := &sad.Child{Peer: "peer", Name: "tunnel", InboundSPI: spi, OutboundSPI: spi, Suite: suite, Local: selectors(local), Remote: selectors(remote)}
	c.Move(sad.Path{Local: here, Remote: there, Encap: true})
	return c
}

func selectors(prefixes []netip.Prefix) []sad.Selector {
	var all []sad.Selector
	for _, p := range prefixes {
		all = append(all, sad.Prefix(p))
	}
	return all
}

func (p *pair) Out(bursts int) (time.Duration, error) {
	start := time.Now()
	err := p.send(bursts)
	return time.Since(start), err
}

func (p *pair) send(bursts int) error {
	p.here.left, p.wire.segments = bursts, 0
	if err := p.out.Outbound(); err != nil {
		return err
	}
	if want := bursts * p.w.Packets(); p.wire.segments != want {
		return fmt.Errorf("%d packets of %d were sealed: %v", p.wire.segments, want, p.out.Counts())
	}
	return nil
}

func (p *pair) In(bursts int) (time.Duration, error) {
	p.wire.left, p.wire.busy, p.there.writes = bursts, 0, 0
	before := p.sa.SA.Stats().Packets
	if err := p.in.Inbound(); err != nil {
		return 0, err
	}
	if got, want := p.sa.SA.Stats().Packets-before, uint64(bursts*p.w.Packets()); got != want || p.wire.err != nil {
		return 0, fmt.Errorf("%d packets of %d were opened: %v, %v", got, want, p.wire.err, p.in.Counts())
	}
	return p.wire.busy, nil
}

// source is a device that has the burst for the asking. What a kernel would
// copy into the slab is copied once: bytes that lie there already are left.
type source struct {
	tun.Device
	burst []tun.Super
	ready []tun.Super // the burst where it is in the slab
	at    int
	ended bool // the burst, and the loop knows
	left  int  // bursts
}

func (d *source) Read(slab []byte) (tun.Super, error) {
	if d.left == 0 {
		return tun.Super{}, os.ErrClosed
	}
	d.left--
	d.at, d.ended = 0, false
	return d.TryRead(slab)
}

func (d *source) TryRead(slab []byte) (tun.Super, error) {
	switch {
	case d.at < len(d.burst):
	case d.ended: // the loop looks for more before it sleeps
		return d.Read(slab)
	default:
		d.ended = true
		return tun.Super{}, tun.ErrWouldBlock
	}
	if d.at < len(d.ready) && &d.ready[d.at].Packet[0] == &slab[0] {
		d.at++
		return d.ready[d.at-1], nil
	}
	s := d.burst[d.at]
	s.Packet = slab[:copy(slab, s.Packet)]
	d.ready = append(d.ready[:d.at], s)
	d.at++
	return s, nil
}

func (d *source) Name() string         { return "source" }
func (d *source) Offload() tun.Offload { return tun.Offload{} }

// sink is a device that takes everything.
type sink struct {
	tun.Device
	writes int
}

func (d *sink) Name() string         { return "sink" }
func (d *sink) Offload() tun.Offload { return tun.Offload{TCP: true, UDP: true} }
func (d *sink) Write(tun.Super) error {
	d.writes++
	return nil
}

// wire is the socket of both ends. What was sent last is what Receive
// delivers, from memory of its own; it runs the clock of In.
type wire struct {
	natt.Conn
	sent     []natt.Run
	segments int

	refill func() error
	left   int // bursts
	slab   [4 << 16]byte
	since  time.Time
	busy   time.Duration
	err    error
}

func (c *wire) Send(runs []natt.Run) (int, error) {
	c.sent = append(c.sent[:0], runs...)
	for i := range runs {
		c.segments += runs[i].Segments()
	}
	return len(runs), nil
}

func (c *wire) Receive(runs []natt.Run) (int, error) {
	if !c.since.IsZero() {
		c.busy += time.Since(c.since)
		c.since = time.Time{}
	}
	if c.left == 0 {
		return 0, net.ErrClosed
	}
	c.left--
	if c.err = c.refill(); c.err != nil {
		return 0, net.ErrClosed
	}
	n := c.deliver(runs)
	c.since = time.Now()
	return n, nil
}

// maxDatagram bounds what UDP_GRO delivers as one run.
const maxDatagram = 65507

func (c *wire) deliver(runs []natt.Run) (n int) {
	used := 0
	for _, r := range c.sent {
		r.Path.Local, r.Path.Remote = r.Path.Remote, r.Path.Local
		for b := r.Bytes; len(b) > 0; n++ {
			size := min(len(b), maxDatagram/r.SegmentSize*r.SegmentSize, 64*r.SegmentSize)
			runs[n] = r
			runs[n].Bytes = c.slab[used : used+copy(c.slab[used:], b[:size]) : used+size]
			b, used = b[size:], used+size
		}
	}
	return n
}
