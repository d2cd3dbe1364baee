package iketest

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// flow is a packet's own selectors, of one address and UDP port each.
func flow(child, local, remote string) ikev2.Acquire {
	one := func(s string, port uint16) wire.Selector {
		a := netip.MustParseAddr(s)
		return wire.Selector{Protocol: 17, StartPort: port, EndPort: port, Start: a, End: a}
	}
	return ikev2.Acquire{Child: child, Local: one(local, 4711), Remote: one(remote, 53)}
}

// sees has h see a packet that no child SA carries, as a gateway does: the
// engine is told, and where to connect if need be.
func (n *Net) sees(h *Host, a ikev2.Acquire) {
	a.Peer = h.cfg.Peers[0].Name
	n.Command(h, a)
	path := ToA
	if h.Name == "A" {
		path = ToB
	}
	n.Command(h, ikev2.Connect{Peer: a.Peer, Path: path, Once: true})
}

var packetOfB = flow("lan", "10.104.0.7", "10.103.0.9")

func startBy(a, b ikev2.StartMode) func(pa, pb *ikev2.Peer) {
	return func(pa, pb *ikev2.Peer) { pa.Children[0].Start, pb.Children[0].Start = a, b }
}

const lanOfB = "lan [10.104.0.0/24] [10.103.0.0/24]"

// The first packet brings up the IKE SA with its child SA; when that ends, only
// another packet brings it back.
func TestTrap(t *testing.T) {
	n, a, b := sides(startBy(ikev2.StartPeer, ikev2.StartTraffic))
	n.sees(b, packetOfB)
	n.Run(time.Second)
	agreeOn(t, n, a, b, lanOfB)
	if b.asks() > 0 {
		t.Error("the child SA does not come with the IKE SA")
	}
	n.sees(b, packetOfB)
	n.Run(time.Second)
	agreeOn(t, n, a, b, lanOfB)

	var spi uint32
	for _, o := range b.Out {
		spi = o.OutboundSPI
	}
	n.speak(t, a, AddrBPublic, wire.ExchangeInformational, 0, 0, &wire.Delete{Protocol: wire.ProtocolESP, SPIs: [][]byte{spiOf(spi)}})
	n.Link = nil
	n.Run(time.Minute)
	if len(b.Out) > 0 || b.asks() > 0 {
		t.Fatalf("it comes back by itself: %q", b.scopes())
	}
	n.sees(b, packetOfB)
	n.Run(time.Second)
	if !slices.Equal(b.scopes(), []string{lanOfB}) || b.asks() != 1 {
		t.Errorf("B asks %d times and has %q", b.asks(), b.scopes())
	}
	faultless(t, n)

	n.Command(a, ikev2.Disconnect{Peer: "foo"})
	n.Run(5 * time.Minute)
	if ike, _ := b.Engine.SAs(); ike != 0 || b.Has(ikev2.EventRetrying) > 0 {
		t.Errorf("%d IKE SAs, %d retries", ike, b.Has(ikev2.EventRetrying))
	}
	n.sees(b, packetOfB)
	n.Run(time.Second)
	agreeOn(t, n, a, b, lanOfB)
}

// A child that starts with traffic waits beside one that starts with the IKE SA,
// on either side, and several packets make one child SA.
func TestTrapOnLivingSA(t *testing.T) {
	for _, who := range []string{"A", "B"} {
		t.Run(who, func(t *testing.T) {
			cfgA, cfgB := Configs()
			WithChildren(&cfgA, &cfgB, 1, 2)
			cfgA.Peers[0].Children[1].Start, cfgB.Peers[0].Children[1].Start = ikev2.StartTraffic, ikev2.StartTraffic
			n, a, b := Situation(cfgA, cfgB)
			connectFor(time.Minute)(n, a, b)
			agreeOn(t, n, a, b, "lan1 [10.1.1.0/24] [10.1.0.0/24]")
			h, p := b, flow("lan2", "10.2.1.7", "10.2.0.9")
			if who == "A" {
				h, p = a, flow("lan2", "10.2.0.9", "10.2.1.7")
			}
			for range 5 {
				n.sees(h, p)
				n.Run(3 * time.Millisecond)
			}
			n.Run(time.Second)
			agreeOn(t, n, a, b, "lan1 [10.1.1.0/24] [10.1.0.0/24]", "lan2 [10.2.1.0/24] [10.2.0.0/24]")
			if h.asks() != 1 {
				t.Errorf("%s asks %d times", who, h.asks())
			}
		})
	}
}

// someLate delays those of the datagrams from the first on whose bit is set.
func someLate(first, slow int, by time.Duration) func(Packet) []time.Duration {
	return func(p Packet) []time.Duration {
		if i := p.Number - first; slow>>i&1 == 1 {
			return []time.Duration{by}
		}
		return soon
	}
}

// trapsCross has packets for lan2 on both sides of an IKE SA that is up.
func trapsCross(seed uint64, slow int, by time.Duration) (n *Net, a, b *Host) {
	cfgA, cfgB := Configs()
	WithChildren(&cfgA, &cfgB, 1, 2)
	cfgA.Peers[0].Children[1].Start, cfgB.Peers[0].Children[1].Start = ikev2.StartTraffic, ikev2.StartTraffic
	n = New()
	n.NAT = natOfB
	a, b = n.Add("A", AddrA, cfgA, 2*seed), n.Add("B", AddrB, cfgB, 2*seed+1)
	connectFor(time.Second)(n, a, b)
	n.Link = someLate(n.count, slow, by)
	n.sees(a, flow("lan2", "10.2.0.9", "10.2.1.7"))
	n.sees(b, flow("lan2", "10.2.1.7", "10.2.0.9"))
	return n, a, b
}

// Packets on both sides at once make one child SA, whatever overtakes what.
func TestTrapsCross(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		for slow := range 1 << 8 {
			cfgA, cfgB := Configs()
			startBy(ikev2.StartTraffic, ikev2.StartTraffic)(&cfgA.Peers[0], &cfgB.Peers[0])
			n := New()
			n.NAT = natOfB
			a, b := n.Add("A", AddrA, cfgA, 2*seed), n.Add("B", AddrB, cfgB, 2*seed+1)
			n.Link = someLate(n.count, slow, 300*time.Millisecond)
			n.sees(a, flow("lan", "10.103.0.9", "10.104.0.7"))
			n.sees(b, packetOfB)
			n.Run(30 * time.Second)
			if err := Agree(a, b); err != nil || len(b.Out) != 1 {
				t.Fatalf("seed %d, slow %08b: %v %q\n%s", seed, slow, err, b.scopes(), n.Transcript())
			}
			faultless(t, n)
		}
	}
}

// The same on an IKE SA that is up.
func TestTrapsCrossOnLivingSA(t *testing.T) {
	for seed := range uint64(4) {
		for slow := range 1 << 6 {
			n, a, b := trapsCross(seed, slow, 300*time.Millisecond)
			n.Run(20 * time.Second)
			if err := Agree(a, b); err != nil || len(b.Out) != 2 {
				t.Fatalf("seed %d, slow %06b: %v %q\n%s", seed, slow, err, b.scopes(), n.Transcript())
			}
			faultless(t, n)
		}
	}
}

// The same while one of the two is replaced: its successor is as redundant as it
// was.
func TestTrapsCrossAndRekey(t *testing.T) {
	for seed := range uint64(8) {
		for slow := range 1 << 7 {
			n, a, b := trapsCross(seed, slow, 700*time.Millisecond)
			n.RunUntil(5*time.Second, func() bool { return b.current("lan2") != 0 })
			n.Command(b, ikev2.Rekey{SPI: b.current("lan2")})
			n.Run(time.Minute)
			if err := Agree(a, b); err != nil || len(b.Out) != 2 {
				t.Fatalf("seed %d, slow %07b: %v %q\n%s", seed, slow, err, b.scopes(), n.Transcript())
			}
			faultless(t, n)
		}
	}
}

// Where one pair of selectors goes into a child SA, the packet says which, and
// the next packet of another pair gets one too.
func TestTrapSinglePair(t *testing.T) {
	for _, who := range []string{"A", "B", "both"} {
		t.Run(who, func(t *testing.T) {
			n, a, b := sides(func(pa, pb *ikev2.Peer) {
				pairsOf(who != "B", who != "A")(pa, pb)
				pb.Children[0].Start = ikev2.StartTraffic
			})
			n.sees(b, flow("lan", "10.2.0.1", "10.3.0.1"))
			n.Run(time.Second)
			agreeOn(t, n, a, b, fourPairs[2])
			n.sees(b, flow("lan", "10.1.0.1", "10.4.0.1"))
			n.Run(time.Second)
			agreeOn(t, n, a, b, fourPairs[1], fourPairs[2])
			n.sees(b, flow("lan", "10.1.0.99", "10.4.0.99"))
			n.Run(time.Second)
			agreeOn(t, n, a, b, fourPairs[1], fourPairs[2])
		})
	}
}

// A responder with several children grants the one that the packet lies in, not
// the first that fits (RFC 7296 section 2.9).
func TestTrapFindsItsChild(t *testing.T) {
	n, a, b := sides(func(pa, pb *ikev2.Peer) {
		pa.Children = []ikev2.Child{{Name: "one", Local: prefix("10.1.0.0/24"), Remote: lanB}, {Name: "two", Local: prefix("10.2.0.0/24"), Remote: lanB}}
		pb.Children[0].Remote, pb.Children[0].Start = prefixes("10.1.0.0/24", "10.2.0.0/24"), ikev2.StartTraffic
	})
	for _, to := range []string{"10.2.0.9", "10.1.0.9"} {
		n.sees(b, flow("lan", "10.104.0.7", to))
		n.Run(time.Second)
		if got := len(b.Out); got == 1 && b.scopes()[0] != "lan [10.104.0.0/24] [10.2.0.0/24]" {
			t.Errorf("granted %q", b.scopes())
		}
	}
	agreeOn(t, n, a, b, "lan [10.104.0.0/24] [10.1.0.0/24]", "lan [10.104.0.0/24] [10.2.0.0/24]")
}

// A child that only the peer starts is never asked for, and answered.
func TestStartPeer(t *testing.T) {
	n, a, b := sides(func(pa, pb *ikev2.Peer) {
		startBy(ikev2.StartTraffic, ikev2.StartNow)(pa, pb)
		pb.Children = append(pb.Children, ikev2.Child{Name: "never", Local: prefix("10.9.0.0/24"), Remote: prefix("10.8.0.0/24"), Start: ikev2.StartPeer})
	})
	connectFor(2*time.Minute)(n, a, b)
	agreeOn(t, n, a, b, lanOfB)
	if b.asks() > 0 {
		t.Errorf("B asks %d times", b.asks())
	}
	n, a, b = sides(startBy(ikev2.StartTraffic, ikev2.StartPeer))
	n.sees(a, flow("lan", "10.103.0.9", "10.104.0.7"))
	n.Run(time.Second)
	agreeOn(t, n, a, b, lanOfB)
}

// The request names the packet first, then the policy (RFC 7296 section 2.9).
func TestTrapNamesThePacketFirst(t *testing.T) {
	p := newPuppet(t, false, func(p *ikev2.Peer) { p.Children[0].Start = ikev2.StartTraffic })
	a := packetOfB
	a.Peer = "office"
	if err := p.engine.Command(p.now, a); err != nil {
		t.Fatal(err)
	}
	_, ps := p.open(p.greet())
	tsi, tsr := wire.FindTS(ps, false), wire.FindTS(ps, true)
	if !slices.Equal(tsi.Selectors, append([]wire.Selector{a.Local}, lanB...)) || !slices.Equal(tsr.Selectors, append([]wire.Selector{a.Remote}, lanA...)) {
		t.Errorf("asks for %v and %v", tsi.Selectors, tsr.Selectors)
	}
	// What is granted without the packet is of no use and deleted.
	idr := idPayload(AddrA, true)
	part := []wire.Payload{idr, p.sign("qwerty", idr), p.espSA(0xabcd0001), &wire.TS{Selectors: prefix("10.104.0.128/25")}, &wire.TS{Responder: true, Selectors: lanA}}
	sent := p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, part...))
	if len(sent) != 1 || len(p.installed) > 0 {
		t.Fatalf("%d messages, %d child SAs", len(sent), len(p.installed))
	}
	if _, ps := p.open(sent[0]); names(ps) != "D" {
		t.Errorf("says %s", names(ps))
	}
}

// A refused packet's child is asked for again by a later packet, not by one at
// once, and not without one.
func TestTrapRefused(t *testing.T) {
	n, a, b := sides(func(pa, pb *ikev2.Peer) {
		pb.Children = append(pb.Children, ikev2.Child{Name: "odd", Local: prefix("10.9.0.0/24"), Remote: prefix("10.8.0.0/24"), Start: ikev2.StartTraffic})
	})
	connectFor(time.Second)(n, a, b)
	odd := flow("odd", "10.9.0.1", "10.8.0.1")
	for range 100 {
		n.sees(b, odd)
		n.Run(100 * time.Millisecond)
	}
	if asked := b.asks(); asked < 3 || asked > 6 {
		t.Errorf("B asks %d times in 10 s", asked)
	}
	asked := b.asks()
	n.Run(10 * time.Minute)
	if b.asks() != asked || a.Has(ikev2.EventRefused) != asked {
		t.Errorf("B asks %d times without a packet; A refused %d", b.asks()-asked, a.Has(ikev2.EventRefused))
	}
	faultless(t, n)
}

// A peer that is not there is tried for once by a packet, and not again for
// every packet.
func TestTrapNobodyThere(t *testing.T) {
	n, _, b := sides(startBy(ikev2.StartPeer, ikev2.StartTraffic))
	n.Link = func(Packet) []time.Duration { return nil }
	n.sees(b, packetOfB)
	n.Run(5 * time.Minute)
	if b.Has(ikev2.EventGaveUp) != 1 || b.Has(ikev2.EventConnecting) != 1 {
		t.Errorf("gave up %d of %d", b.Has(ikev2.EventGaveUp), b.Has(ikev2.EventConnecting))
	}
	for range 1000 {
		n.sees(b, packetOfB)
		n.Run(time.Second)
	}
	if tries := b.Has(ikev2.EventConnecting); tries < 10 || tries > 35 {
		t.Errorf("%d attempts in 1000 s", tries)
	}
	faultless(t, n)
}

// Without a child that starts with the IKE SA, IKE_AUTH has none where the
// responder said that it takes that, and else the first that is not the peer's
// to start (RFC 6023).
func TestChildless(t *testing.T) {
	for _, supported := range []bool{false, true} {
		p := newPuppet(t, false, func(p *ikev2.Peer) {
			p.Children[0].Start = ikev2.StartTraffic
			p.Children = append([]ikev2.Child{{Name: "theirs", Local: prefix("10.7.0.0/24"), Remote: lanA, Start: ikev2.StartPeer}}, p.Children...)
		})
		p.called()
		if supported {
			p.initResp = p.initMessage(append(p.initPayloads(), notify(wire.NotifyChildlessIKEv2Supported))...)
		}
		sent := p.send(p.initResp)
		p.float()
		_, ps := p.open(sent[0])
		tsi := wire.FindTS(ps, false)
		if (tsi == nil) != supported || tsi != nil && !slices.Equal(tsi.Selectors, lanB) {
			t.Errorf("childless %v: IKE_AUTH has %s", supported, names(ps))
		}
		idr := idPayload(AddrA, true)
		answer := []wire.Payload{idr, p.sign("qwerty", idr)}
		if !supported {
			answer = append(answer, p.childPayloads(0xabcd0001)...)
		}
		if more := p.deliver(p.path, p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, answer...)); len(more) > 0 || !p.has(ikev2.EventEstablished) {
			t.Errorf("childless %v: %d messages more, %v", supported, len(more), p.events)
		}
	}
}

// What the command cannot mean is an error and changes nothing.
func TestAcquireErrors(t *testing.T) {
	n, _, b := sides(startBy(ikev2.StartPeer, ikev2.StartTraffic))
	for _, a := range []ikev2.Acquire{flow("nobody", "10.104.0.7", "10.103.0.9"), flow("lan", "10.104.0.7", "10.99.0.9"), flow("lan", "10.99.0.7", "10.103.0.9"), {Child: "lan"}} {
		a.Peer = "office"
		if err := b.Engine.Command(n.Now, a); err == nil {
			t.Errorf("%+v is taken", a)
		}
	}
	bad := packetOfB
	if bad.Peer = "nobody"; b.Engine.Command(n.Now, bad) == nil {
		t.Error("a packet for nobody is taken")
	}
	if _, waiting := b.Engine.Deadline(); waiting {
		t.Error("something waits")
	}
}
