package iketest

import (
	"testing"
	"time"

	"culvert/ikev2"
)

// TestRoundTrip: an answer's time is taken where it is known what it answers,
// and asking for it is one exchange at a time.
func TestRoundTrip(t *testing.T) {
	cfgA, cfgB := Configs()
	n, a, b := Situation(cfgA, cfgB)
	delay, lost := 20*time.Millisecond, 0
	n.Link = func(Packet) []time.Duration {
		if lost > 0 {
			lost--
			return nil
		}
		return []time.Duration{delay}
	}
	n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
	reach(t, n, "connected", time.Minute, func() bool { return len(b.In) == 1 && len(b.Out) == 1 && len(a.Out) == 1 })
	want := func(rtt time.Duration) {
		t.Helper()
		if got := b.Engine.RoundTrip("office"); got != rtt {
			t.Errorf("round trip %v, want %v", got, rtt)
		}
	}
	want(0) // nothing that says so has been asked
	n.Run(time.Second)
	sent := len(b.Sent)
	measure := func() {
		n.Command(b, ikev2.Measure{Peer: "office"})
		n.Run(5 * time.Second)
	}
	n.Command(b, ikev2.Measure{Peer: "office"})
	n.Command(b, ikev2.Measure{Peer: "office"})
	if asked := len(b.Sent) - sent; asked != 1 {
		t.Errorf("%d requests for two wishes at once", asked)
	}
	n.Run(time.Second)
	want(40 * time.Millisecond)
	delay = 70 * time.Millisecond
	measure()
	want(140 * time.Millisecond)
	delay, lost = 10*time.Millisecond, 1
	measure() // which of two was answered?
	want(140 * time.Millisecond)
	measure()
	want(20 * time.Millisecond)
	if got := a.Engine.RoundTrip("nobody"); got != 0 {
		t.Errorf("of nobody: %v", got)
	}
	if err := a.Engine.Command(n.Now, ikev2.Measure{Peer: "nobody"}); err == nil {
		t.Error("nobody was measured")
	}
}

// TestReveal: who asks late gets the keys that there are, and those that come
// until told otherwise.
func TestReveal(t *testing.T) {
	n, a, b := Situation(Configs())
	n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
	reach(t, n, "connected", time.Minute, func() bool { return len(b.Out) == 1 && len(a.Out) == 1 })
	n.Run(time.Minute)
	known := b.Keys
	b.Keys = ikev2.IKEKeys{}
	n.Command(b, ikev2.Reveal{On: true})
	if b.Keys.ID != known.ID || string(b.Keys.Keys.SKei) != string(known.Keys.SKei) || len(known.Keys.SKei) == 0 {
		t.Errorf("%x is told, want %x", b.Keys.ID, known.ID)
	}
	n.Command(b, ikev2.Reveal{})
	n.Command(b, ikev2.RekeyIKE{Peer: "office"})
	n.Run(time.Minute)
	if b.Keys.ID != known.ID || a.Keys.ID == known.ID {
		t.Errorf("told %x, after %x; the peer has %x", b.Keys.ID, known.ID, a.Keys.ID)
	}
}
