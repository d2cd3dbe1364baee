package iketest

import (
	"fmt"
	"strings"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// note is a line of the transcript. It is put into words when somebody reads
// it, by which time the keys are there too.
type note struct {
	at     time.Time
	format string
	args   []any
}

func (n *Net) note(format string, args ...any) {
	n.log = append(n.log, note{n.Now, format, args})
}

// Transcript is what happened, a line each. What is inside a protected message
// is in braces.
func (n *Net) Transcript() string {
	var s strings.Builder
	for _, x := range n.log {
		fmt.Fprintf(&s, "%9.3fs  ", x.at.Sub(New().Now).Seconds())
		fmt.Fprintf(&s, x.format+"\n", x.args...)
	}
	return s.String()
}

// carried is a packet as a line of the transcript.
type carried struct {
	n *Net
	p Packet
}

func (c carried) String() string {
	return fmt.Sprintf("%v -> %v  %s", c.p.From, c.p.To, c.n.headline(c.p.Payload))
}

func fate(delays []time.Duration) string {
	switch len(delays) {
	case 0:
		return " (lost)"
	case 1:
		return ""
	}
	return fmt.Sprintf(" (arrives %d times)", len(delays))
}

func (n *Net) headline(b []byte) string {
	m, err := wire.Parse(b)
	if err != nil {
		return fmt.Sprintf("%d bytes that are no message", len(b))
	}
	kind := "request"
	if m.Flags&wire.FlagResponse != 0 {
		kind = "response"
	}
	return fmt.Sprintf("%v %s %d: %s", m.Exchange, kind, m.MessageID, n.contents(m, b))
}

func (n *Net) contents(m *wire.Message, b []byte) string {
	if f, ok := wire.Find[*wire.EncryptedFragment](m.Payloads); ok {
		return fmt.Sprintf("SKF %d/%d, %d bytes", f.Number, f.Total, len(b))
	}
	if _, ok := wire.Find[*wire.Encrypted](m.Payloads); !ok {
		return names(m.Payloads)
	}
	ps, opened, err := n.revealed(m, b)
	switch {
	case !opened:
		return "SK{?}"
	case err != nil:
		return "SK{malformed}"
	}
	return "SK{" + names(ps) + "}"
}

// revealed are the payloads of a protected message, if its keys are known.
func (n *Net) revealed(m *wire.Message, b []byte) (ps []wire.Payload, opened bool, err error) {
	sk, ok := wire.Find[*wire.Encrypted](m.Payloads)
	if !ok {
		return nil, false, nil
	}
	for _, k := range n.keys[ikev2.SAID{Initiator: m.InitiatorSPI, Responder: m.ResponderSPI}] {
		c, err := newCipher(k, m.Flags&wire.FlagInitiator != 0)
		if err != nil {
			continue
		}
		if inner, err := c.Open(b, sk.BodyOffset); err == nil {
			ps, err = wire.ParsePayloads(sk.First, inner)
			return ps, true, err
		}
	}
	return nil, false, nil
}

func names(ps []wire.Payload) string {
	var ss []string
	for _, p := range ps {
		s := p.Type().String()
		switch p := p.(type) {
		case *wire.Notify:
			s = p.NotifyType.String()
		case *wire.Config:
			s = p.CFGType.String()
		}
		ss = append(ss, s)
	}
	return strings.Join(ss, " ")
}

// happening is an event as a line of the transcript.
type happening ikev2.Event

func (e happening) String() string {
	s := e.Kind.String()
	if e.Reason != ikev2.ReasonNone {
		s += " " + e.Reason.String()
	}
	if e.Child != "" {
		s += " " + e.Child
	}
	if e.Notify != 0 {
		s += " " + e.Notify.String()
	}
	switch e.Kind {
	case ikev2.EventConnecting:
		s += fmt.Sprintf(", attempt %d", e.Attempt)
	case ikev2.EventInit:
		s += ", NAT: " + e.NAT.String()
	case ikev2.EventLeased, ikev2.EventAssigned:
		s += fmt.Sprintf(" %v", e.Addresses)
	case ikev2.EventChildUp:
		s += fmt.Sprintf(" %v <-> %v", e.LocalTS, e.RemoteTS)
	case ikev2.EventGaveUp:
		s += fmt.Sprintf(", %d tries", e.Attempt)
	}
	return s
}

func newCipher(k ikev2.IKEKeys, ofInitiator bool) (*keymat.Cipher, error) {
	s := k.Suite
	if ofInitiator {
		return keymat.NewCipher(s.Encr, s.KeyBits, s.Integ, k.Keys.SKei, k.Keys.SKai)
	}
	return keymat.NewCipher(s.Encr, s.KeyBits, s.Integ, k.Keys.SKer, k.Keys.SKar)
}
