package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"culvert/espcrypto"
	"culvert/espcrypto/sad"
	"culvert/natt"
	"culvert/tun"
)

// peer seals what no honest gateway would send.
type peer struct {
	t     testing.TB
	suite espcrypto.Suite
	sa    *espcrypto.Outbound
	path  natt.Path // as B sees it
}

func newPeer(t testing.TB, s espcrypto.Suite, spi uint32) *peer {
	sa, err := espcrypto.NewOutbound(spi, s, testKeys(s, spi))
	noError(t, err)
	return &peer{t: t, suite: s, sa: sa, path: natt.Path{Local: wanB, Remote: wanA, Encap: true}}
}

// seal makes one ESP packet of any plaintext and next header.
func (p *peer) seal(inner []byte, nextHeader uint8) natt.Run {
	p.t.Helper()
	packet := make([]byte, p.suite.PacketLen(len(inner)))
	noError(p.t, p.sa.Seal([]espcrypto.Segment{{Packet: packet, Body: inner, NextHeader: nextHeader}}))
	return natt.Run{Bytes: packet, Path: p.path}
}

// inner is a good packet from A's LAN to B's.
func inner() []byte { return udp(hostA, hostB, noise(9, 100)) }

func TestSelectorsEnforced(t *testing.T) {
	stranger := netip.MustParseAddrPort("192.0.2.99:1000")
	for _, tc := range []struct {
		name     string
		packet   []byte
		selector func(*sad.Child)
		ok       bool
	}{
		{name: "within", packet: inner(), ok: true},
		{name: "source outside", packet: udp(stranger, hostB, noise(1, 10))},
		{name: "destination outside", packet: udp(hostA, stranger, noise(1, 10))},
		{name: "backwards", packet: udp(hostB, hostA, noise(1, 10))},
		{name: "IPv6 source outside", packet: udp(netip.MustParseAddrPort("[2001:db8::1]:1"), v6B, noise(1, 10))},
		{name: "protocol", packet: inner(), selector: func(c *sad.Child) { c.Remote[0].Protocol = protocolTCP }},
		{name: "local port", packet: inner(), selector: func(c *sad.Child) { c.Local[0].StartPort = 5002 }},
		{name: "remote port", packet: inner(), selector: func(c *sad.Child) { c.Remote[0].EndPort = 39999 }},
		{name: "ports within", packet: inner(), ok: true, selector: func(c *sad.Child) {
			c.Local[0].StartPort, c.Local[0].EndPort = 5001, 5001
			c.Remote[0].StartPort, c.Remote[0].EndPort = 40000, 40000
		}},
		{name: "fragment, any port", packet: laterFragment(), ok: true},
		{name: "fragment, some ports", packet: laterFragment(), selector: func(c *sad.Child) { c.Local[0].StartPort = 1 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newEnd("B")
			local, remote := prefixes("10.104.0.0/24", "2001:db8:104::/48"), prefixes("10.103.0.0/24", "2001:db8:103::/48")
			c := b.install(t, gcm128, spiAtB, spiAtA, local, remote, wanB, wanA)
			if tc.selector != nil {
				tc.selector(c)
			}
			var dropped lane
			c.Drops = dropped[:]
			next := nextHeader(tc.packet)
			got := b.receive(t, newPeer(t, gcm128, spiAtB).seal(bytes.Clone(tc.packet), next))
			in := b.table.Load().Inbound(spiAtB)
			if tc.ok {
				wantPackets(t, "host", got, [][]byte{tc.packet})
				b.wantCounts(t, nil)
				return
			}
			wantPackets(t, "host", got, nil)
			b.wantCounts(t, map[string]uint64{"selector_violation": 1})
			if got := dropped.named(); len(got) != 1 || got["selector_violation"] != 1 || in.LastNano() == 0 {
				t.Errorf("of the peer are dropped %v, last used %v", got, in.LastNano())
			}
		})
	}
}

// laterFragment is a UDP fragment that has no ports to show.
func laterFragment() []byte {
	p := ip(hostA.Addr(), hostB.Addr(), protUDP, noise(3, 64))
	binary.BigEndian.PutUint16(p[6:], 185)
	setIPChecksum(p)
	return p
}

func TestOneChildsPacketUnderAnothersSPI(t *testing.T) {
	_, b := newPair(t, gcm128)
	other := prefixes("10.200.0.0/24")
	b.install(t, gcm128, 0x40400004, 0x50500005, lanB, other, wanB, wanA)
	got := b.receive(t, newPeer(t, gcm128, 0x40400004).seal(inner(), espcrypto.NextHeaderIPv4))
	wantPackets(t, "host", got, nil)
	b.wantCounts(t, map[string]uint64{"selector_violation": 1})
}

// TestRunOfOneChildIsNotAnothers: a packet that would be the next of a run is
// none under another child's SPI, whatever that child's packets before were.
func TestRunOfOneChildIsNotAnothers(t *testing.T) {
	hostC := netip.MustParseAddrPort("10.200.0.5:40000")
	segment := func(src netip.AddrPort, seq uint32, tos byte) []byte {
		p := tcp(src, hostB, seq, flagACK, nil, noise(uint64(seq), 100))
		p[1], p[5] = tos, byte(seq/100)
		setIPChecksum(p)
		return p
	}
	const ect, ce = 2, 3
	for name, between := range map[string]struct {
		packet []byte
		counts map[string]uint64
	}{
		"nothing":            {},
		"dropped, by ECN":    {segment(hostC, 1, 0), map[string]uint64{"congestion_not_understood": 1}},
		"outside":            {segment(wanA, 1, ect), map[string]uint64{"selector_violation": 1}},
		"not coalesced":      {udp(hostC, hostB, noise(1, 20)), map[string]uint64{"congestion_not_understood": 1}},
		"another run":        {segment(hostC, 1, ect), nil},
		"written by itself":  {segment(hostC, 1, ce), nil},
		"malformed, dropped": {segment(hostC, 1, ect)[:30], map[string]uint64{"inbound_malformed": 1}},
	} {
		_, b := newPair(t, gcm128)
		b.dev.offload = tun.Offload{TCP: true, UDP: true}
		b.in = newInbound(&b.dev, &b.sock, &b.table, &b.counters, inboundOptions{})
		b.install(t, gcm128, 0x40400004, 0x50500005, lanB, prefixes("10.200.0.0/24"), wanB, wanA)
		p, other := newPeer(t, gcm128, spiAtB), newPeer(t, gcm128, 0x40400004)
		marked := func(r natt.Run) natt.Run { r.TOS = ce; return r }
		runs := []natt.Run{
			marked(p.seal(segment(hostA, 1, ect), espcrypto.NextHeaderIPv4)),
			marked(p.seal(segment(hostA, 101, ce), espcrypto.NextHeaderIPv4)),
		}
		want := [][]byte{segment(hostA, 1, ce), segment(hostA, 101, ce)}
		if between.packet != nil {
			runs = append(runs, marked(other.seal(bytes.Clone(between.packet), espcrypto.NextHeaderIPv4)))
			if between.counts == nil {
				want = append(want, segment(hostC, 1, ce))
			}
		}
		runs = append(runs, marked(other.seal(segment(hostA, 201, ce), espcrypto.NextHeaderIPv4)))
		wantPackets(t, name, b.receive(t, runs...), want)
		counts := map[string]uint64{"selector_violation": 1}
		for k, n := range between.counts {
			counts[k] += n
		}
		b.wantCounts(t, counts)
	}
}

// What one packet was allowed says nothing of the next, of its flow under
// another SA, or of the time after the SA is gone.
func TestEveryPacketIsChecked(t *testing.T) {
	_, b := newPair(t, gcm128)
	b.install(t, gcm128, 0x40400004, 0x50500005, lanB, prefixes("10.200.0.0/24"), wanB, wanA)
	p, other := newPeer(t, gcm128, spiAtB), newPeer(t, gcm128, 0x40400004)
	outside := udp(hostA, netip.MustParseAddrPort("192.0.2.99:5001"), noise(1, 10))

	got := b.receive(t, p.seal(inner(), 4), p.seal(outside, 4), p.seal(inner(), 4), other.seal(inner(), 4))
	wantPackets(t, "host", got, [][]byte{inner(), inner()})
	b.wantCounts(t, map[string]uint64{"selector_violation": 2})

	b.table.RemoveInbound(spiAtB)
	wantPackets(t, "host, SA gone", b.receive(t, p.seal(inner(), 4)), nil)
	b.wantCounts(t, map[string]uint64{"selector_violation": 2, "unknown_spi": 1})
}

func TestReplayIsDropped(t *testing.T) {
	for _, s := range suites {
		a, b := newPair(t, s)
		runs := a.send(t, bulk(hostA, hostB, 1, noise(1, 5000), 1000))
		again, thrice := cross(runs), cross(runs)
		if n := len(b.receive(t, cross(runs)...)); n != 5 {
			t.Fatalf("%d packets arrived", n)
		}
		wantPackets(t, "again", b.receive(t, again...), nil)
		thrice[0].Bytes[len(thrice[0].Bytes)-1] ^= 1 // replayed and forged: never decrypted
		wantPackets(t, "thrice", b.receive(t, thrice...), nil)
		b.wantCounts(t, map[string]uint64{"replayed": 10})
		if n := b.table.Load().Inbound(spiAtB).SA.Stats().Packets; n != 5 {
			t.Errorf("the SA counts %d packets", n)
		}
	}
}

// One bad packet in the middle of a run takes no other with it.
func TestForgedPacketDropsAlone(t *testing.T) {
	a, b := newPair(t, gcm128)
	super := bulk(hostA, hostB, 1, noise(1, 5000), 1000)
	runs := cross(a.send(t, super))
	runs[0].Segment(2)[100] ^= 1
	want := apart(super)
	wantPackets(t, "host", b.receive(t, runs...), append(want[:2:2], want[3:]...))
	b.wantCounts(t, map[string]uint64{"authentication_failed": 1})
}

func TestClassified(t *testing.T) {
	_, b := newPair(t, gcm128)
	good := newPeer(t, gcm128, spiAtB)
	datagram := func(b []byte) natt.Run { return natt.Run{Bytes: b, Path: good.path} }
	ikeMessage := noise(1, 60)
	first, second := inner(), inner()
	second[len(second)-1] ^= 1
	finish(second, 6)
	unknown := good.seal(inner(), 4)
	binary.BigEndian.PutUint32(unknown.Bytes, spiAtB^1<<31) // same index, other generation

	got := b.receive(t,
		good.seal(bytes.Clone(first), 4),
		datagram([]byte{0xff}),
		datagram(append(make([]byte, 4), ikeMessage...)),
		datagram(append([]byte{0, 0, 0, 200}, noise(2, 60)...)),
		datagram(noise(3, 7)),
		datagram(nil),
		unknown,
		datagram(append(binary.BigEndian.AppendUint32(nil, spiAtB), noise(4, 20)...)),
		good.seal(bytes.Clone(second), 4),
	)
	wantPackets(t, "host", got, [][]byte{first, second})
	wantPackets(t, "control", b.ike, [][]byte{ikeMessage})
	b.wantCounts(t, map[string]uint64{
		"keepalives_received": 1, "reserved_spi": 1, "runt": 2, "unknown_spi": 1, "truncated": 1,
	})
}

func TestTrafficFlowConfidentiality(t *testing.T) {
	_, b := newPair(t, gcm128)
	p := newPeer(t, gcm128, spiAtB)
	v6 := udp(v6A, v6B, noise(1, 50))
	short := inner()[:60] // declares more than is there

	got := b.receive(t,
		p.seal(append(inner(), make([]byte, 700)...), espcrypto.NextHeaderIPv4), // RFC 4303 section 2.7
		p.seal(noise(1, 300), espcrypto.NextHeaderDummy),                        // section 2.6
		p.seal(nil, espcrypto.NextHeaderDummy),
		p.seal(append(bytes.Clone(v6), noise(2, 33)...), espcrypto.NextHeaderIPv6),
		p.seal(short, espcrypto.NextHeaderIPv4),
		p.seal(inner(), espcrypto.NextHeaderIPv6), // says IPv6, is IPv4
		p.seal(inner(), 6), // transport mode
	)
	wantPackets(t, "host", got, [][]byte{inner(), v6})
	for i, s := range b.dev.supers {
		if len(s.Packet) != len(got[i]) {
			t.Errorf("packet %d was written with %d bytes of padding", i, len(s.Packet)-len(got[i]))
		}
	}
	b.wantCounts(t, map[string]uint64{"dummy": 2, "inbound_malformed": 1, "bad_next_header": 2})
}

func TestDummyIsASignOfLife(t *testing.T) {
	_, b := newPair(t, gcm128)
	in := b.table.Load().Inbound(spiAtB)
	forged := newPeer(t, gcm128, spiAtB).seal(noise(1, 50), espcrypto.NextHeaderDummy)
	forged.Bytes[20] ^= 1
	if b.receive(t, forged); in.LastNano() != 0 {
		t.Error("a forged packet was taken for a sign of life")
	}
	if b.receive(t, newPeer(t, gcm128, spiAtB).seal(noise(1, 50), espcrypto.NextHeaderDummy)); in.LastNano() == 0 {
		t.Error("an authentic dummy packet was not")
	}
}

// TestCongestion is the table of RFC 6040 section 4.2 in the two rows that
// change something: outer "congestion experienced".
func TestCongestion(t *testing.T) {
	const notECT, ect1, ect0, ce = 0, 1, 2, 3
	for outer := range byte(4) {
		for was := range byte(4) {
			_, b := newPair(t, gcm128)
			p := inner()
			p[1] = 0x28<<2 | was
			setIPChecksum(p)
			run := newPeer(t, gcm128, spiAtB).seal(p, espcrypto.NextHeaderIPv4)
			run.TOS = outer
			got := b.receive(t, run)
			if outer == ce && was == notECT {
				wantPackets(t, "CE outside, not-ECT inside", got, nil)
				b.wantCounts(t, map[string]uint64{"congestion_not_understood": 1})
				continue
			}
			want := was
			if outer == ce || outer == ect1 && was == ect0 {
				want = outer
			}
			if len(got) != 1 || got[0][1] != 0x28<<2|want || headerChecksum(got[0][:20]) != 0 {
				t.Errorf("outer %02b, inner %02b: got %x, want TOS %x and a good checksum", outer, was, got, 0x28<<2|want)
			}
		}
	}
}

// Each run's packets are judged by that run's own mark, though they are opened
// together.
func TestCongestionIsPerRun(t *testing.T) {
	_, b := newPair(t, gcm128)
	p := newPeer(t, gcm128, spiAtB)
	capable := inner()
	capable[1] = 2
	setIPChecksum(capable)
	marked := bytes.Clone(capable)
	marked[1] = 3
	setIPChecksum(marked)
	runs := []natt.Run{p.seal(inner(), 4), p.seal(bytes.Clone(capable), 4), p.seal(bytes.Clone(capable), 4)}
	runs[1].TOS = 3
	wantPackets(t, "host", b.receive(t, runs...), [][]byte{inner(), marked, capable})
}

// Control hears of a new path once a change, and only on the word of an
// authentic packet (RFC 7296 section 2.23).
func TestPeerMoves(t *testing.T) {
	_, b := newPair(t, gcm128)
	p := newPeer(t, gcm128, spiAtB)
	home, away := p.path, p.path
	away.Remote = netip.MustParseAddrPort("192.0.2.10:61000")
	moved := notice{Kind: noticeMoved, InboundSPI: spiAtB, Path: away}

	b.receive(t, p.seal(inner(), 4))
	wantNotices(t, b)

	p.path = away
	forged := p.seal(inner(), 4)
	forged.Bytes[30] ^= 1
	b.receive(t, forged)
	wantNotices(t, b)

	b.receive(t, p.seal(inner(), 4), p.seal(inner(), 4))
	b.receive(t, p.seal(inner(), 4))
	wantNotices(t, b, moved)

	if !b.table.MovePeer(spiAtB, sad.Path(away)) {
		t.Fatal("no such child")
	}
	b.receive(t, p.seal(inner(), 4))
	wantNotices(t, b)

	p.path = home // and back
	b.receive(t, p.seal(inner(), 4))
	wantNotices(t, b, notice{Kind: noticeMoved, InboundSPI: spiAtB, Path: home})
	b.wantCounts(t, map[string]uint64{"authentication_failed": 1})
}

// If control stays with the old path, a peer that went back and away again is
// news again.
func TestPeerMovesTwice(t *testing.T) {
	_, b := newPair(t, gcm128)
	p := newPeer(t, gcm128, spiAtB)
	home, away := p.path, p.path
	away.Remote = netip.MustParseAddrPort("192.0.2.10:61000")
	for range 2 {
		p.path = away
		b.receive(t, p.seal(inner(), 4))
		wantNotices(t, b, notice{Kind: noticeMoved, InboundSPI: spiAtB, Path: away})
		p.path = home
		b.receive(t, p.seal(inner(), 4))
		wantNotices(t, b)
	}
}

// A full queue costs the notice, not the news: the next packet tells it again.
func TestNoticeQueueFull(t *testing.T) {
	_, b := newPair(t, gcm128)
	p := newPeer(t, gcm128, spiAtB)
	p.path.Remote = netip.MustParseAddrPort("192.0.2.10:61000")
	for len(b.notices) < cap(b.notices) {
		b.notices <- notice{}
	}
	b.receive(t, p.seal(inner(), 4))
	b.wantCounts(t, map[string]uint64{"notice_queue_full": 1})
	for len(b.notices) > 0 {
		<-b.notices
	}
	b.receive(t, p.seal(inner(), 4))
	wantNotices(t, b, notice{Kind: noticeMoved, InboundSPI: spiAtB, Path: p.path})
}

func TestDeviceRefusesWrites(t *testing.T) {
	a, b := newPair(t, gcm128)
	b.dev.writeErr = errors.New("no buffer space")
	runs := a.send(t, bulk(hostA, hostB, 1, noise(1, 5000), 1000))
	wantPackets(t, "host", b.receive(t, cross(runs)...), nil)
	b.dev.writeErr = nil
	if n := len(b.receive(t, cross(a.send(t, whole(inner())))...)); n != 1 {
		t.Errorf("%d packets after the device took writes again, want 1", n)
	}
	b.wantCounts(t, map[string]uint64{"tun_write_error": 5})
}

func TestClampInbound(t *testing.T) {
	a, b := newPair(t, gcm128)
	mss := []byte{2, 4, 1460 >> 8, 1460 & 0xff}
	syn := tcp(hostA, hostB, 1, flagSYN, mss, nil)
	runs := cross(a.send(t, whole(syn)))
	want := tcp(hostA, hostB, 1, flagSYN, []byte{2, 4, 1398 >> 8, 1398 & 0xff}, nil)
	wantPackets(t, "SYN", b.receive(t, runs...), [][]byte{want})

	// One that did not pass an outbound loop of ours.
	_, b = newPair(t, gcm128)
	got := b.receive(t, newPeer(t, gcm128, spiAtB).seal(bytes.Clone(syn), 4))
	wantPackets(t, "SYN of a peer that does not clamp", got, [][]byte{want})
}

// Control hears of packets that no SA takes, but not of each one of a flood, which
// costs no memory.
func TestUnknownSPINotice(t *testing.T) {
	_, b := newPair(t, gcm128)
	p := newPeer(t, gcm128, spiAtB)
	b.table.RemoveInbound(spiAtB)
	unknown := p.seal(inner(), 4)
	b.receive(t, unknown)
	wantNotices(t, b, notice{Kind: noticeUnknownSPI, InboundSPI: spiAtB, Path: p.path})
	heard := 0
	b.in.snapshot = b.table.Load()
	if n := testing.AllocsPerRun(1000, func() {
		b.in.sort(&unknown)
		b.in.open()
		for ; len(b.notices) > 0; heard++ {
			<-b.notices
		}
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
	if heard > 10 { // of a burst, at one moment
		t.Errorf("control hears of %d packets", heard)
	}
	b.wantCounts(t, map[string]uint64{"unknown_spi": 1002})
}
