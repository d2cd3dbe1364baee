package iketest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

func prefixes(ss ...string) (out []wire.Selector) {
	for _, s := range ss {
		out = append(out, prefix(s)...)
	}
	return out
}

// sides are the two configurations with one child each way, or with what
// change makes of them.
func sides(change func(a, b *ikev2.Peer)) (n *Net, a, b *Host) {
	cfgA, cfgB := Configs()
	change(&cfgA.Peers[0], &cfgB.Peers[0])
	return Situation(cfgA, cfgB)
}

// scopes are what h's child SAs carry, seen from h, in order.
func (h *Host) scopes() (out []string) {
	for _, o := range h.Out {
		out = append(out, fmt.Sprintf("%s %v %v", o.Child, o.Local, o.Remote))
	}
	slices.Sort(out)
	return out
}

// agreeOn: both sides have the same child SAs, B these, and A is not asked for
// more.
func agreeOn(t *testing.T, n *Net, a, b *Host, want ...string) {
	t.Helper()
	faultless(t, n)
	slices.Sort(want)
	if err := Agree(a, b); err != nil || !slices.Equal(b.scopes(), want) {
		t.Fatalf("B has\n%q\nwant\n%q\n%v\n%s", b.scopes(), want, err, n.Transcript())
	}
	before := b.asks()
	n.Run(time.Second)
	if asked := b.asks() - before; asked > 0 {
		t.Errorf("B asks %d times more", asked)
	}
}

// asks counts h's requests for child SAs after the first.
func (h *Host) asks() (count int) {
	for _, o := range h.Sent {
		if m, err := wire.ParseHeader(o.Payload); err == nil && m.Exchange == wire.ExchangeCreateChildSA && m.Flags&wire.FlagResponse == 0 {
			count++
		}
	}
	return count
}

// What two policies have in common, on both sides and in both families, is what
// the child SA is for.
func TestNarrowing(t *testing.T) {
	for _, c := range []struct {
		name                             string
		localB, remoteB, localA, remoteA []wire.Selector
		want                             string
	}{
		{"several to several", prefixes("10.1.0.0/24", "10.2.0.0/24"), prefixes("10.3.0.0/24", "10.4.0.0/24"),
			prefixes("10.3.0.0/24", "10.4.0.0/24"), prefixes("10.1.0.0/24", "10.2.0.0/24"),
			"lan [10.1.0.0/24 10.2.0.0/24] [10.3.0.0/24 10.4.0.0/24]"},
		{"the initiator wants more", prefixes("10.0.0.0/8"), prefixes("0.0.0.0/0"), prefixes("10.103.0.0/24"), prefixes("10.104.0.0/24"),
			"lan [10.104.0.0/24] [10.103.0.0/24]"},
		{"the initiator wants less", prefixes("10.104.0.7/32"), prefixes("10.103.0.0/28"), prefixes("10.103.0.0/24"), prefixes("10.104.0.0/24"),
			"lan [10.104.0.7/32] [10.103.0.0/28]"},
		{"each has something else too", prefixes("10.1.0.0/24", "10.2.0.0/24"), prefixes("10.3.0.0/24"), prefixes("10.3.0.0/24"), prefixes("10.2.0.0/24", "10.9.0.0/24"),
			"lan [10.2.0.0/24] [10.3.0.0/24]"},
		{"both families", prefixes("10.1.0.0/24", "fd01::/64"), prefixes("10.3.0.0/24", "fd03::/64"),
			prefixes("fd03::/64", "10.3.0.0/24"), prefixes("10.1.0.0/24", "fd01::/64"),
			"lan [10.1.0.0/24 fd01::/64] [fd03::/64 10.3.0.0/24]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, a, b := sides(func(pa, pb *ikev2.Peer) {
				pa.Children[0].Local, pa.Children[0].Remote = c.localA, c.remoteA
				pb.Children[0].Local, pb.Children[0].Remote = c.localB, c.remoteB
			})
			connectFor(time.Second)(n, a, b)
			agreeOn(t, n, a, b, c.want)
		})
	}
}

// pairsOf is a side's policy of two networks to two, and what comes of it where
// one pair is allowed to a child SA.
func pairsOf(singleA, singleB bool) func(a, b *ikev2.Peer) {
	return func(a, b *ikev2.Peer) {
		a.Children[0] = ikev2.Child{Name: "lan", Local: prefixes("10.3.0.0/24", "10.4.0.0/24"), Remote: prefixes("10.1.0.0/24", "10.2.0.0/24"), SinglePair: singleA}
		b.Children[0] = ikev2.Child{Name: "lan", Local: prefixes("10.1.0.0/24", "10.2.0.0/24"), Remote: prefixes("10.3.0.0/24", "10.4.0.0/24"), SinglePair: singleB}
	}
}

var fourPairs = []string{"lan [10.1.0.0/24] [10.3.0.0/24]", "lan [10.1.0.0/24] [10.4.0.0/24]", "lan [10.2.0.0/24] [10.3.0.0/24]", "lan [10.2.0.0/24] [10.4.0.0/24]"}

// Where either side wants one pair of selectors to a child SA, there is a child
// SA to each pair, through rekeys, deletions and a new connection.
func TestSinglePair(t *testing.T) {
	for _, who := range []string{"A", "B", "both"} {
		t.Run(who, func(t *testing.T) {
			n, a, b := sides(pairsOf(who != "B", who != "A"))
			connectFor(time.Second)(n, a, b)
			agreeOn(t, n, a, b, fourPairs...)
			if refused := b.Has(ikev2.EventRefusedByPeer); refused > 0 {
				t.Errorf("B reports %d refusals", refused)
			}
			for _, spi := range slices.Sorted(maps.Keys(b.Out)) {
				n.Command(b, ikev2.Rekey{SPI: spi})
			}
			for _, spi := range slices.Sorted(maps.Keys(a.Out)) {
				n.Command(a, ikev2.Rekey{SPI: spi})
			}
			n.Run(time.Minute)
			agreeOn(t, n, a, b, fourPairs...)
			n.Command(a, ikev2.RekeyIKE{Peer: "foo"})
			n.Run(time.Minute)
			agreeOn(t, n, a, b, fourPairs...)
			n.Command(a, ikev2.Disconnect{Peer: "foo"})
			n.Run(time.Minute)
			agreeOn(t, n, a, b, fourPairs...)
		})
	}
}

// A pair whose child SA the peer deletes is asked for again, and no other.
func TestSinglePairComesBack(t *testing.T) {
	n, a, b := sides(pairsOf(true, false))
	connectFor(time.Second)(n, a, b)
	agreeOn(t, n, a, b, fourPairs...)
	var gone ikev2.InstallOutbound
	for _, o := range b.Out {
		if o.Local[0] == prefix("10.2.0.0/24")[0] && o.Remote[0] == prefix("10.3.0.0/24")[0] {
			gone = o
		}
	}
	n.speak(t, a, AddrBPublic, wire.ExchangeInformational, 0, 0, &wire.Delete{Protocol: wire.ProtocolESP, SPIs: [][]byte{spiOf(gone.OutboundSPI)}})
	if len(b.Out) != 3 {
		t.Fatalf("B has %q", b.scopes())
	}
	n.Link = nil
	asked := b.asks()
	n.Run(5 * time.Second)
	if !slices.Equal(b.scopes(), fourPairs) || b.asks() != asked+1 {
		t.Errorf("B asks %d times and has %q", b.asks()-asked, b.scopes())
	}
}

// A responder whose policy has several children grants the first that fits and
// says that there is more: the initiator asks for the rest of its one child.
func TestAdditionalTSPossible(t *testing.T) {
	for _, c := range []struct {
		name          string
		local, remote []wire.Selector // B's
	}{
		{"the same networks in one", prefixes("10.104.0.0/24"), prefixes("10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24")},
		{"all networks", prefixes("10.104.0.0/24"), prefixes("0.0.0.0/0")},
		{"all to all", prefixes("0.0.0.0/0"), prefixes("0.0.0.0/0")},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, a, b := sides(func(pa, pb *ikev2.Peer) {
				pa.Children = nil
				for i := 1; i <= 3; i++ {
					pa.Children = append(pa.Children, ikev2.Child{Name: fmt.Sprintf("lan%d", i), Local: prefixes(fmt.Sprintf("10.%d.0.0/24", i)), Remote: prefixes("10.104.0.0/24")})
				}
				pb.Children[0].Local, pb.Children[0].Remote = c.local, c.remote
			})
			connectFor(2*time.Second)(n, a, b)
			want := []string{"lan [10.104.0.0/24] [10.1.0.0/24]", "lan [10.104.0.0/24] [10.2.0.0/24]", "lan [10.104.0.0/24] [10.3.0.0/24]"}
			agreeOn(t, n, a, b, want...)
			for _, spi := range slices.Sorted(maps.Keys(b.Out)) {
				n.Command(b, ikev2.Rekey{SPI: spi})
			}
			n.Run(time.Minute)
			agreeOn(t, n, a, b, want...)
		})
	}
}

// A peer that grants one address at a time, and always says that there is more,
// gets no more than a bounded number of child SAs.
func TestAdditionalTSForever(t *testing.T) {
	p := newPuppet(t, false, func(p *ikev2.Peer) { p.Children[0].Remote = prefix("10.0.0.0/8") })
	p.greet()
	idr := idPayload(AddrA, true)
	grant := func(i int) []wire.Payload {
		host := prefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(i), 1}), 32).String())
		return []wire.Payload{p.espSA(0x10000 + uint32(i)), &wire.TS{Selectors: lanB}, &wire.TS{Responder: true, Selectors: host}, notify(wire.NotifyAdditionalTSPossible)}
	}
	sent := p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, append([]wire.Payload{idr, p.sign("qwerty", idr)}, grant(0)...)...))
	asked := 0
	for ; len(sent) > 0 && asked < 200; asked++ {
		h, ps := p.open(sent[0])
		tsr := wire.FindTS(ps, true)
		if h.Exchange != wire.ExchangeCreateChildSA || tsr == nil {
			break
		}
		// Granted is the first address of what is asked for.
		first := tsr.Selectors[0]
		first.End = first.Start
		answer := append(grant(asked), &wire.Nonce{Data: make([]byte, 32)})
		answer[2] = &wire.TS{Responder: true, Selectors: []wire.Selector{first}}
		sent = p.send(p.seal(wire.ExchangeCreateChildSA, wire.FlagResponse, h.MessageID, answer...))
	}
	if asked == 0 || asked > 70 || len(p.installed) > 70 {
		t.Errorf("asked %d times, %d child SAs", asked, len(p.installed))
	}
}

// crowd is a gateway G with so many peers behind one address, each of them with
// the same initiator SPI, for all draw from the same random bytes.
func crowd(peers int, change func(i int, gateway, peer *ikev2.Peer)) (n *Net, g *Host, hosts []*Host) {
	var cfgG ikev2.Config
	n = New()
	for i := range peers {
		cfgA, cfgB := Configs()
		name := fmt.Sprintf("p%d", i)
		lan := []wire.Selector{wire.SelectorFromPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)}), 32))}
		pa, pb := cfgA.Peers[0], cfgB.Peers[0]
		pa.Name, pa.RemoteID, pa.Children[0].Remote = name, identity("@"+name), lan
		pb.LocalID, pb.Children[0].Local = identity("@"+name), lan
		if change != nil {
			change(i, &pa, &pb)
		}
		cfgG.Peers = append(cfgG.Peers, pa)
		addr := netip.AddrFrom4([4]byte{172, 20, byte(i >> 8), byte(i)}).String()
		hosts = append(hosts, n.Add(name, addr, ikev2.Config{Peers: []ikev2.Peer{pb}}, 9))
		n.Masquerade(addr, AddrBPublic, uint16(10000+i), uint16(30000+i))
	}
	return n, n.Add("G", AddrA, cfgG, 1), hosts
}

// call has a host of a crowd connect.
func (n *Net) call(h *Host) {
	var local netip.Addr
	for a, x := range n.hosts {
		if x == h {
			local = a
		}
	}
	n.Command(h, ikev2.Connect{Peer: "office", Path: ikev2.Path{Local: netip.AddrPortFrom(local, 500), Remote: ToA.Remote}})
}

// Many peers behind one address, with colliding initiator SPIs, are many peers
// to the gateway; and each goes alone.
func TestManyBehindOneNAT(t *testing.T) {
	const peers = 300
	n, g, hosts := crowd(peers, nil)
	for _, h := range hosts {
		n.call(h)
	}
	n.Run(time.Minute) // more than may be half-open from one address come in turns
	faultless(t, n)
	paths := map[netip.AddrPort]string{}
	for _, in := range g.In {
		if other, ok := paths[in.Path.Remote]; ok {
			t.Errorf("%s and %s are at %v", other, in.Peer, in.Path.Remote)
		}
		paths[in.Path.Remote] = in.Peer
	}
	if ike, children := g.Engine.SAs(); ike != peers || children != peers || len(paths) != peers {
		t.Fatalf("%d IKE SAs, %d child SAs, %d paths", ike, children, len(paths))
	}
	for i, h := range hosts {
		if err := heard(h, g); err != nil || len(h.Out) != 1 {
			t.Fatal(err)
		}
		if i%2 == 0 {
			n.Command(h, ikev2.Disconnect{Peer: "office"})
		}
	}
	n.Run(time.Minute)
	faultless(t, n)
	if ike, children := g.Engine.SAs(); ike != peers/2 || children != peers/2 {
		t.Errorf("%d IKE SAs, %d child SAs are left", ike, children)
	}
}

// Two peers with the same inner addresses: the later one is refused in clear
// words, nothing of the earlier one's moves, and its turn comes when that is
// gone.
func TestSameInnerAddresses(t *testing.T) {
	n, g, hosts := crowd(2, func(_ int, a, b *ikev2.Peer) {
		a.Children[0].Remote, b.Children[0].Local = lanB, lanB
	})
	n.call(hosts[0])
	n.Run(time.Second)
	n.call(hosts[1])
	n.Run(time.Second)
	faultless(t, n)
	e, _ := g.Last(ikev2.EventRefused)
	if e.Reason != ikev2.ReasonSelectorConflict || e.Notify != wire.NotifyTSUnacceptable || e.Peer != "p1" || e.Rival != "p0" || e.RivalChild != "lan" ||
		!slices.Equal(e.RemoteTS, lanB) || !slices.Equal(e.RivalTS, lanB) {
		t.Errorf("the gateway says %+v", e)
	}
	if e, _ := hosts[1].Last(ikev2.EventRefusedByPeer); e.Notify != wire.NotifyTSUnacceptable || hosts[1].Has(ikev2.EventDown) > 0 {
		t.Errorf("the peer says %+v", e)
	}
	if len(g.Out) != 1 || len(hosts[1].Out) != 0 {
		t.Fatalf("%q", g.scopes())
	}
	n.Command(hosts[0], ikev2.Disconnect{Peer: "office"})
	n.Run(2 * time.Minute)
	faultless(t, n)
	if len(g.Out) != 1 || len(hosts[1].Out) != 1 {
		t.Errorf("the second peer's turn does not come: %q", g.scopes())
	}
}

// The same where the gateway is the one that asks: what it was granted and
// cannot use it deletes.
func TestSameInnerAddressesAsInitiator(t *testing.T) {
	n, g, hosts := crowd(2, func(_ int, a, b *ikev2.Peer) {
		a.Children[0].Remote, b.Children[0].Local = lanB, lanB
	})
	n.call(hosts[0])
	n.Run(time.Second)
	addr := netip.MustParseAddr("172.20.0.1")
	delete(n.masked, netip.AddrPortFrom(addr, 500)) // a way from outside
	delete(n.masked, netip.AddrPortFrom(addr, 4500))
	n.Command(g, ikev2.Connect{Peer: "p1", Path: ikev2.Path{Local: ToB.Local, Remote: netip.AddrPortFrom(addr, 500)}})
	n.Run(time.Second)
	faultless(t, n)
	e, _ := g.Last(ikev2.EventRefused)
	if e.Reason != ikev2.ReasonSelectorConflict || e.Peer != "p1" || e.Rival != "p0" || e.Kind != ikev2.EventRefused {
		t.Errorf("the gateway says %+v", e)
	}
	if g.Has(ikev2.EventEstablished) != 2 || len(g.Out) != 1 || len(hosts[1].In) != 0 {
		t.Errorf("%d connections, %q, the peer has %d child SAs", g.Has(ikev2.EventEstablished), g.scopes(), len(hosts[1].In))
	}
}

// Which networks of two peers can be told apart: by the longest remote prefix,
// then by the longest local one.
func TestConflicts(t *testing.T) {
	span := func(from, to string) []wire.Selector {
		return []wire.Selector{{EndPort: 65535, Start: netip.MustParseAddr(from), End: netip.MustParseAddr(to)}}
	}
	tcp := func(port uint16, s []wire.Selector) []wire.Selector {
		return []wire.Selector{{Protocol: 6, StartPort: port, EndPort: port, Start: s[0].Start, End: s[0].End}}
	}
	all, one, other := prefix("0.0.0.0/0"), prefix("10.1.0.0/24"), prefix("10.2.0.0/24")
	for _, c := range []struct {
		name            string
		local0, remote0 []wire.Selector
		local1, remote1 []wire.Selector
		conflict        bool
	}{
		{"apart", lanA, one, lanA, other, false},
		{"the same", lanA, one, lanA, one, true},
		{"inside", lanA, prefix("10.1.0.0/16"), lanA, one, false},
		{"everything, twice", lanA, all, lanA, all, true},
		{"everything and something", lanA, all, lanA, one, false},
		{"the same to other networks of ours", prefix("10.103.1.0/24"), one, prefix("10.103.2.0/24"), one, false},
		{"the same to a part of ours", prefix("10.103.0.0/16"), one, lanA, one, false},
		{"one of several", lanA, prefixes("10.8.0.0/24", "10.1.0.0/24"), lanA, prefixes("10.9.0.0/24", "10.1.0.0/24"), true},
		{"ranges across", lanA, span("10.1.0.0", "10.1.0.200"), lanA, span("10.1.0.100", "10.1.1.20"), true},
		{"a range in the prefix around it", lanA, one, lanA, span("10.1.0.1", "10.1.0.254"), true},
		{"a range deep inside a prefix", lanA, prefix("10.1.0.0/16"), lanA, span("10.1.3.1", "10.1.3.9"), false},
		{"a prefix inside a range", lanA, span("10.1.0.1", "10.1.255.254"), lanA, prefix("10.1.7.0/24"), false},
		{"a prefix at the edge of a range", lanA, span("10.1.0.1", "10.1.255.254"), lanA, one, true},
		{"other ports", lanA, tcp(22, one), lanA, tcp(80, one), false},
		{"a port of all", lanA, one, lanA, tcp(80, one), true},
		{"other families", lanA, all, prefix("fd00::/64"), prefix("::/0"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, swapped := range []bool{false, true} {
				n, g, hosts := crowd(2, func(i int, a, b *ikev2.Peer) {
					local, remote := c.local0, c.remote0
					if (i == 1) != swapped {
						local, remote = c.local1, c.remote1
					}
					a.Children[0].Local, a.Children[0].Remote, b.Children[0].Local, b.Children[0].Remote = local, remote, remote, local
				})
				for _, h := range hosts {
					n.call(h)
					n.Run(time.Second)
				}
				faultless(t, n)
				if refused := len(g.Out) == 1; refused != c.conflict {
					t.Errorf("swapped %v: refused %v: %q", swapped, refused, g.scopes())
				}
			}
		})
	}
}
