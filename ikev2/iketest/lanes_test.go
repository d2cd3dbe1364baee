package iketest

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// withLanes are the two sides with so many lanes each, and B connected to A.
func withLanes(lanesA, lanesB int, change func(a, b *ikev2.Peer)) (n *Net, a, b *Host) {
	cfgA, cfgB := Configs()
	if change != nil {
		change(&cfgA.Peers[0], &cfgB.Peers[0])
	}
	cfgA.Lanes, cfgB.Lanes = lanesA, lanesB
	n, a, b = Situation(cfgA, cfgB)
	connectFor(5*time.Second)(n, a, b)
	return n, a, b
}

// lanes are the lanes of h's child SAs that send, in order.
func (h *Host) lanes() (lanes []int) {
	for _, o := range h.Out {
		lanes = append(lanes, o.Lane)
	}
	slices.Sort(lanes)
	return lanes
}

// haveLanes: both sides have the same child SAs, these of each side's lanes, and
// nobody was troubled.
func haveLanes(t *testing.T, n *Net, a, b *Host, ofA, ofB []int) {
	t.Helper()
	faultless(t, n)
	if err := Agree(a, b); err != nil || !slices.Equal(a.lanes(), ofA) || !slices.Equal(b.lanes(), ofB) {
		t.Fatalf("A has %v, want %v; B has %v, want %v; %v\n%s", a.lanes(), ofA, b.lanes(), ofB, err, n.Transcript())
	}
	for _, h := range []*Host{a, b} {
		if refused := h.Has(ikev2.EventRefusedByPeer) + h.Has(ikev2.EventRefused); refused > 0 {
			t.Errorf("%s reports %d refusals", h.Name, refused)
		}
		for spi, in := range h.In {
			if in.Lane != ikev2.Lane(spi, max(1, h.cfg.Lanes)) {
				t.Errorf("%s: lane %d has SPI %08x", h.Name, in.Lane, spi)
			}
		}
	}
}

// upTo is from 0 to n-1.
func upTo(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

// As many child SAs as the initiator has lanes, and no more than the responder
// grants, spread over each side's lanes; so after rekeys of each by either side,
// of the IKE SA, and when that is made anew.
func TestLanes(t *testing.T) {
	for _, c := range []struct{ b, a, granted int }{
		{2, 2, 2}, {8, 8, 8}, {3, 8, 3}, {8, 5, 5}, {2, 1, 2}, {6, 1, 4}, {1, 6, 1}, {64, 64, 64},
	} {
		t.Run(fmt.Sprintf("%d to %d", c.b, c.a), func(t *testing.T) {
			t.Parallel()
			n, a, b := withLanes(c.a, c.b, nil)
			have := func() {
				t.Helper()
				faultless(t, n)
				if err := Agree(a, b); err != nil || len(a.Out) != c.granted {
					t.Fatalf("A has %v, B has %v: %v\n%s", a.lanes(), b.lanes(), err, n.Transcript())
				}
				for _, h := range []*Host{a, b} {
					most := (c.granted + max(1, h.cfg.Lanes) - 1) / max(1, h.cfg.Lanes)
					for lane, l := range h.lanes() {
						if same := h.lanes(); len(same) > lane+most && same[lane+most] == l {
							t.Fatalf("%s has %v", h.Name, same)
						}
					}
				}
			}
			have()
			asked := b.asks()
			n.Run(5 * time.Minute)
			if b.asks() > asked || a.asks() > 0 {
				t.Errorf("B asks %d times more, A %d times", b.asks()-asked, a.asks())
			}
			for _, h := range []*Host{a, b} {
				for _, spi := range slices.Sorted(maps.Keys(h.Out)) {
					n.Command(h, ikev2.Rekey{SPI: spi})
				}
				n.Run(time.Minute)
				have()
			}
			n.Command(a, ikev2.RekeyIKE{Peer: "foo"})
			n.Run(time.Minute)
			have()
			n.Command(b, ikev2.Connect{Peer: "office", Path: ToA, Anew: true})
			n.Run(time.Minute)
			have()
			n.Command(a, ikev2.Disconnect{Peer: "foo"})
			n.Run(time.Minute)
			have()
			if refused := b.Has(ikev2.EventRefusedByPeer) + a.Has(ikev2.EventRefused); refused > 0 {
				t.Errorf("%d refusals are reported", refused)
			}
		})
	}
}

// Both sides rekey all of their lanes' child SAs at once, over a link that loses
// every third datagram.
func TestLanesRekeyedByBoth(t *testing.T) {
	n, a, b := withLanes(4, 4, nil)
	n.Link = func(p Packet) []time.Duration {
		if p.Number%3 == 0 {
			return nil
		}
		return []time.Duration{10 * time.Millisecond}
	}
	for _, h := range []*Host{a, b} {
		for _, spi := range slices.Sorted(maps.Keys(h.Out)) {
			n.Command(h, ikev2.Rekey{SPI: spi})
		}
	}
	n.Run(2 * time.Minute)
	n.Link = nil
	n.Run(2 * time.Minute)
	haveLanes(t, n, a, b, upTo(4), upTo(4))
}

// A lane whose child SA the peer deletes gets another, the first one's too.
func TestLaneComesBack(t *testing.T) {
	for which := range 3 {
		n, a, b := withLanes(3, 3, nil)
		gone := slices.Sorted(maps.Keys(b.Out))[which]
		n.speak(t, a, AddrBPublic, wire.ExchangeInformational, 0, 0, &wire.Delete{Protocol: wire.ProtocolESP, SPIs: [][]byte{spiOf(b.Out[gone].OutboundSPI)}})
		if len(b.Out) != 2 {
			t.Fatalf("B has the lanes %v", b.lanes())
		}
		n.Link = nil
		n.Run(5 * time.Second)
		if !slices.Equal(b.lanes(), upTo(3)) {
			t.Errorf("B has the lanes %v", b.lanes())
		}
	}
}

// Each part of a tunnel that is divided has its lanes.
func TestLanesOfParts(t *testing.T) {
	n, a, b := withLanes(2, 2, pairsOf(true, true))
	each := []int{0, 0, 0, 0, 1, 1, 1, 1}
	haveLanes(t, n, a, b, each, each)
}

// A tunnel that starts with traffic gets its lanes from the side that has the
// packet.
func TestLanesOfTrap(t *testing.T) {
	n, a, b := withLanes(2, 2, func(a, b *ikev2.Peer) {
		a.Children[0].Start, b.Children[0].Start = ikev2.StartTraffic, ikev2.StartTraffic
	})
	n.Command(a, ikev2.Acquire{Peer: "foo", Child: "lan", Local: prefix("10.103.0.1/32")[0], Remote: prefix("10.104.0.1/32")[0]})
	n.Run(time.Second)
	haveLanes(t, n, a, b, upTo(2), upTo(2))
}

// A peer that does not know of several child SAs for the same traffic is not
// asked for them: it would make one that nobody uses.
func TestLanesUnknownToPeer(t *testing.T) {
	p := newPuppetWith(t, false, func(c *ikev2.Config) { c.Lanes = 4 })
	p.greet()
	idr := idPayload(AddrA, true)
	sent := p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, idr, p.sign("qwerty", idr),
		p.espSA(0x10000), &wire.TS{Selectors: lanB}, &wire.TS{Responder: true, Selectors: lanA}))
	if len(sent) > 0 || len(p.installed) != 1 {
		t.Errorf("%d messages, %d child SAs", len(sent), len(p.installed))
	}
}

// What a peer grants beside the first, but for other traffic or without a word of
// it, is deleted, and not asked for again.
func TestLaneOfAnotherKind(t *testing.T) {
	resource := notify(wire.NotifySAResourceInfo)
	narrower := prefix("10.103.0.0/25")
	for name, answer := range map[string][]wire.Payload{
		"without a word": {&wire.TS{Selectors: lanB}, &wire.TS{Responder: true, Selectors: lanA}},
		"narrower":       {&wire.TS{Selectors: lanB}, &wire.TS{Responder: true, Selectors: narrower}, resource},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPuppetWith(t, false, func(c *ikev2.Config) { c.Lanes = 4 })
			p.greet()
			idr := idPayload(AddrA, true)
			sent := p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, idr, p.sign("qwerty", idr),
				p.espSA(0x10000), &wire.TS{Selectors: lanB}, &wire.TS{Responder: true, Selectors: lanA}, resource))
			if len(sent) != 1 {
				t.Fatalf("B sends %d messages", len(sent))
			}
			h, ps := p.open(sent[0])
			if h.Exchange != wire.ExchangeCreateChildSA || wire.FindNotify(ps, wire.NotifySAResourceInfo) == nil {
				t.Fatalf("B sends %v: %v", h.Exchange, ps)
			}
			sent = p.send(p.seal(wire.ExchangeCreateChildSA, wire.FlagResponse, h.MessageID,
				append([]wire.Payload{p.espSA(0x20000), &wire.Nonce{Data: make([]byte, 32)}}, answer...)...))
			h, ps = p.open(sent[0])
			d, ok := wire.Find[*wire.Delete](ps)
			if h.Exchange != wire.ExchangeInformational || !ok || len(sent) != 1 || len(d.SPIs) != 1 {
				t.Fatalf("B sends %v: %v", h.Exchange, ps)
			}
			if sent = p.deliver(p.path, p.seal(wire.ExchangeInformational, wire.FlagResponse, h.MessageID)); len(sent) > 0 || len(p.installed) != 1 {
				t.Errorf("%d messages, %d child SAs", len(sent), len(p.installed))
			}
		})
	}
}
