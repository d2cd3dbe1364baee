package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"culvert/espcrypto"
	"culvert/espcrypto/sad"
	"culvert/tun"
)

func TestNoSA(t *testing.T) {
	a, _ := newPair(t, gcm128)
	nowhere := netip.MustParseAddrPort("198.51.100.1:53")
	group := netip.MustParseAddrPort("[ff02::16]:0")
	runs := a.send(t,
		whole(udp(hostA, nowhere, noise(1, 10))),
		whole(udp(netip.MustParseAddrPort("10.99.0.1:1"), hostB, noise(1, 10))), // source outside
		whole(udp(v6A, group, noise(1, 10))),
		bulk(hostA, nowhere, 1, noise(1, 2500), 1000),
	)
	if len(runs) != 0 {
		t.Errorf("%d runs left without an SA", len(runs))
	}
	a.wantCounts(t, map[string]uint64{"no_outbound_sa": 6})
	wantNotices(t, a)
}

// The first packet for a child that starts with traffic is told of, the next
// ones are not for a while, and none of them leaves, allocates or waits. Nothing
// goes by the tunnel of a larger network.
func TestTrapNotices(t *testing.T) {
	a, _ := newPair(t, gcm128)
	part := netip.MustParsePrefix("10.104.0.0/28")
	r, err := a.table.Reserve(&sad.Child{Peer: "p", Name: "t", Local: lanA, Remote: []sad.Selector{sad.Prefix(part)}}, true)
	noError(t, err)
	packet := whole(udp(hostA, hostB, noise(1, 10))) // 10.104.0.7
	for range 100 {
		if n := len(a.send(t, packet)); n != 0 {
			t.Fatalf("%d runs left", n)
		}
	}
	wantNotices(t, a, notice{Kind: noticeNoSA, Policy: r.Child,
		Flow: tun.Flow{Src: hostA.Addr(), Dst: hostB.Addr(), Protocol: protUDP, SrcPort: hostA.Port(), DstPort: hostB.Port(), HasPorts: true}})
	a.wantCounts(t, map[string]uint64{"no_outbound_sa": 100})
	if n := len(a.send(t, whole(udp(hostA, netip.AddrPortFrom(netip.MustParseAddr("10.104.0.99"), 1), noise(1, 10))))); n != 1 {
		t.Errorf("%d runs left for the rest of the network", n)
	}
	reads := []tun.Super{packet}
	if n := testing.AllocsPerRun(50, func() {
		a.out.now += int64(trapEvery)
		a.out.take(&reads[0])
		a.out.slabUsed = 0
		if len(a.notices) == cap(a.notices) {
			for len(a.notices) > 0 {
				<-a.notices
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
	a.table.Release(r)
	if n := len(a.send(t, packet)); n != 1 {
		t.Errorf("%d runs left after the reservation", n)
	}
}

func TestMalformedFromDevice(t *testing.T) {
	a, _ := newPair(t, gcm128)
	broken := bulk(hostA, hostB, 1, noise(1, 2500), 1000)
	broken.ChecksumOffset = 4000
	for _, s := range []tun.Super{whole(nil), whole([]byte{0x45}), whole(noise(1, 100)), whole(inner()[:50]), broken} {
		if runs := a.send(t, s); len(runs) != 0 {
			t.Errorf("%d runs left for a malformed packet", len(runs))
		}
	}
	a.wantCounts(t, map[string]uint64{"outbound_malformed": 5})
	if n := len(a.send(t, whole(inner()))); n != 1 {
		t.Errorf("%d runs for a good packet afterwards", n)
	}
}

// What does not fit and must not be cut is answered with the largest size that
// does.
func TestTooBig(t *testing.T) {
	a, b := newPair(t, gcm128)
	fits, over := udp(hostA, hostB, noise(1, 1438-28)), udp(hostA, hostB, noise(1, 1439-28))
	fits6, over6 := udp(v6A, v6B, noise(1, 1438-48)), udp(v6A, v6B, noise(1, 1439-48))
	got := b.receive(t, cross(a.send(t, whole(fits), whole(over), whole(over6), whole(fits6)))...)
	wantPackets(t, "what fits", got, [][]byte{fits, fits6})
	for _, r := range a.sock.sent {
		if n := len(r.Segment(0)) + 28; n > 1500 {
			t.Errorf("an outer packet of %d bytes", n)
		}
	}
	if len(a.dev.written) != 2 {
		t.Fatalf("%d answers, want 2", len(a.dev.written))
	}
	v4, v6 := a.dev.written[0], a.dev.written[1]
	if v4[20] != 3 || v4[21] != 4 || binary.BigEndian.Uint16(v4[26:]) != 1438 || !bytes.Equal(v4[16:20], hostA.Addr().AsSlice()) || !bytes.Equal(v4[12:16], hostB.Addr().AsSlice()) {
		t.Errorf("IPv4 answer %x", v4[:28])
	}
	if v6[40] != 2 || binary.BigEndian.Uint32(v6[44:]) != 1438 || !bytes.Equal(v6[24:40], v6A.Addr().AsSlice()) {
		t.Errorf("IPv6 answer %x", v6[:48])
	}
	a.wantCounts(t, map[string]uint64{"too_big": 2, "icmp_too_big_sent": 2})
}

func TestTooBigRunAndRate(t *testing.T) {
	a, _ := newPair(t, gcm128)
	var flood []tun.Super
	for range 200 {
		flood = append(flood, bulk(hostA, hostB, 1, noise(1, 3000), 1460))
	}
	if runs := a.send(t, flood...); len(runs) != 0 {
		t.Errorf("%d runs of packets that do not fit", len(runs))
	}
	counts := a.counters.Snapshot()
	if counts["too_big"] != 600 || counts["icmp_too_big_sent"] < 20 || counts["icmp_too_big_sent"]+counts["icmp_too_big_rate_limited"] != 200 {
		t.Errorf("counts %v", counts)
	}
	if n := len(a.dev.written); n > 100 {
		t.Errorf("%d ICMP messages for a burst of 200", n)
	}
}

func TestLimiter(t *testing.T) {
	l := limiter{every: 10 * time.Millisecond, burst: 3}
	passed := 0
	now := int64(1e18)
	for range 1000 { // of a tenth of the interval each
		if l.allow(now) {
			passed++
		}
		now += int64(time.Millisecond)
	}
	if passed != 3+99 {
		t.Errorf("%d of a flood of 1 s passed, want the burst and one every 10 ms", passed)
	}
	now += int64(time.Second)
	for i := range 4 {
		if got, want := l.allow(now), i < 3; got != want {
			t.Errorf("event %d after a rest: %v, want %v", i, got, want)
		}
	}
}

// Without DF a packet is cut before encryption and comes together again.
func TestFragmentsWhatMayBe(t *testing.T) {
	a, b := newPair(t, gcm128)
	single := udp(hostA, hostB, noise(1, 4000))
	single[6] = 0
	setIPChecksum(single)
	run := bulk(hostA, hostB, 1, noise(2, 60000), 1460)
	run.Packet[6] = 0
	setIPChecksum(run.Packet)
	uncut := bulk(hostA, hostB, 1, noise(3, 60000), 1398)

	// Together they are more than the arena holds.
	got := b.receive(t, cross(a.send(t, whole(single), uncut, run, run, whole(inner())))...)
	want := append([][]byte{single}, apart(uncut)...)
	want = append(append(append(want, apart(run)...), apart(run)...), inner())
	for _, p := range got {
		if len(p) > 1438 {
			t.Errorf("a fragment of %d bytes", len(p))
		}
	}
	wantPackets(t, "reassembled", reassemble(t, got), want)
	a.wantCounts(t, map[string]uint64{"packets_fragmented": 1 + 2*42})
	b.wantCounts(t, nil)
}

// reassemble joins neighbouring fragments (RFC 791 section 3.2) and checks each one's
// header.
func reassemble(t *testing.T, packets [][]byte) (out [][]byte) {
	t.Helper()
	var open []byte
	for _, p := range packets {
		hl := headerLen(p)
		if headerChecksum(p[:hl]) != 0 || int(binary.BigEndian.Uint16(p[2:])) != len(p) {
			t.Fatalf("bad fragment header %x", p[:hl])
		}
		field := binary.BigEndian.Uint16(p[6:])
		if offset := int(field&0x1fff) * 8; offset == 0 {
			open = bytes.Clone(p)
		} else if offset != len(open)-headerLen(open) {
			t.Fatalf("fragment at %d, want %d", offset, len(open)-headerLen(open))
		} else {
			open = append(open, p[hl:]...)
		}
		if field&0x2000 == 0 {
			binary.BigEndian.PutUint16(open[2:], uint16(len(open)))
			open[6] &^= 0x20
			out = append(out, setIPChecksum(open))
		}
	}
	return out
}

// TestFragmenter: every size of header, payload and MTU; also a packet that is
// a fragment already.
func TestFragmenter(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 3000 {
		options := []byte{0x07, 4, 1, 2, 0x94, 4, 0, 0, 0x01, 0x01, 0x01, 0x00}[:4*r.IntN(4)] // record route, router alert (copied), no-ops
		packet := ip(hostA.Addr(), hostB.Addr(), protUDP, nil)
		packet[0] += byte(len(options) / 4)
		packet[6] = 0
		packet = append(append(packet, options...), noise(r.Uint64(), r.IntN(4000))...)
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		setIPChecksum(packet)
		ipLen, mtu := headerLen(packet), 68+r.IntN(1500)
		lead := min(r.IntN(30), (mtu-ipLen)&^7, len(packet)-ipLen)

		var fragments [][]byte
		f := newFragmenter(packet[:ipLen+lead], packet[ipLen+lead:], mtu)
		for headLen, body, ok := f.next(); ok; headLen, body, ok = f.next() {
			p := make([]byte, headLen, headLen+len(body))
			f.write(p, headLen, body)
			fragments = append(fragments, append(p, body...))
		}
		if len(packet) == ipLen {
			continue // nothing to cut
		}
		for i, p := range fragments {
			if len(p) > mtu {
				t.Fatalf("fragment of %d bytes for an MTU of %d", len(p), mtu)
			}
			if i > 0 && len(options) > 0 && !bytes.Equal(p[20:24], []byte{1, 1, 1, 1}) {
				t.Fatalf("fragment %d carries an option of the first: %x", i, p[:ipLen])
			}
			if i > 0 && len(options) > 4 && p[24] != 0x94 {
				t.Fatalf("fragment %d lacks a copied option: %x", i, p[:ipLen])
			}
		}
		wantPackets(t, "reassembled", reassemble(t, fragments), [][]byte{packet})
	}
}

func TestFragmentOfFragment(t *testing.T) {
	p := ip(hostA.Addr(), hostB.Addr(), protUDP, noise(1, 2000))
	binary.BigEndian.PutUint16(p[6:], 0x2000|100) // more follow, at 800
	setIPChecksum(p)
	f := newFragmenter(p[:20], p[20:], 1020)
	var fields []uint16
	for headLen, body, ok := f.next(); ok; headLen, body, ok = f.next() {
		b := make([]byte, headLen)
		f.write(b, headLen, body)
		fields = append(fields, binary.BigEndian.Uint16(b[6:]))
	}
	if len(fields) != 2 || fields[0] != 0x2000|100 || fields[1] != 0x2000|(100+125) {
		t.Errorf("fragment fields %04x: the last must still say that more follow", fields)
	}
}

// FuzzBlankUncopied: whatever the options hold, it ends, and changes nothing
// but to no-operations.
func FuzzBlankUncopied(f *testing.F) {
	for _, seed := range [][]byte{{}, {0}, {1, 1, 1, 0}, {7, 4, 0, 0}, {0x94, 4, 0, 0}, {7}, {7, 0}, {7, 200, 0, 0}, {0x94, 1, 7, 2}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, options []byte) {
		got := bytes.Clone(options)
		blankUncopied(got)
		for i := range got {
			if got[i] != options[i] && got[i] != 1 {
				t.Fatalf("%x became %x", options, got)
			}
		}
	})
}

// TestInnerMTU: the figures of the comment in mtu.go and their reverse: a
// packet of that size fits the path, one byte more does not.
func TestInnerMTU(t *testing.T) {
	cbc := espcrypto.Suite{Encr: 12, KeyBits: 128, Integ: 12}
	for _, tc := range []struct {
		path  int
		ipv6  bool
		suite espcrypto.Suite
		want  int
	}{
		{1500, false, gcm128, 1438}, {1500, true, gcm128, 1418}, {1500, false, cbc, 1422},
		{1492, false, gcm128, 1430}, {9000, false, gcm128, 8938},
	} {
		if got := innerMTU(tc.path, tc.ipv6, tc.suite); got != tc.want {
			t.Errorf("path %d, IPv6 %v, %+v: %d, want %d", tc.path, tc.ipv6, tc.suite, got, tc.want)
		}
	}
	for _, s := range suites {
		for path := 576; path < 1600; path++ {
			mtu := innerMTU(path, false, s)
			if s.PacketLen(mtu)+28 > path || s.PacketLen(mtu+1)+28 <= path {
				t.Fatalf("path %d, %+v: inner %d makes %d, one more %d", path, s, mtu, s.PacketLen(mtu)+28, s.PacketLen(mtu+1)+28)
			}
		}
	}
}

func TestChildMTU(t *testing.T) {
	c := &sad.Child{Suite: gcm128}
	over4, over6 := sad.Path{Remote: wanB}, sad.Path{Remote: wanB6}
	if v4, v6 := childMTU(c, over4, 0), childMTU(c, over6, 0); v4 != 1438 || v6 != 1418 {
		t.Errorf("default path: %d over IPv4, %d over IPv6", v4, v6)
	}
	if got := childMTU(c, over4, 1300); got != 1300 {
		t.Errorf("limit 1300: %d", got)
	}
	c.SetPathMTU(1492)
	if got := childMTU(c, over4, 1438); got != 1430 {
		t.Errorf("path 1492: %d", got)
	}
}

// A batch that cannot be sealed leaves no trace in the arena: what is sent is
// what was sealed.
func TestUnsealableBatchIsTakenBack(t *testing.T) {
	a, b := newPair(t, gcm128)
	other := netip.MustParseAddrPort("10.105.0.9:5001")
	c := a.install(t, gcm128, spiAtA+1, 0x30300003, lanA, prefixes("10.105.0.0/24"), wanA, wanB)
	c.Suite = suites[3] // not what the SA was made of
	packets := [][]byte{udp(hostA, hostB, noise(1, 300)), udp(hostA, hostB, noise(2, 300)), udp(hostA, hostB, noise(3, 200))}
	bad := whole(udp(hostA, other, noise(4, 300)))
	badRun := bulk(hostA, other, 1, noise(5, 3000), 1000) // its headers are in the arena already

	runs := a.send(t, bad, whole(packets[0]), whole(packets[1]), badRun, bad, whole(packets[2]))
	sent := 0
	for _, r := range runs {
		sent += r.Segments()
	}
	if sent != len(packets) {
		t.Errorf("%d packets left, %d of them sealed", sent, len(packets))
	}
	wantPackets(t, "the other SA's packets", b.receive(t, cross(runs)...), packets)
	a.wantCounts(t, map[string]uint64{"segment_refused": 5})
	b.wantCounts(t, nil)
}

// The path is looked at for every batch: after a move nothing goes to the old
// place.
func TestFollowsMove(t *testing.T) {
	a, _ := newPair(t, gcm128)
	if got := a.send(t, whole(inner()))[0].Path.Remote; got != wanB {
		t.Fatalf("sent to %v", got)
	}
	moved := netip.MustParseAddrPort("192.0.2.10:61000")
	a.table.MovePeer(spiAtA, sad.Path{Local: wanA, Remote: moved, Encap: true})
	if got := a.send(t, whole(inner()))[0].Path.Remote; got != moved {
		t.Errorf("sent to %v after the move to %v", got, moved)
	}
}

// A removed SA carries nothing more, and what replaces it takes over.
func TestFollowsTable(t *testing.T) {
	a, b := newPair(t, gcm128)
	a.send(t, whole(inner()))
	a.table.RemoveOutbound(spiAtA)
	if runs := a.send(t, whole(inner())); len(runs) != 0 {
		t.Error("a removed SA still carries")
	}
	a.install(t, gcm128, 0x60600006, 0x70700007, lanA, lanB, wanA, wanB)
	b.install(t, gcm128, 0x70700007, 0x60600006, lanB, lanA, wanB, wanA)
	wantPackets(t, "new SA", b.receive(t, cross(a.send(t, whole(inner())))...), [][]byte{inner()})
}

func TestClampOutbound(t *testing.T) {
	a, _ := newPair(t, gcm128)
	runs := a.send(t, whole(tcp(hostA, hostB, 1, flagSYN, []byte{2, 4, 1460 >> 8, 1460 & 0xff}, nil)))
	in, err := espcrypto.NewInbound(spiAtB, gcm128, testKeys(gcm128, spiAtB), 1024)
	noError(t, err)
	opened := make([]espcrypto.Opened, 1)
	in.Open([][]byte{runs[0].Bytes}, opened)
	want := tcp(hostA, hostB, 1, flagSYN, []byte{2, 4, 1398 >> 8, 1398 & 0xff}, nil)
	wantPackets(t, "SYN", [][]byte{opened[0].Inner}, [][]byte{want})
}

func TestTOSCopied(t *testing.T) {
	a, _ := newPair(t, gcm128)
	p := inner()
	p[1] = 0xba // EF, ECT(0)
	setIPChecksum(p)
	if got := a.send(t, whole(p))[0].TOS; got != 0xba {
		t.Errorf("outer TOS %02x, want ba", got)
	}
}

func TestUsageAndStats(t *testing.T) {
	a, _ := newPair(t, gcm128)
	o := a.table.Load().Outbound(spiAtA)
	before := time.Now()
	a.send(t, bulk(hostA, hostB, 1, noise(1, 2500), 1000))
	if last := wallTime(o.LastNano()); last.Before(before.Round(0).Add(-time.Second)) || last.After(time.Now()) {
		t.Errorf("last use %v, sent just now", last)
	}
	if s := o.SA.Stats(); s.Packets != 3 || s.Bytes != 2500+3*40 {
		t.Errorf("stats %+v", s)
	}
}

// Errors that pass cost nothing but themselves; one that stays ends the loop
// rather than spin.
func TestDeviceErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newPair(t, gcm128)
		gone := errors.New("file descriptor in bad state")
		a.dev.errs = []error{gone, gone, gone}
		if n := len(a.send(t, whole(inner()))); n != 1 {
			t.Errorf("%d runs after passing errors, want 1", n)
		}
		a.wantCounts(t, map[string]uint64{"tun_read_error": 3})

		for range maxFailures {
			a.dev.errs = append(a.dev.errs, gone)
		}
		if err := a.out.run(); !errors.Is(err, gone) {
			t.Errorf("run on a broken device: %v, want %v", err, gone)
		}
	})
}

func TestSocketBreaks(t *testing.T) {
	gone := errors.New("bad file descriptor")
	for _, err := range []error{gone, net.ErrClosed} {
		a, _ := newPair(t, gcm128)
		a.sock.sendErr = err
		a.dev.reads = []tun.Super{whole(inner())}
		want := err
		if errors.Is(err, net.ErrClosed) {
			want = nil
		}
		if got := a.out.run(); !errors.Is(got, want) {
			t.Errorf("run on a socket with %v: %v", err, got)
		}
	}
}
