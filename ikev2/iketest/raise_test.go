package iketest

import (
	"testing"
	"time"

	"culvert/ikev2"
)

const (
	lan1OfB = "lan1 [10.1.1.0/24] [10.1.0.0/24]"
	lan2OfB = "lan2 [10.2.1.0/24] [10.2.0.0/24]"
)

// TestLowered: a child that the operator wants down ends and stays down, though it
// starts with the IKE SA, over a rekey of that and another one, until it is raised.
// The others stay as they are.
func TestLowered(t *testing.T) {
	cfgA, cfgB := Configs()
	WithChildren(&cfgA, &cfgB, 1, 2)
	n, a, b := Situation(cfgA, cfgB)
	connectFor(time.Minute)(n, a, b)
	agreeOn(t, n, a, b, lan1OfB, lan2OfB)
	n.Command(b, ikev2.Lower{Peer: "office", Child: "lan1"})
	n.Run(time.Minute)
	agreeOn(t, n, a, b, lan2OfB)
	if e, ok := b.Last(ikev2.EventChildDown); !ok || e.Reason != ikev2.ReasonDisconnect || e.Child != "lan1" {
		t.Errorf("B says %+v", e)
	}
	if up, said := b.Engine.Said("office", "lan1"); up || !said {
		t.Errorf("said %v, %v", up, said)
	}
	if _, said := b.Engine.Said("office", "lan2"); said {
		t.Error("of another child something was said")
	}
	b.Engine.Command(n.Now, flowOf("office", flow("lan1", "10.1.1.7", "10.1.0.9")))
	n.Command(b, ikev2.RekeyIKE{Peer: "office"})
	n.Run(time.Minute)
	agreeOn(t, n, a, b, lan2OfB)
	n.Command(b, ikev2.Disconnect{Peer: "office"})
	n.Run(time.Minute)
	n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
	n.Run(time.Minute)
	agreeOn(t, n, a, b, lan2OfB)

	n.Command(b, ikev2.Raise{Peer: "office", Child: "lan1"})
	n.Run(time.Second)
	agreeOn(t, n, a, b, lan1OfB, lan2OfB)
	n.Command(b, ikev2.Raise{Peer: "office", Child: "lan1"})
	n.Run(time.Second)
	agreeOn(t, n, a, b, lan1OfB, lan2OfB)

	// The peer may bring up what we take down.
	n.Command(a, ikev2.Lower{Peer: "foo", Child: "lan2"})
	n.Run(time.Minute)
	agreeOn(t, n, a, b, lan1OfB, lan2OfB)

	for _, c := range []ikev2.Command{ikev2.Raise{Peer: "office", Child: "lan9"}, ikev2.Lower{Peer: "nobody", Child: "lan1"}} {
		if err := b.Engine.Command(n.Now, c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

func flowOf(peer string, a ikev2.Acquire) ikev2.Acquire {
	a.Peer = peer
	return a
}

// TestLoweredOnItsWay: a child whose answer is still to come ends when it is here,
// and so does the one that replaces it.
func TestLoweredOnItsWay(t *testing.T) {
	for name, begin := range map[string]func(n *Net, a, b *Host){
		"new":             func(n *Net, _, b *Host) { n.Command(b, ikev2.Raise{Peer: "office", Child: "lan1"}) },
		"rekeyed by us":   func(n *Net, _, b *Host) { n.Command(b, ikev2.Rekey{SPI: b.current("lan1")}) },
		"rekeyed by peer": func(n *Net, a, _ *Host) { n.Command(a, ikev2.Rekey{SPI: a.current("lan1")}) },
	} {
		t.Run(name, func(t *testing.T) {
			for delay := range 6 {
				cfgA, cfgB := Configs()
				WithChildren(&cfgA, &cfgB, 1, 2)
				if name == "new" {
					cfgA.Peers[0].Children[0].Start, cfgB.Peers[0].Children[0].Start = ikev2.StartTraffic, ikev2.StartTraffic
				}
				cfgA.Peers[0].Children[0].Start = ikev2.StartTraffic
				n, a, b := Situation(cfgA, cfgB)
				connectFor(time.Minute)(n, a, b)
				begin(n, a, b)
				n.Run(time.Duration(delay) * 5 * time.Millisecond)
				n.Command(b, ikev2.Lower{Peer: "office", Child: "lan1"})
				n.Run(time.Minute)
				agreeOn(t, n, a, b, lan2OfB)
			}
		})
	}
}

// TestRaised: a child that waits for the peer comes up and stays up, at once or with
// the next IKE SA, on the side that the connection came to as well.
func TestRaised(t *testing.T) {
	for _, who := range []string{"A", "B"} {
		for _, before := range []bool{false, true} {
			cfgA, cfgB := Configs()
			WithChildren(&cfgA, &cfgB, 1, 2)
			cfgA.Peers[0].Children[1].Start, cfgB.Peers[0].Children[1].Start = ikev2.StartPeer, ikev2.StartPeer
			n, a, b := Situation(cfgA, cfgB)
			h := map[string]*Host{"A": a, "B": b}[who]
			raise := func() { n.Command(h, ikev2.Raise{Peer: h.peer(), Child: "lan2"}) }
			if before {
				raise()
			}
			connectFor(time.Minute)(n, a, b)
			if !before {
				agreeOn(t, n, a, b, lan1OfB)
				raise()
				n.Run(time.Second)
			}
			agreeOn(t, n, a, b, lan1OfB, lan2OfB)
			n.Command(b, ikev2.Disconnect{Peer: "office"})
			n.Run(time.Minute)
			n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
			n.Run(time.Minute)
			agreeOn(t, n, a, b, lan1OfB, lan2OfB)
		}
	}
}
