package iketest

import (
	"fmt"
	"testing"
	"time"

	"culvert/ikev2"
)

// Every life begins with a connection and two child SAs, sees a dead-peer
// detection each way, has a child SA and the IKE SA replaced by either side, is
// deleted by the responder, comes back, and is deleted by the initiator.
// Whatever happens to one datagram, it ends the same.
func TestOneDatagramGoesAstray(t *testing.T) {
	undisturbed := live(t, func(Packet) []time.Duration { return soon })
	t.Logf("a life is %d datagrams", undisturbed)
	fates := map[string][]time.Duration{
		"lost":       nil,
		"twice":      {10 * time.Millisecond, 25 * time.Millisecond},
		"late":       {1300 * time.Millisecond},
		"very late":  {40 * time.Second},
		"late twice": {10 * time.Millisecond, 700 * time.Millisecond},
	}
	for name, fate := range fates {
		for i := range undisturbed {
			t.Run(fmt.Sprintf("%s/%d", name, i), func(t *testing.T) {
				live(t, func(p Packet) []time.Duration {
					if p.Number == i {
						return fate
					}
					return soon
				})
			})
		}
	}
}

var soon = []time.Duration{10 * time.Millisecond}

// live returns how many datagrams it took.
func live(t *testing.T, link func(Packet) []time.Duration) int {
	t.Helper()
	cfgA, cfgB := Configs()
	WithChildren(&cfgA, &cfgB, 1, 2)
	n, a, b := Situation(cfgA, cfgB)
	n.Link = link
	up := func() bool { return len(a.In) == 2 && len(b.In) == 2 && Agree(a, b) == nil }
	down := func() bool { return len(a.In) == 0 && len(b.In) == 0 && a.Engine.Idle() && b.Engine.Idle() }

	n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
	reach(t, n, "connected", time.Minute, up)
	n.Run(2 * time.Minute)
	reach(t, n, "still connected", 0, up)
	for _, h := range []*Host{a, b} {
		n.Command(h, ikev2.Rekey{SPI: h.current("lan1")})
		n.Command(h, ikev2.RekeyIKE{Peer: h.cfg.Peers[0].Name})
		n.Run(2 * time.Minute)
		reach(t, n, "still connected, by other SAs", 0, up)
	}
	if a.Has(ikev2.EventRekeyed) != 2 || a.Has(ikev2.EventChildUp) != 4 || a.Has(ikev2.EventDown) != 0 {
		t.Fatalf("%d IKE SAs replaced, %d child SAs, %d times down\n%s", a.Has(ikev2.EventRekeyed), a.Has(ikev2.EventChildUp), a.Has(ikev2.EventDown), n.Transcript())
	}
	n.Command(a, ikev2.Disconnect{Peer: "foo"})
	reach(t, n, "the responder has deleted", 3*time.Minute, func() bool { return a.Has(ikev2.EventDown) == 1 && b.Has(ikev2.EventDown) >= 1 })
	reach(t, n, "connected again", time.Minute, up)
	n.Command(b, ikev2.Disconnect{Peer: "office"})
	reach(t, n, "disconnected", 3*time.Minute, down)
	faultless(t, n)
	return n.count
}

func reach(t *testing.T, n *Net, what string, within time.Duration, done func() bool) {
	t.Helper()
	if !n.RunUntil(within, done) {
		t.Fatalf("not in %v: %s\n%s", within, what, n.Transcript())
	}
}
