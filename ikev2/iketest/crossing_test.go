package iketest

import (
	"testing"
	"time"

	"culvert/ikev2"
)

// Both sides start at once, and each of the first ten datagrams is quick or
// slow, in all combinations, so that answers and requests overtake each other
// in every order. Nothing is lost: both must keep the same IKE SA long before
// a dead-peer detection could mend it. Two seeds give either side the lower
// SPI.
func TestCrossingStarts(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		for slow := range 1 << 10 {
			cross(t, seed, slow)
		}
	}
}

func cross(t *testing.T, seed uint64, slow int) {
	cfgA, cfgB := Configs()
	n := New()
	n.NAT = natOfB
	a, b := n.Add("A", AddrA, cfgA, 2*seed), n.Add("B", AddrB, cfgB, 2*seed+1)
	n.Link = func(p Packet) []time.Duration {
		if p.Number < 10 && slow>>p.Number&1 == 1 {
			return []time.Duration{300 * time.Millisecond}
		}
		return soon
	}
	n.Command(a, ikev2.Connect{Peer: "foo", Path: ToB})
	n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
	n.Run(20 * time.Second)
	faultless(t, n)
	if err := Agree(a, b); err != nil || len(a.In) != 1 {
		t.Fatalf("seed %d, slow %010b: %d child SAs: %v\n%s", seed, slow, len(a.In), err, n.Transcript())
	}
}
