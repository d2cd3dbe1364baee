package sad

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func TestInboundByWholeSPI(t *testing.T) {
	var table Table
	a := child(0x12300007, "10.0.0.0/24", "10.1.0.0/24")
	must(t, table.AddInbound(a, nil))
	if got := table.Load().Inbound(0x12300007); got == nil || got.Child != a {
		t.Fatalf("Inbound(own SPI) = %v", got)
	}
	for _, spi := range []uint32{0x12400007, 0x00000007, 0x12300008, 0, 0xffffffff} {
		if got := table.Load().Inbound(spi); got != nil {
			t.Errorf("Inbound(%08x) = %08x, want none", spi, got.InboundSPI)
		}
	}
	if err := table.AddInbound(child(0x45600007, "10.0.0.0/24", "10.1.0.0/24"), nil); !errors.Is(err, ErrOccupied) {
		t.Errorf("same index, other generation: %v, want ErrOccupied", err)
	}
	if table.RemoveInbound(0x45600007) != nil || table.Load().Inbound(0x12300007) == nil {
		t.Error("another generation's removal touched the SA")
	}
	if got := table.RemoveInbound(0x12300007); got == nil || got.Child != a {
		t.Errorf("RemoveInbound = %v", got)
	}
	must(t, table.AddInbound(child(0x45600007, "10.0.0.0/24", "10.1.0.0/24"), nil))
	if table.Load().Inbound(0x12300007) != nil || table.Load().Inbound(0x45600007) == nil {
		t.Error("the index's new generation is not the only one")
	}
}

func TestRefused(t *testing.T) {
	v6 := Prefix(netip.MustParsePrefix("2001:db8::/64"))
	mixed := Selector{EndPort: 65535, Start: netip.MustParseAddr("10.0.0.0"), End: v6.End}
	backwards := Selector{EndPort: 65535, Start: v6.End, End: v6.Start}
	for _, tc := range []struct {
		name  string
		child *Child
		want  error
	}{
		{"reserved SPI", child(255, "10.0.0.0/24", "10.1.0.0/24"), ErrSPI},
		{"two families in a range", &Child{InboundSPI: 256, Local: []Selector{mixed}}, ErrSelector},
		{"range backwards", &Child{InboundSPI: 256, Remote: []Selector{backwards}}, ErrSelector},
		{"no address", &Child{InboundSPI: 256, Remote: []Selector{{}}}, ErrSelector},
	} {
		var table Table
		if err := table.AddOutbound(tc.child, nil); !errors.Is(err, tc.want) {
			t.Errorf("%s: AddOutbound: %v, want %v", tc.name, err, tc.want)
		}
		if err := table.AddInbound(tc.child, nil); !errors.Is(err, tc.want) {
			t.Errorf("%s: AddInbound: %v, want %v", tc.name, err, tc.want)
		}
		if table.Load() != empty {
			t.Errorf("%s: the table changed", tc.name)
		}
	}
}

// A rekeyed child's new SA takes over at once, and when it goes the old one is
// still there: make before break needs both directions of that.
func TestNewestFirst(t *testing.T) {
	var table Table
	f := flow("10.0.0.1", "10.1.0.1")
	must(t, table.AddOutbound(child(0x1001, "10.0.0.0/24", "10.1.0.0/24"), nil))
	must(t, table.AddOutbound(child(0x1002, "10.0.0.0/24", "10.1.0.0/24"), nil))
	wantMatch(t, &table, f, 0x1002)
	table.RemoveOutbound(0x1002)
	wantMatch(t, &table, f, 0x1001)
	table.RemoveOutbound(0x1001)
	wantMatch(t, &table, f, 0)
	if n := table.Load().flows.Size(); n != 0 {
		t.Errorf("%d cells left in the index", n)
	}
}

// A specific cell that refuses a flow must not hide a general one, on either
// side.
func TestFallsBackToShorterPrefix(t *testing.T) {
	var table Table
	ssh := child(0x1001, "10.0.0.0/24", "10.1.0.0/24")
	ssh.Remote[0].Protocol, ssh.Remote[0].StartPort, ssh.Remote[0].EndPort = 6, 22, 22
	must(t, table.AddOutbound(ssh, nil))
	must(t, table.AddOutbound(child(0x1002, "10.0.0.0/8", "10.0.0.0/8"), nil))
	must(t, table.AddOutbound(child(0x1003, "10.0.7.0/24", "10.1.0.0/24"), nil))

	tcp := Flow{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.1.0.1"), Protocol: 6, SrcPort: 999, DstPort: 22, HasPorts: true}
	wantMatch(t, &table, tcp, 0x1001)
	tcp.DstPort = 23
	wantMatch(t, &table, tcp, 0x1002)
	wantMatch(t, &table, flow("10.0.7.1", "10.1.0.1"), 0x1003)
	wantMatch(t, &table, flow("10.9.0.1", "10.1.0.1"), 0x1002)
	wantMatch(t, &table, flow("192.0.2.1", "10.1.0.1"), 0)
}

// A reservation holds its traffic back from the SAs of larger networks, not
// from its own, whichever comes first.
func TestReserve(t *testing.T) {
	var table Table
	must(t, table.AddOutbound(child(0x1001, "10.0.0.0/8", "10.0.0.0/8"), nil))
	f, outside := flow("10.0.0.1", "10.1.0.1"), flow("10.0.0.1", "10.2.0.1")
	wantMatch(t, &table, f, 0x1001)
	r, err := table.Reserve(child(0, "10.0.0.0/24", "10.1.0.0/16"), true)
	must(t, err)
	if got := table.Load().Match(&f); got != r || !got.Reserved || !got.Trap {
		t.Errorf("Match = %v, want the reservation", got)
	}
	wantMatch(t, &table, outside, 0x1001)
	must(t, table.AddOutbound(child(0x1002, "10.0.0.0/24", "10.1.0.0/16"), nil))
	wantMatch(t, &table, f, 0x1002)
	later, err := table.Reserve(child(0, "10.0.0.0/24", "10.1.0.0/16"), false)
	must(t, err)
	wantMatch(t, &table, f, 0x1002)
	must(t, table.AddOutbound(child(0x1003, "10.0.0.0/24", "10.1.0.0/24"), nil)) // narrowed
	wantMatch(t, &table, f, 0x1003)
	table.RemoveOutbound(0x1003)
	table.RemoveOutbound(0x1002)
	if got := table.Load().Match(&f); got != r {
		t.Errorf("Match = %v, want the first reservation", got)
	}
	table.Release(r)
	table.Release(later)
	wantMatch(t, &table, f, 0x1001)
	table.RemoveOutbound(0x1001)
	if n := table.Load().flows.Size(); n != 0 {
		t.Errorf("%d cells left in the index", n)
	}
	if _, err := table.Reserve(&Child{Local: []Selector{{}}}, false); !errors.Is(err, ErrSelector) {
		t.Errorf("a reservation of nothing: %v", err)
	}
}

// Several child SAs of one tunnel, each for a pair of selectors: each flow finds
// its own.
func TestPairsOfOneTunnel(t *testing.T) {
	var table Table
	_, err := table.Reserve(&Child{Local: selectors("10.1.0.0/24", "10.2.0.0/24"), Remote: selectors("10.3.0.0/24", "10.4.0.0/24")}, true)
	must(t, err)
	pairs := map[[2]string]uint32{{"10.1.0", "10.3.0"}: 0x1001, {"10.1.0", "10.4.0"}: 0x1002, {"10.2.0", "10.3.0"}: 0x1003, {"10.2.0", "10.4.0"}: 0x1004}
	for p, spi := range pairs {
		c := child(spi, p[0]+".0/24", p[1]+".0/24")
		c.Peer, c.Name = "peer", "tunnel"
		must(t, table.AddOutbound(c, nil))
	}
	for p, spi := range pairs {
		wantMatch(t, &table, flow(p[0]+".9", p[1]+".9"), spi)
	}
	table.RemoveOutbound(0x1002)
	f := flow("10.1.0.9", "10.4.0.9")
	if got := table.Load().Match(&f); got == nil || !got.Reserved {
		t.Errorf("the flow of the missing pair goes through %v", got)
	}
	wantMatch(t, &table, flow("10.1.0.9", "10.3.0.9"), 0x1001)
}

func selectors(prefixes ...string) (ss []Selector) {
	for _, p := range prefixes {
		ss = append(ss, Prefix(netip.MustParsePrefix(p)))
	}
	return ss
}

func TestMovePeer(t *testing.T) {
	var table Table
	c := child(0x1001, "10.0.0.0/24", "10.1.0.0/24")
	must(t, table.AddInbound(c, nil))
	must(t, table.AddOutbound(c, nil))
	to := Path{Remote: netip.MustParseAddrPort("192.0.2.1:4500"), Encap: true}
	if table.MovePeer(0x2001, to) || !table.MovePeer(0x1001, to) {
		t.Fatal("MovePeer does not tell the child by its inbound SPI")
	}
	if got := table.Load().Outbound(0x1001).Path(); got != to {
		t.Errorf("outbound path = %v, want %v", got, to)
	}
	table.RemoveInbound(0x1001)
	if !table.MovePeer(0x1001, Path{}) {
		t.Error("the outbound SA alone does not move")
	}
}

func TestPorts(t *testing.T) {
	addr := netip.MustParsePrefix("10.0.0.0/8")
	selector := func(protocol uint8, start, end uint16) Selector {
		s := Prefix(addr)
		s.Protocol, s.StartPort, s.EndPort = protocol, start, end
		return s
	}
	const tcp, udp, icmp = 6, 17, 1
	for _, tc := range []struct {
		name     string
		s        Selector
		protocol uint8
		port     uint16
		hasPort  bool
		want     bool
	}{
		{"any, with port", selector(0, 0, 65535), tcp, 80, true, true},
		{"any, fragment", selector(0, 0, 65535), tcp, 0, false, true},
		{"protocol, right", selector(tcp, 0, 65535), tcp, 80, true, true},
		{"protocol, wrong", selector(tcp, 0, 65535), udp, 80, true, false},
		{"protocol, fragment of it", selector(udp, 0, 65535), udp, 0, false, true},
		{"port at start", selector(tcp, 80, 90), tcp, 80, true, true},
		{"port at end", selector(tcp, 80, 90), tcp, 90, true, true},
		{"port below", selector(tcp, 80, 90), tcp, 79, true, false},
		{"port above", selector(tcp, 80, 90), tcp, 91, true, false},
		{"port, fragment", selector(udp, 80, 90), udp, 0, false, false},
		{"port 0, fragment", selector(udp, 0, 0), udp, 0, false, false},
		{"opaque, fragment", selector(udp, 65535, 0), udp, 0, false, true},
		{"opaque, with port", selector(udp, 65535, 0), udp, 80, true, false},
		{"ICMP type and code", selector(icmp, 0x0800, 0x08ff), icmp, 0x0800, true, true},
	} {
		inside := netip.MustParseAddr("10.1.2.3")
		if got := within([]Selector{tc.s}, tc.protocol, inside, tc.port, tc.hasPort); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		if within([]Selector{tc.s}, tc.protocol, netip.MustParseAddr("11.0.0.0"), tc.port, tc.hasPort) {
			t.Errorf("%s: an address outside is within", tc.name)
		}
	}
}

func TestRangeIncludesItsEnds(t *testing.T) {
	c := child(0x1001, "10.0.0.0/24", "10.1.0.0/24")
	for _, tc := range []struct {
		src, dst string
		want     bool
	}{
		{"10.0.0.0", "10.1.0.255", true}, {"10.0.0.255", "10.1.0.0", true},
		{"9.255.255.255", "10.1.0.0", false}, {"10.0.1.0", "10.1.0.0", false},
		{"10.0.0.0", "10.0.255.255", false}, {"10.0.0.0", "10.1.1.0", false},
		{"::ffff:10.0.0.1", "10.1.0.1", false},
	} {
		out, back := flow(tc.src, tc.dst), flow(tc.dst, tc.src)
		if c.Carries(&out) != tc.want || c.Delivers(&back) != tc.want {
			t.Errorf("%s to %s: carries %v, delivers the reverse %v, want %v", tc.src, tc.dst, c.Carries(&out), c.Delivers(&back), tc.want)
		}
	}
}

// The cover is checked against the definition: it holds both ends, and no
// longer prefix does.
func TestCover(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		a, b := randomAddr(r), randomAddr(r)
		if b.Less(a) {
			a, b = b, a
		}
		p := Selector{Start: a, End: b}.Cover()
		if !p.Contains(a) || !p.Contains(b) || p != p.Masked() {
			t.Fatalf("cover(%v-%v) = %v", a, b, p)
		}
		if longer := netip.PrefixFrom(a, p.Bits()+1); longer.IsValid() && longer.Contains(b) {
			t.Fatalf("cover(%v-%v) = %v, but %v holds both", a, b, p, longer)
		}
	}
	p := netip.MustParsePrefix("10.1.2.0/23")
	if got := Prefix(p).Cover(); got != p {
		t.Errorf("cover of %v = %v", p, got)
	}
	if got := Prefix(p).String(); got != "10.1.2.0/23" {
		t.Errorf("String = %s", got)
	}
}

// Match agrees with a plain search of everything, on random nested ranges.
func TestMatchAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var table Table
	live := map[uint32]*Child{}
	for i := range 4000 {
		spi := 0x1000 + r.Uint32N(64)
		switch {
		case live[spi] == nil:
			c := &Child{InboundSPI: spi, Local: randomSelectors(r), Remote: randomSelectors(r)}
			must(t, table.AddOutbound(c, nil))
			live[spi] = c
		case r.IntN(2) == 0:
			if table.RemoveOutbound(spi) == nil {
				t.Fatalf("step %d: %x is not there", i, spi)
			}
			delete(live, spi)
		}
		f := Flow{Src: randomAddr(r), Dst: randomAddr(r), Protocol: 6, DstPort: uint16(r.IntN(4)), HasPorts: r.IntN(2) == 0}
		found := table.Load().Match(&f)
		if found != nil && (live[found.InboundSPI] != found.Child || !found.Carries(&f)) {
			t.Fatalf("step %d: %x matched %v", i, found.InboundSPI, f)
		}
		if found == nil {
			for spi, c := range live {
				if c.Carries(&f) {
					t.Fatalf("step %d: nothing matched %v, but %x carries it", i, f, spi)
				}
			}
		}
	}
	left := 0
	for _, page := range table.Load().outbound {
		if page == nil {
			continue
		}
		for _, out := range page {
			if out != nil {
				left++
			}
		}
	}
	if left != len(live) {
		t.Errorf("%d outbound SAs are left, want %d", left, len(live))
	}
}

// Thousands of peers: a lookup allocates nothing and costs no more than a
// small multiple of one among ten, whether the peers differ by destination
// or, all of them with a default route, by source.
func TestLookupDoesNotGrow(t *testing.T) {
	for _, shape := range []string{"by destination", "by source"} {
		small, large := crowd(t, 10, shape), crowd(t, 4096, shape)
		few, many := small.cost(), large.cost()
		if many > 20*few {
			t.Errorf("%s: %v a lookup among 4096 peers, %v among 10", shape, many, few)
		}
		if n := testing.AllocsPerRun(100, func() { large.lookup() }); n != 0 {
			t.Errorf("%s: %v allocations a lookup", shape, n)
		}
	}
}

// Readers see whole snapshots while the writer works.
func TestConcurrentReaders(t *testing.T) {
	var table Table
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			f := flow("10.0.0.1", "10.1.0.1")
			for {
				select {
				case <-done:
					return
				default:
				}
				s := table.Load()
				if o := s.Match(&f); o != nil {
					if s.Outbound(o.InboundSPI) != o {
						t.Error("a flow led to an SA that its own snapshot does not have")
						return
					}
					o.Touch(1)
					o.Path()
				}
			}
		})
	}
	for i := range uint32(500) {
		c := child(0x1000+i%8, "10.0.0.0/24", "10.1.0.0/24")
		must(t, table.AddOutbound(c, nil))
		must(t, table.AddInbound(c, nil))
		table.MovePeer(c.InboundSPI, Path{Encap: true})
		table.RemoveOutbound(c.InboundSPI)
		table.RemoveInbound(c.InboundSPI)
	}
	close(done)
	readers.Wait()
}

func TestUsage(t *testing.T) {
	var u Usage
	if u.LastNano() != 0 {
		t.Error("an unused SA has a last use")
	}
	if u.Touch(17); u.LastNano() != 17 {
		t.Errorf("LastNano = %v", u.LastNano())
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		c := crowd(b, n, "by destination")
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.lookup()
			}
		})
	}
}

func BenchmarkInbound(b *testing.B) {
	var table Table
	for i := range uint32(10_000) {
		must(b, table.AddInbound(child(0x00100000|i+256, "10.0.0.0/24", "10.1.0.0/24"), nil))
	}
	spi := uint32(256)
	for b.Loop() {
		if table.Load().Inbound(0x00100000|spi) == nil {
			b.Fatal("not found")
		}
		if spi++; spi == 10_000 {
			spi = 256
		}
	}
}

type crowded struct {
	t     testing.TB
	s     *Snapshot
	flows []Flow
	next  int
}

func crowd(t testing.TB, n int, shape string) *crowded {
	var table Table
	c := &crowded{t: t}
	for i := range n {
		there := prefix24(172<<24 | uint32(i)<<8)
		local, remote := "10.0.0.0/24", there.String()
		f := Flow{Src: netip.MustParseAddr("10.0.0.9"), Dst: there.Addr().Next()}
		if shape == "by source" {
			local, remote = there.String(), "0.0.0.0/0"
			f.Src, f.Dst = f.Dst, f.Src
		}
		must(t, table.AddOutbound(child(uint32(i)+256, local, remote), nil))
		c.flows = append(c.flows, f)
	}
	c.s = table.Load()
	return c
}

func (c *crowded) lookup() {
	c.next = (c.next + 7919) % len(c.flows)
	if o := c.s.Match(&c.flows[c.next]); o == nil || o.InboundSPI != uint32(c.next)+256 {
		c.t.Fatalf("flow of peer %d led to %v", c.next, o)
	}
}

// cost is the best of some runs, so that a busy machine does not count.
func (c *crowded) cost() time.Duration {
	best := time.Hour
	for range 10 {
		start := time.Now()
		for range 500 {
			c.lookup()
		}
		best = min(best, time.Since(start))
	}
	return best
}

func child(spi uint32, local, remote string) *Child {
	return &Child{
		Peer: "peer", Name: "child", InboundSPI: spi, OutboundSPI: spi + 1,
		Local:  []Selector{Prefix(netip.MustParsePrefix(local))},
		Remote: []Selector{Prefix(netip.MustParsePrefix(remote))},
	}
}

func flow(src, dst string) Flow {
	return Flow{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Protocol: 47}
}

func prefix24(a uint32) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a))), 24)
}

// randomAddr is dense enough for random ranges to nest and overlap.
func randomAddr(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(256)), byte(r.IntN(256))})
}

func randomSelectors(r *rand.Rand) []Selector {
	list := make([]Selector, 1+r.IntN(3))
	for i := range list {
		a, b := randomAddr(r), randomAddr(r)
		if b.Less(a) {
			a, b = b, a
		}
		list[i] = Selector{EndPort: 65535, Start: a, End: b}
		if r.IntN(3) == 0 {
			list[i].Protocol, list[i].StartPort, list[i].EndPort = 6, 1, 2
		}
	}
	return list
}

func wantMatch(t *testing.T, table *Table, f Flow, spi uint32) {
	t.Helper()
	got := uint32(0)
	if o := table.Load().Match(&f); o != nil {
		got = o.InboundSPI
	}
	if got != spi {
		t.Errorf("%v leads to %x, want %x", f, got, spi)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
