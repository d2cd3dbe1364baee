package wire

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// Limits on one chain of payloads, far above what any peer sends.
const (
	maxPayloads = 64
	maxNotifies = 32
)

// criticalBit is in the second octet of a generic payload header.
const criticalBit = 0x80

// Message is an IKE message in the clear.
type Message struct {
	Header
	Payloads []Payload
}

// Parse reads a whole datagram, without the non-ESP marker. An Encrypted or
// Encrypted Fragment payload ends the chain and comes back still encrypted.
// Errors are *Error: INVALID_MAJOR_VERSION, UNSUPPORTED_CRITICAL_PAYLOAD or
// INVALID_SYNTAX.
func Parse(datagram []byte) (*Message, error) {
	h, err := ParseHeader(datagram)
	if err != nil {
		return nil, err
	}
	if h.Major != 2 {
		return nil, &Error{Notify: NotifyInvalidMajorVersion, Reason: fmt.Sprintf("major version %d", h.Major)}
	}
	if uint64(h.Length) != uint64(len(datagram)) {
		return nil, malformed("header says %d bytes, datagram has %d", h.Length, len(datagram))
	}
	c := chain{next: h.NextPayload, rest: datagram[HeaderLen:], datagramLen: len(datagram)}
	ps, err := c.parse()
	if err != nil {
		return nil, err
	}
	return &Message{h, ps}, nil
}

// ParsePayloads reads a decrypted chain whose first payload is of type first.
// An Encrypted payload inside another is an error.
func ParsePayloads(first PayloadType, b []byte) ([]Payload, error) {
	c := chain{next: first, rest: b}
	return c.parse()
}

// chain is a chain of payloads being read.
type chain struct {
	next        PayloadType
	rest        cryptobyte.String
	datagramLen int // 0 in a decrypted chain
	notifies    int
}

func (c *chain) parse() ([]Payload, error) {
	var ps []Payload
	for c.next != PayloadNone {
		if len(ps) == maxPayloads {
			return nil, malformed("more than %d payloads", maxPayloads)
		}
		p, err := c.step()
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	if !c.rest.Empty() {
		return nil, malformed("%d bytes after the last payload", len(c.rest))
	}
	return ps, nil
}

// step reads the next payload and leaves in c what follows it.
func (c *chain) step() (Payload, error) {
	t := c.next
	next, flags, body, ok := readBlock(&c.rest)
	if !ok {
		return nil, malformed("%v payload: length does not fit", t)
	}
	c.next = PayloadType(next)
	if t == PayloadSK || t == PayloadSKF {
		return c.encrypted(t, body)
	}
	parse, known := parsers[t]
	if !known {
		return parseUnknown(t, flags&criticalBit != 0, body)
	}
	// RFC 7296 section 2.5: the critical bit of a payload we know is ignored.
	if t == PayloadNotify {
		if c.notifies++; c.notifies > maxNotifies {
			return nil, malformed("more than %d notifications", maxNotifies)
		}
	}
	return parse(body)
}

// encrypted takes SK or SKF, whose Next Payload is about what is inside (RFC
// 7296 section 3.14). It must be the last of its message.
func (c *chain) encrypted(t PayloadType, body cryptobyte.String) (Payload, error) {
	first := c.next
	c.next = PayloadNone
	if c.datagramLen == 0 {
		return nil, malformed("%v payload inside an Encrypted payload", t)
	}
	if t == PayloadSKF {
		return parseEncryptedFragment(first, body, c.datagramLen)
	}
	return parseEncrypted(first, body, c.datagramLen)
}

// Append writes the message to b and returns the longer slice. NextPayload and
// Length follow from the payloads.
func (m *Message) Append(b []byte) []byte {
	first, body := AppendPayloads(nil, m.Payloads)
	h := m.Header
	h.NextPayload, h.Length = first, uint32(HeaderLen+len(body))
	out := cryptobyte.NewBuilder(b)
	h.add(out)
	out.AddBytes(body)
	return out.BytesOrPanic()
}

// AppendPayloads writes a chain of payloads to b; first is the type of the
// first of them, for whoever refers to the chain. A payload must be shorter
// than 64 KiB.
func AppendPayloads(b []byte, ps []Payload) (first PayloadType, out []byte) {
	builder := cryptobyte.NewBuilder(b)
	for i, p := range ps {
		next, flags := typeOfFirst(ps[i+1:]), uint8(0)
		switch p := p.(type) {
		case *Encrypted:
			next = p.First
		case *EncryptedFragment:
			next = p.First
		case *Unknown:
			if p.Critical {
				flags = criticalBit
			}
		}
		addBlock(builder, uint8(next), flags, build(p.add))
	}
	return typeOfFirst(ps), builder.BytesOrPanic()
}

func typeOfFirst(ps []Payload) PayloadType {
	if len(ps) == 0 {
		return PayloadNone
	}
	return ps[0].Type()
}

// AppendProtected writes the header and the generic header of an SK payload to
// b, with all lengths final for a body (IV, ciphertext, padding, ICV) of
// bodyLen bytes, which the caller appends. first is the type of the first
// payload inside. In an AEAD the result is the associated data (RFC 5282
// section 5.1).
func AppendProtected(b []byte, h Header, first PayloadType, bodyLen int) []byte {
	return appendProtected(b, h, PayloadSK, first, bodyLen).BytesOrPanic()
}

// AppendFragment is AppendProtected for fragment number of total: an SKF
// payload with its two numbers, of which only the first says what is inside (RFC
// 7383 section 2.5).
func AppendFragment(b []byte, h Header, first PayloadType, number, total uint16, bodyLen int) []byte {
	if number > 1 {
		first = PayloadNone
	}
	out := appendProtected(b, h, PayloadSKF, first, fragmentHeadLen+bodyLen)
	out.AddUint16(number)
	out.AddUint16(total)
	return out.BytesOrPanic()
}

func appendProtected(b []byte, h Header, kind, first PayloadType, bodyLen int) *cryptobyte.Builder {
	h.NextPayload, h.Length = kind, uint32(HeaderLen+blockHeadLen+bodyLen)
	out := cryptobyte.NewBuilder(b)
	h.add(out)
	out.AddUint8(uint8(first))
	addReserved(out, 1)
	out.AddUint16(uint16(blockHeadLen + bodyLen))
	return out
}

// The lengths in bytes of a datagram before the body of its SK or SKF payload.
const (
	ProtectedHeadLen = HeaderLen + blockHeadLen
	FragmentHeadLen  = ProtectedHeadLen + fragmentHeadLen

	fragmentHeadLen = 4
)
