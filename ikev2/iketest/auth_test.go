package iketest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// What is wrong with an IKE_AUTH is the responder's secret: every refusal has
// the same length and content (RFC 7296 section 2.21.2), leaves no child, and
// is repeated in the same bytes.
func TestRefusalsLookAlike(t *testing.T) {
	foo, bar := idPayload("@foo", false), idPayload("@bar", false)
	office, other := idPayload(AddrA, true), idPayload("192.0.2.99", true)
	refusals := []struct {
		name    string
		reason  ikev2.Reason
		payload func(p *puppet) []wire.Payload
	}{
		{"wrong key", ikev2.ReasonWrongKey, func(p *puppet) []wire.Payload { return []wire.Payload{foo, p.sign("azerty", foo), office} }},
		{"empty key", ikev2.ReasonWrongKey, func(p *puppet) []wire.Payload { return []wire.Payload{foo, p.sign("", foo), office} }},
		{"unknown identity", ikev2.ReasonUnknownIdentity, func(p *puppet) []wire.Payload { return []wire.Payload{bar, p.sign("qwerty", bar), office} }},
		{"another type of identity", ikev2.ReasonUnknownIdentity, func(p *puppet) []wire.Payload {
			id := &wire.ID{IDType: wire.IDKeyID, Data: []byte("foo")}
			return []wire.Payload{id, p.sign("qwerty", id), office}
		}},
		{"our own identity", ikev2.ReasonUnknownIdentity, func(p *puppet) []wire.Payload {
			id := idPayload(AddrA, false)
			return []wire.Payload{id, p.sign("qwerty", id), office}
		}},
		{"wrong responder", ikev2.ReasonUnknownIdentity, func(p *puppet) []wire.Payload { return []wire.Payload{foo, p.sign("qwerty", foo), other} }},
		{"AUTH of another identity", ikev2.ReasonWrongKey, func(p *puppet) []wire.Payload { return []wire.Payload{foo, p.sign("qwerty", bar), office} }},
		{"AUTH too short", ikev2.ReasonWrongKey, func(p *puppet) []wire.Payload {
			a := p.sign("qwerty", foo)
			return []wire.Payload{foo, &wire.Auth{Method: a.Method, Data: a.Data[:len(a.Data)-1]}, office}
		}},
		{"AUTH too long", ikev2.ReasonWrongKey, func(p *puppet) []wire.Payload {
			a := p.sign("qwerty", foo)
			return []wire.Payload{foo, &wire.Auth{Method: a.Method, Data: append(a.Data, 0)}, office}
		}},
		{"AUTH empty", ikev2.ReasonWrongKey, func(p *puppet) []wire.Payload {
			return []wire.Payload{foo, &wire.Auth{Method: wire.AuthSharedKey}, office}
		}},
		{"signature", ikev2.ReasonAuthMethod, method(wire.AuthDigitalSignature)},
		{"RSA signature", ikev2.ReasonAuthMethod, method(wire.AuthRSASignature)},
		{"ECDSA", ikev2.ReasonAuthMethod, method(wire.AuthECDSA256)},
		{"null authentication", ikev2.ReasonAuthMethod, method(wire.AuthNull)},
		{"method 0", ikev2.ReasonAuthMethod, method(0)},
		{"no AUTH", ikev2.ReasonAuthMethod, func(*puppet) []wire.Payload { return []wire.Payload{foo, office} }},
		{"EAP", ikev2.ReasonAuthMethod, func(*puppet) []wire.Payload {
			return []wire.Payload{foo, office, &wire.EAP{Data: []byte{3, 1, 0, 4}}}
		}},
		{"certificates", ikev2.ReasonAuthMethod, func(*puppet) []wire.Payload {
			return []wire.Payload{foo, &wire.Cert{Encoding: 4, Data: make([]byte, 3000)}, &wire.CertReq{Encoding: 4}, office}
		}},
	}
	for _, suite := range []keymat.IKESuite{gcm, cbc} {
		length := 0
		for _, r := range refusals {
			t.Run(fmt.Sprintf("%d/%s", suite.Encr, r.name), func(t *testing.T) {
				p := newPuppet(t, true, nil)
				p.suite = suite
				p.hello()
				ps := append(r.payload(p), p.childPayloads(0xabcd0001)...)
				n := p.refused(p.request(wire.ExchangeIKEAuth, ps...), r.reason)
				if length == 0 {
					length = n
				}
				if n != length {
					t.Errorf("refusal of %d bytes, the others have %d", n, length)
				}
			})
		}
	}
}

func method(m wire.AuthMethod) func(*puppet) []wire.Payload {
	return func(p *puppet) []wire.Payload {
		id := idPayload("@foo", false)
		return []wire.Payload{id, &wire.Auth{Method: m, Data: p.sign("qwerty", id).Data}, idPayload(AddrA, true)}
	}
}

// refused sends a request that must get AUTHENTICATION_FAILED and no more.
func (p *puppet) refused(request []byte, reason ikev2.Reason) int {
	p.t.Helper()
	sent := p.send(request)
	if len(sent) != 1 {
		p.t.Fatalf("%d answers", len(sent))
	}
	_, ps := p.open(sent[0])
	n, ok := ps[0].(*wire.Notify)
	if !ok || len(ps) != 1 || n.NotifyType != wire.NotifyAuthenticationFailed || len(n.Data)+len(n.SPI) > 0 || n.Protocol != 0 {
		p.t.Errorf("answer holds %s", names(ps))
	}
	if e, _ := p.last(ikev2.EventRefused); e.Reason != reason {
		p.t.Errorf("reported as %v, want %v", e.Reason, reason)
	}
	if p.has(ikev2.EventEstablished) || len(p.installed) > 0 {
		p.t.Error("it is up all the same")
	}
	if again := p.send(request); len(again) != 1 || !bytes.Equal(again[0], sent[0]) {
		p.t.Error("a retransmission gets another answer")
	}
	p.wait(time.Minute)
	if _, waiting := p.engine.Deadline(); waiting {
		p.t.Error("something is left of it")
	}
	return len(sent[0])
}

// A connection without a key lets nobody in, in neither role.
func TestNoKeyLetsNobodyIn(t *testing.T) {
	noKey := func(p *ikev2.Peer) { p.PSK = nil }
	p := newPuppet(t, true, noKey)
	p.hello()
	id := idPayload("@foo", false)
	p.refused(p.request(wire.ExchangeIKEAuth, append([]wire.Payload{id, p.sign("", id)}, p.childPayloads(0xabcd0001)...)...), ikev2.ReasonWrongKey)

	p = newPuppet(t, false, noKey)
	p.greet()
	idr := idPayload(AddrA, true)
	p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, append([]wire.Payload{idr, p.sign("", idr)}, p.childPayloads(0xabcd0001)...)...))
	if p.has(ikev2.EventEstablished) {
		t.Error("the initiator accepts a peer without a key")
	}
}

// A peer that says it is us is not, even if somebody configured it so: it could
// be our own words coming back.
func TestNobodyElseIsUs(t *testing.T) {
	p := newPuppet(t, true, func(p *ikev2.Peer) { p.RemoteID = p.LocalID })
	p.hello()
	id := idPayload(AddrA, false)
	p.refused(p.request(wire.ExchangeIKEAuth, append([]wire.Payload{id, p.sign("qwerty", id)}, p.childPayloads(0xabcd0001)...)...), ikev2.ReasonUnknownIdentity)
}

// A suite that one peer's configuration allows is no good for another's.
func TestSuiteOfAnotherPeer(t *testing.T) {
	p := newPuppet(t, true, nil)
	cfg, _ := Configs()
	strict := cfg.Peers[0]
	strict.IKE = []ikev2.Proposal{without(ikev2.DefaultIKEProposals()[0], func(x wire.Transform) bool { return x.KeyBits == 128 })}
	open := strict
	open.Name, open.RemoteID, open.IKE = "bar", identity("@bar"), nil
	p.engine = ikev2.New(ikev2.Config{Peers: []ikev2.Peer{strict, open}}, Random(1))
	p.hello()
	p.refused(p.request(wire.ExchangeIKEAuth, p.authPayloads()...), ikev2.ReasonNoProposal)
}

// Whoever can see the SPIs can send to a half-open SA. Nothing of it may spoil
// the real IKE_AUTH that follows (RFC 7296 section 2.21.2).
func TestHalfOpenSurvives(t *testing.T) {
	attacks := map[string]func(p *puppet) []byte{
		"checksum": func(p *puppet) []byte {
			b := p.seal(wire.ExchangeIKEAuth, 0, 1, p.authPayloads()...)
			b[len(b)-1] ^= 1
			return b
		},
		"ciphertext": func(p *puppet) []byte {
			b := p.seal(wire.ExchangeIKEAuth, 0, 1, p.authPayloads()...)
			b[len(b)/2] ^= 1
			return b
		},
		"first payload's type": func(p *puppet) []byte {
			b := p.seal(wire.ExchangeIKEAuth, 0, 1, p.authPayloads()...)
			b[wire.HeaderLen] = byte(wire.PayloadAuth)
			return b
		},
		"garbage": func(p *puppet) []byte {
			return p.clear(wire.ExchangeIKEAuth, 0, 1, &wire.Encrypted{Body: make([]byte, 200)})
		},
		"short garbage":       func(p *puppet) []byte { return p.clear(wire.ExchangeIKEAuth, 0, 1, &wire.Encrypted{Body: []byte{1}}) },
		"in the clear":        func(p *puppet) []byte { return p.clear(wire.ExchangeIKEAuth, 0, 1, p.authPayloads()...) },
		"unprotected failure": func(p *puppet) []byte { return p.clear(wire.ExchangeIKEAuth, 0, 1, failure) },
		"a fragment": func(p *puppet) []byte {
			return p.clear(wire.ExchangeIKEAuth, 0, 1, &wire.EncryptedFragment{Number: 1, Total: 1, Body: make([]byte, 64)})
		},
		"CREATE_CHILD_SA": func(p *puppet) []byte { return p.seal(wire.ExchangeCreateChildSA, 0, 1, p.newChild(0xabcd0002)...) },
		"rekeying":        func(p *puppet) []byte { return p.seal(wire.ExchangeCreateChildSA, 0, 1, p.initPayloads()...) },
		"INFORMATIONAL":   func(p *puppet) []byte { return p.seal(wire.ExchangeInformational, 0, 1) },
		"Delete": func(p *puppet) []byte {
			return p.seal(wire.ExchangeInformational, 0, 1, &wire.Delete{Protocol: wire.ProtocolIKE})
		},
		"IKE_INTERMEDIATE":     func(p *puppet) []byte { return p.seal(wire.ExchangeIKEIntermediate, 0, 1) },
		"IKE_SESSION_RESUME":   func(p *puppet) []byte { return p.seal(wire.ExchangeIKESessionResume, 0, 1) },
		"unknown exchange":     func(p *puppet) []byte { return p.seal(240, 0, 1) },
		"message ID 0":         func(p *puppet) []byte { return p.seal(wire.ExchangeIKEAuth, 0, 0, p.authPayloads()...) },
		"message ID 2":         func(p *puppet) []byte { return p.seal(wire.ExchangeIKEAuth, 0, 2, p.authPayloads()...) },
		"message ID 2^32-1":    func(p *puppet) []byte { return p.seal(wire.ExchangeIKEAuth, 0, 0xffffffff, p.authPayloads()...) },
		"a response":           func(p *puppet) []byte { return p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, p.authPayloads()...) },
		"the same IKE_SA_INIT": func(p *puppet) []byte { return p.initReq },
		"another IKE_SA_INIT": func(p *puppet) []byte {
			return p.initMessage(append(p.initPayloads(), &wire.VendorID{Data: []byte("x")})...)
		},
		"IKE_SA_INIT, protected": func(p *puppet) []byte { return p.seal(wire.ExchangeIKESAInit, 0, 1, p.authPayloads()...) },
		"wrong responder SPI":    func(p *puppet) []byte { return flip(p.seal(wire.ExchangeIKEAuth, 0, 1, p.authPayloads()...), 15) },
		"wrong initiator SPI":    func(p *puppet) []byte { return flip(p.seal(wire.ExchangeIKEAuth, 0, 1, p.authPayloads()...), 7) },
		"responder's flag":       func(p *puppet) []byte { return flip(p.seal(wire.ExchangeIKEAuth, 0, 1, p.authPayloads()...), 19) },
		"truncated": func(p *puppet) []byte {
			b := p.seal(wire.ExchangeIKEAuth, 0, 1, p.authPayloads()...)
			return b[:len(b)-4]
		},
		"lengthened":             func(p *puppet) []byte { return append(p.seal(wire.ExchangeIKEAuth, 0, 1, p.authPayloads()...), 0) },
		"keepalive":              func(*puppet) []byte { return []byte{0xff} },
		"nothing":                func(*puppet) []byte { return nil },
		"major version 1":        func(p *puppet) []byte { b := p.seal(wire.ExchangeIKEAuth, 0, 1); b[17] = 0x10; return b },
		"header without payload": func(p *puppet) []byte { return p.clear(wire.ExchangeIKEAuth, 0, 1) },
	}
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			p := newPuppet(t, true, nil)
			p.hello()
			events := len(p.events)
			elsewhere := p.path
			elsewhere.Remote = ToA.Local
			for range 3 {
				p.sendFrom(elsewhere, attack(p))
			}
			if !strings.HasSuffix(name, "IKE_SA_INIT") && len(p.events) != events {
				t.Errorf("it has an effect: %v", p.events[events:])
			}
			if p.send(p.request(wire.ExchangeIKEAuth, p.authPayloads()...)); len(p.installed) != 1 {
				t.Errorf("the peer does not get in any more: %v", p.engine.Drops())
			}
		})
	}
}

var failure = &wire.Notify{NotifyType: wire.NotifyAuthenticationFailed}

func flip(b []byte, i int) []byte {
	b[i] ^= 0x08
	return b
}

// newChild is a CREATE_CHILD_SA for a child.
func (p *puppet) newChild(spi uint32) []wire.Payload {
	return slices.Insert(p.childPayloads(spi), 1, wire.Payload(&wire.Nonce{Data: bytes.Repeat([]byte{7}, 32)}))
}

// A responder waits 30 s for IKE_AUTH, not less and not more.
func TestHalfOpenEndsAfter30Seconds(t *testing.T) {
	p := newPuppet(t, true, nil)
	p.hello()
	at, ok := p.engine.Deadline()
	if !ok || at.Sub(p.now) != 30*time.Second {
		t.Fatalf("ends after %v", at.Sub(p.now))
	}
	if p.wait(30*time.Second - 1); p.engine.Idle() {
		t.Error("ends early")
	}
	if sent := p.wait(1); !p.engine.Idle() || len(sent) > 0 {
		t.Errorf("lives on, or says something: %x", sent)
	}
	if sent := p.send(p.request(wire.ExchangeIKEAuth, p.authPayloads()...)); len(sent) > 0 {
		t.Errorf("answers still: %x", sent)
	}
}

// An initiator accepts nobody but the peer it wants, tells it so under the
// SA's protection, and carries no traffic.
func TestInitiatorRefusesResponder(t *testing.T) {
	idr, wrong := idPayload(AddrA, true), idPayload("192.0.2.99", true)
	refusals := []struct {
		name   string
		reason ikev2.Reason
		answer func(p *puppet) []wire.Payload
	}{
		{"wrong identity", ikev2.ReasonWrongResponder, func(p *puppet) []wire.Payload { return []wire.Payload{wrong, p.sign("qwerty", wrong)} }},
		{"wrong key", ikev2.ReasonWrongKey, func(p *puppet) []wire.Payload { return []wire.Payload{idr, p.sign("azerty", idr)} }},
		{"signature", ikev2.ReasonAuthMethod, func(p *puppet) []wire.Payload {
			return []wire.Payload{idr, &wire.Auth{Method: wire.AuthDigitalSignature, Data: p.sign("qwerty", idr).Data}}
		}},
		{"our own AUTH", ikev2.ReasonWrongKey, func(p *puppet) []wire.Payload {
			data := keymat.PSKAuth(p.prf, []byte("qwerty"), p.initReq, p.nr, p.keys.SKpi, idr.Body(), nil)
			return []wire.Payload{idr, &wire.Auth{Method: wire.AuthSharedKey, Data: data}}
		}},
	}
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			p := newPuppet(t, false, nil)
			p.greet()
			sent := p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, append(r.answer(p), p.childPayloads(0xabcd0001)...)...))
			p.toldOff(sent, wire.NotifyAuthenticationFailed)
			if e, _ := p.last(ikev2.EventRefused); e.Reason != r.reason {
				t.Errorf("reported as %v, want %v", e.Reason, r.reason)
			}
		})
	}
	t.Run("malformed", func(t *testing.T) {
		p := newPuppet(t, false, nil)
		p.greet()
		p.toldOff(p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, idr, idr, p.sign("qwerty", idr))), wire.NotifyInvalidSyntax)
	})
}

// toldOff: the engine tells the responder why it leaves (RFC 7296 section
// 2.21.2) and tries again later.
func (p *puppet) toldOff(sent [][]byte, why wire.NotifyType) {
	p.t.Helper()
	if len(sent) != 1 {
		p.t.Fatalf("%d messages", len(sent))
	}
	h, ps := p.open(sent[0])
	if h.Exchange != wire.ExchangeInformational || h.MessageID != 2 || len(ps) != 1 || wire.FindNotify(ps, why) == nil {
		p.t.Errorf("%v %d holds %s", h.Exchange, h.MessageID, names(ps))
	}
	p.deliver(p.path, p.seal(wire.ExchangeInformational, wire.FlagResponse, 2))
	if p.has(ikev2.EventEstablished) || len(p.installed) > 0 || !p.has(ikev2.EventRetrying) {
		p.t.Errorf("events %v", p.events)
	}
}

// The roles are not to be mixed up: a responder that sends the IKE_AUTH
// request itself, with the right key, stays unauthenticated.
func TestResponderCannotAskForAuthentication(t *testing.T) {
	p := newPuppet(t, false, nil)
	p.greet()
	id, me := idPayload(AddrA, false), idPayload("@foo", true)
	sent := p.send(p.seal(wire.ExchangeIKEAuth, 0, 0, append([]wire.Payload{id, p.sign("qwerty", id), me}, p.childPayloads(0xabcd0001)...)...))
	if len(sent) > 0 || p.has(ikev2.EventEstablished) || p.has(ikev2.EventRefused) {
		t.Errorf("it is answered: %v", p.events)
	}
	p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, p.authPayloads()...))
	if !p.has(ikev2.EventEstablished) {
		t.Error("the right answer comes too late")
	}
}
