package iketest

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

var collisions = flag.Int("collisions", 4, "how many datagrams of colliding rekeys may go astray")

// rekeyed is one side's wish in a test of rekeying.
type rekeyed int

const (
	nothing rekeyed = iota
	theChild
	theIKE
)

var rekeyNames = []string{"nothing", "child", "ike"}

func (n *Net) rekey(h *Host, what rekeyed) {
	switch what {
	case theChild:
		n.Command(h, ikev2.Rekey{SPI: h.current("lan")})
	case theIKE:
		n.Command(h, ikev2.RekeyIKE{Peer: h.cfg.Peers[0].Name})
	}
}

// current is the inbound SPI of the child that sends.
func (h *Host) current(child string) uint32 {
	if spis := h.sending[child]; len(spis) > 0 {
		return spis[len(spis)-1]
	}
	return 0
}

// withGroups gives a side's ESP proposals these key exchanges; none is without
// perfect forward secrecy.
func withGroups(groups ...uint16) []ikev2.Proposal {
	p := ikev2.Proposal{{Type: wire.TransformEncr, ID: wire.EncrAESGCM16, KeyBits: 128}}
	for _, g := range groups {
		p = append(p, wire.Transform{Type: wire.TransformKE, ID: g})
	}
	return []ikev2.Proposal{append(p, wire.Transform{Type: wire.TransformESN, ID: wire.ESNYes})}
}

// joined is the situation after a connection, with these ESP proposals.
func joined(t *testing.T, seed uint64, espA, espB []ikev2.Proposal, change ...func(cfgA, cfgB *ikev2.Config)) (n *Net, a, b *Host) {
	t.Helper()
	cfgA, cfgB := Configs()
	cfgA.Peers[0].Children[0].ESP, cfgB.Peers[0].Children[0].ESP = espA, espB
	cfgA.Peers[0].Timing.FirstRenewal, cfgB.Peers[0].Timing.FirstRenewal = -1, -1
	for _, f := range change {
		f(&cfgA, &cfgB)
	}
	n = New()
	n.NAT = natOfB
	a, b = n.Add("A", AddrA, cfgA, 2*seed), n.Add("B", AddrB, cfgB, 2*seed+1)
	connectFor(time.Second)(n, a, b)
	if err := Agree(a, b); err != nil || len(a.In) != 1 {
		t.Fatalf("%d child SAs: %v\n%s", len(a.In), err, n.Transcript())
	}
	return n, a, b
}

// settled: there is one pair of SAs, the same on both sides, and nothing else.
func settled(t *testing.T, n *Net, a, b *Host) {
	t.Helper()
	faultless(t, n)
	if err := Agree(a, b); err != nil || len(a.In) != 1 {
		t.Fatalf("%d child SAs: %v\n%s", len(a.In), err, n.Transcript())
	}
	for _, h := range []*Host{a, b} {
		if ike, children := h.Engine.SAs(); ike != 1 || children != 1 {
			t.Fatalf("%s has %d IKE SAs and %d child SAs\n%s", h.Name, ike, children, n.Transcript())
		}
		if down, is := h.Last(ikev2.EventDown); is && down.Reason != ikev2.ReasonReplaced {
			t.Fatalf("%s lost the connection\n%s", h.Name, n.Transcript())
		}
	}
}

// stream has both sides send ESP all the time, and the data paths report.
func stream(n *Net, d time.Duration, hosts ...*Host) {
	for end := n.Now.Add(d); n.Now.Before(end); n.Run(20 * time.Millisecond) {
		for _, h := range hosts {
			n.ESP(h, "lan", 10*time.Millisecond)
			n.ESP(h, "lan", 2*time.Second)
			if n.Now.Sub(New().Now)%(5*time.Second) < 20*time.Millisecond {
				n.Traffic(h)
			}
		}
	}
}

// One side replaces the child or the IKE SA, with and without perfect forward
// secrecy, and no packet finds no key.
func TestRekey(t *testing.T) {
	proposals := map[string][]ikev2.Proposal{
		"plain": withGroups(), "pfs": withGroups(wire.GroupX25519), "default": nil,
	}
	for _, name := range slices.Sorted(maps.Keys(proposals)) {
		for _, what := range []rekeyed{theChild, theIKE} {
			for _, who := range []string{"A", "B"} {
				t.Run(name+"/"+rekeyNames[what]+"/"+who, func(t *testing.T) {
					n, a, b := joined(t, 1, proposals[name], proposals[name])
					spi, ike := a.current("lan"), a.Keys.ID
					n.rekey(map[string]*Host{"A": a, "B": b}[who], what)
					stream(n, 20*time.Second, a, b)
					n.Run(3 * time.Minute)
					settled(t, n, a, b)
					if changed := a.current("lan") != spi; changed != (what == theChild) {
						t.Errorf("the child is another: %v", changed)
					}
					if changed := a.Keys.ID != ike; changed != (what == theIKE) {
						t.Errorf("the IKE SA is another: %v", changed)
					}
				})
			}
		}
	}
}

// Both sides replace something at once, and each of the first datagrams is
// quick, slow or lost, in all combinations, so that all the cases of RFC 7296
// sections 2.8.1, 2.8.2 and 2.25 happen, with either side having the lowest
// nonce. In the end both have the same child SA and the same IKE SA, and on the
// way no packet finds no key.
func TestRekeyCollisions(t *testing.T) {
	depth := *collisions
	for _, atA := range []rekeyed{theChild, theIKE} {
		for _, atB := range []rekeyed{theChild, theIKE} {
			for seed := range uint64(4) {
				t.Run(fmt.Sprintf("%s-%s/%d", rekeyNames[atA], rekeyNames[atB], seed), func(t *testing.T) {
					t.Parallel()
					for fates := range pow3(depth) {
						collide(t, seed+1, atA, atB, fates, depth)
					}
				})
			}
		}
	}
}

func pow3(n int) int {
	if n == 0 {
		return 1
	}
	return 3 * pow3(n-1)
}

func collide(t *testing.T, seed uint64, atA, atB rekeyed, fates, depth int) {
	t.Helper()
	n, a, b := joined(t, seed, withGroups(), withGroups())
	n.Link = astray(n.count, fates, depth)
	n.rekey(a, atA)
	n.rekey(b, atB)
	stream(n, 10*time.Second, a, b)
	n.Run(3 * time.Minute)
	settled(t, n, a, b)
}

// astray gives each of the depth datagrams after the first ones one of three
// fates, a digit of fates each.
func astray(first, fates, depth int) func(Packet) []time.Duration {
	return func(p Packet) []time.Duration {
		i := p.Number - first
		if i < 0 || i >= depth {
			return soon
		}
		return [][]time.Duration{soon, {300 * time.Millisecond}, nil}[fates/pow3(i)%3]
	}
}

// A group that the other side does not take costs a round, also when both
// sides begin at once.
func TestRekeyOtherGroup(t *testing.T) {
	both, one := withGroups(wire.GroupECP256, wire.GroupX25519), withGroups(wire.GroupX25519)
	for seed := range uint64(4) {
		for fates := range pow3(5) {
			n, a, b := joined(t, seed+1, both, one)
			n.Link = astray(n.count, fates, 5)
			n.rekey(a, theChild)
			if seed%2 == 1 {
				n.rekey(b, theChild)
			}
			stream(n, 10*time.Second, a, b)
			n.Run(3 * time.Minute)
			settled(t, n, a, b)
		}
	}
}

// A connection with short lives goes on for ever, with every packet accepted,
// whatever the link does to IKE.
func TestShortLives(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			cfgA, cfgB := Configs()
			for _, p := range []*ikev2.Peer{&cfgA.Peers[0], &cfgB.Peers[0]} {
				p.IKELifetime, p.Children[0].Lifetime = 7*time.Second, 3*time.Second
			}
			n := New()
			n.NAT = natOfB
			a, b := n.Add("A", AddrA, cfgA, 2*seed), n.Add("B", AddrB, cfgB, 2*seed+1)
			connectFor(time.Second)(n, a, b)
			s := &schedule{script: newScript(seed), n: n}
			n.Link = s.link(0.2, 0.2, 400*time.Millisecond)
			stream(n, 5*time.Minute, a, b)
			faultless(t, n)
			for _, h := range []*Host{a, b} {
				if h.Has(ikev2.EventDown) > 0 || h.Has(ikev2.EventRekeyed) < 10 || h.Has(ikev2.EventChildUp) < 30 {
					t.Errorf("%s: %d times down, %d IKE SAs, %d child SAs", h.Name, h.Has(ikev2.EventDown), h.Has(ikev2.EventRekeyed), h.Has(ikev2.EventChildUp))
				}
			}
		})
	}
}

// A child that cannot be replaced is deleted at its end, and so is an IKE SA.
func TestHardExpiry(t *testing.T) {
	cfgA, cfgB := Configs()
	cfgA.Peers[0].Children[0].ESP, cfgB.Peers[0].Children[0].ESP = withGroups(), withGroups(wire.GroupX25519)
	cfgA.Peers[0].Children[0].Lifetime, cfgB.Peers[0].Children[0].Lifetime = -1, 10*time.Second
	n, a, b := Situation(cfgA, cfgB)
	connectFor(time.Minute)(n, a, b)
	if err := Agree(a, b); err != nil || len(a.In) != 1 {
		t.Fatalf("after a minute: %v", err)
	}
	n.Run(12 * time.Second)
	faultless(t, n)
	down, _ := b.Last(ikev2.EventChildDown)
	if len(a.In)+len(b.In) != 0 || down.Reason != ikev2.ReasonExpired {
		t.Errorf("%d and %d child SAs, down for %v\n%s", len(a.In), len(b.In), down.Reason, n.Transcript())
	}
	if refused, ok := b.Last(ikev2.EventRefusedByPeer); !ok || refused.Reason != ikev2.ReasonChildProposal {
		t.Errorf("refused for %v", refused.Reason)
	}
}

// Keys of IKE_AUTH have no key exchange of their own: that the two sides want
// another one, or one of them none, is found within minutes, said once by each
// side, and takes nothing down before the lifetime is over (RFC 7296 section
// 1.2). Where they agree, keys are replaced early by one side, and then in time.
func TestFirstRenewalIsEarly(t *testing.T) {
	plain, x25519, p384 := withGroups(), withGroups(wire.GroupX25519), withGroups(wire.GroupECP384)
	for _, c := range []struct {
		name       string
		espA, espB []ikev2.Proposal
		refused    bool
		renewals   int
	}{
		{"one side wants none", plain, x25519, true, 0},
		{"the other wants none", x25519, plain, true, 0},
		{"other groups", x25519, p384, true, 0},
		{"none", plain, plain, false, 1},
		{"the same", p384, p384, false, 1},
		{"either way", nil, nil, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, a, b := joined(t, 1, c.espA, c.espB, func(cfgA, cfgB *ikev2.Config) {
				cfgA.Peers[0].Timing.FirstRenewal, cfgB.Peers[0].Timing.FirstRenewal = 0, 0
			})
			stream(n, 20*time.Minute, a, b)
			faultless(t, n)
			for _, h := range []*Host{a, b} {
				said := h.Has(ikev2.EventRefused) + h.Has(ikev2.EventRefusedByPeer)
				if want := map[bool]int{true: 2}[c.refused]; said != want || h.Has(ikev2.EventChildUp) != 1+c.renewals || len(h.Out) != 1 {
					t.Errorf("%s: %d refusals, %d child SAs came up, %d send\n%s", h.Name, said, h.Has(ikev2.EventChildUp), len(h.Out), n.Transcript())
				}
			}
			if e, ok := b.Last(ikev2.EventRefusedByPeer); ok != c.refused || ok && (!e.Renewal || e.Reason != ikev2.ReasonChildProposal) {
				t.Errorf("B was told %v: %+v", ok, e)
			}
			if e, ok := b.Last(ikev2.EventRefused); ok != c.refused || ok && (!e.Renewal || len(e.PeerProposals) == 0) {
				t.Errorf("B refused %v: %+v", ok, e)
			}
			if n.Run(50 * time.Minute); !c.refused {
				settled(t, n, a, b)
				if got := a.Has(ikev2.EventChildUp); got != 2+c.renewals {
					t.Errorf("%d child SAs in 70 minutes", got)
				}
			}
		})
	}
}
