package iketest

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// What a responder makes of an odd IKE_SA_INIT: an answer, a refusal or
// silence; and it keeps state for an answer only.
func TestOddInitRequests(t *testing.T) {
	const (
		silence = wire.NotifyType(0xffff)
		answer  = wire.NotifyType(0)
	)
	tests := []struct {
		name   string
		want   wire.NotifyType
		change func(p *puppet, m *wire.Message)
	}{
		{"as it should be", answer, func(*puppet, *wire.Message) {}},
		{"later minor version", answer, func(_ *puppet, m *wire.Message) { m.Minor = 7 }},
		{"initiator SPI zero", silence, func(_ *puppet, m *wire.Message) { m.InitiatorSPI = wire.SPI{} }},
		{"responder SPI set", silence, func(_ *puppet, m *wire.Message) { m.ResponderSPI = wire.SPI{1} }},
		{"message ID 1", silence, func(_ *puppet, m *wire.Message) { m.MessageID = 1 }},
		{"no initiator flag", silence, func(_ *puppet, m *wire.Message) { m.Flags = 0 }},
		{"a response", silence, func(_ *puppet, m *wire.Message) { m.Flags |= wire.FlagResponse }},
		{"unknown payload", answer, add(&wire.Unknown{PayloadType: 200, Body: []byte("?")})},
		{"critical unknown payload", silence, add(&wire.Unknown{PayloadType: 200, Critical: true})},
		{"unknown notify", answer, add(&wire.Notify{NotifyType: 40000, Data: []byte("?")})},
		{"an error notify", answer, add(&wire.Notify{NotifyType: wire.NotifyAuthenticationFailed})},
		{"a cookie nobody asked for", answer, add(&wire.Notify{NotifyType: wire.NotifyCookie, Data: []byte("x")})},
		{"vendor ID", answer, add(&wire.VendorID{Data: []byte("strongSwan")})},
		{"second SA", silence, func(_ *puppet, m *wire.Message) { m.Payloads = append(m.Payloads, m.Payloads[0]) }},
		{"second KE", silence, func(_ *puppet, m *wire.Message) { m.Payloads = append(m.Payloads, m.Payloads[1]) }},
		{"no SA", silence, func(_ *puppet, m *wire.Message) { m.Payloads = m.Payloads[1:] }},
		{"no nonce", silence, func(_ *puppet, m *wire.Message) { m.Payloads = m.Payloads[:2] }},
		{"only notifies", silence, func(_ *puppet, m *wire.Message) { m.Payloads = []wire.Payload{failure} }},
		{"an identity", silence, add(idPayload("@foo", false))},
		{"nonce of 15", silence, nonce(15)},
		{"nonce of 16", answer, nonce(16)},
		{"nonce of 256", answer, nonce(256)},
		{"nonce of 257", silence, nonce(257)},
		{"nonce of 31 with HMAC-SHA2-512", silence, func(p *puppet, m *wire.Message) {
			nonce(31)(p, m)
			offer(m, wire.Transform{Type: wire.TransformPRF, ID: wire.PRFHMACSHA2512})
		}},
		{"nonce of 32 with HMAC-SHA2-512", answer, func(_ *puppet, m *wire.Message) {
			offer(m, wire.Transform{Type: wire.TransformPRF, ID: wire.PRFHMACSHA2512})
		}},
		{"group we do not have, with one that we do", wire.NotifyInvalidKEPayload, func(_ *puppet, m *wire.Message) {
			p := proposal(m)
			p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformKE, ID: wire.GroupMODP1024})
			m.Payloads[1] = &wire.KE{Group: wire.GroupMODP1024, Data: make([]byte, 128)}
		}},
		{"KE of a group that is not proposed", wire.NotifyInvalidKEPayload, func(_ *puppet, m *wire.Message) {
			m.Payloads[1] = &wire.KE{Group: wire.GroupECP256, Data: make([]byte, 64)}
		}},
		{"KE a byte short", silence, func(_ *puppet, m *wire.Message) { ke(m).Data = ke(m).Data[1:] }},
		{"KE a byte long", silence, func(_ *puppet, m *wire.Message) { ke(m).Data = append(ke(m).Data, 0) }},
		{"KE empty", silence, func(_ *puppet, m *wire.Message) { ke(m).Data = nil }},
		{"no group", wire.NotifyNoProposalChosen, omit(wire.TransformKE)},
		{"no PRF", wire.NotifyNoProposalChosen, omit(wire.TransformPRF)},
		{"no cipher", wire.NotifyNoProposalChosen, omit(wire.TransformEncr)},
		{"AEAD with integrity", wire.NotifyNoProposalChosen, func(_ *puppet, m *wire.Message) {
			offer(m, wire.Transform{Type: wire.TransformInteg, ID: wire.IntegHMACSHA2256128})
		}},
		{"AEAD with integrity NONE", answer, func(_ *puppet, m *wire.Message) {
			offer(m, wire.Transform{Type: wire.TransformInteg, ID: wire.IntegNone})
		}},
		{"CBC without integrity", wire.NotifyNoProposalChosen, cipher(wire.EncrAESCBC, 128)},
		{"no key length", wire.NotifyNoProposalChosen, cipher(wire.EncrAESGCM16, 0)},
		{"key length 1", wire.NotifyNoProposalChosen, cipher(wire.EncrAESGCM16, 1)},
		{"key length 192", wire.NotifyNoProposalChosen, cipher(wire.EncrAESGCM16, 192)},
		{"3DES", wire.NotifyNoProposalChosen, cipher(wire.Encr3DES, 0)},
		{"NULL", wire.NotifyNoProposalChosen, cipher(wire.EncrNULL, 0)},
		{"ESP's protocol", wire.NotifyNoProposalChosen, func(_ *puppet, m *wire.Message) {
			proposal(m).Protocol, proposal(m).SPI = wire.ProtocolESP, []byte{1, 2, 3, 4}
		}},
		{"a type of transform to come", wire.NotifyNoProposalChosen, func(_ *puppet, m *wire.Message) {
			p := proposal(m)
			p.Transforms = append(p.Transforms, wire.Transform{Type: 6, ID: wire.GroupMLKEM768})
		}},
		{"a type of transform to come, or not", answer, func(_ *puppet, m *wire.Message) {
			p := proposal(m)
			p.Transforms = append(p.Transforms, wire.Transform{Type: 6, ID: 0})
		}},
		{"foreign alternatives", answer, func(_ *puppet, m *wire.Message) {
			p := proposal(m)
			p.Transforms = append([]wire.Transform{{Type: wire.TransformEncr, ID: wire.Encr3DES}, {Type: wire.TransformPRF, ID: wire.PRFHMACSHA1}}, p.Transforms...)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPuppet(t, true, nil)
			p.prepare()
			m := &wire.Message{Header: wire.Header{InitiatorSPI: p.spii, Major: 2, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagInitiator}, Payloads: p.initPayloads()}
			tt.change(p, m)
			sent := p.send(m.Append(nil))
			got := silence
			if len(sent) == 1 {
				got = p.initAnswer(m, sent[0])
			}
			if got != tt.want {
				t.Errorf("answered by %v, want %v", got, tt.want)
			}
			if p.engine.Idle() == (got == answer) {
				t.Errorf("keeps state: %v", !p.engine.Idle())
			}
		})
	}
}

// initAnswer is the notify that an answer refuses with, or 0.
func (p *puppet) initAnswer(req *wire.Message, b []byte) wire.NotifyType {
	m, err := wire.Parse(b)
	if err != nil {
		p.t.Fatal(err)
	}
	if m.InitiatorSPI != req.InitiatorSPI || m.MessageID != 0 || m.Flags != wire.FlagResponse || len(b) > len(req.Append(nil))+200 {
		p.t.Errorf("answer's header: %+v", m.Header)
	}
	if _, ok := wire.Find[*wire.SA](m.Payloads); ok {
		return 0
	}
	n, _ := wire.Find[*wire.Notify](m.Payloads)
	if m.ResponderSPI != (wire.SPI{}) {
		p.t.Error("a refusal has a responder SPI")
	}
	if n.NotifyType == wire.NotifyInvalidKEPayload && !bytes.Equal(n.Data, []byte{0, byte(wire.GroupX25519)}) {
		p.t.Errorf("asks for group %x", n.Data)
	}
	return n.NotifyType
}

func proposal(m *wire.Message) *wire.Proposal { return &m.Payloads[0].(*wire.SA).Proposals[0] }
func ke(m *wire.Message) *wire.KE             { return m.Payloads[1].(*wire.KE) }

// offer proposes x and nothing else of its type.
func offer(m *wire.Message, x wire.Transform) {
	p := proposal(m)
	p.Transforms = append(without(p.Transforms, func(y wire.Transform) bool { return y.Type == x.Type }), x)
}

func add(x wire.Payload) func(*puppet, *wire.Message) {
	return func(_ *puppet, m *wire.Message) { m.Payloads = append(m.Payloads, x) }
}

func omit(t wire.TransformType) func(*puppet, *wire.Message) {
	return func(_ *puppet, m *wire.Message) {
		p := proposal(m)
		p.Transforms = without(p.Transforms, func(x wire.Transform) bool { return x.Type == t })
	}
}

func nonce(n int) func(*puppet, *wire.Message) {
	return func(_ *puppet, m *wire.Message) { m.Payloads[2] = &wire.Nonce{Data: bytes.Repeat([]byte{9}, n)} }
}

func cipher(id, bits uint16) func(*puppet, *wire.Message) {
	return func(_ *puppet, m *wire.Message) {
		offer(m, wire.Transform{Type: wire.TransformEncr, ID: id, KeyBits: bits})
	}
}

// A retransmitted IKE_SA_INIT gets the same bytes; other bytes under the same
// SPI, which anybody can send who saw it, get an SA of their own.
func TestRepeatedInit(t *testing.T) {
	p := newPuppet(t, true, nil)
	p.hello()
	p.path.Encap = false
	p.path = ikev2.Path{Local: ToB.Local, Remote: ToB.Remote}
	if again := p.send(p.initReq); len(again) != 1 || !bytes.Equal(again[0], p.initResp) {
		t.Error("another answer the second time")
	}
	forged := p.initMessage(append(p.initPayloads(), &wire.VendorID{Data: []byte("x")})...)
	if other := p.send(forged); len(other) != 1 || bytes.Equal(other[0], p.initResp) {
		t.Error("a forger gets the same SA")
	}
	p.float()
	p.send(p.request(wire.ExchangeIKEAuth, p.authPayloads()...))
	if len(p.installed) != 1 {
		t.Error("the first SA is spoilt")
	}
	p.path = ikev2.Path{Local: ToB.Local, Remote: ToB.Remote}
	if sent := p.send(p.initReq); len(sent) > 0 {
		t.Error("an old IKE_SA_INIT is answered after authentication")
	}
}

// Another major version is told ours, not too often, and IKEv1 nothing.
func TestOtherMajorVersions(t *testing.T) {
	p := newPuppet(t, true, nil)
	p.prepare()
	b := p.initMessage(p.initPayloads()...)
	b[17] = 0x10
	if len(p.send(b)) > 0 {
		t.Error("IKEv1 is answered")
	}
	b[17] = 0x30
	answers := 0
	for range 300 {
		for _, a := range p.send(b) {
			answers++
			m, err := wire.Parse(a)
			if err != nil || m.Major != 2 || m.Flags&wire.FlagResponse == 0 || wire.FindNotify(m.Payloads, wire.NotifyInvalidMajorVersion) == nil || len(a) > len(b) {
				t.Fatalf("answer %x: %v", a, err)
			}
		}
	}
	if answers != 100 {
		t.Errorf("%d answers in a second", answers)
	}
	b[19] |= 0x20
	p.now = p.now.Add(time.Second)
	if len(p.send(b)) > 0 {
		t.Error("a response is answered")
	}
	if !p.engine.Idle() {
		t.Error("state is kept")
	}
}

// Key exchange values outside their group never get a peer anywhere (RFC 6989).
// The responder finds out in IKE_AUTH and lets go at once.
func TestBadKeyExchangeValues(t *testing.T) {
	ones := bytes.Repeat([]byte{0xff}, 256)
	for name, bad := range map[string]*wire.KE{
		"x25519 zero":  {Group: wire.GroupX25519, Data: make([]byte, 32)},
		"x25519 one":   {Group: wire.GroupX25519, Data: append([]byte{1}, make([]byte, 31)...)},
		"P-256 zero":   {Group: wire.GroupECP256, Data: make([]byte, 64)},
		"P-256 off":    {Group: wire.GroupECP256, Data: ones[:64]},
		"MODP 0":       {Group: wire.GroupMODP2048, Data: make([]byte, 256)},
		"MODP 1":       {Group: wire.GroupMODP2048, Data: append(make([]byte, 255), 1)},
		"MODP above p": {Group: wire.GroupMODP2048, Data: ones},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPuppet(t, true, nil)
			p.suite.Group = bad.Group
			p.prepare()
			ps := p.initPayloads()
			good := ps[1]
			ps[1] = bad
			sent := p.send(p.initMessage(ps...))
			if len(sent) == 1 {
				p.learn(sent[0])
				if sent := p.send(p.request(wire.ExchangeIKEAuth, p.authPayloads()...)); len(sent) > 0 || !p.engine.Idle() {
					t.Error("it is worth an answer or a state")
				}
			}

			q := newPuppet(t, false, func(x *ikev2.Peer) {
				x.IKE = []ikev2.Proposal{without(ikev2.DefaultIKEProposals()[0], func(x wire.Transform) bool { return x.Type == wire.TransformKE && x.ID != bad.Group })}
			})
			q.suite.Group = bad.Group
			q.called()
			ps = q.initPayloads()
			ps[1] = bad
			if sent := q.send(q.initMessage(ps...)); len(sent) > 0 {
				t.Error("the initiator goes on")
			}
			if sent := q.send(q.initResp); len(sent) != 1 {
				t.Errorf("the right answer comes too late for %v", good.Type())
			}
		})
	}
}

// An initiator waits for an answer that works, whatever comes before it: nothing
// in IKE_SA_INIT is protected (RFC 7296 section 2.21.1).
func TestForgedInitAnswers(t *testing.T) {
	notify := func(n wire.NotifyType, data ...byte) func(*puppet) []byte {
		return func(p *puppet) []byte { return p.initMessage(&wire.Notify{NotifyType: n, Data: data}) }
	}
	changed := func(f func(m *wire.Message)) func(*puppet) []byte {
		return func(p *puppet) []byte {
			m := &wire.Message{Header: wire.Header{InitiatorSPI: p.spii, ResponderSPI: p.spir, Major: 2, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagResponse}, Payloads: p.initPayloads()}
			f(m)
			return m.Append(nil)
		}
	}
	for name, forge := range map[string]func(*puppet) []byte{
		"NO_PROPOSAL_CHOSEN":    notify(wire.NotifyNoProposalChosen),
		"AUTHENTICATION_FAILED": notify(wire.NotifyAuthenticationFailed),
		"INVALID_SYNTAX":        notify(wire.NotifyInvalidSyntax),
		"INVALID_MAJOR_VERSION": notify(wire.NotifyInvalidMajorVersion),
		"INVALID_IKE_SPI":       notify(wire.NotifyInvalidIKESPI),
		"an error to come":      notify(8191),
		"same group":            notify(wire.NotifyInvalidKEPayload, 0, byte(wire.GroupX25519)),
		"group 2, not proposed": notify(wire.NotifyInvalidKEPayload, 0, byte(wire.GroupMODP1024)),
		"group 0":               notify(wire.NotifyInvalidKEPayload, 0, 0),
		"group of one byte":     notify(wire.NotifyInvalidKEPayload, 31),
		"no group":              notify(wire.NotifyInvalidKEPayload),
		"empty cookie":          notify(wire.NotifyCookie),
		"cookie of 65":          notify(wire.NotifyCookie, make([]byte, 65)...),
		"redirect":              notify(wire.NotifyRedirect, 1, 4, 192, 0, 2, 1),
		"nothing":               changed(func(m *wire.Message) { m.Payloads = nil }),
		"responder SPI zero":    changed(func(m *wire.Message) { m.ResponderSPI = wire.SPI{} }),
		"two proposals": changed(func(m *wire.Message) {
			s := m.Payloads[0].(*wire.SA)
			s.Proposals = append(s.Proposals, s.Proposals[0])
		}),
		"no proposal of ours": changed(func(m *wire.Message) { offer(m, wire.Transform{Type: wire.TransformEncr, ID: wire.Encr3DES}) }),
		"two ciphers": changed(func(m *wire.Message) {
			p := proposal(m)
			p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformEncr, ID: wire.EncrAESGCM16, KeyBits: 256})
		}),
		"another group's KE": changed(func(m *wire.Message) { m.Payloads[1] = &wire.KE{Group: wire.GroupECP256, Data: make([]byte, 64)} }),
		"another group in both": changed(func(m *wire.Message) {
			offer(m, wire.Transform{Type: wire.TransformKE, ID: wire.GroupECP256})
			m.Payloads[1] = &wire.KE{Group: wire.GroupECP256, Data: make([]byte, 64)}
		}),
		"KE all zero": changed(func(m *wire.Message) { m.Payloads[1] = &wire.KE{Group: wire.GroupX25519, Data: make([]byte, 32)} }),
		"short nonce, HMAC-SHA2-512": changed(func(m *wire.Message) {
			offer(m, wire.Transform{Type: wire.TransformPRF, ID: wire.PRFHMACSHA2512})
			m.Payloads[2] = &wire.Nonce{Data: make([]byte, 16)}
		}),
		"message ID 1":        changed(func(m *wire.Message) { m.MessageID = 1 }),
		"initiator's flag":    changed(func(m *wire.Message) { m.Flags |= wire.FlagInitiator }),
		"other initiator SPI": changed(func(m *wire.Message) { m.InitiatorSPI[0] ^= 1 }),
		"other exchange":      changed(func(m *wire.Message) { m.Exchange = wire.ExchangeInformational }),
		"critical payload": changed(func(m *wire.Message) {
			m.Payloads = append(m.Payloads, &wire.Unknown{PayloadType: 222, Critical: true})
		}),
		"our own request": func(p *puppet) []byte { return p.initReq },
		"garbage":         func(*puppet) []byte { return bytes.Repeat([]byte{0xa5}, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPuppet(t, false, nil)
			p.called()
			for range 10 {
				if sent := p.send(forge(p)); len(sent) > 0 {
					t.Fatalf("the initiator sends %d messages", len(sent))
				}
			}
			p.answered()
		})
	}
	t.Run("another address", func(t *testing.T) {
		p := newPuppet(t, false, nil)
		p.called()
		elsewhere := ToA
		elsewhere.Remote = netip.MustParseAddrPort("192.0.2.66:500")
		if sent := p.sendFrom(elsewhere, p.initResp); len(sent) > 0 {
			t.Error("it is believed")
		}
		p.answered()
	})
}

// answered: the engine is as it was. A cookie still makes it repeat its
// request under no responder's SPI, and the true answer still works.
func (p *puppet) answered() {
	p.t.Helper()
	sent := p.send(p.initMessage(&wire.Notify{NotifyType: wire.NotifyCookie, Data: []byte("last")}))
	if len(sent) != 1 {
		p.t.Fatalf("%d retries", len(sent))
	}
	p.initReq = sent[0]
	if h, _ := wire.ParseHeader(sent[0]); h.ResponderSPI != (wire.SPI{}) {
		p.t.Errorf("the request has taken the responder SPI %x", h.ResponderSPI)
	}
	if sent := p.send(p.initResp); len(sent) != 1 {
		p.t.Fatalf("%d messages after the true answer", len(sent))
	}
	p.float()
	p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, p.authPayloads()...))
	if !p.has(ikev2.EventEstablished) || p.has(ikev2.EventGaveUp) || len(p.installed) != 1 {
		p.t.Errorf("not up: %v", p.events)
	}
}

// A responder that asks for a new cookie each time, or sends us from group to
// group, is not followed for ever.
func TestEndlessRetries(t *testing.T) {
	for name, ask := range map[string]func(i int) *wire.Notify{
		"cookies": func(i int) *wire.Notify { return &wire.Notify{NotifyType: wire.NotifyCookie, Data: []byte{byte(i)}} },
		"groups": func(i int) *wire.Notify {
			return &wire.Notify{NotifyType: wire.NotifyInvalidKEPayload, Data: []byte{0, []byte{19, 20}[i%2]}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPuppet(t, false, nil)
			p.called()
			followed := 0
			for i := range 50 {
				followed += len(p.send(p.initMessage(ask(i))))
			}
			if followed == 0 || followed > 5 {
				t.Errorf("%d of 50 are followed", followed)
			}
		})
	}
}

// The retry that a cookie asks for begins with it and repeats SPI, nonce and
// key exchange value (RFC 7296 section 2.6); it is the message that AUTH signs.
func TestCookieRetry(t *testing.T) {
	p := newPuppet(t, false, nil)
	p.called()
	first, _ := wire.Parse(p.initReq)
	sent := p.send(p.initMessage(&wire.Notify{NotifyType: wire.NotifyCookie, Data: []byte("oatmeal")}))
	if len(sent) != 1 {
		t.Fatalf("%d retries", len(sent))
	}
	m, err := wire.Parse(sent[0])
	if err != nil {
		t.Fatal(err)
	}
	n, ok := m.Payloads[0].(*wire.Notify)
	if !ok || n.NotifyType != wire.NotifyCookie || string(n.Data) != "oatmeal" {
		t.Errorf("begins with %s", names(m.Payloads))
	}
	rest := wire.Message{Header: m.Header, Payloads: m.Payloads[1:]}
	if !bytes.Equal(rest.Append(nil), first.Append(nil)) {
		t.Error("the rest is another message")
	}
	if again := p.send(p.initMessage(&wire.Notify{NotifyType: wire.NotifyCookie, Data: []byte("oatmeal")})); len(again) > 0 {
		t.Error("a duplicate of the cookie is answered")
	}
	p.initReq = sent[0]
	p.answered()
}

// Our own IKE_SA_INIT, sent back to us, is not a peer.
func TestReflection(t *testing.T) {
	p := newPuppet(t, false, nil)
	p.called()
	if sent := p.send(p.initReq); len(sent) > 0 || p.engine.Drops()["ike_reflected"] != 1 {
		t.Errorf("%d answers, %v", len(sent), p.engine.Drops())
	}
}

// A forger who sees the first request and answers before the peer delays a
// connection at most.
func TestForgerIsFirst(t *testing.T) {
	for name, forged := range map[string]*wire.Notify{
		"NO_PROPOSAL_CHOSEN":    {NotifyType: wire.NotifyNoProposalChosen},
		"AUTHENTICATION_FAILED": {NotifyType: wire.NotifyAuthenticationFailed},
		"INVALID_KE_PAYLOAD":    {NotifyType: wire.NotifyInvalidKEPayload, Data: []byte{0, byte(wire.GroupECP384)}},
		"COOKIE":                {NotifyType: wire.NotifyCookie, Data: []byte("poison")},
	} {
		t.Run(name, func(t *testing.T) {
			n, a, b := Situation(Configs())
			n.Link = func(p Packet) []time.Duration {
				if m, err := wire.Parse(p.Payload); err == nil && p.Number == 0 {
					answer := wire.Message{Header: m.Header, Payloads: []wire.Payload{forged}}
					answer.Flags = wire.FlagResponse
					n.Inject(Packet{From: p.To, To: p.From, Payload: answer.Append(nil)})
				}
				if p.Number == 1 {
					return []time.Duration{time.Millisecond}
				}
				return soon
			}
			connectFor(5*time.Second)(n, a, b)
			faultless(t, n)
			if err := Agree(a, b); err != nil || len(a.In) != 1 {
				t.Errorf("%d child SAs, %v\n%s", len(a.In), err, n.Transcript())
			}
		})
	}
}

// Every suite of this issue, negotiated and used between two engines.
func TestSuites(t *testing.T) {
	ciphers := []keymat.IKESuite{
		{Encr: wire.EncrAESGCM16, KeyBits: 128}, {Encr: wire.EncrAESGCM16, KeyBits: 256},
		{Encr: wire.EncrAESCBC, KeyBits: 128, Integ: wire.IntegHMACSHA2256128},
		{Encr: wire.EncrAESCBC, KeyBits: 256, Integ: wire.IntegHMACSHA2384192},
		{Encr: wire.EncrAESCBC, KeyBits: 256, Integ: wire.IntegHMACSHA2512256},
	}
	groups := []uint16{wire.GroupX25519, wire.GroupECP256, wire.GroupECP384, wire.GroupECP521, wire.GroupMODP2048, wire.GroupMODP3072, wire.GroupMODP4096}
	prfs := []uint16{wire.PRFHMACSHA2256, wire.PRFHMACSHA2384, wire.PRFHMACSHA2512}
	for i, g := range groups {
		s := ciphers[i%len(ciphers)]
		s.PRF, s.Group = prfs[i%len(prfs)], g
		trySuite(t, s)
	}
	for i, s := range ciphers {
		s.PRF, s.Group = prfs[i%len(prfs)], wire.GroupX25519
		trySuite(t, s)
	}
}

// trySuite lets A accept everything and B offer one thing, for IKE and ESP.
func trySuite(t *testing.T, s keymat.IKESuite) {
	t.Helper()
	cfgA, cfgB := Configs()
	cfgB.Peers[0].IKE, cfgB.Peers[0].PostQuantum.Mode = []ikev2.Proposal{transforms(s)}, ikev2.ModeOff
	esp := ikev2.Proposal{{Type: wire.TransformEncr, ID: s.Encr, KeyBits: s.KeyBits}, {Type: wire.TransformESN, ID: wire.ESNYes}}
	if s.Integ != 0 {
		esp = append(esp, wire.Transform{Type: wire.TransformInteg, ID: s.Integ})
	}
	cfgB.Peers[0].Children[0].ESP = []ikev2.Proposal{esp}
	n, a, b := Situation(cfgA, cfgB)
	connectFor(time.Second)(n, a, b)
	faultless(t, n)
	e, _ := b.Last(ikev2.EventEstablished)
	c, _ := b.Last(ikev2.EventChildUp)
	want := ikev2.ESPSuite{Encr: s.Encr, KeyBits: s.KeyBits, Integ: s.Integ, ESN: true}
	if err := Agree(a, b); err != nil || len(a.In) != 1 || e.Suite != s || c.ESP != want {
		t.Errorf("%v: IKE %v, ESP %v, %v", s, e.Suite, c.ESP, err)
	}
}

// Sequence numbers are long where both sides can, short where one cannot, and
// nothing where they have none in common.
func TestESN(t *testing.T) {
	no, yes := wire.Transform{Type: wire.TransformESN, ID: wire.ESNNo}, wire.Transform{Type: wire.TransformESN, ID: wire.ESNYes}
	for _, tt := range []struct {
		a, b []wire.Transform
		want string
	}{
		{[]wire.Transform{yes, no}, []wire.Transform{yes, no}, "long"},
		{[]wire.Transform{no, yes}, []wire.Transform{yes, no}, "short"},
		{[]wire.Transform{yes, no}, []wire.Transform{no}, "short"},
		{[]wire.Transform{yes, no}, []wire.Transform{yes}, "long"},
		{[]wire.Transform{no}, []wire.Transform{yes, no}, "short"},
		{[]wire.Transform{yes}, []wire.Transform{no, yes}, "long"},
		{[]wire.Transform{yes}, []wire.Transform{no}, "none"},
		{[]wire.Transform{no}, []wire.Transform{yes}, "none"},
		{[]wire.Transform{yes, no}, nil, "short"},
		{[]wire.Transform{yes}, nil, "none"},
	} {
		cfgA, cfgB := Configs()
		aes := wire.Transform{Type: wire.TransformEncr, ID: wire.EncrAESGCM16, KeyBits: 128}
		cfgA.Peers[0].Children[0].ESP = []ikev2.Proposal{append(ikev2.Proposal{aes}, tt.a...)}
		cfgB.Peers[0].Children[0].ESP = []ikev2.Proposal{append(ikev2.Proposal{aes}, tt.b...)}
		n, a, b := Situation(cfgA, cfgB)
		connectFor(500*time.Millisecond)(n, a, b)
		faultless(t, n)
		got := "none"
		for _, in := range a.In {
			got = map[bool]string{true: "long", false: "short"}[in.Suite.ESN]
		}
		if got != tt.want || Agree(a, b) != nil || a.Has(ikev2.EventEstablished) != 1 {
			t.Errorf("A has %v, B offers %v: %s, want %s; %v", tt.a, tt.b, got, tt.want, Agree(a, b))
		}
	}
}
