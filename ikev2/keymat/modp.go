package keymat

import (
	"encoding/hex"
	"io"

	"filippo.io/bigmod"
)

// A modpGroup is a safe-prime group with generator 2 (RFC 3526). Its arithmetic takes the same time for every exponent.
type modpGroup struct {
	prime       *bigmod.Modulus
	exponentLen int // bytes
}

// newMODP makes the group of a prime of RFC 3526. Its exponents have the length that RFC 3526 8 gives for the higher of its two estimates
// of strength.
func newMODP(primeHex string, exponentLen int) *modpGroup {
	b, err := hex.DecodeString(primeHex)
	if err != nil {
		panic("keymat: malformed prime")
	}
	p, err := bigmod.NewModulus(b)
	if err != nil {
		panic("keymat: malformed prime")
	}
	return &modpGroup{prime: p, exponentLen: exponentLen}
}

func (g *modpGroup) publicLen() int { return g.prime.Size() }

func (g *modpGroup) generate(id uint16, rand io.Reader) (KeyExchange, error) {
	x := make([]byte, g.exponentLen)
	if _, err := io.ReadFull(rand, x); err != nil {
		return nil, ErrRandom
	}
	x[0] |= 0x80 // full length, and never 0
	two := bigmod.NewNat().SetUint(2).ExpandFor(g.prime)
	return &modpKey{id: id, group: g, exponent: x, public: g.power(two, x)}, nil
}

func (g *modpGroup) power(base *bigmod.Nat, exponent []byte) []byte {
	return bigmod.NewNat().Exp(base, exponent, g.prime).Bytes(g.prime)
}

// element reads a peer's value y and holds it to 1 < y < p-1 (RFC 6989 2.1).
func (g *modpGroup) element(y []byte) (*bigmod.Nat, error) {
	if len(y) != g.prime.Size() {
		return nil, ErrPeerKey
	}
	n, err := bigmod.NewNat().SetBytes(y, g.prime)
	if err != nil || n.IsZero()|n.IsOne()|n.IsMinusOne(g.prime) != 0 {
		return nil, ErrPeerKey
	}
	return n, nil
}

type modpKey struct {
	redacted
	id       uint16
	group    *modpGroup
	exponent []byte
	public   []byte
}

func (k *modpKey) Group() uint16 { return k.id }

func (k *modpKey) Public() []byte { return k.public }

func (k *modpKey) Shared(peer []byte) ([]byte, error) {
	y, err := k.group.element(peer)
	if err != nil {
		return nil, err
	}
	return k.group.power(y, k.exponent), nil
}
