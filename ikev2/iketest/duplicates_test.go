package iketest

import (
	"fmt"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// newcomer is a second client with B's identity, which knows nothing of the
// first. initialContact is whether it says so.
func newcomer(t *testing.T, first *puppet, initialContact bool) (p *puppet, answer []wire.Payload) {
	t.Helper()
	p = newPuppet(t, true, nil)
	p.engine, p.now, p.random.next = first.engine, first.now, 99
	p.path.Remote = ikev2.Path(ToB).Remote
	p.hello()
	ps := p.authPayloads()
	if initialContact {
		ps = append(ps, notify(wire.NotifyInitialContact))
	}
	for _, b := range p.deliver(p.path, p.request(wire.ExchangeIKEAuth, ps...)) {
		if m, err := wire.ParseHeader(b); err == nil && m.ResponderSPI == p.spir {
			_, answer = p.open(b)
		}
	}
	return p, answer
}

// Whether a newcomer of the same identity takes the place of the one that is
// up: by policy, and INITIAL_CONTACT (RFC 7296 section 2.4).
func TestDuplicatePolicy(t *testing.T) {
	for _, c := range []struct {
		policy         ikev2.DuplicatePolicy
		initialContact bool
		enters         bool
	}{
		{ikev2.DuplicatesReplace, false, true},
		{ikev2.DuplicatesReplace, true, true},
		{ikev2.DuplicatesKeep, false, false},
		{ikev2.DuplicatesKeep, true, true},
		{ikev2.DuplicatesNever, false, false},
		{ikev2.DuplicatesNever, true, false},
	} {
		t.Run(fmt.Sprintf("policy %d, INITIAL_CONTACT %v", c.policy, c.initialContact), func(t *testing.T) {
			first := newPuppet(t, true, func(p *ikev2.Peer) { p.Duplicates = c.policy })
			first.hello()
			first.send(first.request(wire.ExchangeIKEAuth, first.authPayloads()...))
			p, answer := newcomer(t, first, c.initialContact)
			if entered := p.has(ikev2.EventEstablished); entered != c.enters {
				t.Fatalf("entered %v: %s", entered, names(answer))
			}
			if c.enters {
				if e, ok := p.last(ikev2.EventDown); !ok || e.Reason != ikev2.ReasonReplaced {
					t.Errorf("the old one: %+v", e)
				}
				return
			}
			e, _ := p.last(ikev2.EventRefused)
			if names(answer) != "TEMPORARY_FAILURE" || e.Reason != ikev2.ReasonDuplicate || e.Peer != "foo" || p.has(ikev2.EventDown) {
				t.Errorf("answers %s, reports %+v", names(answer), p.events)
			}
			if n := len(first.deliver(first.path, first.request(wire.ExchangeInformational))); n != 1 {
				t.Error("the first one is not answered any more")
			}
		})
	}
}

// The one that stays is asked at once whether it lives: if it does, it stays
// for good; if not, its place is free in 15 s, and no other silence ends it
// sooner than before.
func TestContested(t *testing.T) {
	for _, lives := range []bool{true, false} {
		for _, policy := range []ikev2.DuplicatePolicy{ikev2.DuplicatesKeep, ikev2.DuplicatesNever} {
			first := newPuppet(t, true, func(p *ikev2.Peer) { p.Duplicates = policy })
			first.hello()
			first.send(first.request(wire.ExchangeIKEAuth, first.authPayloads()...))
			first.wait(5 * time.Second)
			engine := first.engine
			probes := 0
			p := newPuppet(t, true, nil)
			p.engine, p.now, p.random.next = engine, first.now, 99
			p.hello()
			for _, b := range p.deliver(p.path, p.request(wire.ExchangeIKEAuth, p.authPayloads()...)) {
				if m, _ := wire.ParseHeader(b); m.Exchange == wire.ExchangeInformational && m.ResponderSPI == first.spir {
					probes++
				}
			}
			if probes != 1 {
				t.Fatalf("%d probes", probes)
			}
			first.now = p.now
			if lives {
				first.deliver(first.path, first.seal(wire.ExchangeInformational, wire.FlagResponse, 0))
			}
			for range 31 {
				first.wait(500 * time.Millisecond)
			}
			e, down := first.last(ikev2.EventDown)
			if down == lives || down && e.Reason != ikev2.ReasonDead {
				t.Errorf("lives %v, policy %d: down %v %v", lives, policy, down, e.Reason)
			}
			if _, answer := newcomer(t, first, false); (names(answer) == "TEMPORARY_FAILURE") != lives {
				t.Errorf("lives %v, policy %d: the next one gets %s", lives, policy, names(answer))
			}
		}
	}
}

// A peer that restarts comes back under every policy: at once where its
// INITIAL_CONTACT counts, and where it does not as soon as the SA that it lost
// is found dead.
func TestRestartUnderPolicy(t *testing.T) {
	for policy, limit := range map[ikev2.DuplicatePolicy]time.Duration{
		ikev2.DuplicatesReplace: time.Second, ikev2.DuplicatesKeep: time.Second, ikev2.DuplicatesNever: 40 * time.Second,
	} {
		n, a, b := sides(func(pa, _ *ikev2.Peer) { pa.Duplicates = policy })
		connectFor(10*time.Second)(n, a, b)
		n.Restart(b, 77)
		n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
		if !n.RunUntil(limit, func() bool { return len(b.In) == 1 && Agree(a, b) == nil }) {
			t.Errorf("policy %d: not back in %v\n%s", policy, limit, n.Transcript())
		}
		faultless(t, n)
	}
}

// Connections that both sides begin at once are no duplicates.
func TestCrossingStartsUnderPolicy(t *testing.T) {
	for _, policy := range []ikev2.DuplicatePolicy{ikev2.DuplicatesKeep, ikev2.DuplicatesNever} {
		for slow := range 1 << 9 {
			cfgA, cfgB := Configs()
			cfgA.Peers[0].Duplicates, cfgB.Peers[0].Duplicates = policy, policy
			n, a, b := Situation(cfgA, cfgB)
			n.Link = func(p Packet) []time.Duration {
				if p.Number < 9 && slow>>p.Number&1 == 1 {
					return []time.Duration{300 * time.Millisecond}
				}
				return soon
			}
			n.Command(a, ikev2.Connect{Peer: "foo", Path: ToB})
			n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
			n.Run(20 * time.Second)
			faultless(t, n)
			if err := Agree(a, b); err != nil || len(a.In) != 1 {
				t.Fatalf("policy %d, slow %09b: %d child SAs: %v\n%s", policy, slow, len(a.In), err, n.Transcript())
			}
		}
	}
}
