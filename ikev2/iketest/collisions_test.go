package iketest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// A collision is a case of RFC 7296 sections 2.8 and 2.25, played by two
// engines, X and Y. Its name is the one that the field has for it.
type collision struct {
	name string
	// espX and espY are the sides' proposals; nil is one without a key exchange.
	espX, espY []ikev2.Proposal
	ikeX, ikeY []ikev2.Proposal // nil is the default, which has an additional key exchange
	acts       []act
	holds      []hold
	saw        string // what a message must hold for the case to have happened
	// cut: somebody deletes what is not replaced, so that there may be a moment
	// without a child SA, and what is under way then is lost.
	cut bool
	ups int // how often at most each side begins to use another child SA
}

// act is what a side is told to do after a while.
type act struct {
	at time.Duration
	by byte // 'X' or 'Y'
	do func(n *Net, h *Host)
}

// hold keeps a message, the nth of its kind from that side, until a time.
type hold struct {
	from  byte
	kind  string
	nth   int
	until time.Duration
}

func rekeyChild(n *Net, h *Host) { n.rekey(h, theChild) }
func rekeyIKE(n *Net, h *Host)   { n.rekey(h, theIKE) }

// deleteChild is the end of what a child may carry.
func deleteChild(n *Net, h *Host) {
	n.Command(h, ikev2.Traffic{SPI: h.current("lan"), Out: true, Bytes: 1 << 60})
}

// deleteAll is an operator who takes the tunnel out of the configuration, and
// puts it back.
func deleteAll(n *Net, h *Host) {
	cfg, without := h.cfg, h.cfg
	without.Peers = append([]ikev2.Peer(nil), cfg.Peers...)
	without.Peers[0].Children = nil
	n.Reconfigure(h, without)
	n.Reconfigure(h, cfg)
}

const (
	ms         = time.Millisecond
	ask        = "CREATE_CHILD_SA request"
	answer     = "CREATE_CHILD_SA response"
	followup   = "IKE_FOLLOWUP_KE request"
	informs    = "INFORMATIONAL request"
	failsNow   = "TEMPORARY_FAILURE"
	notFound   = "CHILD_SA_NOT_FOUND"
	otherGroup = "INVALID_KE_PAYLOAD"
)

// A message takes 10 ms. X begins to replace the child at the start.
func collisionCases() []collision {
	x, y := act{0, 'X', rekeyChild}, act{0, 'Y', rekeyChild}
	at := func(d time.Duration, by byte, do func(*Net, *Host)) act { return act{d, by, do} }
	multi := withAddKE(wire.GroupMLKEM768)
	both := []act{x, y}
	p256, p384 := withGroups(wire.GroupECP256, wire.GroupX25519), withGroups(wire.GroupECP384, wire.GroupX25519)
	mixedX := append(withAddKE(wire.GroupMLKEM768), withGroups(wire.GroupX25519)...)
	mixedY := append(withGroups(wire.GroupX25519), withAddKE(wire.GroupMLKEM768)...)
	return []collision{
		{name: "regular", acts: []act{x}, saw: "REKEY_SA", ups: 1},
		{name: "regular_multi_ke", espX: multi, espY: multi, acts: []act{x}, saw: "ADDITIONAL_KEY_EXCHANGE", ups: 1},
		{name: "regular_ke_invalid", espX: p256, espY: withGroups(wire.GroupX25519), acts: []act{x}, saw: otherGroup, ups: 1},
		// Y's own lifetime runs out when it has answered, and X's Delete is not there yet.
		{name: "regular_responder_ignore_soft_expire", acts: []act{x, at(100*ms, 'Y', rekeyChild)}, holds: []hold{{'X', informs, 1, 300 * ms}}, ups: 1},
		{name: "responder_handle_hard_expire", acts: []act{x, at(100*ms, 'Y', deleteChild)}, holds: []hold{{'X', informs, 1, 300 * ms}}, ups: 1},
		{name: "responder_delete", acts: []act{x, at(100*ms, 'Y', deleteAll)}, holds: []hold{{'X', informs, 1, 300 * ms}}, cut: true, ups: 3},
		// Y deletes what it lets X replace, and X hears of that before it has the answer.
		{name: "responder_incorrect_delete", acts: []act{x, at(50*ms, 'Y', deleteChild)}, holds: []hold{{'Y', answer, 1, 300 * ms}}, cut: true, ups: 2},
		{name: "collision", acts: both, ups: 2},
		{name: "collision_multi_ke", espX: multi, espY: multi, acts: both, saw: "ADDITIONAL_KEY_EXCHANGE", ups: 2},
		{name: "collision_mixed", espX: mixedX, espY: mixedY, acts: both, ups: 2},
		{name: "collision_delayed_response", acts: both, holds: []hold{{'Y', answer, 1, 300 * ms}}, ups: 2},
		// What Y has decided for goes too, before X knows of it.
		{name: "collision_delayed_response_delete", acts: append(both, at(150*ms, 'Y', deleteChild)), holds: []hold{{'Y', answer, 1, 300 * ms}}, cut: true, ups: 4},
		{name: "collision_delayed_response_multi_ke", espX: multi, espY: multi, acts: both, holds: []hold{{'Y', answer, 1, 300 * ms}}, ups: 2},
		{name: "collision_delayed_request", acts: both, holds: []hold{{'X', ask, 1, 30 * ms}}, saw: failsNow, ups: 1},
		{name: "collision_delayed_request_more", acts: both, holds: []hold{{'X', ask, 1, 300 * ms}}, saw: notFound, ups: 1},
		{name: "collision_delayed_request_more_delete", acts: append(both, at(100*ms, 'Y', deleteChild)), holds: []hold{{'X', ask, 1, 300 * ms}}, saw: notFound, cut: true, ups: 3},
		{name: "collision_delayed_request_multi_ke", espX: multi, espY: multi, acts: both, holds: []hold{{'X', ask, 1, 300 * ms}}, ups: 1},
		{name: "collision_ke_invalid", espX: p256, espY: p384, acts: both, saw: otherGroup, ups: 2},
		{name: "collision_ke_invalid_delayed_retry", espX: p256, espY: p384, acts: both, holds: []hold{{'X', ask, 2, 50 * ms}}, saw: failsNow, ups: 1},
		{name: "collision_responder_incorrect_delete", acts: append(both, at(50*ms, 'Y', deleteChild)),
			holds: []hold{{'X', answer, 1, 200 * ms}, {'Y', answer, 1, 300 * ms}}, cut: true, ups: 3},
		{name: "collision_delete", acts: []act{x, at(0, 'Y', deleteChild)}, saw: failsNow, cut: true, ups: 2},
		{name: "collision_delete_multi_ke", espX: multi, espY: multi, acts: []act{x, at(25*ms, 'Y', deleteChild)}, holds: []hold{{'X', followup, 1, 100 * ms}}, cut: true, ups: 2},
		{name: "collision_delete_drop_delete", acts: []act{x, at(0, 'Y', deleteChild)}, holds: []hold{{'Y', informs, 1, 300 * ms}}, saw: failsNow, cut: true, ups: 2},
		{name: "collision_delete_drop_rekey", acts: []act{x, at(0, 'Y', deleteChild)}, holds: []hold{{'X', ask, 1, 300 * ms}}, saw: notFound, cut: true, ups: 2},
		{name: "collision_delete_delayed_response", acts: []act{x, at(50*ms, 'Y', deleteAll)}, holds: []hold{{'Y', answer, 1, 300 * ms}}, cut: true, ups: 3},
		{name: "collision_ike_rekey", acts: []act{x, at(0, 'Y', rekeyIKE)}, saw: failsNow, ups: 1},
	}
}

// The same of IKE SAs: the children go on.
func ikeCollisionCases() []collision {
	x, y := act{0, 'X', rekeyIKE}, act{0, 'Y', rekeyIKE}
	both := []act{x, y}
	x25519, p256, p384 := ikeGroups(wire.GroupX25519), ikeGroups(wire.GroupECP256, wire.GroupX25519), ikeGroups(wire.GroupECP384, wire.GroupX25519)
	return []collision{
		{name: "ike_regular", acts: []act{x}, saw: "ADDITIONAL_KEY_EXCHANGE"},
		{name: "ike_regular_ke_invalid", ikeX: p256, ikeY: x25519, acts: []act{x}, saw: otherGroup},
		{name: "ike_regular_responder_ignore_soft_expire", acts: []act{x, {100 * ms, 'Y', rekeyIKE}}, holds: []hold{{'X', informs, 1, 300 * ms}}},
		{name: "ike_delete_timeout", acts: []act{x}, holds: []hold{{'X', informs, 1, 3 * time.Minute}}},
		{name: "ike_collision", acts: both},
		{name: "ike_collision_ke_invalid", ikeX: p256, ikeY: p384, acts: both, saw: otherGroup},
		{name: "ike_collision_ke_invalid_delayed_retry", ikeX: p256, ikeY: p384, acts: both, holds: []hold{{'X', ask, 2, 100 * ms}}, saw: otherGroup},
		{name: "ike_collision_delayed_response", acts: both, holds: []hold{{'Y', answer, 1, 300 * ms}}},
		{name: "ike_collision_delayed_followup", acts: both, holds: []hold{{'X', followup, 1, 300 * ms}}},
		{name: "ike_collision_delayed_request", acts: both, holds: []hold{{'X', ask, 1, 30 * ms}}},
		{name: "ike_collision_delayed_request_more", acts: both, holds: []hold{{'X', ask, 1, 300 * ms}}},
		{name: "ike_collision_dropped_request", acts: both, holds: []hold{{'X', ask, 1, 5 * time.Second}}},
		{name: "ike_collision_child_rekey", acts: []act{x, {0, 'Y', rekeyChild}}, saw: failsNow, ups: 1},
		{name: "ike_collision_child_delete", acts: []act{x, {0, 'Y', deleteChild}}, cut: true, ups: 2},
	}
}

func ikeGroups(groups ...uint16) []ikev2.Proposal {
	isKE := func(t wire.Transform) bool { return t.Type == wire.TransformKE }
	p := without(ikev2.DefaultIKEProposals()[0], isKE)
	for _, g := range groups {
		p = append(p, wire.Transform{Type: wire.TransformKE, ID: g})
	}
	return []ikev2.Proposal{p}
}

// Each case ends with one IKE SA and one child SA, the same at both sides, which
// carries traffic; and where nobody deletes what is in use, every packet of a
// stream in both directions finds its key, and both sides can send all the time.
// Every seed gives another side the lowest nonce.
func TestCollisions(t *testing.T) {
	for _, c := range append(collisionCases(), ikeCollisionCases()...) {
		for _, sides := range []string{"AB", "BA"} {
			t.Run(c.name+"/"+sides, func(t *testing.T) {
				t.Parallel()
				for seed := range uint64(8) {
					c.play(t, seed+1, sides)
				}
			})
		}
	}
}

// These end otherwise.
func TestCollisionEnds(t *testing.T) {
	// Y has lost what X wants to replace, and X asks for another.
	t.Run("responder_lost_sa", func(t *testing.T) {
		n, a, b := joined(t, 1, withGroups(), withGroups())
		n.Link = func(Packet) []time.Duration { return nil }
		n.rekey(a, theChild)
		n.speak(t, b, AddrA, wire.ExchangeCreateChildSA, wire.FlagInitiator|wire.FlagResponse, 0,
			&wire.Notify{Protocol: wire.ProtocolESP, SPI: spiOf(1), NotifyType: wire.NotifyChildSANotFound})
		faultless(t, n)
		if got := n.said(a); got != "CREATE_CHILD_SA request 1: SK{SA Nonce TSi TSr}" || len(a.In) != 0 {
			t.Errorf("%s, %d child SAs", got, len(a.In))
		}
	})
	// Both sides still take on the old child what was on its way, and only for as
	// long as that lasts, also where X's Delete has no answer at first.
	t.Run("delete_timeout", func(t *testing.T) {
		for _, sides := range []string{"AB", "BA"} {
			for _, until := range []time.Duration{0, 3 * time.Second} {
				p := collision{holds: []hold{{'Y', "INFORMATIONAL response", 1, until}}}.stage(t, 1, sides)
				for _, h := range []*Host{p.a, p.b} {
					p.n.ESP(h, "lan", 4500*ms)
				}
				p.n.rekey(p.side('X'), theChild)
				p.n.Run(2 * time.Second)
				if len(p.a.In) != 2 || len(p.b.In) != 2 || len(p.a.Out) != 1 || len(p.b.Out) != 1 {
					t.Errorf("%s: %d and %d child SAs receive", sides, len(p.a.In), len(p.b.In))
				}
				p.n.Run(9 * time.Second)
				settled(t, p.n, p.a, p.b)
				if p.a.Received != 1 || p.b.Received != 1 {
					t.Errorf("%s: %d and %d late packets", sides, p.a.Received, p.b.Received)
				}
			}
		}
	})
	// Y deletes the IKE SA: nothing is left, or B, which wants it, comes again.
	t.Run("collision_ike_delete", func(t *testing.T) {
		for _, sides := range []string{"AB", "BA"} {
			for seed := range uint64(8) {
				p := collision{}.stage(t, seed+1, sides)
				p.n.rekey(p.side('X'), theChild)
				p.n.Command(p.side('Y'), ikev2.Disconnect{Peer: p.side('Y').cfg.Peers[0].Name})
				p.n.Run(3 * time.Minute)
				faultless(t, p.n)
				want := map[string]int{"AB": 0, "BA": 1}[sides]
				if err := Agree(p.a, p.b); err != nil || len(p.a.In) != want {
					t.Fatalf("%s: %d child SAs, want %d: %v\n%s", sides, len(p.a.In), want, err, p.n.Transcript())
				}
			}
		}
	})
}

func (c collision) play(t *testing.T, seed uint64, sides string) {
	t.Helper()
	p := c.stage(t, seed, sides)
	for _, a := range c.acts {
		p.pass(p.start.Add(a.at).Sub(p.n.Now), !c.cut)
		a.do(p.n, p.side(a.by))
	}
	p.pass(10*time.Second, !c.cut)
	p.n.Run(3 * time.Minute)
	settled(t, p.n, p.a, p.b)
	story := p.n.Transcript()
	for _, h := range []*Host{p.a, p.b} {
		if ups := h.Has(ikev2.EventChildUp) - 1; ups > c.ups {
			t.Fatalf("%s used %d other child SAs, want %d at most\n%s", h.Name, ups, c.ups, story)
		}
	}
	if !strings.Contains(story, c.saw) {
		t.Fatalf("no %s\n%s", c.saw, story)
	}
	p.pass(time.Second, true)
	p.n.Run(10 * time.Second)
	settled(t, p.n, p.a, p.b)
	if got := p.a.Received + p.b.Received; got != p.packets || got < 400 {
		t.Fatalf("%d packets of %d arrive\n%s", got, p.packets, p.n.Transcript())
	}
}

// stage is where a case is played.
type stage struct {
	*testing.T
	n     *Net
	a, b  *Host
	sides string // which of A and B is X, and which Y
	start time.Time
	holds []hold
	seen  map[letter]int // the place of a message among those of its kind
	count map[string]int

	packets int // ESP, sent
}

// letter is a message, however often it is sent.
type letter struct {
	from, kind string
	id         uint32
	spi        wire.SPI
}

func (c collision) stage(t *testing.T, seed uint64, sides string) *stage {
	t.Helper()
	esp := map[byte][]ikev2.Proposal{sides[0]: c.espX, sides[1]: c.espY}
	for s := range esp {
		if esp[s] == nil {
			esp[s] = withGroups()
		}
	}
	ike := map[byte][]ikev2.Proposal{sides[0]: c.ikeX, sides[1]: c.ikeY}
	n, a, b := joined(t, seed, esp['A'], esp['B'], func(cfgA, cfgB *ikev2.Config) {
		cfgA.Peers[0].IKE, cfgB.Peers[0].IKE = ike['A'], ike['B']
		cfgA.Peers[0].Children[0].LifeBytes, cfgB.Peers[0].Children[0].LifeBytes = 1<<50, 1<<50
	})
	p := &stage{T: t, n: n, a: a, b: b, sides: sides, start: n.Now, holds: c.holds, seen: map[letter]int{}, count: map[string]int{}}
	n.Link = p.link
	return p
}

func (p *stage) side(s byte) *Host {
	return map[byte]*Host{'A': p.a, 'B': p.b}[p.sides[s-'X']]
}

// link keeps what is to be held; what is sent again of it arrives then, too.
func (p *stage) link(pk Packet) []time.Duration {
	h, _ := wire.ParseHeader(pk.Payload)
	from, kind := p.a, "request"
	if pk.From.Addr() != netip.MustParseAddr(AddrA) {
		from = p.b
	}
	if h.Flags&wire.FlagResponse != 0 {
		kind = "response"
	}
	l := letter{from.Name, fmt.Sprint(h.Exchange, " ", kind), h.MessageID, h.InitiatorSPI}
	if p.seen[l] == 0 {
		p.count[l.from+l.kind]++
		p.seen[l] = p.count[l.from+l.kind]
	}
	for _, w := range p.holds {
		if p.side(w.from) == from && w.kind == l.kind && w.nth == p.seen[l] {
			return []time.Duration{max(soon[0], p.start.Add(w.until).Sub(p.n.Now))}
		}
	}
	return soon
}

// pass lets time pass with packets every 5 ms both ways, quick and slow ones,
// and looks at every step whether both sides could send.
func (p *stage) pass(d time.Duration, sending bool) {
	p.Helper()
	for end := p.n.Now.Add(d); p.n.Now.Before(end); {
		for _, h := range []*Host{p.a, p.b} {
			if sending {
				p.n.ESP(h, "lan", 10*ms)
				p.n.ESP(h, "lan", 2*time.Second)
				p.packets += 2
			}
		}
		p.n.RunUntil(min(5*ms, end.Sub(p.n.Now)), func() bool {
			if sending && (p.a.current("lan") == 0 || p.b.current("lan") == 0) {
				p.Fatalf("a side cannot send\n%s", p.n.Transcript())
			}
			return false
		})
	}
}
