package wire

import "golang.org/x/crypto/cryptobyte"

// Nonce is a Nonce payload: 16 to 256 bytes (RFC 7296 section 3.9).
type Nonce struct{ Data []byte }

func (*Nonce) Type() PayloadType { return PayloadNonce }

func (p *Nonce) add(b *cryptobyte.Builder) { b.AddBytes(p.Data) }

func parseNonce(s cryptobyte.String) (Payload, error) {
	if len(s) < 16 || len(s) > 256 {
		return nil, malformed("Nonce payload: %d bytes", len(s))
	}
	return &Nonce{s}, nil
}
