package iketest

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// Whoever can see the SPIs of an IKE SA can send to it. Nothing that is not
// protected, or not next in order, has an effect or an answer (RFC 7296
// sections 2.2 to 2.4).
func TestEstablishedIgnores(t *testing.T) {
	info := wire.ExchangeInformational
	deleteIKE := &wire.Delete{Protocol: wire.ProtocolIKE}
	attacks := map[string]func(p *puppet) []byte{
		"Delete in the clear":                func(p *puppet) []byte { return p.clear(info, 0, 2, deleteIKE) },
		"AUTHENTICATION_FAILED in the clear": func(p *puppet) []byte { return p.clear(info, 0, 2, failure) },
		"INVALID_SPI in the clear": func(p *puppet) []byte {
			return p.clear(info, 0, 2, &wire.Notify{NotifyType: wire.NotifyInvalidSPI, Data: []byte{1, 2, 3, 4}})
		},
		"unprotected, outside any SA": func(p *puppet) []byte { p.spii, p.spir = wire.SPI{9}, wire.SPI{}; return p.clear(info, 0, 0, failure) },
		"empty SK":                    func(p *puppet) []byte { return p.clear(info, 0, 2, &wire.Encrypted{Body: []byte{0}}) },
		"a fragment": func(p *puppet) []byte {
			return p.clear(info, 0, 2, &wire.EncryptedFragment{Number: 1, Total: 2, Body: make([]byte, 64)})
		},
		"wrong checksum":     func(p *puppet) []byte { b := p.seal(info, 0, 2, deleteIKE); b[len(b)-1] ^= 1; return b },
		"changed message ID": func(p *puppet) []byte { b := p.seal(info, 0, 7, deleteIKE); b[23] = 2; return b },
		"changed exchange": func(p *puppet) []byte {
			b := p.seal(wire.ExchangeCreateChildSA, 0, 2, deleteIKE)
			b[18] = byte(info)
			return b
		},
		"sealed by ourselves":              func(p *puppet) []byte { p.out, p.in = p.in, p.out; return p.seal(info, 0, 2, deleteIKE) },
		"message ID 0":                     func(p *puppet) []byte { return p.seal(info, 0, 0, deleteIKE) },
		"message ID 1, not the first":      func(p *puppet) []byte { return p.seal(info, 0, 1, deleteIKE) },
		"message ID 3":                     func(p *puppet) []byte { return p.seal(info, 0, 3, deleteIKE) },
		"message ID 1000":                  func(p *puppet) []byte { return p.seal(info, 0, 1000, deleteIKE) },
		"message ID 2^31":                  func(p *puppet) []byte { return p.seal(info, 0, 1<<31, deleteIKE) },
		"message ID 2^32-1":                func(p *puppet) []byte { return p.seal(info, 0, 0xffffffff, deleteIKE) },
		"answer to nothing":                func(p *puppet) []byte { return p.seal(info, wire.FlagResponse, 0) },
		"answer to nothing, with a Delete": func(p *puppet) []byte { return p.seal(info, wire.FlagResponse, 0, deleteIKE) },
		"answer to an old request":         func(p *puppet) []byte { return p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1) },
		"second IKE_AUTH":                  func(p *puppet) []byte { return p.seal(wire.ExchangeIKEAuth, 0, 2, p.authPayloads()...) },
		"IKE_INTERMEDIATE":                 func(p *puppet) []byte { return p.seal(wire.ExchangeIKEIntermediate, 0, 2) },
		"wrong initiator SPI":              func(p *puppet) []byte { p.spii[0] ^= 1; return p.seal(info, 0, 2, deleteIKE) },
		"wrong responder SPI":              func(p *puppet) []byte { p.spir[0] ^= 1; return p.seal(info, 0, 2, deleteIKE) },
		"the other role's flag":            func(p *puppet) []byte { return flip(p.seal(info, 0, 2, deleteIKE), 19) },
		"major version 3":                  func(p *puppet) []byte { b := p.seal(info, wire.FlagResponse, 2, deleteIKE); b[17] = 0x30; return b },
		"cut short":                        func(p *puppet) []byte { b := p.seal(info, 0, 2, deleteIKE); return b[:len(b)-1] },
		"length field": func(p *puppet) []byte {
			b := p.seal(info, 0, 2, deleteIKE)
			binary.BigEndian.PutUint32(b[24:], 0xffffffff)
			return b
		},
		"keepalive": func(*puppet) []byte { return []byte{0xff} },
		"27 bytes":  func(p *puppet) []byte { return p.seal(info, 0, 2)[:27] },
	}
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			p := connected(t)
			p.next = 3
			events, honest := len(p.events), *p
			b := attack(p)
			for range 3 {
				if sent := p.send(b); len(sent) > 0 {
					t.Fatalf("answered by %x", sent)
				}
			}
			if len(p.events) != events || len(p.installed) != 1 {
				t.Errorf("it has an effect: %v", p.events[events:])
			}
			p.spii, p.spir, p.in, p.out = honest.spii, honest.spir, honest.in, honest.out
			if sent := p.send(p.seal(info, 0, 2)); len(sent) != 1 {
				t.Error("the peer is not answered any more")
			}
		})
	}
}

// What an authenticated peer asks for, and what it gets. Each request is sent
// twice: the second answer has the same bytes, and nothing is done twice.
func TestProtectedRequests(t *testing.T) {
	info, create := wire.ExchangeInformational, wire.ExchangeCreateChildSA
	deleteESP := func(spis ...uint32) *wire.Delete {
		d := &wire.Delete{Protocol: wire.ProtocolESP}
		for _, s := range spis {
			d.SPIs = append(d.SPIs, binary.BigEndian.AppendUint32(nil, s))
		}
		return d
	}
	many := make([]uint32, 1000)
	for i := range many {
		many[i] = 0x7000_0000 + uint32(i)
	}
	const first, second = 0xabcd0001, 0xabcd0002
	one := func(x wire.Payload) func(*puppet) []wire.Payload {
		return func(*puppet) []wire.Payload { return []wire.Payload{x} }
	}
	several := func(xs ...wire.Payload) func(*puppet) []wire.Payload {
		return func(*puppet) []wire.Payload { return xs }
	}
	child := func(change func([]wire.Payload) []wire.Payload) func(*puppet) []wire.Payload {
		return func(p *puppet) []wire.Payload { return change(p.newChild(second)) }
	}
	type outcome struct {
		answer   string // names of payloads
		children int
		gone     bool
	}
	kept := func(answer string) outcome { return outcome{answer, 1, false} }
	for _, tt := range []struct {
		name     string
		exchange wire.ExchangeType
		payloads func(*puppet) []wire.Payload
		want     outcome
	}{
		{"liveness", info, several(), kept("")},
		{"unknown payload", info, one(&wire.Unknown{PayloadType: 49}), kept("")},
		{"critical payload 1", info, one(&wire.Unknown{PayloadType: 1, Critical: true}), kept("UNSUPPORTED_CRITICAL_PAYLOAD")},
		{"critical payload 32", info, one(&wire.Unknown{PayloadType: 32, Critical: true}), kept("UNSUPPORTED_CRITICAL_PAYLOAD")},
		{"critical payload 255", info, one(&wire.Unknown{PayloadType: 255, Critical: true}), kept("UNSUPPORTED_CRITICAL_PAYLOAD")},
		{"critical payload beside a Delete", info, several(&wire.Delete{Protocol: wire.ProtocolIKE}, &wire.Unknown{PayloadType: 49, Critical: true}), kept("UNSUPPORTED_CRITICAL_PAYLOAD")},
		{"unknown status", info, one(&wire.Notify{NotifyType: 50000, Data: []byte("?")}), kept("")},
		{"unknown error", info, one(&wire.Notify{NotifyType: 8000}), kept("")},
		{"window size", info, one(&wire.Notify{NotifyType: wire.NotifySetWindowSize, Data: []byte{0, 0, 0, 8}}), kept("")},
		{"message ID sync", info, one(&wire.Notify{NotifyType: wire.NotifyIKEv2MessageIDSync, Data: make([]byte, 12)}), kept("")},
		{"UPDATE_SA_ADDRESSES", info, one(&wire.Notify{NotifyType: wire.NotifyUpdateSAAddresses}), kept("")},
		{"rejection", info, one(failure), outcome{"", 0, true}},
		{"two AUTHENTICATION_FAILED and a Delete", info, several(failure, failure, &wire.Delete{Protocol: wire.ProtocolIKE}), outcome{"", 0, true}},

		{"Delete of the child", info, one(deleteESP(first)), outcome{"D", 0, false}},
		{"Delete of the child, twice", info, one(deleteESP(first, first)), outcome{"D", 0, false}},
		{"Delete of the child, in two payloads", info, several(deleteESP(first), deleteESP(first)), outcome{"D", 0, false}},
		{"Delete of an unknown child", info, one(deleteESP(second)), kept("")},
		{"Delete of nothing", info, one(deleteESP()), kept("")},
		{"Delete of 1000", info, one(deleteESP(many...)), kept("")},
		{"Delete of 1000 and the child", info, one(deleteESP(append(many, first)...)), outcome{"D", 0, false}},
		{"Delete of AH", info, one(&wire.Delete{Protocol: wire.ProtocolAH, SPIs: [][]byte{{0xab, 0xcd, 0, 1}}}), kept("")},
		{"Delete of IKE", info, one(&wire.Delete{Protocol: wire.ProtocolIKE}), outcome{"", 0, true}},
		{"Delete of IKE, twice", info, several(&wire.Delete{Protocol: wire.ProtocolIKE}, &wire.Delete{Protocol: wire.ProtocolIKE}), outcome{"", 0, true}},
		{"Delete of the child and IKE", info, several(deleteESP(first), &wire.Delete{Protocol: wire.ProtocolIKE}), outcome{"", 0, true}},
		{"Delete of IKE and the child", info, several(&wire.Delete{Protocol: wire.ProtocolIKE}, deleteESP(first)), outcome{"", 0, true}},

		{"misplaced payload", info, one(idPayload("@foo", false)), outcome{"INVALID_SYNTAX", 0, true}},
		{"no SA", create, several(&wire.Nonce{Data: make([]byte, 32)}), outcome{"INVALID_SYNTAX", 0, true}},
		{"TSi without TSr", create, child(func(ps []wire.Payload) []wire.Payload { return ps[:3] }), outcome{"INVALID_SYNTAX", 0, true}},

		{"another child", create, child(func(ps []wire.Payload) []wire.Payload { return ps }), outcome{"SA Nonce TSi TSr", 2, false}},
		{"another child, unknown notify", create, child(func(ps []wire.Payload) []wire.Payload {
			return append(ps, &wire.Notify{NotifyType: wire.NotifyESPTFCPaddingNotSupported})
		}), outcome{"SA Nonce TSi TSr", 2, false}},
		{"disjoint selectors", create, child(func(ps []wire.Payload) []wire.Payload {
			ps[2].(*wire.TS).Selectors = prefix("10.200.0.0/16")
			return ps[:3:3]
		}), outcome{"INVALID_SYNTAX", 0, true}},
		{"disjoint selectors on their side", create, child(selectors(prefix("10.200.0.0/16"), lanA)), kept("TS_UNACCEPTABLE")},
		{"disjoint selectors on our side", create, child(selectors(lanB, prefix("10.200.0.0/16"))), kept("TS_UNACCEPTABLE")},
		{"IPv6 selectors", create, child(selectors(prefix("2001:db8::/32"), prefix("2001:db8::/32"))), kept("TS_UNACCEPTABLE")},
		{"wider selectors", create, child(selectors(prefix("0.0.0.0/0"), prefix("0.0.0.0/0"))), outcome{"SA Nonce TSi TSr", 2, false}},
		{"no cipher in common", create, child(esp(func(p *wire.Proposal) { p.Transforms = []wire.Transform{{Type: wire.TransformEncr, ID: wire.Encr3DES}} })), kept("NO_PROPOSAL_CHOSEN")},
		{"AH", create, child(esp(func(p *wire.Proposal) { p.Protocol = wire.ProtocolAH })), kept("NO_PROPOSAL_CHOSEN")},
		{"reserved SPI", create, child(esp(func(p *wire.Proposal) { p.SPI = []byte{0, 0, 0, 255} })), kept("NO_PROPOSAL_CHOSEN")},
		{"key exchange of its own", create, child(esp(func(p *wire.Proposal) {
			p.Transforms = append(p.Transforms, wire.Transform{Type: wire.TransformKE, ID: wire.GroupX25519})
		})), kept("INVALID_KE_PAYLOAD")},
		{"rekeying of the child", create, func(p *puppet) []wire.Payload {
			return append(p.newChild(second), &wire.Notify{Protocol: wire.ProtocolESP, SPI: []byte{0xab, 0xcd, 0, 1}, NotifyType: wire.NotifyRekeySA})
		}, outcome{"SA Nonce TSi TSr", 2, false}}, // until the peer deletes the old one
		{"rekeying of the IKE SA", create, func(p *puppet) []wire.Payload {
			ps := p.initPayloads()
			proposalOf(ps).SPI = bytes.Repeat([]byte{3}, 8)
			return ps
		}, kept("SA Nonce KE")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := connected(t)
			request := p.request(tt.exchange, tt.payloads(p)...)
			sent := p.send(request)
			if len(sent) != 1 {
				t.Fatalf("%d answers", len(sent))
			}
			h, ps := p.open(sent[0])
			if h.Exchange != tt.exchange || h.MessageID != 2 || h.Flags != wire.FlagResponse || names(ps) != tt.want.answer {
				t.Errorf("answered by %v %d %s, want %s", h.Exchange, h.MessageID, names(ps), tt.want.answer)
			}
			after, events := slices.Sorted(maps.Keys(p.installed)), len(p.events)
			if len(after) != tt.want.children || p.has(ikev2.EventDown) != tt.want.gone {
				t.Errorf("%d children left, IKE SA gone: %v", len(after), p.has(ikev2.EventDown))
			}
			if again := p.send(request); len(again) != 1 || !bytes.Equal(again[0], sent[0]) || len(p.events) != events || !slices.Equal(slices.Sorted(maps.Keys(p.installed)), after) {
				t.Error("a retransmission is worked on")
			}
			alive := len(p.send(p.request(info))) == 1
			if alive == tt.want.gone {
				t.Errorf("still answers: %v", alive)
			}
		})
	}
}

func proposalOf(ps []wire.Payload) *wire.Proposal { return &ps[0].(*wire.SA).Proposals[0] }

func esp(change func(*wire.Proposal)) func([]wire.Payload) []wire.Payload {
	return func(ps []wire.Payload) []wire.Payload {
		sa := *ps[0].(*wire.SA)
		sa.Proposals = slices.Clone(sa.Proposals)
		change(&sa.Proposals[0])
		return append([]wire.Payload{&sa}, ps[1:]...)
	}
}

func selectors(theirs, ours []wire.Selector) func([]wire.Payload) []wire.Payload {
	return func(ps []wire.Payload) []wire.Payload {
		return append(slices.Clone(ps[:2]), &wire.TS{Selectors: theirs}, &wire.TS{Responder: true, Selectors: ours})
	}
}

// The type of the payload that is too much for us is in the answer (RFC 7296
// section 2.5).
func TestUnsupportedCriticalPayloadNamesIt(t *testing.T) {
	p := connected(t)
	_, ps := p.open(p.send(p.request(wire.ExchangeInformational, &wire.Unknown{PayloadType: 49, Critical: true}))[0])
	if n := wire.FindNotify(ps, wire.NotifyUnsupportedCriticalPayload); n == nil || !bytes.Equal(n.Data, []byte{49}) {
		t.Errorf("answer holds %v", ps)
	}
}

// A child of the peer's is granted within policy only, and both halves are
// there before the peer can know.
func TestChildIsNarrowed(t *testing.T) {
	p := connected(t)
	_, ps := p.open(p.send(p.request(wire.ExchangeCreateChildSA, selectors(prefix("10.0.0.0/8"), prefix("10.103.0.128/25"))(p.newChild(0xabcd0002))...))[0])
	tsi, tsr := wire.FindTS(ps, false), wire.FindTS(ps, true)
	if !slices.Equal(tsi.Selectors, lanB) || !slices.Equal(tsr.Selectors, prefix("10.103.0.128/25")) {
		t.Errorf("granted %v and %v", tsi.Selectors, tsr.Selectors)
	}
	for _, in := range p.installed {
		if in.OutboundSPI == 0xabcd0002 && (!slices.Equal(in.Local, tsr.Selectors) || !slices.Equal(in.Remote, tsi.Selectors)) {
			t.Errorf("installed %v and %v", in.Local, in.Remote)
		}
	}
}

// What an initiator makes of the child in IKE_AUTH: an answer that is not
// within what it asked for is deleted again, and it asks later.
func TestOddChildAnswers(t *testing.T) {
	swap := func(ts ...wire.Payload) func(*puppet) []wire.Payload {
		return func(p *puppet) []wire.Payload { return append([]wire.Payload{p.espSA(0xabcd0001)}, ts...) }
	}
	for _, tt := range []struct {
		name    string
		reason  ikev2.Reason
		deleted bool
		child   func(p *puppet) []wire.Payload
	}{
		{"wider selectors", ikev2.ReasonSelectors, true, swap(&wire.TS{Selectors: prefix("10.0.0.0/8")}, &wire.TS{Responder: true, Selectors: lanA})},
		{"other selectors", ikev2.ReasonSelectors, true, swap(&wire.TS{Selectors: lanA}, &wire.TS{Responder: true, Selectors: lanB})},
		{"one of two too wide", ikev2.ReasonSelectors, true, swap(&wire.TS{Selectors: append(prefix("10.104.0.0/25"), prefix("10.9.0.0/24")...)}, &wire.TS{Responder: true, Selectors: lanA})},
		{"reserved SPI", ikev2.ReasonChildProposal, true, func(p *puppet) []wire.Payload {
			return append([]wire.Payload{p.espSA(7)}, p.childPayloads(0)[1:]...)
		}},
		{"two proposals", ikev2.ReasonChildProposal, true, func(p *puppet) []wire.Payload {
			sa := p.espSA(0xabcd0001)
			sa.Proposals = append(sa.Proposals, sa.Proposals[0])
			return append([]wire.Payload{sa}, p.childPayloads(0)[1:]...)
		}},
		{"two ciphers", ikev2.ReasonChildProposal, true, func(p *puppet) []wire.Payload {
			sa := p.espSA(0xabcd0001)
			sa.Proposals[0].Transforms = append(slices.Clone(p.esp), wire.Transform{Type: wire.TransformEncr, ID: wire.EncrAESGCM16, KeyBits: 256})
			return append([]wire.Payload{sa}, p.childPayloads(0)[1:]...)
		}},
		{"cipher we did not offer", ikev2.ReasonChildProposal, true, func(p *puppet) []wire.Payload {
			p.esp = []wire.Transform{{Type: wire.TransformEncr, ID: wire.EncrNULL}}
			return p.childPayloads(0xabcd0001)
		}},
		{"TS_UNACCEPTABLE", ikev2.ReasonSelectors, false, refusedBy(wire.NotifyTSUnacceptable)},
		{"NO_PROPOSAL_CHOSEN", ikev2.ReasonChildProposal, false, refusedBy(wire.NotifyNoProposalChosen)},
		{"another error", ikev2.ReasonChildRefused, false, refusedBy(wire.NotifyInternalAddressFailure)},
		{"nothing", ikev2.ReasonChildRefused, false, func(*puppet) []wire.Payload { return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPuppet(t, false, nil)
			p.greet()
			idr := idPayload(AddrA, true)
			sent := p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, append([]wire.Payload{idr, p.sign("qwerty", idr)}, tt.child(p)...)...))
			e, _ := p.last(ikev2.EventRefusedByPeer)
			if e.Reason != tt.reason || len(p.installed) > 0 || !p.has(ikev2.EventEstablished) || p.has(ikev2.EventDown) {
				t.Errorf("reported as %v, want %v; %d children; %v", e.Reason, tt.reason, len(p.installed), p.events)
			}
			if deleted := len(sent) == 1; deleted != tt.deleted {
				t.Errorf("deleted: %v", deleted)
			}
			if tt.deleted {
				p.deliver(p.path, p.seal(wire.ExchangeInformational, wire.FlagResponse, 2))
			}
			sent = p.wait(2 * time.Second)
			if len(sent) != 1 {
				t.Fatal("the child is given up")
			}
			h, ps := p.open(sent[0])
			if h.Exchange != wire.ExchangeCreateChildSA || names(ps) != "SA Nonce KE TSi TSr" {
				t.Errorf("asks with %v %s", h.Exchange, names(ps))
			}
		})
	}
}

func refusedBy(n wire.NotifyType) func(*puppet) []wire.Payload {
	return func(*puppet) []wire.Payload { return []wire.Payload{&wire.Notify{NotifyType: n}} }
}

// A peer that answers INVALID_SYNTAX has ended the IKE SA (RFC 7296 section
// 2.21.3); one whose answer cannot be read is told that it is over.
func TestAnswersThatEndAnIKESA(t *testing.T) {
	for name, tt := range map[string]struct {
		answer []wire.Payload
		told   bool
	}{
		"INVALID_SYNTAX": {[]wire.Payload{&wire.Notify{NotifyType: wire.NotifyInvalidSyntax}}, false},
		"unreadable":     {[]wire.Payload{idPayload("@foo", true)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := connected(t)
			probe := p.wait(30 * time.Second)
			if len(probe) != 1 {
				t.Fatalf("%d probes", len(probe))
			}
			sent := p.send(p.seal(wire.ExchangeInformational, wire.FlagResponse, 0, tt.answer...))
			if len(p.installed) > 0 || !p.has(ikev2.EventDown) {
				t.Error("it is still up")
			}
			if told := len(sent) == 1; told != tt.told {
				t.Fatalf("told: %v", told)
			}
			if tt.told {
				if _, ps := p.open(sent[0]); names(ps) != "D" {
					t.Errorf("told %s", names(ps))
				}
			}
		})
	}
}

// The peer is asked only when neither IKE nor ESP of it is heard, and our own
// traffic is no sign of its life (RFC 7296 section 2.4).
func TestTrafficIsLife(t *testing.T) {
	for _, tt := range []struct {
		in, out, asked bool
	}{{true, false, false}, {true, true, false}, {false, true, true}, {false, false, true}} {
		p := connected(t)
		probes := 0
		for range 12 {
			for spi := range p.installed {
				p.engine.Command(p.now, ikev2.Traffic{SPI: spi, In: tt.in, Out: tt.out})
			}
			for range p.wait(5 * time.Second) {
				p.deliver(p.path, p.seal(wire.ExchangeInformational, wire.FlagResponse, uint32(probes)))
				probes++
			}
		}
		if (probes > 0) != tt.asked {
			t.Errorf("traffic in %v, out %v: %d probes", tt.in, tt.out, probes)
		}
	}
}

// A peer behind a NAT is followed where its next authentic message comes from,
// and nowhere else; never to port 500, which only old messages use (RFC 7296
// section 2.23).
func TestFollowsAuthenticMessagesOnly(t *testing.T) {
	moved := ikev2.Path{Local: netip.MustParseAddrPort(AddrA + ":4500"), Remote: netip.MustParseAddrPort("198.51.100.7:31337"), Encap: true}
	old := ikev2.Path{Local: ToB.Local, Remote: ToB.Remote}
	p := connected(t)
	request := p.request(wire.ExchangeInformational)
	p.send(request)
	for name, b := range map[string][]byte{
		"a replay":  request,
		"a forgery": flip(p.seal(wire.ExchangeInformational, 0, 3), 40),
		"old":       p.seal(wire.ExchangeInformational, 0, 1),
	} {
		if p.sendFrom(moved, b); p.has(ikev2.EventMoved) {
			t.Errorf("%s moves the SA", name)
		}
	}
	here := p.path
	if p.sendFrom(old, p.request(wire.ExchangeInformational)); p.sentBy != old {
		t.Error("the answer does not go back where the request came from")
	}
	if p.wait(30 * time.Second); p.sentBy != here || p.has(ikev2.EventMoved) {
		t.Errorf("a message by port 500 moves the SA to %v", p.sentBy)
	}
	p.sendFrom(moved, p.request(wire.ExchangeInformational))
	if e, ok := p.last(ikev2.EventMoved); !ok || e.Path != moved {
		t.Errorf("not followed: %v", e.Path)
	}
}

// The side behind the NAT stays where it is: a message from elsewhere, even an
// authentic one, does not take its traffic away.
func TestSideBehindNATStays(t *testing.T) {
	elsewhere := ikev2.Path{Local: netip.MustParseAddrPort(AddrB + ":4500"), Remote: netip.MustParseAddrPort("198.51.100.7:4500"), Encap: true}
	p := newPuppet(t, false, nil)
	p.called()
	hash := func(n wire.NotifyType) *wire.Notify {
		return &wire.Notify{NotifyType: n, Data: bytes.Repeat([]byte{5}, 20)}
	}
	p.initResp = p.initMessage(append(p.initPayloads(), hash(wire.NotifyNATDetectionSourceIP), hash(wire.NotifyNATDetectionDestinationIP))...)
	p.send(p.initResp)
	p.float()
	p.sendFrom(elsewhere, p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, p.authPayloads()...))
	p.sendFrom(elsewhere, p.seal(wire.ExchangeInformational, 0, 0))
	for _, in := range p.installed {
		if in.Path != p.path {
			t.Errorf("ESP goes to %v", in.Path)
		}
	}
	if p.has(ikev2.EventMoved) || len(p.installed) != 1 {
		t.Errorf("moved, or not up: %v", p.events)
	}
}
