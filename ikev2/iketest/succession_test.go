package iketest

import (
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

func connectAnew(n *Net, h *Host) {
	n.Command(h, ikev2.Connect{Peer: h.peer(), Path: ToA, Anew: true})
}

// B, which is X, makes its connection anew, and whatever is late or comes twice:
// every packet of a stream in both directions finds its key, both sides can send
// all the time, and in the end there is one IKE SA with one child SA.
func TestConnectionsMadeAnew(t *testing.T) {
	const auth, deletes = "IKE_AUTH response", informs
	for _, c := range []collision{
		{name: "at once"},
		{name: "the answer is late", holds: []hold{{'Y', auth, 1, 400 * ms}}},
		{name: "the answer is lost twice", holds: []hold{{'Y', auth, 1, 1500 * ms}}},
		{name: "the Delete is late", holds: []hold{{'X', deletes, 1, 1500 * ms}}},
		{name: "the Delete is later than A waits for it", holds: []hold{{'X', deletes, 1, 6 * time.Second}}},
		{name: "a child SA is being replaced by B", acts: []act{{0, 'X', rekeyChild}}},
		{name: "a child SA is being replaced by A", acts: []act{{0, 'Y', rekeyChild}}},
		{name: "A's replacement of a child SA is late", acts: []act{{0, 'Y', rekeyChild}}, holds: []hold{{'Y', ask, 1, 60 * ms}}},
		{name: "the IKE SA is being replaced by A", acts: []act{{30 * ms, 'Y', rekeyIKE}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.ups = 3
			c.acts = append([]act{{0, 'X', connectAnew}}, c.acts...)
			for seed := range uint64(8) {
				c.play(t, seed+1, "BA")
			}
		})
	}
}

// A does not wait for B's Delete where B comes by another way, or where nobody
// sends it.
func TestConnectionMadeAnewIsUsed(t *testing.T) {
	n, a, b := Situation(Configs())
	connectFor(time.Second)(n, a, b)
	old := a.current("lan")
	n.Link = func(p Packet) []time.Duration {
		if h, _ := wire.ParseHeader(p.Payload); h.Exchange == wire.ExchangeInformational {
			return nil
		}
		return soon
	}
	connectAnew(n, b)
	n.RunUntil(time.Second, func() bool { return b.Has(ikev2.EventDown) == 1 })
	for _, step := range []struct {
		after time.Duration
		anew  bool
	}{{0, false}, {1900 * ms, false}, {200 * ms, true}} {
		n.Run(step.after)
		if anew := a.current("lan") != old; anew != step.anew {
			t.Errorf("%v later A sends on the new child SA: %v", step.after, anew)
		}
	}
	n.Run(time.Minute)
	faultless(t, n)
	if ike, children := a.Engine.SAs(); ike != 1 || children != 1 {
		t.Errorf("%d IKE SAs, %d child SAs\n%s", ike, children, n.Transcript())
	}
}
