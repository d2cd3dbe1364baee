package keymat

import (
	"crypto/ecdh"
	"io"
	"slices"
)

// maxScalarTries bounds the search for a scalar below the order of the curve. A fair source needs a second try less than once in
// 2^32 keys on P-256, and never in a lifetime on the others.
const maxScalarTries = 16

// uncompressed marks a point that is written as x | y. IKEv2 leaves the mark out (RFC 5903 7).
var uncompressed = []byte{4}

// A curve is an elliptic curve group: P-256, P-384, P-521 (RFC 5903) or Curve25519 (RFC 8031).
type curve struct {
	ecdh.Curve
	scalarLen int
	topMask   byte   // bits that a scalar's first byte may have
	mark      []byte // what crypto/ecdh has before the public value on the wire
	wireLen   int    // length of the Key Exchange Data
}

func (c curve) publicLen() int { return c.wireLen }

// generate reads the scalar itself: GenerateKey ignores its reader since Go 1.26.
func (c curve) generate(id uint16, rand io.Reader) (KeyExchange, error) {
	scalar := make([]byte, c.scalarLen)
	defer clear(scalar)
	for range maxScalarTries {
		if _, err := io.ReadFull(rand, scalar); err != nil {
			return nil, ErrRandom
		}
		scalar[0] &= c.topMask
		if key, err := c.NewPrivateKey(scalar); err == nil {
			return &curveKey{id: id, curve: c, private: key}, nil
		}
	}
	return nil, ErrRandom
}

func (c curve) respond(id uint16, peer []byte, rand io.Reader) (public, shared []byte, err error) {
	return respondDH(c, id, peer, rand)
}

type curveKey struct {
	redacted
	id      uint16
	curve   curve
	private *ecdh.PrivateKey
}

func (k *curveKey) Group() uint16 { return k.id }

func (k *curveKey) Public() []byte { return k.private.PublicKey().Bytes()[len(k.curve.mark):] }

// Shared refuses points off the curve (RFC 6989 2.3) and, on Curve25519, those that give an all-zero secret (RFC 7748 6.1); crypto/ecdh
// checks both. The secret of a NIST curve is the x coordinate alone (RFC 5903 7).
func (k *curveKey) Shared(peer []byte) ([]byte, error) {
	if len(peer) != k.curve.wireLen {
		return nil, ErrPeerKey
	}
	point, err := k.curve.NewPublicKey(slices.Concat(k.curve.mark, peer))
	if err != nil {
		return nil, ErrPeerKey
	}
	secret, err := k.private.ECDH(point)
	if err != nil {
		return nil, ErrPeerKey
	}
	return secret, nil
}
