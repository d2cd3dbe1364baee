package iketest

import (
	"testing"

	"culvert/ikev2"
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// The engine's states that a fuzzed datagram meets.
const (
	inFresh = iota
	inHalfOpen
	inUp
	inWaiting   // as initiator, for the answer to IKE_SA_INIT
	inAuth      // as initiator, for the answer to IKE_AUTH
	inExchange  // for the peer's IKE_INTERMEDIATE
	inFollowing // for the peer's IKE_FOLLOWUP_KE
	numStates
)

func puppetIn(t testing.TB, state uint8) *puppet {
	switch state % numStates {
	case inHalfOpen:
		return halfOpenFragments(t)
	case inUp:
		return connected(t)
	case inWaiting:
		p := newPuppet(t, false, nil)
		p.called()
		return p
	case inAuth:
		p := newPuppet(t, false, nil)
		p.greet()
		return p
	case inExchange:
		return quantum(t)
	case inFollowing:
		p := connected(t)
		p.askMultiKE()
		return p
	}
	p := newPuppet(t, true, nil)
	p.prepare()
	return p
}

// FuzzHandleDatagram sends bytes as they are. They have no key: whatever they
// are, they authenticate nobody, and an SA that is up keeps its children and
// answers its peer.
func FuzzHandleDatagram(f *testing.F) {
	for state := range uint8(numStates) {
		p := puppetIn(f, state)
		if state != inFresh {
			info := p.seal(wire.ExchangeInformational, 0, p.next)
			f.Add(state, info[:len(info)-1])
			info[len(info)-1] ^= 1
			f.Add(state, info)
			f.Add(state, p.clear(wire.ExchangeInformational, 0, p.next, failure, &wire.Delete{Protocol: wire.ProtocolIKE}))
			f.Add(state, p.clear(wire.ExchangeIKEAuth, wire.FlagResponse, 1, p.authPayloads()...))
			f.Add(state, p.clear(wire.ExchangeIKEAuth, 0, 1, &wire.EncryptedFragment{Number: 1, Total: 2, Body: make([]byte, 40)}))
		}
		f.Add(state, p.initMessage(p.initPayloads()...))
		f.Add(state, p.initMessage(&wire.Notify{NotifyType: wire.NotifyCookie, Data: []byte("x")}))
		f.Add(state, p.initMessage(&wire.Notify{NotifyType: wire.NotifyInvalidKEPayload, Data: []byte{0, 19}}))
	}
	f.Add(uint8(inUp), []byte{0xff})
	f.Fuzz(func(t *testing.T, state uint8, b []byte) {
		p := puppetIn(t, state)
		up := p.has(ikev2.EventEstablished)
		for _, a := range p.deliver(p.path, b) {
			if len(a) > len(b)+800 { // the longest is the next request of an IKE_SA_INIT
				t.Errorf("%d bytes are answered by %d", len(b), len(a))
			}
		}
		p.deliver(p.path, b)
		if p.has(ikev2.EventEstablished) != up || p.has(ikev2.EventDown) {
			t.Fatalf("a stranger brings an SA up or down: %v", p.events)
		}
		if up && (len(p.installed) != 1 || len(p.send(p.request(wire.ExchangeInformational))) != 1) {
			t.Fatal("a stranger disturbs an SA")
		}
	})
}

// FuzzProtected seals the bytes as the inside of a message with the SA's keys.
// Before authentication they are a stranger's, who brings nothing up; after it,
// the peer's, who may ask for what it wants and break nothing.
func FuzzProtected(f *testing.F) {
	add := func(state uint8, x wire.ExchangeType, response bool, id uint32, ps ...wire.Payload) {
		first, inner := wire.AppendPayloads(nil, ps)
		f.Add(state, uint8(x), response, id, uint8(first), inner)
	}
	half := puppetIn(f, inHalfOpen)
	foo := idPayload("@foo", false)
	add(inHalfOpen, wire.ExchangeIKEAuth, false, 1, append([]wire.Payload{foo, half.sign("azerty", foo), idPayload(AddrA, true)}, half.childPayloads(0xabcd0001)...)...)
	add(inHalfOpen, wire.ExchangeIKEAuth, false, 1, foo)
	add(inHalfOpen, wire.ExchangeIKEAuth, false, 1, foo, &wire.EAP{Data: []byte{1}}, &wire.Cert{Encoding: 4})
	add(inAuth, wire.ExchangeIKEAuth, true, 1, append([]wire.Payload{idPayload(AddrA, true), half.sign("azerty", foo)}, half.childPayloads(0xabcd0001)...)...)
	add(inAuth, wire.ExchangeIKEAuth, true, 1, failure)
	add(inAuth, wire.ExchangeIKEAuth, false, 0, foo)
	add(inUp, wire.ExchangeCreateChildSA, false, 2, half.newChild(0xabcd0002)...)
	add(inUp, wire.ExchangeCreateChildSA, false, 2, half.initPayloads()...)
	add(inUp, wire.ExchangeInformational, false, 2)
	add(inUp, wire.ExchangeInformational, false, 2, failure)
	add(inUp, wire.ExchangeInformational, false, 2, &wire.Delete{Protocol: wire.ProtocolIKE})
	add(inUp, wire.ExchangeInformational, false, 2, &wire.Delete{Protocol: wire.ProtocolESP, SPIs: [][]byte{{0xab, 0xcd, 0, 1}, {0xab, 0xcd, 0, 1}}})
	add(inUp, wire.ExchangeInformational, false, 2, &wire.Unknown{PayloadType: 49, Critical: true})
	add(inUp, wire.ExchangeInformational, true, 0)
	key, err := keymat.NewKeyExchange(wire.GroupMLKEM768, Random(3))
	if err != nil {
		f.Fatal(err)
	}
	ke, link := &wire.KE{Group: key.Group(), Data: key.Public()}, puppetIn(f, inFollowing).link
	add(inExchange, wire.ExchangeIKEIntermediate, false, 1, ke)
	add(inExchange, wire.ExchangeIKEIntermediate, false, 1, &wire.KE{Group: 36, Data: []byte{1}})
	add(inExchange, wire.ExchangeIKEAuth, false, 1, foo)
	add(inFollowing, wire.ExchangeIKEFollowupKE, false, 3, ke, &wire.Notify{NotifyType: wire.NotifyAdditionalKeyExchange, Data: link})
	add(inFollowing, wire.ExchangeIKEFollowupKE, false, 3, ke)
	add(inFollowing, wire.ExchangeInformational, false, 3, &wire.Delete{Protocol: wire.ProtocolIKE})
	add(inFollowing, wire.ExchangeCreateChildSA, false, 3, half.newChild(0xabcd0003)...)
	f.Fuzz(func(t *testing.T, state, x uint8, response bool, id uint32, first uint8, inner []byte) {
		if state %= numStates; state == inFresh || state == inWaiting || len(inner) > 60000 {
			return
		}
		p := puppetIn(t, state)
		up := p.has(ikev2.EventEstablished)
		flags := wire.Flags(0)
		if response {
			flags = wire.FlagResponse
		}
		b := p.sealBytes(wire.ExchangeType(x), flags, id, wire.PayloadType(first), inner)
		answer := p.deliver(p.path, b)
		again := p.deliver(p.path, b)
		if !up && (p.has(ikev2.EventEstablished) || len(p.installed) > 0) {
			t.Fatalf("up without authentication: %v", p.events)
		}
		if state != inAuth && !response && len(answer) == 1 && (len(again) != 1 || string(again[0]) != string(answer[0])) {
			t.Fatal("a retransmission gets another answer")
		}
		for _, a := range append(answer, again...) {
			p.open(a)
		}
	})
}
