package iketest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// speak sends a protected message in h's name, of which h knows nothing.
func (n *Net) speak(t *testing.T, h *Host, to string, kind wire.ExchangeType, flags wire.Flags, id uint32, ps ...wire.Payload) {
	t.Helper()
	k := h.Keys
	c, err := newCipher(k, flags&wire.FlagInitiator != 0)
	if err != nil {
		t.Fatal(err)
	}
	head := wire.Header{InitiatorSPI: k.ID.Initiator, ResponderSPI: k.ID.Responder, Major: 2, Exchange: kind, Flags: flags, MessageID: id}
	first, inner := wire.AppendPayloads(nil, ps)
	b, err := c.Seal(wire.AppendProtected(nil, head, first, c.BodyLen(len(inner))), inner, Random(7))
	if err != nil {
		t.Fatal(err)
	}
	n.Link = func(Packet) []time.Duration { return soon }
	n.Inject(Packet{From: netip.MustParseAddrPort(AddrBPublic + ":4500"), To: netip.MustParseAddrPort(to + ":4500"), Encap: true, Payload: b})
	n.Link = func(Packet) []time.Duration { return nil }
	n.Run(20 * time.Millisecond)
}

// said is what h sent last.
func (n *Net) said(h *Host) string { return n.headline(h.Sent[len(h.Sent)-1].Payload) }

func spiOf(spi uint32) []byte { return binary.BigEndian.AppendUint32(nil, spi) }

func notify(t wire.NotifyType) *wire.Notify { return &wire.Notify{NotifyType: t} }

// TestRekeyRules holds A to RFC 7296 section 2.25: A is in some situation,
// nothing arrives any more, and then B says something. B began the connection,
// so its next request is number 3,
// after IKE_INTERMEDIATE and IKE_AUTH.
func TestRekeyRules(t *testing.T) {
	lost := func(Packet) []time.Duration { return nil }
	rekeyOf := func(spi uint32) []wire.Payload {
		return []wire.Payload{&wire.Notify{Protocol: wire.ProtocolESP, SPI: spiOf(spi), NotifyType: wire.NotifyRekeySA},
			&wire.SA{Proposals: []wire.Proposal{{Number: 1, Protocol: wire.ProtocolESP, SPI: spiOf(0x12345678), Transforms: withGroups()[0]}}},
			&wire.Nonce{Data: make([]byte, 32)}, &wire.TS{Selectors: prefix("10.104.0.0/24")}, &wire.TS{Responder: true, Selectors: prefix("10.103.0.0/24")}}
	}
	rekeyIKE := []wire.Payload{&wire.SA{Proposals: []wire.Proposal{{Number: 1, Protocol: wire.ProtocolIKE, SPI: []byte("12345678"),
		Transforms: ikev2.DefaultIKEProposals()[0]}}}, &wire.Nonce{Data: make([]byte, 32)}, &wire.KE{Group: wire.GroupX25519, Data: []byte(strings.Repeat("\x09", 32))}}
	deleteOf := func(spi uint32) []wire.Payload {
		return []wire.Payload{&wire.Delete{Protocol: wire.ProtocolESP, SPIs: [][]byte{spiOf(spi)}}}
	}
	// deleting leaves A with its Delete of the old child on the way.
	deleting := func(n *Net, a, b *Host) {
		n.Command(a, ikev2.Rekey{SPI: a.current("lan")})
		n.RunUntil(time.Second, func() bool { return a.Has(ikev2.EventChildDown) == 1 })
		n.Link = lost
	}
	asking := func(what rekeyed) func(*Net, *Host, *Host) {
		return func(n *Net, a, _ *Host) {
			n.Link = lost
			n.rekey(a, what)
		}
	}
	for _, c := range []struct {
		name  string
		setup func(n *Net, a, b *Host)
		kind  wire.ExchangeType
		says  func(old uint32) []wire.Payload
		want  string // A's answer
		has   int    // child SAs that send, afterwards
	}{
		{"delete, crossing a delete", deleting, wire.ExchangeInformational, deleteOf, "INFORMATIONAL response 3: SK{}", 1},
		{"delete, crossing a rekey", asking(theChild), wire.ExchangeInformational, deleteOf, "INFORMATIONAL response 3: SK{D}", 0},
		{"delete, crossing a rekey of the IKE SA", asking(theIKE), wire.ExchangeInformational, deleteOf, "INFORMATIONAL response 3: SK{D}", 0},
		{"delete of nothing", nil, wire.ExchangeInformational, func(uint32) []wire.Payload { return deleteOf(0x1111) }, "INFORMATIONAL response 3: SK{}", 1},
		{"rekey, crossing a delete", deleting, wire.ExchangeCreateChildSA, rekeyOf, "CREATE_CHILD_SA response 3: SK{TEMPORARY_FAILURE}", 1},
		{"rekey, crossing a rekey", asking(theChild), wire.ExchangeCreateChildSA, rekeyOf, "CREATE_CHILD_SA response 3: SK{SA Nonce TSi TSr}", 1},
		{"rekey, crossing a rekey of the IKE SA", asking(theIKE), wire.ExchangeCreateChildSA, rekeyOf, "CREATE_CHILD_SA response 3: SK{TEMPORARY_FAILURE}", 1},
		{"rekey of nothing", nil, wire.ExchangeCreateChildSA, func(uint32) []wire.Payload { return rekeyOf(0x1111) }, "CREATE_CHILD_SA response 3: SK{CHILD_SA_NOT_FOUND}", 1},
		{"rekey of no protocol", nil, wire.ExchangeCreateChildSA, func(uint32) []wire.Payload {
			return append([]wire.Payload{notify(wire.NotifyRekeySA)}, rekeyOf(0)[1:]...)
		}, "CREATE_CHILD_SA response 3: SK{CHILD_SA_NOT_FOUND}", 1},
		{"rekey of the IKE SA, crossing a rekey", asking(theChild), wire.ExchangeCreateChildSA, func(uint32) []wire.Payload { return rekeyIKE }, "CREATE_CHILD_SA response 3: SK{TEMPORARY_FAILURE}", 1},
		{"rekey of the IKE SA, crossing a delete", deleting, wire.ExchangeCreateChildSA, func(uint32) []wire.Payload { return rekeyIKE }, "CREATE_CHILD_SA response 3: SK{TEMPORARY_FAILURE}", 1},
		{"rekey of the IKE SA, crossing its rekey", asking(theIKE), wire.ExchangeCreateChildSA, func(uint32) []wire.Payload { return rekeyIKE }, "CREATE_CHILD_SA response 3: SK{SA Nonce KE}", 1},
		{"rekey of the IKE SA, crossing its delete", func(n *Net, a, _ *Host) {
			n.Link = lost
			n.Command(a, ikev2.Disconnect{Peer: "foo"})
		}, wire.ExchangeCreateChildSA, func(uint32) []wire.Payload { return rekeyIKE }, "CREATE_CHILD_SA response 3: SK{TEMPORARY_FAILURE}", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, a, b := joined(t, 1, withGroups(), withGroups())
			old := b.current("lan")
			if c.setup != nil {
				c.setup(n, a, b)
			}
			n.Link = lost
			n.speak(t, b, AddrA, c.kind, wire.FlagInitiator, 3, c.says(old)...)
			faultless(t, n)
			if got := n.said(a); got != c.want || len(a.Out) != c.has {
				t.Errorf("%s, %d child SAs; want %s, %d\n%s", got, len(a.Out), c.want, c.has, n.Transcript())
			}
		})
	}
}

// What A does when its request to replace the child is refused.
func TestRekeyRefused(t *testing.T) {
	refusedWith := func(t *testing.T, p wire.Payload) (n *Net, a *Host) {
		n, a, b := joined(t, 1, withGroups(), withGroups())
		n.Link = func(Packet) []time.Duration { return nil }
		n.rekey(a, theChild)
		n.speak(t, b, AddrA, wire.ExchangeCreateChildSA, wire.FlagInitiator|wire.FlagResponse, 0, p)
		faultless(t, n)
		return n, a
	}
	for _, no := range []wire.NotifyType{wire.NotifyTemporaryFailure, wire.NotifyNoAdditionalSAs} {
		t.Run(fmt.Sprint(no), func(t *testing.T) {
			n, a := refusedWith(t, notify(no))
			sent, at := len(a.Sent), n.Now
			n.RunUntil(time.Minute, func() bool { return len(a.Sent) > sent })
			wait := n.Now.Sub(at)
			if got := n.said(a); got != "CREATE_CHILD_SA request 1: SK{REKEY_SA SA Nonce TSi TSr}" || wait < 5*time.Second || wait > 15*time.Second || len(a.Out) != 1 {
				t.Errorf("after %v: %s, %d child SAs", wait, got, len(a.Out))
			}
		})
	}
}

// A has its answer and uses the new IKE SA, and B, whose own request and A's
// Delete are lost, takes that for A's decision.
func TestRekeyDecidedByUse(t *testing.T) {
	n, a, b := joined(t, 1, withGroups(), withGroups())
	old := a.Keys.ID
	n.Link = func(p Packet) []time.Duration {
		h, _ := wire.ParseHeader(p.Payload)
		ofB := p.From.Addr() == netip.MustParseAddr(AddrBPublic)
		if old == (ikev2.SAID{Initiator: h.InitiatorSPI, Responder: h.ResponderSPI}) && ofB != (h.Flags&wire.FlagResponse != 0) {
			return nil // B's requests and the answers to them
		}
		if h.Exchange == wire.ExchangeInformational && old.Responder == h.ResponderSPI {
			return nil
		}
		return soon
	}
	for _, h := range []*Host{b, a} {
		n.rekey(h, theIKE)
	}
	n.rekey(a, theChild)
	if !n.RunUntil(time.Second, func() bool { return b.Has(ikev2.EventRekeyed) == 1 && a.Has(ikev2.EventChildUp) == 2 }) {
		t.Fatalf("B does not follow\n%s", n.Transcript())
	}
	n.Link = nil
	n.Run(5 * time.Minute)
	settled(t, n, a, b)
}

// A peer that makes child after child is stopped.
func TestTooManyChildren(t *testing.T) {
	n, a, b := joined(t, 1, withGroups(), withGroups())
	ask := []wire.Payload{&wire.SA{Proposals: []wire.Proposal{{Number: 1, Protocol: wire.ProtocolESP, SPI: spiOf(0x12345678), Transforms: withGroups()[0]}}},
		&wire.Nonce{Data: make([]byte, 32)}, &wire.TS{Selectors: prefix("10.104.0.0/24")}, &wire.TS{Responder: true, Selectors: prefix("10.103.0.0/24")}}
	for id := range uint32(300) {
		n.speak(t, b, AddrA, wire.ExchangeCreateChildSA, wire.FlagInitiator, 3+id, ask...)
	}
	faultless(t, n)
	if got := n.said(a); !strings.HasSuffix(got, "SK{NO_ADDITIONAL_SAS}") || len(a.In) != 256 {
		t.Errorf("%s, %d child SAs", got, len(a.In))
	}
}
