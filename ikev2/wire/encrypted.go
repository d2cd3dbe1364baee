package wire

import "golang.org/x/crypto/cryptobyte"

// Encrypted is an SK payload (RFC 7296 section 3.14), as it came.
type Encrypted struct {
	First      PayloadType // of the chain inside
	Body       []byte      // IV, ciphertext, ICV
	BodyOffset int         // of Body in the datagram
}

func (*Encrypted) Type() PayloadType { return PayloadSK }

func (p *Encrypted) add(b *cryptobyte.Builder) { b.AddBytes(p.Body) }

func parseEncrypted(first PayloadType, s cryptobyte.String, datagramLen int) (Payload, error) {
	if s.Empty() {
		return nil, malformed("SK payload: empty")
	}
	return &Encrypted{first, s, datagramLen - len(s)}, nil
}

// EncryptedFragment is an SKF payload (RFC 7383 section 2.5), as it came.
// 1 <= Number <= Total.
type EncryptedFragment struct {
	First         PayloadType // of the chain inside; zero in all but the first fragment
	Number, Total uint16
	Body          []byte // IV, ciphertext, ICV
	BodyOffset    int    // of Body in the datagram
}

func (*EncryptedFragment) Type() PayloadType { return PayloadSKF }

func (p *EncryptedFragment) add(b *cryptobyte.Builder) {
	b.AddUint16(p.Number)
	b.AddUint16(p.Total)
	b.AddBytes(p.Body)
}

func parseEncryptedFragment(first PayloadType, s cryptobyte.String, datagramLen int) (Payload, error) {
	p := &EncryptedFragment{First: first}
	if !s.ReadUint16(&p.Number) || !s.ReadUint16(&p.Total) || s.Empty() {
		return nil, malformed("SKF payload: too short")
	}
	if p.Number < 1 || p.Number > p.Total {
		return nil, malformed("SKF payload: fragment %d of %d", p.Number, p.Total)
	}
	p.Body, p.BodyOffset = s, datagramLen-len(s)
	return p, nil
}
