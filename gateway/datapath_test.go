package gateway

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"culvert/espcrypto"
	"culvert/espcrypto/sad"
	"culvert/natt"
	"culvert/tun"
)

// The two ends of the tests: A protects 10.103.0.0/24 and 2001:db8:103::/48,
// B 10.104.0.0/24 and 2001:db8:104::/48.
var (
	lanA  = prefixes("10.103.0.0/24", "2001:db8:103::/48")
	lanB  = prefixes("10.104.0.0/24", "2001:db8:104::/48")
	wanA  = netip.MustParseAddrPort("203.0.113.1:4500")
	wanB  = netip.MustParseAddrPort("192.0.2.10:4500")
	wanA6 = netip.MustParseAddrPort("[2001:db8::a]:4500")
	wanB6 = netip.MustParseAddrPort("[2001:db8::b]:4500")
	hostA = netip.MustParseAddrPort("10.103.0.5:40000")
	hostB = netip.MustParseAddrPort("10.104.0.7:5001")
	v6A   = netip.MustParseAddrPort("[2001:db8:103::5]:40000")
	v6B   = netip.MustParseAddrPort("[2001:db8:104::7]:5001")
)

var (
	gcm128 = espcrypto.Suite{Encr: 20, KeyBits: 128}
	suites = []espcrypto.Suite{
		gcm128,
		{Encr: 20, KeyBits: 256, ESN: true},
		{Encr: 28},
		{Encr: 12, KeyBits: 128, Integ: 12},
		{Encr: 12, KeyBits: 256, Integ: 14, ESN: true},
	}
)

// end is one gateway's data path, run by hand: what is read is scripted, what
// is written is kept.
type end struct {
	dev      fakeDevice
	sock     fakeSocket
	table    sad.Table
	counters Counters
	notices  chan notice
	ike      [][]byte
	out      *outbound
	in       *inbound
	name     string
}

const (
	spiAtA = 0x10100001
	spiAtB = 0x20200002
)

func newEnd(name string) *end {
	e := &end{name: name, notices: make(chan notice, 4)}
	e.out = newOutbound(&e.dev, &e.sock, &e.table, &e.counters, outboundOptions{Notices: e.notices})
	e.in = newInbound(&e.dev, &e.sock, &e.table, &e.counters, inboundOptions{
		Notices: e.notices,
		IKE:     func(_ natt.Path, b []byte) { e.ike = append(e.ike, bytes.Clone(b)) },
	})
	return e
}

// newPair is A and B with one child SA pair between them.
func newPair(t testing.TB, s espcrypto.Suite) (a, b *end) {
	a, b = newEnd("A"), newEnd("B")
	a.install(t, s, spiAtA, spiAtB, lanA, lanB, wanA, wanB)
	b.install(t, s, spiAtB, spiAtA, lanB, lanA, wanB, wanA)
	return a, b
}

func (e *end) install(t testing.TB, s espcrypto.Suite, in, out uint32, local, remote []sad.Selector, here, there netip.AddrPort) *sad.Child {
	t.Helper()
	c := &sad.Child{Peer: "peer", Name: "tunnel", InboundSPI: in, OutboundSPI: out, Suite: s, Local: local, Remote: remote}
	c.Move(sad.Path{Local: here, Remote: there, Encap: true})
	inbound, err := espcrypto.NewInbound(in, s, testKeys(s, in), 4096)
	noError(t, err)
	outbound, err := espcrypto.NewOutbound(out, s, testKeys(s, out))
	noError(t, err)
	noError(t, e.table.AddInbound(c, inbound))
	noError(t, e.table.AddOutbound(c, outbound))
	return c
}

// testKeys depend on the SPI only, so that both ends make the same.
func testKeys(s espcrypto.Suite, spi uint32) espcrypto.Keys {
	encr, integ, err := s.KeyLens()
	if err != nil {
		panic(err)
	}
	r := rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint32(make([]byte, 28), spi)))
	k := espcrypto.Keys{Encr: make([]byte, encr), Integ: make([]byte, integ)}
	_, _ = r.Read(k.Encr)
	_, _ = r.Read(k.Integ)
	return k
}

// send runs the outbound loop over what the host hands over, one drain, and
// returns what went out.
func (e *end) send(t testing.TB, supers ...tun.Super) []natt.Run {
	t.Helper()
	e.dev.reads, e.sock.sent = supers, nil
	noError(t, e.out.run())
	return e.sock.sent
}

// receive runs the inbound loop over what came from the network, and returns
// what the host got, packet by packet.
func (e *end) receive(t testing.TB, runs ...natt.Run) [][]byte {
	t.Helper()
	e.dev.written, e.sock.arriving = nil, runs
	noError(t, e.in.run())
	return e.dev.written
}

// cross is the network: what leaves one end is what arrives at the other.
func cross(runs []natt.Run) []natt.Run {
	out := make([]natt.Run, len(runs))
	for i, r := range runs {
		r.Bytes = bytes.Clone(r.Bytes)
		r.Path.Local, r.Path.Remote = r.Path.Remote, r.Path.Local
		out[i] = r
	}
	return out
}

// wantCounts checks that exactly these counters are not zero.
func (e *end) wantCounts(t testing.TB, want map[string]uint64) {
	t.Helper()
	for name, n := range e.counters.Snapshot() {
		if n != want[name] {
			t.Errorf("%s: %s = %d, want %d", e.name, name, n, want[name])
		}
	}
}

// fakeDevice hands over reads in one drain, then is closed.
type fakeDevice struct {
	offload  tun.Offload
	reads    []tun.Super
	errs     []error // come before the reads
	written  [][]byte
	supers   []tun.Super
	writeErr error
}

func (d *fakeDevice) Name() string             { return "fake0" }
func (d *fakeDevice) MTU() int                 { return 1500 }
func (d *fakeDevice) Offload() tun.Offload     { return d.offload }
func (d *fakeDevice) Close() error             { return nil }
func (d *fakeDevice) Events() <-chan tun.Event { return nil }

func (d *fakeDevice) Read(slab []byte) (tun.Super, error) {
	if len(d.errs) > 0 {
		err := d.errs[0]
		d.errs = d.errs[1:]
		return tun.Super{}, err
	}
	if len(d.reads) == 0 {
		return tun.Super{}, os.ErrClosed
	}
	return d.TryRead(slab)
}

func (d *fakeDevice) TryRead(slab []byte) (tun.Super, error) {
	if len(slab) < tun.SlabLen {
		return tun.Super{}, fmt.Errorf("a slab of %d bytes", len(slab))
	}
	if len(d.reads) == 0 {
		return tun.Super{}, tun.ErrWouldBlock
	}
	s := d.reads[0]
	d.reads = d.reads[1:]
	s.Packet = slab[10 : 10+copy(slab[10:], s.Packet)]
	return s, nil
}

func (d *fakeDevice) Write(s tun.Super) error {
	if d.writeErr != nil {
		return d.writeErr
	}
	packet := bytes.Clone(s.Packet)
	for _, b := range s.Rest {
		packet = append(packet, b...)
	}
	s.Packet, s.Rest = packet, nil
	d.supers = append(d.supers, s)
	d.written = append(d.written, apart(s)...)
	return nil
}

// apart is the packets that a super-packet stands for.
func apart(s tun.Super) (packets [][]byte) {
	var sp tun.Splitter
	s.Packet = bytes.Clone(s.Packet)
	if err := sp.Load(&s); err != nil {
		panic(err)
	}
	for i := range sp.Count() {
		p := make([]byte, sp.HeadLen())
		sp.Head(i, p)
		packets = append(packets, append(p, sp.Body(i)...))
	}
	return packets
}

// fakeSocket keeps what is sent, and is closed when all has arrived.
type fakeSocket struct {
	natt.Conn
	arriving []natt.Run
	sent     []natt.Run
	sends    int
	sendErr  error
}

func (s *fakeSocket) Receive(runs []natt.Run) (int, error) {
	if len(s.arriving) == 0 {
		return 0, net.ErrClosed
	}
	n := copy(runs, s.arriving)
	s.arriving = s.arriving[n:]
	return n, nil
}

func (s *fakeSocket) Send(runs []natt.Run) (int, error) {
	s.sends++
	if s.sendErr != nil {
		return 0, s.sendErr
	}
	for _, r := range runs {
		r.Bytes = bytes.Clone(r.Bytes)
		s.sent = append(s.sent, r)
	}
	return len(runs), nil
}

// Packets.

const (
	flagSYN     = 0x02
	flagACK     = 0x10
	protocolTCP = 6
	protUDP     = 17
)

// tcp is a TCP packet; IPv4 ones have DF set and an ID.
func tcp(src, dst netip.AddrPort, seq uint32, flags byte, options, payload []byte) []byte {
	t := make([]byte, 20, 20+len(options)+len(payload))
	binary.BigEndian.PutUint16(t[0:], src.Port())
	binary.BigEndian.PutUint16(t[2:], dst.Port())
	binary.BigEndian.PutUint32(t[4:], seq)
	binary.BigEndian.PutUint32(t[8:], 77)
	t[12], t[13] = byte(20+len(options))/4<<4, flags
	binary.BigEndian.PutUint16(t[14:], 5000)
	t = append(append(t, options...), payload...)
	return finish(ip(src.Addr(), dst.Addr(), protocolTCP, t), 16)
}

func udp(src, dst netip.AddrPort, payload []byte) []byte {
	t := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(t[0:], src.Port())
	binary.BigEndian.PutUint16(t[2:], dst.Port())
	binary.BigEndian.PutUint16(t[4:], uint16(8+len(payload)))
	return finish(ip(src.Addr(), dst.Addr(), protUDP, append(t, payload...)), 6)
}

// ip puts an IP header before a transport packet.
func ip(src, dst netip.Addr, protocol byte, transport []byte) []byte {
	if src.Is6() {
		h := make([]byte, 40, 40+len(transport))
		h[0] = 0x60
		binary.BigEndian.PutUint16(h[4:], uint16(len(transport)))
		h[6], h[7] = protocol, 64
		copy(h[8:], src.AsSlice())
		copy(h[24:], dst.AsSlice())
		return append(h, transport...)
	}
	h := make([]byte, 20, 20+len(transport))
	h[0], h[6], h[8], h[9] = 0x45, 0x40, 64, protocol
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(transport)))
	binary.BigEndian.PutUint16(h[4:], 0x1234)
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	return append(setIPChecksum(h), transport...)
}

func setIPChecksum(h []byte) []byte {
	binary.BigEndian.PutUint16(h[10:], 0)
	binary.BigEndian.PutUint16(h[10:], headerChecksum(h[:int(h[0]&15)*4]))
	return h
}

// finish completes the transport checksum at offset at of the transport header.
func finish(packet []byte, at int) []byte {
	t := packet[headerLen(packet):]
	binary.BigEndian.PutUint16(t[at:], 0)
	sum := foldTest(sumTest(t) + pseudoTest(packet, len(t)))
	if sum = ^sum; sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(t[at:], sum)
	return packet
}

func headerLen(packet []byte) int {
	if packet[0]>>4 == 6 {
		return 40
	}
	return int(packet[0]&15) * 4
}

func pseudoTest(packet []byte, n int) uint64 {
	if packet[0]>>4 == 6 {
		return sumTest(packet[8:40]) + uint64(packet[6]) + uint64(n)
	}
	return sumTest(packet[12:20]) + uint64(packet[9]) + uint64(n)
}

func sumTest(b []byte) (sum uint64) {
	for i := range b {
		sum += uint64(b[i]) << (8 * (1 - i%2))
	}
	return sum
}

func foldTest(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// bulk is a TCP super-packet as a kernel gives it: its checksum field holds
// the pseudo-header's sum.
func bulk(src, dst netip.AddrPort, seq uint32, payload []byte, segment int) tun.Super {
	p := tcp(src, dst, seq, flagACK, nil, payload)
	n := headerLen(p)
	binary.BigEndian.PutUint16(p[n+16:], foldTest(pseudoTest(p, len(p)-n)))
	return tun.Super{Packet: p, SegmentSize: segment, ChecksumStart: n, ChecksumOffset: 16}
}

func whole(packet []byte) tun.Super { return tun.Super{Packet: packet} }

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), seed))).Read(b)
	return b
}

func prefixes(list ...string) (s []sad.Selector) {
	for _, p := range list {
		s = append(s, sad.Prefix(netip.MustParsePrefix(p)))
	}
	return s
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantPackets(t testing.TB, what string, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d packets, want %d", what, len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("%s: packet %d differs: %d bytes %x..., want %d bytes %x...", what, i,
				len(got[i]), got[i][:min(48, len(got[i]))], len(want[i]), want[i][:min(48, len(want[i]))])
		}
	}
}

func wantNotices(t testing.TB, e *end, want ...notice) {
	t.Helper()
	var got []notice
	for len(e.notices) > 0 {
		got = append(got, <-e.notices)
	}
	if !slices.Equal(got, want) {
		t.Errorf("notices %+v, want %+v", got, want)
	}
}

// TestThereAndBack: all suites, both families, both directions, runs and single
// packets; every byte arrives, in order, once.
func TestThereAndBack(t *testing.T) {
	for _, s := range suites {
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
			a, b := newPair(t, s)
			for _, way := range []struct {
				from, to         *end
				src, dst, s6, d6 netip.AddrPort
			}{{a, b, hostA, hostB, v6A, v6B}, {b, a, hostB, hostA, v6B, v6A}} {
				sent := []tun.Super{
					bulk(way.src, way.dst, 1, noise(1, 60000), 1398),
					bulk(way.s6, way.d6, 9, noise(2, 60000), 1378),
					whole(tcp(way.src, way.dst, 60001, flagACK, nil, noise(3, 1))),
					whole(udp(way.s6, way.d6, noise(4, 500))),
					whole(udp(way.src, way.dst, noise(5, 1000))),
				}
				if s.Encr == 12 { // its packets are smaller
					sent[0].SegmentSize, sent[1].SegmentSize = 1382-16, 1362-16
				}
				var want [][]byte
				for _, s := range sent {
					want = append(want, apart(s)...)
				}
				got := way.to.receive(t, cross(way.from.send(t, sent...))...)
				wantPackets(t, way.from.name, got, want)
			}
			a.wantCounts(t, nil)
			b.wantCounts(t, nil)
		})
	}
}

// TestSuperPacketStaysWhole: 64 KB cost one send and, where the device takes
// runs, one write at the other end.
func TestSuperPacketStaysWhole(t *testing.T) {
	a, b := newPair(t, gcm128)
	b.dev.offload = tun.Offload{TCP: true, UDP: true}
	b.in = newInbound(&b.dev, &b.sock, &b.table, &b.counters, inboundOptions{})
	payload := noise(1, 65000)
	runs := a.send(t, bulk(hostA, hostB, 1, payload, 1398))
	if a.sock.sends != 1 || len(runs) != 1 {
		t.Fatalf("%d sends of %d runs, want one of one", a.sock.sends, len(runs))
	}
	packet := gcm128.PacketLen(1438)
	if r := runs[0]; r.SegmentSize != packet || r.Segments() != 47 || r.Path != natt.Path(a.out.path) {
		t.Errorf("run of %d packets of %d bytes to %v, want 47 of %d to %v", r.Segments(), r.SegmentSize, r.Path, packet, a.out.path)
	}
	b.receive(t, cross(runs)...)
	if len(b.dev.supers) != 1 {
		t.Fatalf("%d writes, want 1", len(b.dev.supers))
	}
	if s := b.dev.supers[0]; s.SegmentSize != 1398 || !bytes.Equal(s.Packet[40:], payload) {
		t.Errorf("the run at the other end has %d bytes in segments of %d", len(s.Packet)-40, s.SegmentSize)
	}
}

// TestRuns: equal sizes join, a shorter packet ends a run, and another peer or
// traffic class starts one.
func TestRuns(t *testing.T) {
	a, _ := newPair(t, gcm128)
	elsewhere := netip.MustParseAddrPort("10.105.0.9:5001")
	a.install(t, gcm128, spiAtA+1, 0x30300003, lanA, prefixes("10.105.0.0/24"), wanA6, wanB6)
	packet := func(dst netip.AddrPort, n int) tun.Super { return whole(udp(hostA, dst, noise(uint64(n), n))) }
	urgent := udp(hostA, hostB, noise(1, 200))
	urgent[1] = 0xb8
	setIPChecksum(urgent)

	runs := a.send(t,
		packet(hostB, 200), packet(hostB, 200), packet(hostB, 200), packet(hostB, 100), // 4, ended by the shorter
		packet(hostB, 100), packet(hostB, 300), // 1 and 1: growing
		packet(elsewhere, 300), packet(elsewhere, 300), // 2 to the other peer
		packet(hostB, 200), whole(urgent), // 1 and 1: traffic class
	)
	type shape struct {
		packets int
		remote  netip.AddrPort
		tos     uint8
	}
	var got []shape
	for _, r := range runs {
		got = append(got, shape{r.Segments(), r.Path.Remote, r.TOS})
	}
	want := []shape{{4, wanB, 0}, {1, wanB, 0}, {1, wanB, 0}, {2, wanB6, 0}, {1, wanB, 0}, {1, wanB, 0xb8}}
	if !slices.Equal(got, want) {
		t.Errorf("runs %v, want %v", got, want)
	}
	if a.sock.sends != 1 {
		t.Errorf("%d sends for one drain", a.sock.sends)
	}
}

// TestInterleavedFlows: single packets of equal size of one burst leave as one
// run whatever their flows, and each flow arrives as one write, though its
// packets lie apart and across what one run can hold.
func TestInterleavedFlows(t *testing.T) {
	a, b := newPair(t, gcm128)
	b.dev.offload = tun.Offload{TCP: true, UDP: true}
	b.in = newInbound(&b.dev, &b.sock, &b.table, &b.counters, inboundOptions{})
	const flows, each = 5, 12
	var burst []tun.Super
	for i := range each {
		for f := range uint16(flows) {
			src := netip.AddrPortFrom(hostA.Addr(), 4000+f)
			if f == 0 {
				burst = append(burst, whole(udp(src, hostB, noise(uint64(i), 1012)))) // as long as TCP's with 1000
				continue
			}
			burst = append(burst, whole(tcp(src, hostB, uint32(i*1000), flagACK, nil, noise(uint64(i), 1000))))
		}
	}
	runs := a.send(t, burst...)
	if len(runs) != 1 || runs[0].Segments() != flows*each {
		t.Fatalf("%d runs, the first of %d packets, want one of %d", len(runs), runs[0].Segments(), flows*each)
	}
	first, second := runs[0], runs[0] // as the socket sends and the other's kernel delivers them
	cut := 44 * first.SegmentSize
	first.Bytes, second.Bytes = first.Bytes[:cut], second.Bytes[cut:]
	b.receive(t, cross([]natt.Run{first, second})...)
	if len(b.dev.supers) != flows {
		t.Errorf("%d writes, want one for each of %d flows", len(b.dev.supers), flows)
	}
	if len(b.dev.written) != flows*each {
		t.Errorf("%d packets arrived, want %d", len(b.dev.written), flows*each)
	}
	a.wantCounts(t, nil)
	b.wantCounts(t, nil)
}

// TestAnythingGoesThrough: random drains of random packets for two peers with
// different suites arrive whole and in the order of their flows, whatever the
// slab, the arena and the batch had room for.
func TestAnythingGoesThrough(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	a, b := newPair(t, gcm128)
	c := newEnd("C")
	lanC := prefixes("10.105.0.0/24")
	a.install(t, suites[4], spiAtA+1, 0x30300003, lanA, lanC, wanA6, wanB6)
	c.install(t, suites[4], 0x30300003, spiAtA+1, lanC, lanA, wanB6, wanA6)
	hostC := netip.MustParseAddrPort("10.105.0.9:5001")

	for range 60 {
		var supers []tun.Super
		var wantB, wantC [][]byte
		for range 1 + r.IntN(60) {
			dst := []netip.AddrPort{hostB, hostC}[r.IntN(2)]
			var s tun.Super
			switch r.IntN(4) {
			case 0:
				s = bulk(hostA, dst, r.Uint32(), noise(r.Uint64(), 1+r.IntN(65000)), 100+r.IntN(1250))
			case 1:
				s = whole(tcp(hostA, dst, r.Uint32(), flagACK, nil, noise(r.Uint64(), r.IntN(1300))))
			default:
				s = whole(udp(hostA, dst, noise(r.Uint64(), 64)))
			}
			supers = append(supers, s)
			if dst == hostB {
				wantB = append(wantB, apart(s)...)
			} else {
				wantC = append(wantC, apart(s)...)
			}
		}
		var toB, toC []natt.Run
		for _, run := range cross(a.send(t, supers...)) {
			checkRun(t, run)
			if run.Path.Local == wanB {
				toB = append(toB, run)
			} else {
				toC = append(toC, run)
			}
		}
		wantPackets(t, "B", b.receive(t, toB...), wantB)
		wantPackets(t, "C", c.receive(t, toC...), wantC)
	}
	for _, e := range []*end{a, b, c} {
		e.wantCounts(t, nil)
	}
}

// checkRun: what natt.Run promises.
func checkRun(t *testing.T, r natt.Run) {
	t.Helper()
	for i := range r.Segments() {
		n := len(r.Segment(i))
		if last := i == r.Segments()-1; n > r.SegmentSize || !last && n != r.SegmentSize || n == 0 {
			t.Fatalf("packet %d of %d has %d bytes in a run of %d", i, r.Segments(), n, r.SegmentSize)
		}
	}
}

// headerChecksum is the checksum of RFC 791 word by word: over a header whose
// own field is zero it is that field, over a right header it is zero.
func headerChecksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum&0xffff)
}
