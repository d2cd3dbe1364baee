package iketest

import (
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// What a machine slept counts for the lifetimes of its keys, of whatever side it
// is: they are replaced as soon as it is known that the peer is there, in time and
// once.
func TestSleepCounts(t *testing.T) {
	for name, c := range map[string]struct {
		slept      time.Duration
		child, ike bool // are replaced
	}{
		"a nap":                    {10 * time.Minute, false, false},
		"nearly a child's life":    {59 * time.Minute, true, false},
		"longer than all the keys": {100 * time.Hour, true, true},
	} {
		for _, side := range []string{"A", "B"} {
			t.Run(name+" of "+side, func(t *testing.T) {
				x25519 := withGroups(wire.GroupX25519)
				n, a, b := joined(t, 1, x25519, x25519)
				h := map[string]*Host{"A": a, "B": b}[side]
				child := h.current("lan")
				n.Command(h, ikev2.Slept{For: c.slept})
				n.Run(time.Minute)
				agreed(t, n, a, b)
				if replaced := h.current("lan") != child; replaced != c.child {
					t.Errorf("the child was replaced: %v", replaced)
				}
				if replaced := h.Has(ikev2.EventRekeyed) > 0; replaced != c.ike {
					t.Errorf("the IKE SA was replaced: %v", replaced)
				}
				n.Run(10 * time.Minute)
				agreed(t, n, a, b)
				if downs := h.Has(ikev2.EventDown); downs > 0 || h.Has(ikev2.EventRekeyed) > 1 {
					t.Errorf("%d times down\n%s", downs, n.Transcript())
				}
			})
		}
	}
}
