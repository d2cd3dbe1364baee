package iketest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// The keys that tickets are sealed with, of a gateway each.
var keyA, keyB = bytes.Repeat([]byte{0xa}, 32), bytes.Repeat([]byte{0xb}, 32)

// resumable is the situation with tickets, changed by change.
func resumable(change ...func(a, b *ikev2.Config)) (*Net, *Host, *Host) {
	cfgA, cfgB := Configs()
	cfgA.Resume.Key, cfgB.Resume.Key = keyA, keyB
	for _, f := range change {
		f(&cfgA, &cfgB)
	}
	return Situation(cfgA, cfgB)
}

// opened counts the first requests that h has sent, by their exchange, without
// their repetitions.
func opened(h *Host) map[wire.ExchangeType]int {
	kinds, seen := map[wire.ExchangeType]int{}, map[string]bool{}
	for _, o := range h.Sent {
		m, err := wire.ParseHeader(o.Payload)
		first := m.Exchange == wire.ExchangeIKESAInit || m.Exchange == wire.ExchangeIKESessionResume
		if err == nil && first && m.Flags&wire.FlagResponse == 0 && !seen[string(o.Payload)] {
			seen[string(o.Payload)] = true
			kinds[m.Exchange]++
		}
	}
	return kinds
}

// agreed wants both sides to have the one tunnel and nothing more.
func agreed(t *testing.T, n *Net, a, b *Host) {
	t.Helper()
	faultless(t, n)
	if err := Agree(a, b); err != nil || len(a.In) != 1 {
		t.Fatalf("%d child SAs: %v\n%s", len(a.In), err, n.Transcript())
	}
	for _, h := range []*Host{a, b} {
		if ike, children := h.Engine.SAs(); ike != 1 || children != 1 {
			t.Errorf("%s has %d IKE SAs and %d child SAs\n%s", h.Name, ike, children, n.Transcript())
		}
	}
}

// resumed wants the last connection of both to come of a ticket, or of none.
func resumed(t *testing.T, n *Net, want bool, hosts ...*Host) {
	t.Helper()
	for _, h := range hosts {
		if e, ok := h.Last(ikev2.EventEstablished); !ok || e.Resumed != want {
			t.Fatalf("%s: established %v, resumed %v, want %v\n%s", h.Name, ok, e.Resumed, want, n.Transcript())
		}
	}
}

// A responder that has crashed takes its peer back without a key exchange; the
// tunnel that it makes has keys of its own, and the next ticket is good too.
func TestResumption(t *testing.T) {
	n, a, b := resumable()
	connectFor(time.Second)(n, a, b)
	for i := range 3 {
		old := b.Keys
		n.Restart(a, uint64(10+i))
		at := n.Now
		n.ESP(b, "lan", time.Millisecond)
		if !n.RunUntil(time.Minute, func() bool { return len(a.Out) == 1 }) {
			t.Fatalf("no tunnel\n%s", n.Transcript())
		}
		n.Run(time.Second)
		agreed(t, n, a, b)
		resumed(t, n, true, a, b)
		if got := opened(b); got[wire.ExchangeIKESAInit] != 1 || got[wire.ExchangeIKESessionResume] != i+1 {
			t.Errorf("first requests %v after restart %d", got, i+1)
		}
		if bytes.Equal(old.Keys.SKd, b.Keys.Keys.SKd) || b.Keys.Suite != old.Suite {
			t.Error("the keys are the same, or the suite is not")
		}
		// The hint, the question, its answer, and two exchanges of 20 ms.
		if took := n.Now.Sub(at) - time.Second; took > 100*time.Millisecond {
			t.Errorf("the tunnel was back after %v", took)
		}
	}
	if b.Has(ikev2.EventGaveUp) > 0 {
		t.Error("the peer was waited for")
	}
}

// A peer that has nothing to send finds out by its liveness check: at once by the
// token, soon by what is another's token, for which it calls anew beside the SA,
// and without tokens when the check is given up.
func TestCrashDetection(t *testing.T) {
	for name, c := range map[string]struct {
		key, restarted []byte
		least, most    time.Duration
		down           ikev2.Reason
	}{
		"token":       {keyA, keyA, 0, 31 * time.Second, ikev2.ReasonRestarted},
		"another key": {keyA, keyB, 32 * time.Second, 34 * time.Second, ikev2.ReasonReplaced},
		"no token":    {nil, nil, 100 * time.Second, 3 * time.Minute, ikev2.ReasonDead},
	} {
		t.Run(name, func(t *testing.T) {
			n, a, b := resumable(func(a, _ *ikev2.Config) { a.Resume.Key = c.key })
			connectFor(time.Second)(n, a, b)
			a.cfg.Resume.Key = c.restarted
			n.Restart(a, 3)
			at := n.Now
			n.RunUntil(5*time.Minute, func() bool { return len(a.Out) == 1 })
			took := n.Now.Sub(at)
			n.Run(2 * time.Minute) // for the Delete of an SA that only B has
			agreed(t, n, a, b)
			resumed(t, n, c.down == ikev2.ReasonRestarted, a, b)
			if took < c.least || took > c.most {
				t.Errorf("the tunnel was back after %v", took)
			}
			if e, _ := b.Last(ikev2.EventDown); e.Reason != c.down || b.Has(ikev2.EventDown) != 1 {
				t.Errorf("down because %v", e.Reason)
			}
		})
	}
}

// Who says falsely that the peer has lost the SA gains a call beside it at most, and
// that only while the peer does not answer. The SA stays, or gives way to the new
// one.
func TestLossForged(t *testing.T) {
	for name, lossy := range map[string]bool{"the peer answers": false, "the peer answers late": true} {
		t.Run(name, func(t *testing.T) {
			n, a, b := resumable()
			connectFor(time.Second)(n, a, b)
			h, err := wire.ParseHeader(b.Sent[len(b.Sent)-1].Payload)
			if err != nil {
				t.Fatal(err)
			}
			forged := wire.Message{Header: h, Payloads: []wire.Payload{invalidIKESPI()}}
			forged.Exchange, forged.Flags = wire.ExchangeInformational, wire.FlagResponse
			n.Link = func(p Packet) []time.Duration {
				if !lossy || withoutHints(p) == nil {
					return []time.Duration{time.Millisecond}
				}
				return nil
			}
			for range 5 { // the first makes B ask
				n.Inject(Packet{From: netip.MustParseAddrPort(AddrA + ":4500"), To: netip.MustParseAddrPort(AddrBPublic + ":4500"), Encap: true, Payload: forged.Append(nil)})
				n.Run(time.Second)
			}
			n.Link = nil
			n.Run(2 * time.Minute)
			agreed(t, n, a, b)
			if called := b.Has(ikev2.EventConnecting) - 1; called > 0 != lossy {
				t.Errorf("called %d times\n%s", called, n.Transcript())
			}
			for _, h := range []*Host{a, b} {
				if e, down := h.Last(ikev2.EventDown); down && (!lossy || e.Reason != ikev2.ReasonReplaced) {
					t.Errorf("%s: down because %v\n%s", h.Name, e.Reason, n.Transcript())
				}
			}
		})
	}
}

// withoutHints is a network that loses what is said in the clear of an SA, so that
// only its silence tells of a peer's loss.
func withoutHints(p Packet) []time.Duration {
	h, err := wire.ParseHeader(p.Payload)
	if err == nil && h.Exchange == wire.ExchangeInformational && h.NextPayload == wire.PayloadNotify {
		return nil
	}
	return []time.Duration{10 * time.Millisecond}
}

// What makes a ticket worthless; the full exchange follows at once.
func TestTicketRefused(t *testing.T) {
	wait := func(*Net, *Host) {}
	unhinted := func(n *Net, _ *Host) { n.Link = withoutHints }
	for name, c := range map[string]struct {
		change func(a *ikev2.Config) // what A restarts with
		before func(*Net, *Host)
	}{
		"other key":    {func(a *ikev2.Config) { a.Resume.Key = keyB }, unhinted},
		"no key":       {func(a *ikev2.Config) { a.Resume.Key = nil }, wait},
		"switched off": {func(a *ikev2.Config) { a.Peers[0].Resumption = ikev2.ModeOff }, wait},
		"suite gone":   {func(a *ikev2.Config) { a.Peers[0].IKE = ikev2.DefaultIKEProposals()[1:] }, wait},
		"PPK is new":   {func(a *ikev2.Config) { a.Peers[0].PPK = ikev2.PPK{ID: "x", Secret: []byte("y")} }, wait},
		"lifetime is shorter, as the clock set back would have it": {func(a *ikev2.Config) { a.Resume.Lifetime = 5 * time.Minute }, wait},
		"ticket expired": {func(a *ikev2.Config) {}, func(n *Net, _ *Host) { n.Run(20 * time.Minute) }},
	} {
		t.Run(name, func(t *testing.T) {
			n, a, b := resumable(func(a, b *ikev2.Config) {
				a.Resume.Lifetime = 10 * time.Minute
				a.Peers[0].IKE = append(ikev2.DefaultIKEProposals()[:1:1], ikev2.DefaultIKEProposals()[1])
			})
			connectFor(time.Second)(n, a, b)
			c.before(n, b)
			c.change(&a.cfg)
			n.Restart(a, 3)
			n.Run(3 * time.Minute)
			agreed(t, n, a, b)
			resumed(t, n, false, a, b)
			if name != "ticket expired" && b.Has(ikev2.EventTicketRefused) != 1 {
				t.Errorf("%d tickets refused\n%s", b.Has(ikev2.EventTicketRefused), n.Transcript())
			}
		})
	}
}

// With a new key or identity there is no tunnel, with a ticket or without.
func TestTicketEndsWithTheKey(t *testing.T) {
	for name, change := range map[string]func(*ikev2.Peer){
		"PSK":      func(p *ikev2.Peer) { p.PSK = []byte("azerty") },
		"identity": func(p *ikev2.Peer) { p.RemoteID = identity("@bar") },
	} {
		t.Run(name, func(t *testing.T) {
			n, a, b := resumable()
			connectFor(time.Second)(n, a, b)
			change(&a.cfg.Peers[0])
			n.Restart(a, 3)
			n.Run(5 * time.Minute)
			faultless(t, n)
			if len(a.In) > 0 || opened(b)[wire.ExchangeIKESessionResume] != 1 || opened(b)[wire.ExchangeIKESAInit] < 2 {
				t.Errorf("%d child SAs, first requests %v", len(a.In), opened(b))
			}
		})
	}
}

// A ticket is the SA's: deleted by either side, or replaced, it is gone.
func TestTicketEndsWithTheSA(t *testing.T) {
	for name, end := range map[string]func(n *Net, a, b *Host){
		"deleted by the responder": func(n *Net, a, _ *Host) { n.Command(a, ikev2.Disconnect{Peer: "foo"}) },
		"deleted by the initiator": func(n *Net, _, b *Host) {
			n.Command(b, ikev2.Disconnect{Peer: "office"})
			n.Run(time.Second)
			n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, a, b := resumable()
			connectFor(time.Second)(n, a, b)
			end(n, a, b)
			n.Run(30 * time.Second)
			agreed(t, n, a, b)
			resumed(t, n, false, a, b)
		})
	}
}

// After a rekey by either side both ticket and tokens are those of the new SA.
func TestResumptionAfterRekey(t *testing.T) {
	for _, by := range []string{"A", "B"} {
		t.Run(by, func(t *testing.T) {
			n, a, b := resumable()
			connectFor(time.Second)(n, a, b)
			if by == "A" {
				n.Command(a, ikev2.RekeyIKE{Peer: "foo"})
			} else {
				n.Command(b, ikev2.RekeyIKE{Peer: "office"})
			}
			n.Run(3 * time.Minute)
			agreed(t, n, a, b)
			n.Restart(a, 3)
			n.ESP(b, "lan", time.Millisecond)
			n.Run(time.Second)
			agreed(t, n, a, b)
			resumed(t, n, true, a, b)
		})
	}
}

// A full gateway loses messages: "lose datagram n" for every n of a resumption.
func TestResumptionLoses(t *testing.T) {
	for lost := range 12 {
		n, a, b := resumable()
		connectFor(time.Second)(n, a, b)
		n.Restart(a, 3)
		first := n.count
		n.Link = func(p Packet) []time.Duration {
			if p.Number == first+lost {
				return nil
			}
			return []time.Duration{10 * time.Millisecond}
		}
		n.ESP(b, "lan", time.Millisecond)
		n.Run(3 * time.Minute)
		agreed(t, n, a, b)
	}
}

// presenting is a puppet that presents B's latest ticket to A, with SK_d or
// without knowing it.
func presenting(t *testing.T, n *Net, a *Host, opaque []byte) *puppet {
	p := newPuppet(t, true, nil)
	p.engine, p.now = a.Engine, n.Now
	p.prepare()
	p.initReq = p.resumeMessage(opaque)
	return p
}

func (p *puppet) resumeMessage(opaque []byte) []byte {
	m := wire.Message{Header: wire.Header{InitiatorSPI: p.spii, Major: 2, Exchange: wire.ExchangeIKESessionResume, Flags: wire.FlagInitiator},
		Payloads: []wire.Payload{&wire.Nonce{Data: p.ni}, &wire.Notify{NotifyType: wire.NotifyTicketOpaque, Data: opaque}}}
	return m.Append(nil)
}

// ticketOf finds the latest ticket that h gave.
func ticketOf(t testing.TB, n *Net, h *Host) (opaque []byte) {
	t.Helper()
	for _, o := range h.Sent {
		m, err := wire.Parse(o.Payload)
		if err != nil {
			continue
		}
		ps, _, _ := n.revealed(m, o.Payload)
		if x := wire.FindNotify(ps, wire.NotifyTicketLTOpaque); x != nil {
			opaque = x.Data[4:]
		}
	}
	if opaque == nil {
		t.Fatal("no ticket was given")
	}
	return opaque
}

func refusedTicket(t *testing.T, sent [][]byte) bool {
	t.Helper()
	if len(sent) != 1 {
		t.Fatalf("%d answers", len(sent))
	}
	m, err := wire.Parse(sent[0])
	if err != nil {
		t.Fatal(err)
	}
	return wire.FindNotify(m.Payloads, wire.NotifyTicketNACK) != nil
}

// Whoever finds a ticket on the wire gets a half-open SA for it, no more, and
// takes nothing from its owner; once its owner has used it, not even that.
func TestTicketReplayed(t *testing.T) {
	n, a, b := resumable()
	connectFor(time.Second)(n, a, b)
	opaque := ticketOf(t, n, a)
	thief := presenting(t, n, a, opaque)
	if refusedTicket(t, thief.send(thief.initReq)) {
		t.Fatal("the ticket is refused before its owner has used it")
	}
	n.Restart(a, 3)
	n.ESP(b, "lan", time.Millisecond)
	n.Run(time.Second)
	resumed(t, n, true, a, b)
	thief = presenting(t, n, a, opaque)
	if !refusedTicket(t, thief.send(thief.initReq)) {
		t.Error("a spent ticket is taken")
	}
	n.Run(time.Minute)
	agreed(t, n, a, b)
}

// A thief of the sealed ticket who guesses SK_d is not let in, and the SA that
// is up stays.
func TestTicketWithoutItsKey(t *testing.T) {
	n, a, b := resumable()
	connectFor(time.Second)(n, a, b)
	thief := presenting(t, n, a, ticketOf(t, n, a))
	sent := thief.send(thief.initReq)
	m, _ := wire.Parse(sent[0])
	nonce, _ := wire.Find[*wire.Nonce](m.Payloads)
	thief.spir, thief.nr, thief.initResp = m.ResponderSPI, nonce.Data, sent[0]
	thief.keys, _ = keymat.DeriveIKEResume(thief.suite, make([]byte, 32), thief.ni, thief.nr, thief.spii, thief.spir)
	thief.prf, _ = keymat.NewPRF(thief.suite.PRF)
	thief.out, _ = newCipher(ikev2.IKEKeys{Suite: thief.suite, Keys: thief.keys}, true)
	thief.float()
	id := idPayload("@foo", false)
	data := keymat.ResumeAuth(thief.prf, thief.initReq, thief.nr, thief.keys.SKpi, id.Body())
	if sent := thief.send(thief.seal(wire.ExchangeIKEAuth, 0, 1, id, &wire.Auth{Method: wire.AuthSharedKey, Data: data})); len(sent) > 0 {
		t.Error("a guess at SK_d is answered")
	}
	n.Run(time.Minute)
	agreed(t, n, a, b)
}

// Whoever knows SK_d, and says the identities of the ticket and makes the right
// AUTH, is let in; with another identity, or the pre-shared key's AUTH, it is not.
func TestTicketAuthentication(t *testing.T) {
	for name, c := range map[string]struct {
		id  string
		psk bool
		ok  bool
	}{
		"right":            {"@foo", false, true},
		"other identity":   {"@bar", false, false},
		"unknown identity": {"@nobody", false, false},
		"AUTH of the key":  {"@foo", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			n, a, b := resumable(func(a, _ *ikev2.Config) {
				other := a.Peers[0]
				other.Name, other.RemoteID = "bar", identity("@bar")
				a.Peers = append(a.Peers, other)
			})
			connectFor(time.Second)(n, a, b)
			p := presenting(t, n, a, ticketOf(t, n, a))
			p.resumedWith(p.send(p.initReq)[0], b.Keys)
			id := idPayload(c.id, false)
			auth := &wire.Auth{Method: wire.AuthSharedKey, Data: keymat.ResumeAuth(p.prf, p.initReq, p.nr, p.keys.SKpi, id.Body())}
			if c.psk {
				auth = p.sign("qwerty", id)
			}
			ps := append([]wire.Payload{id, auth}, p.childPayloads(0xabcd0001)...)
			_, answer := p.open(p.send(p.request(wire.ExchangeIKEAuth, ps...))[0])
			if _, in := wire.Find[*wire.Auth](answer); in != c.ok || c.ok != p.has(ikev2.EventEstablished) {
				t.Errorf("answered %s, %v", names(answer), p.events)
			}
		})
	}
}

// resumedWith derives the puppet's keys from the SA before and the answer.
func (p *puppet) resumedWith(answer []byte, old ikev2.IKEKeys) {
	p.t.Helper()
	m, err := wire.Parse(answer)
	if err != nil {
		p.t.Fatal(err)
	}
	nonce, ok := wire.Find[*wire.Nonce](m.Payloads)
	if !ok {
		p.t.Fatalf("answered %s", names(m.Payloads))
	}
	p.suite, p.spir, p.nr, p.initResp = old.Suite, m.ResponderSPI, nonce.Data, answer
	if p.keys, err = keymat.DeriveIKEResume(p.suite, old.Keys.SKd, p.ni, p.nr, p.spii, p.spir); err != nil {
		p.t.Fatal(err)
	}
	p.prf, _ = keymat.NewPRF(p.suite.PRF)
	k := ikev2.IKEKeys{Suite: p.suite, Keys: p.keys}
	p.out, _ = newCipher(k, true)
	p.in, _ = newCipher(k, false)
	p.next = 1
	p.float()
}

// No ticket but the very one is taken: each bit flipped, each length.
func TestTicketForged(t *testing.T) {
	n, a, b := resumable()
	connectFor(time.Second)(n, a, b)
	good := ticketOf(t, n, a)
	var forged [][]byte
	for i := range 8 * len(good) {
		bad := slices.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		forged = append(forged, bad)
	}
	for i := range len(good) {
		forged = append(forged, good[:i])
	}
	forged = append(forged, append(slices.Clone(good), 0), make([]byte, 4000))
	for i, f := range forged {
		p := presenting(t, n, a, f)
		p.now = n.Now.Add(time.Duration(i) * 20 * time.Millisecond) // few answers a second go to one source
		if !refusedTicket(t, p.send(p.initReq)) {
			t.Fatalf("forgery %d is taken", i)
		}
	}
	if ike, _ := a.Engine.SAs(); ike != 1 {
		t.Errorf("%d IKE SAs", ike)
	}
}

// The responder of a resumption proves that it has the ticket's SK_d.
func TestResumptionWrongResponder(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *puppet, auth *wire.Auth)
		reason ikev2.Reason
	}{
		"right":         {func(*puppet, *wire.Auth) {}, ikev2.ReasonNone},
		"AUTH is wrong": {func(_ *puppet, auth *wire.Auth) { auth.Data[0] ^= 1 }, ikev2.ReasonWrongKey},
		"AUTH of the key": {func(p *puppet, auth *wire.Auth) {
			*auth = *p.sign("qwerty", idPayload(AddrA, true))
		}, ikev2.ReasonWrongKey},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPuppet(t, false, nil)
			p.greet()
			give := &wire.Notify{NotifyType: wire.NotifyTicketLTOpaque, Data: append([]byte{0, 0, 14, 16}, "a ticket"...)}
			p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, append(p.authPayloads(), give)...))
			old := ikev2.IKEKeys{Suite: p.suite, Keys: p.keys}
			request := p.untilOpening()
			m, err := wire.Parse(request)
			if n := wire.FindNotify(m.Payloads, wire.NotifyTicketOpaque); err != nil || m.Exchange != wire.ExchangeIKESessionResume || n == nil || string(n.Data) != "a ticket" {
				t.Fatalf("%v %s", m.Exchange, names(m.Payloads))
			}
			auth, id := p.answerResume(m, request, old), idPayload(AddrA, true)
			_, ps := p.open(auth)
			idi := wire.FindID(ps, false)
			theirs, _ := wire.Find[*wire.Auth](ps)
			if want := keymat.ResumeAuth(p.prf, request, p.nr, p.keys.SKpi, idi.Body()); !bytes.Equal(theirs.Data, want) {
				t.Error("the engine's AUTH is not of SK_pi")
			}
			mine := &wire.Auth{Method: wire.AuthSharedKey, Data: keymat.ResumeAuth(p.prf, p.initResp, p.ni, p.keys.SKpr, id.Body())}
			c.change(p, mine)
			p.events = nil
			p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, append([]wire.Payload{id, mine}, p.childPayloads(0xabcd0009)...)...))
			e, up := p.last(ikev2.EventEstablished)
			refused, _ := p.last(ikev2.EventRefused)
			if up != (c.reason == ikev2.ReasonNone) || up && !e.Resumed || refused.Reason != c.reason {
				t.Errorf("%+v", p.events)
			}
		})
	}
}

// untilOpening is silent until the engine begins a connection.
func (p *puppet) untilOpening() []byte {
	p.t.Helper()
	for range 100 {
		at, ok := p.engine.Deadline()
		if !ok {
			break
		}
		for _, b := range p.wait(at.Sub(p.now)) {
			h, err := wire.ParseHeader(b)
			if err == nil && (h.Exchange == wire.ExchangeIKESAInit || h.Exchange == wire.ExchangeIKESessionResume) {
				return b
			}
		}
	}
	p.t.Fatalf("no first request: %v", p.events)
	return nil
}

// answerResume takes the engine's IKE_SESSION_RESUME and returns its IKE_AUTH.
func (p *puppet) answerResume(m *wire.Message, request []byte, old ikev2.IKEKeys) []byte {
	p.t.Helper()
	nonce, _ := wire.Find[*wire.Nonce](m.Payloads)
	p.path = ToA
	p.spii, p.ni, p.initReq = m.InitiatorSPI, nonce.Data, request
	p.spir, p.nr = wire.SPI{9, 9}, bytes.Repeat([]byte{7}, 32)
	p.initResp = (&wire.Message{Header: wire.Header{InitiatorSPI: p.spii, ResponderSPI: p.spir, Major: 2, Exchange: wire.ExchangeIKESessionResume, Flags: wire.FlagResponse},
		Payloads: []wire.Payload{&wire.Nonce{Data: p.nr}}}).Append(nil)
	p.keys, _ = keymat.DeriveIKEResume(old.Suite, old.Keys.SKd, p.ni, p.nr, p.spii, p.spir)
	k := ikev2.IKEKeys{Suite: old.Suite, Keys: p.keys}
	p.out, _ = newCipher(k, false)
	p.in, _ = newCipher(k, true)
	sent := p.send(p.initResp)
	if len(sent) != 1 {
		p.t.Fatalf("%d messages after IKE_SESSION_RESUME: %v", len(sent), p.events)
	}
	p.float()
	return sent[0]
}

// A peer that says nothing on a ticket, and one that wants a cookie first.
func TestResumptionRefusals(t *testing.T) {
	begun := func(t *testing.T) (*puppet, *wire.Message) {
		p := newPuppet(t, false, nil)
		p.greet()
		give := &wire.Notify{NotifyType: wire.NotifyTicketLTOpaque, Data: append([]byte{0, 0, 14, 16}, "a ticket"...)}
		p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, append(p.authPayloads(), give)...))
		m, err := wire.Parse(p.untilOpening())
		if err != nil {
			t.Fatal(err)
		}
		p.path = ToA
		return p, m
	}
	t.Run("silence", func(t *testing.T) {
		p, _ := begun(t)
		next, _ := wire.ParseHeader(p.untilOther())
		if next.Exchange != wire.ExchangeIKESAInit {
			t.Errorf("%v follows", next.Exchange)
		}
	})
	t.Run("an error", func(t *testing.T) {
		p, m := begun(t)
		p.send(initNotify(m, wire.NotifyInvalidSyntax, ""))
		next, _ := wire.ParseHeader(p.untilOther())
		if next.Exchange != wire.ExchangeIKESAInit {
			t.Errorf("%v follows", next.Exchange)
		}
	})
	t.Run("group", func(t *testing.T) {
		p, m := begun(t)
		if sent := p.send(initNotify(m, wire.NotifyInvalidKEPayload, string(binary.BigEndian.AppendUint16(nil, wire.GroupECP256)))); len(sent) > 0 {
			t.Error("a group is taken where there is no key exchange")
		}
	})
	t.Run("cookie", func(t *testing.T) {
		p, m := begun(t)
		sent := p.send(initNotify(m, wire.NotifyCookie, "biscuit"))
		again, err := wire.Parse(sent[0])
		if err != nil || again.Exchange != wire.ExchangeIKESessionResume || !strings.HasPrefix(names(again.Payloads), "COOKIE Nonce TICKET_OPAQUE") {
			t.Errorf("%v %s", again.Exchange, names(again.Payloads))
		}
	})
	t.Run("TICKET_NACK", func(t *testing.T) {
		p, m := begun(t)
		sent := p.send(initNotify(m, wire.NotifyTicketNACK, ""))
		next, _ := wire.ParseHeader(sent[0])
		if len(sent) != 1 || next.Exchange != wire.ExchangeIKESAInit || next.InitiatorSPI == m.InitiatorSPI {
			t.Errorf("%d messages, %v", len(sent), next.Exchange)
		}
	})
}

// untilOther is silent until the engine begins another connection than the one
// it has begun.
func (p *puppet) untilOther() []byte {
	p.t.Helper()
	first := p.untilOpening()
	for range 20 {
		if b := p.untilOpening(); !bytes.Equal(b, first) {
			return b
		}
	}
	p.t.Fatal("no other attempt")
	return nil
}

// What a lost SA was made of besides is in the resumed one too, without being
// shown again: an additional key exchange, a PPK that is required.
func TestResumptionPostQuantum(t *testing.T) {
	n, a, b := resumable(func(a, b *ikev2.Config) {
		for _, p := range []*ikev2.Peer{&a.Peers[0], &b.Peers[0]} {
			p.PPK = ikev2.PPK{ID: "branch", Secret: []byte("0123456789abcdef"), Required: true}
			p.PostQuantum.Mode = ikev2.ModeRequire
		}
	})
	connectFor(time.Second)(n, a, b)
	for range 2 {
		n.Restart(a, 3)
		n.ESP(b, "lan", time.Millisecond)
		n.Run(time.Second)
		agreed(t, n, a, b)
		resumed(t, n, true, a, b)
		for _, h := range []*Host{a, b} {
			if e, _ := h.Last(ikev2.EventEstablished); !e.PPK || e.Suite.AddKE[0] != wire.GroupMLKEM768 {
				t.Errorf("%s: %+v, PPK %v", h.Name, e.Suite, e.PPK)
			}
		}
	}
	a.cfg.Peers[0].PPK.Secret = []byte("fedcba9876543210")
	n.Restart(a, 4)
	n.Run(5 * time.Minute)
	faultless(t, n)
	if len(a.In) > 0 {
		t.Error("a ticket outlives the PPK that it was given under")
	}
}

// Under load a ticket is looked at only for who returns a cookie.
func TestResumptionWantsCookie(t *testing.T) {
	n, a, b := resumable(func(a, _ *ikev2.Config) { a.Limits.CookieThreshold = 1 })
	connectFor(time.Second)(n, a, b)
	n.Restart(a, 3)
	n.ESP(b, "lan", time.Millisecond)
	n.Run(time.Second)
	agreed(t, n, a, b)
	resumed(t, n, true, a, b)
	if b.Has(ikev2.EventRetryCookie) != 2 {
		t.Errorf("%d cookies", b.Has(ikev2.EventRetryCookie))
	}
}

// A draining gateway that stops says nothing to whom it gave a ticket: its
// successor takes them back without a key exchange.
func TestDrainAndRestart(t *testing.T) {
	n, a, b := resumable()
	connectFor(time.Second)(n, a, b)
	n.Command(a, ikev2.Drain{})
	n.Command(a, ikev2.Shutdown{})
	if !a.Engine.Idle() {
		t.Error("something is left to wait for")
	}
	n.Restart(a, 3)
	n.ESP(b, "lan", time.Millisecond)
	n.Run(time.Second)
	agreed(t, n, a, b)
	resumed(t, n, true, a, b)
}

// Another gateway with the same key and policy takes a peer over with its
// ticket, but never tells anybody that the first one's SA is dead.
func TestSharedKey(t *testing.T) {
	const addrC = "203.0.113.2"
	n, a, b := resumable(func(_, b *ikev2.Config) { b.Peers[0].Redirect = ikev2.ModePrefer })
	cfgC, _ := Configs()
	cfgC.Resume.Key = keyA
	c := n.Add("C", addrC, cfgC, 9)
	connectFor(time.Second)(n, a, b)

	// What C answers to a message of the living SA, A's peer does not believe.
	spy := b.Sent[len(b.Sent)-1]
	n.Inject(Packet{From: netip.MustParseAddrPort(AddrBPublic + ":4500"), To: netip.MustParseAddrPort(addrC + ":4500"), Encap: true, Payload: spy.Payload})
	n.Run(time.Second)
	answer := c.Sent[len(c.Sent)-1]
	n.Inject(Packet{From: netip.MustParseAddrPort(AddrA + ":4500"), To: netip.MustParseAddrPort(AddrBPublic + ":4500"), Encap: true, Payload: answer.Payload})
	n.Run(time.Second)
	agreed(t, n, a, b)
	if b.Has(ikev2.EventDown) > 0 {
		t.Fatal("the other gateway's token ended the SA")
	}

	n.Command(a, ikev2.Drain{To: addrC})
	n.Run(7 * time.Second) // 5 for what was on its way from A
	agreed(t, n, b, c)
	resumed(t, n, true, b, c)
	if len(a.In) > 0 {
		t.Error("the old gateway keeps its tunnel")
	}
}

// The whole of a resumption, and of the move to another gateway, message by
// message.
func TestResumptionTranscripts(t *testing.T) {
	t.Run("resumption", func(t *testing.T) {
		n, a, b := resumable()
		connectFor(time.Second)(n, a, b)
		n.Restart(a, 3)
		n.ESP(b, "lan", time.Millisecond)
		n.Run(time.Second)
		faultless(t, n)
		golden(t, "resumption", n.Transcript())
	})
	t.Run("redirect", func(t *testing.T) {
		n, a, b, _ := redirecting()
		connectFor(time.Second)(n, a, b)
		n.Command(a, ikev2.Drain{To: "vpn2.example"})
		n.Run(time.Second)
		faultless(t, n)
		golden(t, "redirect", n.Transcript())
	})
}
