package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
)

var allOffloads = Offload{TCP: true, UDP: true}

// splitAll is what the host behind the recorder sees.
func splitAll(t testing.TB, written []Super) [][]byte {
	t.Helper()
	var out [][]byte
	for _, s := range written {
		packets, err := split(s)
		if err != nil {
			t.Fatalf("the coalescer wrote %+v: %v", s, err)
		}
		out = append(out, packets...)
	}
	return out
}

// byFlow sorts packets apart. The identification of what may not be fragmented
// is meaningless, and left out.
func byFlow(t testing.TB, packets [][]byte) map[Flow][][]byte {
	t.Helper()
	flows := map[Flow][][]byte{}
	for _, b := range packets {
		f, err := ParseFlow(b)
		if err != nil {
			t.Fatal(err)
		}
		if b = slices.Clone(b); b[0]>>4 == 4 && b[6]&0x40 != 0 {
			clear(b[4:6])
			clear(b[10:12])
		}
		flows[f] = append(flows[f], b)
	}
	return flows
}

// spoil makes a packet one that must stay alone, or leaves it.
func spoil(r *rand.Rand, b []byte) {
	switch r.IntN(40) {
	case 0:
		b[len(b)-1] ^= 1 // wrong transport checksum
	case 1:
		if b[0]>>4 == 4 {
			b[8] ^= 1 // wrong header checksum
		}
	}
}

// TestCoalesceInvertsSplit: runs of several flows, interleaved at random, with
// packets among them that cannot be joined; after the Coalescer and the
// host's segmentation every flow has the same packets in the same order.
func TestCoalesceInvertsSplit(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for round := range 150 {
		var queues [][][]byte
		flows := map[Flow]bool{}
		for range 1 + r.IntN(24) {
			p, size := randomRun(r)
			p.sport += uint16(10 * r.IntN(10))
			p.payload = p.payload[:min(len(p.payload), 20*size)]
			s, err := split(p.super(size))
			if err != nil {
				t.Fatal(err)
			}
			f, _ := ParseFlow(s[0])
			if flows[f] { // one queue a flow, whose order must be kept
				continue
			}
			flows[f] = true
			queues = append(queues, s)
		}
		var sent [][]byte
		for len(queues) > 0 {
			i := r.IntN(len(queues))
			n := min(1+r.IntN(5), len(queues[i]))
			for _, b := range queues[i][:n] {
				spoil(r, b)
				sent = append(sent, b)
			}
			if queues[i] = queues[i][n:]; len(queues[i]) == 0 {
				queues = slices.Delete(queues, i, i+1)
			}
		}
		want := byFlow(t, sent)
		dev := &recorder{offload: allOffloads}
		c := NewCoalescer(dev)
		for _, b := range sent {
			if r.IntN(2) == 0 || !c.Continue(padded(r, b)) {
				c.Add(b)
			}
			if r.IntN(50) == 0 {
				c.Flush()
			}
		}
		if lost, err := c.Flush(); lost != 0 || err != nil {
			t.Fatal(lost, err)
		}
		got := byFlow(t, splitAll(t, dev.written))
		if len(got) != len(want) {
			t.Fatalf("round %d: %d flows, want %d", round, len(got), len(want))
		}
		for f, packets := range want {
			if !slices.EqualFunc(got[f], packets, bytes.Equal) {
				t.Fatalf("round %d, flow %v: %d packets, want %d, or some differ", round, f, len(got[f]), len(packets))
			}
		}
	}
}

// padded is the packet with bytes behind it, or without.
func padded(r *rand.Rand, b []byte) []byte {
	return slices.Concat(b, noise[:r.IntN(2)*r.IntN(300)])
}

// plainNext says field by field whether next belongs behind the packets of a
// run that is not closed.
func plainNext(run [][]byte, next []byte) bool {
	first, before := run[0], run[len(run)-1]
	h, err := ParseHeader(next)
	if err != nil || !h.bare() || h.fragment() {
		return false
	}
	next = next[:h.end]
	if a, _ := ParseFlow(first); a != h.Flow(next) || TOS(first) != TOS(next) {
		return false
	}
	head, _, err := transportHeader(next, h)
	segment, payload := len(first)-head, len(next)-head
	if err != nil || payload <= 0 || payload > segment || len(first)+(len(run)-1)*segment+payload > maxPacket {
		return false
	}
	mended := slices.Clone(next)
	mendChecksums(mended)
	same := func(i, j int) bool { return bytes.Equal(first[i:j], next[i:j]) }
	if h.v6() && !(same(0, 4) && same(7, 8)) || !h.v6() && !(same(0, 2) && same(6, 9)) || !bytes.Equal(mended, next) {
		return false // flow label, hop limit; TTL, flags; a wrong checksum
	}
	if !h.v6() && next[6]&0x40 == 0 && binary.BigEndian.Uint16(next[4:]) != binary.BigEndian.Uint16(before[4:])+1 {
		return false
	}
	t := h.transport
	if h.protocol == protoUDP {
		return int(binary.BigEndian.Uint16(next[t+udpLength:])) == len(next)-t && binary.BigEndian.Uint16(next[t+udpChecksum:]) != 0
	}
	return binary.BigEndian.Uint32(next[t+tcpSeq:]) == binary.BigEndian.Uint32(before[t+tcpSeq:])+uint32(segment) &&
		same(t+tcpAck, t+tcpFlags) && first[t+tcpFlags]|flagPSH == next[t+tcpFlags]|flagPSH &&
		same(t+tcpFlags+1, t+tcpChecksum) && same(t+tcpChecksum+2, head)
}

// TestRunTakesWhatFieldsSay: with any bits of the next packet's header changed,
// its checksums mended or not, a run takes it if and only if the plain
// comparison of fields says so.
func TestRunTakesWhatFieldsSay(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	taken := 0
	for range 30000 {
		p, size := randomRun(r)
		p.flags &^= flagPSH
		p.payload = p.payload[:min(len(p.payload), 6*size)]
		packets := p.segments(size)
		if len(packets) < 2 || len(packets[1]) < 80 {
			continue
		}
		n := 1 + r.IntN(len(packets)-1)
		next := slices.Clone(packets[n])
		for range r.IntN(3) {
			next[r.IntN(min(len(next), 80))] ^= 1 << r.IntN(8)
		}
		if r.IntN(4) > 0 {
			mendChecksums(next)
		}
		c := NewCoalescer(&recorder{offload: allOffloads})
		for _, b := range packets[:n] {
			c.Add(slices.Clone(b))
		}
		want := plainNext(packets[:n], next)
		got := c.Continue(padded(r, next))
		if got != want {
			t.Fatalf("behind %d of %x: taken %v, want %v: %x", n, packets[0][:80], got, want, next[:80])
		}
		if got {
			taken++
		}
	}
	if taken < 5000 {
		t.Errorf("only %d packets were taken", taken)
	}
}

// TestContinueForgets: what was written by itself, or flushed, is continued by nothing.
func TestContinueForgets(t *testing.T) {
	packets := runOf(4, false)
	for name, between := range map[string]func(*Coalescer){
		"flush":             func(c *Coalescer) { c.Flush() },
		"another protocol":  func(c *Coalescer) { c.Add(pkt{proto: protoICMP, payload: noise[:20]}.bytes()) },
		"not a packet":      func(c *Coalescer) { c.Add([]byte{0}) },
		"no payload":        func(c *Coalescer) { c.Add(pkt{proto: protoTCP, sport: 9, flags: flagACK}.bytes()) },
		"a fragment":        func(c *Coalescer) { c.Add(pkt{proto: protoUDP, fragment: 0x2000, payload: noise[:24]}.bytes()) },
		"a push by itself":  func(c *Coalescer) { c.Add(pkt{proto: protoTCP, flags: flagACK | flagPSH, payload: noise[:24]}.bytes()) },
		"end of the run":    func(c *Coalescer) { c.Continue(packets[1][:0]); c.close(c.last) },
		"never was a first": func(c *Coalescer) { *c = *NewCoalescer(c.dev) },
	} {
		c := NewCoalescer(&recorder{offload: allOffloads})
		c.Add(slices.Clone(packets[0]))
		between(c)
		if c.Continue(slices.Clone(packets[1])) {
			t.Errorf("%s: the run went on", name)
		}
	}
}

// TestCoalesceJoins: what is joined, seen as the packets in each write.
func TestCoalesceJoins(t *testing.T) {
	tcp := pkt{proto: protoTCP, src: 1, dst: 2, ttl: 64, flags: flagACK, fragment: 0x4000, payload: make([]byte, 5000)}
	tcp6, pushed, timed, ece, udp, noDF := tcp, tcp, tcp, tcp, tcp, tcp
	tcp6.v6 = true
	pushed.flags |= flagPSH
	timed.options = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	ece.flags |= flagECE
	udp.proto = protoUDP
	noDF.fragment = 0
	fixedID := tcp.segments(1000)
	for i := range fixedID {
		p := tcp
		p.seq, p.payload = uint32(i*1000), p.payload[:1000]
		fixedID[i] = p.bytes()
	}
	other := tcp
	other.sport = 7
	two := [][]byte{}
	for i, b := range tcp.segments(1000) {
		two = append(two, b, other.segments(1000)[i])
	}
	zeroUDP := udp.segments(1000)
	for i := range zeroUDP {
		p := udp
		p.payload, p.noChecksum = p.payload[:1000], true
		zeroUDP[i] = p.bytes()
	}
	for name, c := range map[string]struct {
		packets [][]byte
		want    []int // packets in each write
	}{
		"tcp4":                     {tcp.segments(1000), []int{5}},
		"tcp6":                     {tcp6.segments(1000), []int{5}},
		"last is shorter":          {tcp.segments(1900), []int{3}},
		"after a shorter one":      {slices.Concat(tcp.segments(1900), tcp.segments(1900)), []int{3, 3}},
		"push ends":                {slices.Concat(pushed.segments(1000), tcp.segments(1000)), []int{5, 5}},
		"push alone":               {pushed.segments(5000), []int{1}},
		"timestamps":               {timed.segments(1000), []int{5}},
		"ECN echo":                 {ece.segments(1000), []int{5}},
		"udp":                      {udp.segments(1000), []int{5}},
		"udp without checksum":     {zeroUDP, []int{1, 1, 1, 1, 1}},
		"counting identification":  {noDF.segments(1000), []int{5}},
		"fixed identification, DF": {fixedID, []int{5}},
		"two flows":                {two, []int{5, 5}},
		"sequence gap":             {slices.Delete(tcp.segments(1000), 2, 3), []int{2, 2}},
		"duplicate":                {slices.Insert(tcp.segments(1000), 1, tcp.segments(1000)[0]), []int{1, 5}},
	} {
		dev := &recorder{offload: allOffloads}
		co := NewCoalescer(dev)
		for _, b := range c.packets {
			co.Add(b)
		}
		co.Flush()
		var got []int
		for _, s := range dev.written {
			packets, err := split(s)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, len(packets))
		}
		if !slices.Equal(got, c.want) || co.Writes() != uint64(len(got)) {
			t.Errorf("%s: writes of %v packets, want %v", name, got, c.want)
		}
	}
}

// TestCoalesceKeepsApart: a second packet that differs in one thing.
func TestCoalesceKeepsApart(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		first := pkt{v6: v6, proto: protoTCP, src: 1, dst: 2, ttl: 64, flags: flagACK, window: 9, payload: make([]byte, 100)}
		second := first
		second.id, second.seq = 1, 100
		for name, change := range map[string]func(*pkt){
			"ECN":              func(p *pkt) { p.tos = ecnCE },
			"DSCP":             func(p *pkt) { p.tos = 46 << 2 },
			"TTL":              func(p *pkt) { p.ttl-- },
			"acknowledgement":  func(p *pkt) { p.ack++ },
			"window":           func(p *pkt) { p.window++ },
			"TCP options":      func(p *pkt) { p.options = []byte{1, 1, 1, 1} },
			"sequence":         func(p *pkt) { p.seq-- },
			"FIN":              func(p *pkt) { p.flags |= flagFIN },
			"SYN":              func(p *pkt) { p.flags |= flagSYN },
			"CWR":              func(p *pkt) { p.flags |= flagCWR },
			"ECE":              func(p *pkt) { p.flags |= flagECE },
			"no payload":       func(p *pkt) { p.payload = nil },
			"longer":           func(p *pkt) { p.payload = make([]byte, 101) },
			"ports":            func(p *pkt) { p.sport++ },
			"addresses":        func(p *pkt) { p.src++ },
			"destination":      func(p *pkt) { p.dst++ },
			"IPv4 options":     func(p *pkt) { p.ipOptions = []byte{1, 1, 1, 1} },
			"DF":               func(p *pkt) { p.fragment = 0x4000 },
			"identification":   func(p *pkt) { p.id++ },
			"fragment":         func(p *pkt) { p.fragment = 0x2000 },
			"wrong checksum":   func(p *pkt) { p.noChecksum = true },
			"version":          func(p *pkt) { p.v6 = !p.v6 },
			"protocol":         func(p *pkt) { p.proto = protoUDP },
			"other protocol":   func(p *pkt) { p.proto = protoICMP },
			"nothing: a check": func(p *pkt) {},
		} {
			p := second
			change(&p)
			dev := &recorder{offload: allOffloads}
			c := NewCoalescer(dev)
			c.Add(first.bytes())
			c.Add(p.bytes())
			c.Flush()
			want := 2
			if bytes.Equal(p.bytes(), second.bytes()) { // no such thing in this IP version
				want = 1
			}
			if len(dev.written) != want {
				t.Errorf("v6 %v, %s: %d writes, want %d", v6, name, len(dev.written), want)
			}
		}
	}
}

// TestCoalesceOptions: IPv4 options of any length keep packets apart, even those
// that the header's checksum does not see.
func TestCoalesceOptions(t *testing.T) {
	for n := 4; n <= 40; n += 4 {
		first := pkt{proto: protoTCP, src: 1, dst: 2, ttl: 64, flags: flagACK, ipOptions: make([]byte, n), payload: make([]byte, 100)}
		second := first
		second.id, second.seq, second.ipOptions = 1, 100, bytes.Repeat([]byte{0xff}, n)
		dev := &recorder{offload: allOffloads}
		c := NewCoalescer(dev)
		c.Add(first.bytes())
		c.Add(second.bytes())
		c.Flush()
		if len(dev.written) != 2 {
			t.Errorf("%d bytes: %d writes", n, len(dev.written))
		}
	}
}

func TestCoalesceBounds(t *testing.T) {
	dev := &recorder{offload: allOffloads}
	c := NewCoalescer(dev)
	long := pkt{proto: protoTCP, flags: flagACK, payload: make([]byte, 60000)}
	more := long
	more.seq, more.id = 60000, 60
	for _, b := range append(long.segments(1000), more.segments(1000)...) {
		c.Add(b)
	}
	tiny := pkt{v6: true, proto: protoTCP, flags: flagACK, payload: make([]byte, 1000)}
	for _, b := range tiny.segments(1) {
		c.Add(b)
	}
	tiny.proto = protoUDP
	for _, b := range tiny.segments(1) {
		c.Add(b)
	}
	for i := range 3 * openRuns { // more flows than runs
		c.Add(pkt{proto: protoTCP, flags: flagACK, sport: uint16(i), payload: make([]byte, 10)}.bytes())
	}
	c.Flush()
	packets := 0
	for _, s := range dev.written {
		if len(s.Packet) > maxPacket {
			t.Errorf("%d bytes in one write", len(s.Packet))
		}
		got, err := split(s)
		most := maxRunPackets
		if f, _ := ParseFlow(s.Packet); f.Protocol == protoUDP {
			most = 64 // whatever kernel it meets
		}
		if err != nil || len(got) > most {
			t.Errorf("%d packets in one write, %v", len(got), err)
		}
		packets += len(got)
	}
	if want := 120 + 2*1000 + 3*openRuns; packets != want {
		t.Errorf("%d packets, want %d", packets, want)
	}
}

func TestCoalesceWithoutOffload(t *testing.T) {
	for _, c := range []struct {
		offload Offload
		want    int
	}{{Offload{}, 10}, {Offload{TCP: true}, 6}, {Offload{UDP: true}, 6}, {allOffloads, 2}} {
		dev := &recorder{offload: c.offload}
		co := NewCoalescer(dev)
		for _, proto := range []uint8{protoTCP, protoUDP} {
			for _, b := range (pkt{proto: proto, flags: flagACK, payload: make([]byte, 500)}).segments(100) {
				co.Add(b)
			}
		}
		co.Flush()
		if len(dev.written) != c.want {
			t.Errorf("%v: %d writes, want %d", c.offload, len(dev.written), c.want)
		}
	}
}

func TestCoalesceCountsLosses(t *testing.T) {
	dev := &recorder{offload: allOffloads, err: errors.New("full")}
	c := NewCoalescer(dev)
	for _, b := range (pkt{proto: protoTCP, flags: flagACK, payload: make([]byte, 500)}).segments(100) {
		c.Add(b)
	}
	c.Add([]byte{0})
	if lost, err := c.Flush(); lost != 6 || !errors.Is(err, dev.err) {
		t.Errorf("lost %d, %v, want 6 and the device's error", lost, err)
	}
	if lost, err := c.Flush(); lost != 0 || err != nil {
		t.Errorf("lost %d, %v again", lost, err)
	}
}

// choosy is a device that knows runs, and refuses those that a function says.
type choosy struct {
	recorder
	refuse func(s Super) error
}

func (d *choosy) Write(s Super) error {
	if err := d.refuse(s); err != nil {
		return err
	}
	return d.recorder.Write(s)
}

// TestRefusedRunsGoApart: a run that the kernel calls invalid arrives as its
// packets, in order; one that it has no room for is lost whole.
func TestRefusedRunsGoApart(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, v6 := range []bool{false, true} {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			p := pkt{v6: v6, proto: proto, flags: flagACK | flagPSH, payload: make([]byte, 5030)}
			for i := range p.payload {
				p.payload[i] = byte(r.Uint32())
			}
			want := p.segments(100)
			dev := &choosy{recorder: recorder{offload: allOffloads}}
			dev.refuse = func(s Super) error {
				if s.SegmentSize > 0 {
					return &os.PathError{Op: "write", Path: "tun", Err: syscall.EINVAL}
				}
				return nil
			}
			c := NewCoalescer(dev)
			add := func() {
				for _, b := range want {
					c.Add(bytes.Clone(b))
				}
			}
			add()
			if lost, err := c.Flush(); lost != 0 || err != nil || c.Refused() != 1 || c.Refused() != 0 {
				t.Errorf("v6 %v, protocol %d: %d packets lost, %v", v6, proto, lost, err)
			}
			if got := splitAll(t, dev.written); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("v6 %v, protocol %d: %d packets, want %d, or some differ", v6, proto, len(got), len(want))
			}
			dev.refuse = func(Super) error { return syscall.ENOBUFS }
			add()
			if lost, err := c.Flush(); lost != len(want) || err != syscall.ENOBUFS || c.Refused() != 0 {
				t.Errorf("no room: %d packets lost, %v", lost, err)
			}
		}
	}
}

func FuzzCoalescer(f *testing.F) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 8 {
		p, _ := randomRun(r)
		p.payload = p.payload[:min(len(p.payload), 40)]
		s := p.segments(20)
		f.Add(s[0], s[min(1, len(s)-1)], true)
		f.Add(s[0], s[len(s)-1], false)
	}
	f.Fuzz(func(t *testing.T, a, b []byte, mend bool) {
		var want [][]byte
		for _, p := range [][]byte{a, b} {
			if n, err := innerLen(p); err != nil || n != len(p) {
				return
			}
			if _, err := ParseFlow(p); err != nil {
				return
			}
			if mend { // or a fuzzer seldom gets past the checksums
				mendChecksums(p)
			}
			want = append(want, slices.Clone(p))
		}
		dev := &recorder{offload: allOffloads}
		c := NewCoalescer(dev)
		c.Add(a)
		if !c.Continue(b) {
			c.Add(b)
		}
		c.Flush()
		got := byFlow(t, splitAll(t, dev.written))
		for flow, packets := range byFlow(t, want) {
			if !slices.EqualFunc(got[flow], packets, bytes.Equal) {
				t.Fatalf("%v: %x, want %x", flow, got[flow], packets)
			}
		}
	})
}

// mendChecksums makes a TCP or UDP packet's checksums right.
func mendChecksums(b []byte) {
	h, err := ParseHeader(b)
	if err != nil {
		return
	}
	if !h.v6() {
		clear(b[10:12])
		binary.BigEndian.PutUint16(b[10:], ^plainSum(b[:h.transport]))
	}
	if _, at, err := transportHeader(b, h); err == nil {
		clear(b[at : at+2])
		t := b[h.transport:h.end]
		binary.BigEndian.PutUint16(b[at:], ^plainSum(plainPseudo(b, h.protocol, len(t)), t))
	}
}

// sink is a Device that takes everything.
type sink struct{ recorder }

func (sink) Write(Super) error { return nil }

func runOf(n int, v6 bool) [][]byte {
	return pkt{v6: v6, proto: protoTCP, flags: flagACK, options: make([]byte, 12), payload: make([]byte, n*1348)}.segments(1348)
}

func TestNoAllocations(t *testing.T) {
	packets := append(runOf(47, false), runOf(47, true)...)
	heads := make([][]byte, len(packets))
	for i, b := range packets {
		heads[i] = slices.Clone(b[:80])
	}
	c := NewCoalescer(&sink{recorder{offload: allOffloads}})
	if n := testing.AllocsPerRun(100, func() {
		for i, b := range packets {
			copy(b, heads[i])
			c.Add(b)
		}
		c.Flush()
	}); n != 0 {
		t.Errorf("coalescing allocates %v times", n)
	}
	var p Splitter
	s := pkt{proto: protoTCP, flags: flagACK, payload: make([]byte, 47*1348)}.super(1348)
	syn := pkt{proto: protoTCP, flags: flagSYN, options: []byte{2, 4, 5, 0xb4}}.bytes()
	head, buf := make([]byte, 128), make([]byte, 0, 1280)
	if n := testing.AllocsPerRun(100, func() {
		if p.Load(&s) != nil {
			t.Fatal("refused")
		}
		for i := range p.Count() {
			p.Head(i, head)
		}
		ParseFlow(s.Packet)
		clampMSS(syn, 1400)
		Decapsulate(ecnECT1, packets[0])
		TooBig(packets[0], 1000, netip.Addr{}, buf)
	}); n != 0 {
		t.Errorf("splitting allocates %v times", n)
	}
}

func BenchmarkCoalesce64K(b *testing.B) {
	packets := runOf(47, false)
	head := slices.Clone(packets[0][:52]) // what a run patches
	c := NewCoalescer(&sink{recorder{offload: allOffloads}})
	b.SetBytes(47 * 1400)
	b.ReportAllocs()
	for b.Loop() {
		copy(packets[0], head)
		for _, p := range packets {
			c.Add(p)
		}
		c.Flush()
	}
}
