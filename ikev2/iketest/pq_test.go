package iketest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// addKE gives a proposal additional key exchanges, one a type.
func addKE(p ikev2.Proposal, methods ...uint16) ikev2.Proposal {
	p = slices.Clone(p)
	for i, id := range methods {
		p = append(p, wire.Transform{Type: wire.TransformADDKE1 + wire.TransformType(i), ID: id})
	}
	return p
}

// withAddKE are ESP proposals with perfect forward secrecy and ML-KEM.
func withAddKE(methods ...uint16) []ikev2.Proposal {
	return []ikev2.Proposal{addKE(withGroups(wire.GroupX25519)[0], methods...)}
}

// Whatever the two sides want, they have an additional key exchange, or none, or
// say why there can be no SA; and a rekey has what the connection had.
func TestPostQuantumModes(t *testing.T) {
	const off, prefer, require = ikev2.ModeOff, ikev2.ModePrefer, ikev2.ModeRequire
	for _, c := range []struct {
		initiator, responder ikev2.Mode
		up, pq               bool
	}{
		{off, off, true, false}, {off, prefer, true, false}, {prefer, off, true, false}, {prefer, prefer, true, true},
		{prefer, require, true, true}, {require, prefer, true, true}, {require, require, true, true},
		{off, require, false, false}, {require, off, false, false}, {ikev2.ModeDefault, ikev2.ModeDefault, true, true},
	} {
		t.Run(fmt.Sprintf("%d-%d", c.initiator, c.responder), func(t *testing.T) {
			cfgA, cfgB := Configs()
			cfgA.Peers[0].PostQuantum.Mode, cfgB.Peers[0].PostQuantum.Mode = c.responder, c.initiator
			n, a, b := Situation(cfgA, cfgB)
			connectFor(3*time.Second)(n, a, b)
			if !c.up {
				refused, ok := b.Last(ikev2.EventUnprotectedError)
				if c.initiator == require && (!ok || refused.Reason != ikev2.ReasonPostQuantum) {
					t.Errorf("B is told %v", refused.Reason)
				}
				if at, _ := a.Last(ikev2.EventRefused); c.responder == require && at.Reason != ikev2.ReasonPostQuantum {
					t.Errorf("A refuses for %v", at.Reason)
				}
				if len(a.In)+len(b.In) > 0 {
					t.Errorf("there is a child SA\n%s", n.Transcript())
				}
				return
			}
			for range 2 {
				settled(t, n, a, b)
				for _, h := range []*Host{a, b} {
					if got := h.Keys.Suite.AddKE[0]; (got == wire.GroupMLKEM768) != c.pq {
						t.Errorf("%s has additional key exchange %d", h.Name, got)
					}
				}
				n.rekey(a, theIKE)
				n.Run(time.Minute)
			}
		})
	}
}

// A gateway does not know who comes: its peer with another wish gets what both
// can have, and one without the required exchange is refused when it has said
// who it is.
func TestPostQuantumAmongPeers(t *testing.T) {
	for _, c := range []struct {
		name                 string
		mine, others, theirs ikev2.Mode
		reason               ikev2.Reason
		pq                   bool
	}{
		{"off beside one that prefers", ikev2.ModeOff, ikev2.ModePrefer, ikev2.ModePrefer, ikev2.ReasonNone, true},
		{"required beside one without", ikev2.ModeRequire, ikev2.ModeOff, ikev2.ModeOff, ikev2.ReasonPostQuantum, false},
		{"prefers beside one without", ikev2.ModePrefer, ikev2.ModeOff, ikev2.ModePrefer, ikev2.ReasonNone, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfgA, cfgB := Configs()
			other := cfgA.Peers[0]
			other.Name, other.RemoteID, other.PostQuantum.Mode = "bar", identity("@bar"), c.others
			cfgA.Peers[0].PostQuantum.Mode, cfgB.Peers[0].PostQuantum.Mode = c.mine, c.theirs
			cfgA.Peers = []ikev2.Peer{other, cfgA.Peers[0]}
			n, a, b := Situation(cfgA, cfgB)
			connectFor(time.Second)(n, a, b)
			faultless(t, n)
			refused, _ := a.Last(ikev2.EventRefused)
			if refused.Reason != c.reason || (len(a.In) == 1) != (c.reason == ikev2.ReasonNone) || (a.Keys.Suite.AddKE[0] != 0) != c.pq {
				t.Errorf("refused for %v, %d child SAs, suite %v\n%s", refused.Reason, len(a.In), a.Keys.Suite, n.Transcript())
			}
		})
	}
}

// Methods are taken in the initiator's and the responder's order, seven of them
// one after the other, and none twice.
func TestAdditionalMethods(t *testing.T) {
	base := without(ikev2.DefaultIKEProposals()[0], func(x wire.Transform) bool { return x.Type == wire.TransformKE && x.ID != wire.GroupX25519 })
	alternatives := append(addKE(base, wire.GroupMLKEM768), wire.Transform{Type: wire.TransformADDKE1, ID: wire.GroupMLKEM1024})
	optional := append(addKE(base, wire.GroupMLKEM768), wire.Transform{Type: wire.TransformADDKE1})
	seven := addKE(base, 37, 36, 19, 20, 21, 14, 15)
	gap := append(slices.Clone(base), wire.Transform{Type: wire.TransformADDKE7, ID: wire.GroupMLKEM768})
	for _, c := range []struct {
		name   string
		of, to ikev2.Proposal // the initiator's, the responder's
		want   [7]uint16
		up     bool
	}{
		{"the responder's order", alternatives, append(addKE(base, 37), wire.Transform{Type: wire.TransformADDKE1, ID: 36}), [7]uint16{37}, true},
		{"one that both have", alternatives, addKE(base, 37), [7]uint16{37}, true},
		{"optional, and had", optional, addKE(base, 36), [7]uint16{36}, true},
		{"optional, and not had", optional, base, [7]uint16{}, true},
		{"optional, and another", optional, addKE(base, 37), [7]uint16{}, false},
		{"seven", seven, seven, [7]uint16{37, 36, 19, 20, 21, 14, 15}, true},
		{"only the seventh", gap, gap, [7]uint16{6: 36}, true},
		{"twice the same", addKE(base, 36, 36), addKE(base, 36, 36), [7]uint16{}, false},
		{"the classical one again", addKE(base, 31), addKE(base, 31), [7]uint16{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfgA, cfgB := Configs()
			cfgA.Peers[0].IKE, cfgB.Peers[0].IKE = []ikev2.Proposal{c.to}, []ikev2.Proposal{c.of}
			if c.want == [7]uint16{} {
				cfgA.Peers[0].PostQuantum.Mode = ikev2.ModeOff
			}
			if c.name == "twice the same" || c.name == "the classical one again" || c.name == "optional, and another" {
				cfgA.Peers[0].PostQuantum.Mode = ikev2.ModePrefer
			}
			n, a, b := Situation(cfgA, cfgB)
			connectFor(2*time.Second)(n, a, b)
			faultless(t, n)
			if (len(a.In) == 1) != c.up || c.up && (a.Keys.Suite.AddKE != c.want || b.Keys.Suite.AddKE != c.want) {
				t.Fatalf("%d child SAs, A has %v, B %v\n%s", len(a.In), a.Keys.Suite.AddKE, b.Keys.Suite.AddKE, n.Transcript())
			}
			if c.up {
				n.rekey(b, theIKE)
				n.Run(time.Minute)
				settled(t, n, a, b)
				if a.Keys.Suite.AddKE != c.want || a.Has(ikev2.EventRekeyed) != 1 {
					t.Errorf("after the rekey A has %v", a.Keys.Suite.AddKE)
				}
			}
		})
	}
}

// A whole life with packets so small that IKE_INTERMEDIATE goes in fragments:
// what is sent again is under the keys of its time.
func TestSmallPacketsGoAstray(t *testing.T) {
	run := func(t *testing.T, link func(Packet) []time.Duration) int {
		cfgA, cfgB := Configs()
		for _, p := range []*ikev2.Peer{&cfgA.Peers[0], &cfgB.Peers[0]} {
			p.Fragmentation.Size = 600
			p.Children[0].ESP = withAddKE(wire.GroupMLKEM1024, wire.GroupMLKEM768)
		}
		n, a, b := Situation(cfgA, cfgB)
		n.Link = link
		n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
		reach(t, n, "connected", 2*time.Minute, func() bool { return len(a.Out) == 1 && len(b.Out) == 1 && Agree(a, b) == nil })
		n.Run(time.Minute)
		n.rekey(a, theChild)
		n.Run(2 * time.Minute)
		n.rekey(b, theIKE)
		n.Run(2 * time.Minute)
		settled(t, n, a, b)
		if a.Has(ikev2.EventRekeyed) == 0 || a.Has(ikev2.EventChildUp) < 2 {
			t.Fatalf("not replaced\n%s", n.Transcript())
		}
		return n.count
	}
	undisturbed := run(t, func(Packet) []time.Duration { return soon })
	t.Logf("%d datagrams", undisturbed)
	for name, fate := range map[string][]time.Duration{"lost": nil, "twice": {10 * time.Millisecond, 25 * time.Millisecond}, "late": {6 * time.Second}} {
		for i := range undisturbed {
			t.Run(fmt.Sprintf("%s/%d", name, i), func(t *testing.T) {
				run(t, func(p Packet) []time.Duration {
					if p.Number == i {
						return fate
					}
					return soon
				})
			})
		}
	}
	// A path that loses the first half second of everything from some point on
	// makes both sides send again, by the third time in smaller fragments.
	for from := range 12 {
		run(t, func(p Packet) []time.Duration {
			if p.Number >= from && p.Number < from+12 {
				return nil
			}
			return soon
		})
	}
}

// Children with additional key exchanges are made and replaced by either side,
// also where only one of the two proposals has them.
func TestRekeyMultiKE(t *testing.T) {
	multi := withAddKE(wire.GroupMLKEM768)
	three := withAddKE(wire.GroupMLKEM768, wire.GroupMLKEM1024, wire.GroupECP256)
	for _, c := range []struct {
		name       string
		espA, espB []ikev2.Proposal
		followups  int
	}{
		{"both", multi, multi, 1}, {"three", three, three, 3}, {"accepted beyond what is configured", withGroups(wire.GroupX25519), multi, -1},
	} {
		for _, who := range []string{"A", "B"} {
			t.Run(c.name+"/"+who, func(t *testing.T) {
				n, a, b := joined(t, 1, c.espA, c.espB)
				h := map[string]*Host{"A": a, "B": b}[who]
				spi, sent := a.current("lan"), len(h.Sent)
				n.rekey(h, theChild)
				stream(n, 20*time.Second, a, b)
				n.Run(time.Minute)
				settled(t, n, a, b)
				ids := map[uint32]bool{} // a message may be in fragments
				for _, m := range h.Sent[sent:] {
					if head, err := wire.ParseHeader(m.Payload); err == nil && head.Exchange == wire.ExchangeIKEFollowupKE {
						ids[head.MessageID] = true
					}
				}
				got := len(ids)
				want := c.followups
				if want < 0 { // B offers them, and A takes them; what A offers is not enough for B
					want = map[string]int{"A": 0, "B": 1}[who]
				}
				if changed := a.current("lan") != spi; got != want || changed != (want > 0) {
					t.Errorf("%d follow-ups, replaced %v\n%s", got, changed, n.Transcript())
				}
			})
		}
	}
}

// Both sides begin at once, with additional key exchanges on both sides or on
// one, and each of the first datagrams is quick, slow or lost, in all
// combinations.
func TestRekeyCollisionsMultiKE(t *testing.T) {
	depth := *collisions
	multi := withAddKE(wire.GroupMLKEM768)
	// The two sides' first choices differ, so that one replacement has a follow-up
	// and the other has none.
	mixedA := append(withAddKE(wire.GroupMLKEM768), withGroups(wire.GroupX25519)...)
	mixedB := append(withGroups(wire.GroupX25519), withAddKE(wire.GroupMLKEM768)...)
	for _, c := range []struct {
		name       string
		espA, espB []ikev2.Proposal
		atA, atB   rekeyed
	}{
		{"child-child", multi, multi, theChild, theChild}, {"child-ike", multi, multi, theChild, theIKE}, {"ike-ike", multi, multi, theIKE, theIKE},
		{"mixed", mixedA, mixedB, theChild, theChild},
	} {
		for seed := range uint64(2) {
			t.Run(fmt.Sprintf("%s/%d", c.name, seed), func(t *testing.T) {
				t.Parallel()
				for i := range 2 * pow3(depth) { // the first datagrams, or those after them
					fates, first := i/2, i%2*4
					n, a, b := joined(t, seed+1, c.espA, c.espB)
					n.Link = astray(n.count+first, fates, depth)
					n.rekey(a, c.atA)
					n.rekey(b, c.atB)
					stream(n, 10*time.Second, a, b)
					n.Run(3 * time.Minute)
					settled(t, n, a, b)
				}
			})
		}
	}
}

// A deletes the child while B replaces it: nothing half-made stays.
func TestRekeyMultiKEMeetsDelete(t *testing.T) {
	for step := range 6 {
		for _, deletes := range []string{"A", "B"} {
			t.Run(fmt.Sprintf("%s/%d", deletes, step), func(t *testing.T) {
				n, a, b := joined(t, 1, withAddKE(wire.GroupMLKEM768, wire.GroupMLKEM512), withAddKE(wire.GroupMLKEM768, wire.GroupMLKEM512))
				n.rekey(b, theChild)
				n.Run(time.Duration(step)*10*time.Millisecond + time.Millisecond)
				h := map[string]*Host{"A": a, "B": b}[deletes]
				n.Command(h, ikev2.Disconnect{Peer: h.cfg.Peers[0].Name})
				n.Run(5 * time.Second)
				faultless(t, n)
				if deletes == "B" && len(a.In)+len(b.In) > 0 {
					t.Errorf("%d and %d child SAs stay\n%s", len(a.In), len(b.In), n.Transcript())
				}
				n.Run(3 * time.Minute)
				faultless(t, n)
				if deletes == "A" && (len(a.In) != 1 || Agree(a, b) != nil) { // B wants it, and comes again
					t.Errorf("%d child SAs: %v\n%s", len(a.In), Agree(a, b), n.Transcript())
				}
			})
		}
	}
}

// A peer that does not go on with its key exchanges is not waited for, and is
// told so when it does.
func TestFollowupTooLate(t *testing.T) {
	for _, what := range []rekeyed{theChild, theIKE} {
		for _, again := range []bool{false, true} {
			n, a, b := joined(t, 1, withAddKE(wire.GroupMLKEM768), withAddKE(wire.GroupMLKEM768))
			lostFollowups := true
			n.Link = func(p Packet) []time.Duration {
				if h, _ := wire.ParseHeader(p.Payload); lostFollowups && h.Exchange == wire.ExchangeIKEFollowupKE {
					return nil
				}
				return soon
			}
			n.rekey(b, what)
			n.Run(21 * time.Second)
			if _, spis := a.Engine.SAs(); spis != 1 {
				t.Fatalf("%s: A keeps something of it: %d inbound SPIs", rekeyNames[what], spis)
			}
			lostFollowups = !again
			n.Run(5 * time.Minute)
			faultless(t, n)
			if again {
				settled(t, n, a, b)
				if changed := a.Has(ikev2.EventRekeyed) > 0 || a.Has(ikev2.EventChildUp) > 1; !changed {
					t.Errorf("%s: not asked for again\n%s", rekeyNames[what], n.Transcript())
				}
			}
		}
	}
}

// Who has the same PPK uses it; who has none, or another, does without it unless
// one side requires it (RFC 8784).
func TestPPK(t *testing.T) {
	key := ikev2.PPK{ID: "branch", Secret: bytes.Repeat([]byte{7}, 32)}
	require := func(k ikev2.PPK) ikev2.PPK { k.Required = true; return k }
	otherName, otherKey := ikev2.PPK{ID: "trunk", Secret: key.Secret}, ikev2.PPK{ID: "branch", Secret: bytes.Repeat([]byte{8}, 32)}
	for _, c := range []struct {
		name   string
		a, b   ikev2.PPK // of the responder, of the initiator
		up, in bool
		atA    ikev2.Reason
		atB    ikev2.Reason
	}{
		{name: "same", a: key, b: key, up: true, in: true},
		{name: "same, required by the responder", a: require(key), b: key, up: true, in: true},
		{name: "same, required by the initiator", a: key, b: require(key), up: true, in: true},
		{name: "same, required by both", a: require(key), b: require(key), up: true, in: true},
		{name: "the responder has none", b: key, up: true},
		{name: "the initiator has none", a: key, up: true},
		{name: "another name", a: key, b: otherName, up: true},
		{name: "another name, required by the initiator", a: key, b: require(otherName), atA: ikev2.ReasonPPK},
		{name: "another name, required by the responder", a: require(key), b: otherName, atA: ikev2.ReasonPPK},
		{name: "another key", a: key, b: otherKey, atA: ikev2.ReasonWrongKey},
		{name: "the responder has none, required", b: require(key), atB: ikev2.ReasonPPK},
		{name: "the initiator has none, required", a: require(key), atA: ikev2.ReasonPPK},
	} {
		for _, pq := range []ikev2.Mode{ikev2.ModeOff, ikev2.ModePrefer} {
			t.Run(fmt.Sprintf("%s/%d", c.name, pq), func(t *testing.T) {
				cfgA, cfgB := Configs()
				cfgA.Peers[0].PPK, cfgB.Peers[0].PPK = c.a, c.b
				cfgA.Peers[0].PostQuantum.Mode, cfgB.Peers[0].PostQuantum.Mode = pq, pq
				n, a, b := Situation(cfgA, cfgB)
				connectFor(800*time.Millisecond)(n, a, b)
				faultless(t, n)
				if !c.up {
					refA, _ := a.Last(ikev2.EventRefused)
					refB, _ := b.Last(ikev2.EventRefused)
					if len(a.In)+len(b.In) > 0 || refA.Reason != c.atA || refB.Reason != c.atB {
						t.Errorf("%d child SAs, A says %v, B says %v\n%s", len(a.In), refA.Reason, refB.Reason, n.Transcript())
					}
					if c.atA == ikev2.ReasonPPK && c.b.ID != "" && refA.PeerPPK != c.b.ID {
						t.Errorf("the peer named %q", refA.PeerPPK)
					}
					return
				}
				settled(t, n, a, b)
				for _, h := range []*Host{a, b} {
					if up, _ := h.Last(ikev2.EventEstablished); up.PPK != c.in {
						t.Errorf("%s has a PPK in its keys: %v", h.Name, up.PPK)
					}
				}
				n.rekey(a, theIKE)
				n.rekey(b, theChild)
				n.Run(time.Minute)
				settled(t, n, a, b)
				if now, ok := b.Last(ikev2.EventRekeyed); !ok || now.PPK != c.in {
					t.Errorf("after the rekey: %v", now.PPK)
				}
			})
		}
	}
}

// quantum is a puppet that offers ML-KEM and has made IKE_SA_INIT.
func quantum(t testing.TB) *puppet {
	p := newPuppet(t, true, nil)
	p.suite.AddKE[0] = wire.GroupMLKEM768
	p.hello(notify(wire.NotifyIntermediateExchangeSupported))
	return p
}

// exchange makes the additional key exchange and returns IntAuth.
func (p *puppet) exchange(method uint16) []byte {
	p.t.Helper()
	ke, err := keymat.NewKeyExchange(method, p.random)
	if err != nil {
		p.t.Fatal(err)
	}
	mine := []wire.Payload{&wire.KE{Group: method, Data: ke.Public()}}
	request := p.request(wire.ExchangeIKEIntermediate, mine...)
	sent := p.send(request)
	if len(sent) != 1 {
		p.t.Fatalf("%d answers: %v", len(sent), p.events)
	}
	h, theirs := p.open(sent[0])
	answer, ok := wire.Find[*wire.KE](theirs)
	if !ok {
		p.t.Fatalf("IKE_INTERMEDIATE is answered by %s", names(theirs))
	}
	shared, err := ke.Shared(answer.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	i := p.prf.Sum(p.keys.SKpi, covered(request, mine))
	r := p.prf.Sum(p.keys.SKpr, covered(sent[0], theirs))
	if p.keys, err = keymat.DeriveIKENext(p.suite, p.keys.SKd, p.ni, p.nr, shared, p.spii, p.spir); err != nil {
		p.t.Fatal(err)
	}
	k := ikev2.IKEKeys{Suite: p.suite, Keys: p.keys}
	p.out, _ = newCipher(k, true)
	p.in, _ = newCipher(k, false)
	return slices.Concat(i, r, []byte{0, 0, 0, byte(h.MessageID + 1)})
}

// covered is what AUTH signs of a protected datagram with these payloads (RFC
// 9242 section 3.3.2), put together from the datagram's own bytes.
func covered(b []byte, ps []wire.Payload) []byte {
	_, inner := wire.AppendPayloads(nil, ps)
	out := append(slices.Clone(b[:32]), inner...)
	put := func(at, n, bytes int) {
		for i := range bytes {
			out[at+i] = byte(n >> (8 * (bytes - 1 - i)))
		}
	}
	put(24, len(out), 4)
	put(30, len(inner)+4, 2)
	return out
}

func (p *puppet) authWith(intAuth []byte) []wire.Payload {
	ps := p.authPayloads()
	id := idPayload("@foo", false)
	ps[1] = &wire.Auth{Method: wire.AuthSharedKey, Data: keymat.PSKAuth(p.prf, []byte("qwerty"), p.initReq, p.nr, p.keys.SKpi, id.Body(), intAuth)}
	return ps
}

// AUTH covers IKE_INTERMEDIATE, bit for bit (RFC 9242 section 3.3).
func TestAuthCoversIntermediate(t *testing.T) {
	p := quantum(t)
	p.send(p.request(wire.ExchangeIKEAuth, p.authWith(p.exchange(36))...))
	if len(p.installed) != 1 {
		t.Fatalf("no child SA: %v", p.events)
	}
	length := 0
	for bit := 0; bit == 0 || bit < 8*length; bit += 61 {
		p := quantum(t)
		intAuth := p.exchange(36)
		length = len(intAuth)
		intAuth[bit/8] ^= 1 << (bit % 8)
		sent := p.send(p.request(wire.ExchangeIKEAuth, p.authWith(intAuth)...))
		_, ps := p.open(sent[0])
		if names(ps) != "AUTHENTICATION_FAILED" || len(p.installed) > 0 {
			t.Errorf("bit %d: %s", bit, names(ps))
		}
	}
	for name, intAuth := range map[string]func([]byte) []byte{
		"without": func([]byte) []byte { return nil }, "cut": func(b []byte) []byte { return b[:len(b)-1] },
		"swapped": func(b []byte) []byte { return slices.Concat(b[32:64], b[:32], b[64:]) },
	} {
		p := quantum(t)
		sent := p.send(p.request(wire.ExchangeIKEAuth, p.authWith(intAuth(p.exchange(36)))...))
		if _, ps := p.open(sent[0]); names(ps) != "AUTHENTICATION_FAILED" {
			t.Errorf("%s: %s", name, names(ps))
		}
	}
}

// Key exchanges cannot be left out, made twice or brought in out of turn: such
// messages have no effect, and the connection can still be made.
func TestIntermediateOutOfTurn(t *testing.T) {
	ke := func(p *puppet, method uint16) wire.Payload {
		k, err := keymat.NewKeyExchange(method, p.random)
		if err != nil {
			t.Fatal(err)
		}
		return &wire.KE{Group: method, Data: k.Public()}
	}
	for name, send := range map[string]func(p *puppet) []byte{
		"IKE_AUTH at once": func(p *puppet) []byte { return p.seal(wire.ExchangeIKEAuth, 0, 1, p.authPayloads()...) },
		"IKE_FOLLOWUP_KE":  func(p *puppet) []byte { return p.seal(wire.ExchangeIKEFollowupKE, 0, 1, ke(p, 36)) },
		"CREATE_CHILD_SA":  func(p *puppet) []byte { return p.seal(wire.ExchangeCreateChildSA, 0, 1, p.childPayloads(1)...) },
		"INFORMATIONAL":    func(p *puppet) []byte { return p.seal(wire.ExchangeInformational, 0, 1) },
		"another number":   func(p *puppet) []byte { return p.seal(wire.ExchangeIKEIntermediate, 0, 2, ke(p, 36)) },
		"in the clear":     func(p *puppet) []byte { return p.clear(wire.ExchangeIKEIntermediate, 0, 1, ke(p, 36)) },
		"broken":           func(p *puppet) []byte { return flip(p.seal(wire.ExchangeIKEIntermediate, 0, 1, ke(p, 36)), 300) },
	} {
		t.Run(name, func(t *testing.T) {
			p := quantum(t)
			if sent := p.send(send(p)); len(sent) > 0 {
				t.Fatalf("answered")
			}
			p.next = 1
			p.send(p.request(wire.ExchangeIKEAuth, p.authWith(p.exchange(36))...))
			if len(p.installed) != 1 {
				t.Errorf("no child SA: %v", p.events)
			}
		})
	}
	t.Run("once more", func(t *testing.T) {
		p := quantum(t)
		intAuth := p.exchange(36)
		if sent := p.send(p.seal(wire.ExchangeIKEIntermediate, 0, 2, ke(p, 36))); len(sent) > 0 {
			t.Fatal("answered")
		}
		p.send(p.request(wire.ExchangeIKEAuth, p.authWith(intAuth)...))
		if len(p.installed) != 1 {
			t.Errorf("no child SA: %v", p.events)
		}
	})
	t.Run("not negotiated", func(t *testing.T) {
		p := newPuppet(t, true, nil)
		p.hello()
		if sent := p.send(p.seal(wire.ExchangeIKEIntermediate, 0, 1, ke(p, 36))); len(sent) > 0 {
			t.Fatal("answered")
		}
	})
	t.Run("without the promise", func(t *testing.T) { // RFC 9242 section 3.1
		p := newPuppet(t, true, nil)
		p.suite.AddKE[0] = wire.GroupMLKEM768
		p.prepare()
		sent := p.send(p.initMessage(p.initPayloads()...))
		if m, err := wire.Parse(sent[0]); err != nil || names(m.Payloads) != "NO_PROPOSAL_CHOSEN" {
			t.Errorf("%v", err)
		}
	})
}

// A key exchange value that cannot be is refused in words and leaves nothing.
func TestHostileIntermediate(t *testing.T) {
	good, err := keymat.NewKeyExchange(36, Random(3))
	if err != nil {
		t.Fatal(err)
	}
	modulus := slices.Clone(good.Public())
	modulus[0], modulus[1] = 0xff, 0xff
	for name, ps := range map[string][]wire.Payload{
		"no key":          {},
		"only a notify":   {notify(wire.NotifyAdditionalKeyExchange)},
		"two keys":        {&wire.KE{Group: 36, Data: good.Public()}, &wire.KE{Group: 36, Data: good.Public()}},
		"one byte":        {&wire.KE{Group: 36, Data: []byte{1}}},
		"a byte less":     {&wire.KE{Group: 36, Data: good.Public()[1:]}},
		"a byte more":     {&wire.KE{Group: 36, Data: append(slices.Clone(good.Public()), 0)}},
		"a ciphertext":    {&wire.KE{Group: 36, Data: make([]byte, 1088)}},
		"another method":  {&wire.KE{Group: 37, Data: make([]byte, 1568)}},
		"a classical one": {&wire.KE{Group: 31, Data: bytes.Repeat([]byte{9}, 32)}},
		"no method":       {&wire.KE{Group: 0, Data: good.Public()}},
		"modulus":         {&wire.KE{Group: 36, Data: modulus}},
		"a Delete":        {&wire.KE{Group: 36, Data: good.Public()}, &wire.Delete{Protocol: wire.ProtocolIKE}},
		"a proposal":      {&wire.KE{Group: 36, Data: good.Public()}, &wire.SA{}},
	} {
		t.Run(name, func(t *testing.T) {
			p := quantum(t)
			request := p.request(wire.ExchangeIKEIntermediate, ps...)
			sent := p.send(request)
			if len(sent) != 1 {
				t.Fatalf("%d answers", len(sent))
			}
			if _, answer := p.open(sent[0]); names(answer) != "INVALID_SYNTAX" {
				t.Errorf("answered by %s", names(answer))
			}
			if again := p.send(request); len(again) != 1 || !bytes.Equal(again[0], sent[0]) {
				t.Error("a retransmission is answered otherwise")
			}
			p.wait(time.Minute)
			if ike, _ := p.engine.SAs(); ike != 0 {
				t.Errorf("%d IKE SAs stay", ike)
			}
		})
	}
}

// The same for answers: the attempt is over, and another follows.
func TestHostileIntermediateAnswer(t *testing.T) {
	for name, ps := range map[string][]wire.Payload{
		"nothing":        {},
		"refused":        {notify(wire.NotifyInvalidSyntax)},
		"a key":          {&wire.KE{Group: 36, Data: make([]byte, 1184)}},
		"one byte":       {&wire.KE{Group: 36, Data: []byte{1}}},
		"another method": {&wire.KE{Group: 37, Data: make([]byte, 1568)}},
		"a classical":    {&wire.KE{Group: 31, Data: bytes.Repeat([]byte{9}, 32)}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPuppet(t, false, nil)
			p.suite.AddKE[0] = wire.GroupMLKEM768
			p.called()
			p.initResp = p.initMessage(append(p.initPayloads(), notify(wire.NotifyIntermediateExchangeSupported))...)
			if sent := p.send(p.initResp); len(sent) != 1 {
				t.Fatalf("%d messages after IKE_SA_INIT: %v", len(sent), p.events)
			}
			p.float()
			p.send(p.seal(wire.ExchangeIKEIntermediate, wire.FlagResponse, 1, ps...))
			if p.has(ikev2.EventEstablished) || !p.has(ikev2.EventRetrying) {
				t.Errorf("%v", p.events)
			}
		})
	}
	t.Run("chosen without the promise", func(t *testing.T) {
		p := newPuppet(t, false, nil)
		p.suite.AddKE[0] = wire.GroupMLKEM768
		p.called()
		if sent := p.send(p.initMessage(p.initPayloads()...)); len(sent) > 0 {
			t.Errorf("goes on")
		}
	})
}

// askMultiKE asks for a child SA with an additional key exchange, which is then to
// follow.
func (p *puppet) askMultiKE() {
	p.t.Helper()
	p.esp = append(addKE(p.esp, wire.GroupMLKEM768), wire.Transform{Type: wire.TransformKE, ID: wire.GroupX25519})
	ke, err := keymat.NewKeyExchange(wire.GroupX25519, p.random)
	if err != nil {
		p.t.Fatal(err)
	}
	ask := append(p.childPayloads(0xabcd0002), &wire.Nonce{Data: make([]byte, 32)}, &wire.KE{Group: ke.Group(), Data: ke.Public()})
	_, ps := p.open(p.send(p.request(wire.ExchangeCreateChildSA, ask...))[0])
	link := wire.FindNotify(ps, wire.NotifyAdditionalKeyExchange)
	if link == nil || len(p.installed) != 1 {
		p.t.Fatalf("%s, %d child SAs", names(ps), len(p.installed))
	}
	p.link = link.Data
}

// IKE_FOLLOWUP_KE that nothing precedes is answered with STATE_NOT_FOUND, and
// one with a key exchange value that cannot be ends the IKE SA.
func TestHostileFollowup(t *testing.T) {
	key, err := keymat.NewKeyExchange(36, Random(3))
	if err != nil {
		t.Fatal(err)
	}
	valid := &wire.KE{Group: 36, Data: key.Public()}
	for _, c := range []struct {
		name string
		says func(link []byte) []wire.Payload
		want string
		up   bool
	}{
		{"no link", func([]byte) []wire.Payload { return []wire.Payload{valid} }, "STATE_NOT_FOUND", true},
		{"another link", func(l []byte) []wire.Payload {
			return []wire.Payload{valid, &wire.Notify{NotifyType: wire.NotifyAdditionalKeyExchange, Data: append(l, 1)}}
		}, "STATE_NOT_FOUND", true},
		{"valid", func(l []byte) []wire.Payload {
			return []wire.Payload{valid, &wire.Notify{NotifyType: wire.NotifyAdditionalKeyExchange, Data: l}}
		}, "KE", true},
		{"short", func(l []byte) []wire.Payload {
			return []wire.Payload{&wire.KE{Group: 36, Data: []byte{1}}, &wire.Notify{NotifyType: wire.NotifyAdditionalKeyExchange, Data: l}}
		}, "INVALID_SYNTAX", false},
		{"another method", func(l []byte) []wire.Payload {
			return []wire.Payload{&wire.KE{Group: 31, Data: bytes.Repeat([]byte{9}, 32)}, &wire.Notify{NotifyType: wire.NotifyAdditionalKeyExchange, Data: l}}
		}, "INVALID_SYNTAX", false},
		{"no key", func(l []byte) []wire.Payload {
			return []wire.Payload{&wire.Notify{NotifyType: wire.NotifyAdditionalKeyExchange, Data: l}}
		}, "INVALID_SYNTAX", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := connected(t)
			p.askMultiKE()
			sent := p.send(p.request(wire.ExchangeIKEFollowupKE, c.says(slices.Clone(p.link))...))
			_, ps := p.open(sent[0])
			if names(ps) != c.want || p.has(ikev2.EventDown) == c.up || (len(p.installed) == 2) != (c.want == "KE") {
				t.Errorf("%s, down %v, %d child SAs", names(ps), p.has(ikev2.EventDown), len(p.installed))
			}
			if c.up { // what was made, or not, is over
				sent = p.send(p.request(wire.ExchangeIKEFollowupKE, valid, &wire.Notify{NotifyType: wire.NotifyAdditionalKeyExchange, Data: p.link}))
				if _, ps = p.open(sent[0]); c.want == "KE" && names(ps) != "STATE_NOT_FOUND" {
					t.Errorf("again: %s", names(ps))
				}
			}
			p.wait(time.Minute)
			p.wait(time.Minute)
		})
	}
}
