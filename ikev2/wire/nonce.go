package wire

import "golang.org/x/crypto/cryptobyte"

// The lengths of a nonce in bytes (RFC 7296 section 3.9).
const minNonce, maxNonce = 16, 256

// Nonce is a Nonce payload: 16 to 256 bytes (RFC 7296 section 3.9).
type Nonce struct{ Data []byte }

func (*Nonce) Type() PayloadType { return PayloadNonce }

func (p *Nonce) add(b *cryptobyte.Builder) { b.AddBytes(p.Data) }

func parseNonce(s cryptobyte.String) (Payload, error) {
	if len(s) < minNonce || len(s) > maxNonce {
		return nil, malformed("Nonce payload: %d bytes", len(s))
	}
	return &Nonce{s}, nil
}
