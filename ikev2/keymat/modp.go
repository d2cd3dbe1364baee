package keymat

import (
	"encoding/hex"
	"io"

	"filippo.io/bigmod"
)

// A modp is a safe-prime group with generator 2 (RFC 3526). Its exponents have the length that RFC 3526 8 gives for the higher of its
// two estimates of strength.
type modp struct {
	primeHex    string
	exponentLen int // bytes
}

func (g modp) publicLen() int { return len(g.primeHex) / 2 }

func (g modp) prime() (*bigmod.Modulus, error) {
	b, err := hex.DecodeString(g.primeHex)
	if err != nil {
		return nil, err
	}
	return bigmod.NewModulus(b)
}

func (g modp) generate(id uint16, rand io.Reader) (KeyExchange, error) {
	p, err := g.prime()
	if err != nil {
		return nil, err
	}
	x := make([]byte, g.exponentLen)
	if _, err := io.ReadFull(rand, x); err != nil {
		return nil, ErrRandom
	}
	x[0] |= 0x80 // all exponents of one length, and none 0
	k := &modpKey{id: id, prime: p, exponent: x}
	k.public = k.power(bigmod.NewNat().SetUint(2).ExpandFor(p))
	return k, nil
}

func (g modp) respond(id uint16, peer []byte, rand io.Reader) (public, shared []byte, err error) {
	return respondDH(g, id, peer, rand)
}

type modpKey struct {
	redacted
	id       uint16
	prime    *bigmod.Modulus
	exponent []byte
	public   []byte
}

func (k *modpKey) Group() uint16 { return k.id }

func (k *modpKey) Public() []byte { return k.public }

func (k *modpKey) Shared(peer []byte) ([]byte, error) {
	y, err := k.element(peer)
	if err != nil {
		return nil, err
	}
	return k.power(y), nil
}

// power is base^x mod p, as many bytes as p, in a time that does not depend on x.
func (k *modpKey) power(base *bigmod.Nat) []byte {
	return bigmod.NewNat().Exp(base, k.exponent, k.prime).Bytes(k.prime)
}

// element reads a peer's value y and holds it to 1 < y < p-1 (RFC 6989 2.1).
func (k *modpKey) element(y []byte) (*bigmod.Nat, error) {
	if len(y) != k.prime.Size() {
		return nil, ErrPeerKey
	}
	n, err := bigmod.NewNat().SetBytes(y, k.prime)
	if err != nil || n.IsZero()|n.IsOne()|n.IsMinusOne(k.prime) != 0 {
		return nil, ErrPeerKey
	}
	return n, nil
}
