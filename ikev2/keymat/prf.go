package keymat

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
)

// IANA numbers of the pseudorandom functions (transform type 2) that NewPRF knows.
const (
	prfHMACSHA256 = 5
	prfHMACSHA384 = 6
	prfHMACSHA512 = 7
)

// A PRF is a keyed pseudorandom function of variable key length: HMAC with a hash of the SHA-2 family (RFC 4868). The zero PRF is none.
type PRF struct {
	hash func() hash.Hash
	size int
}

var prfs = map[uint16]PRF{
	prfHMACSHA256: {sha256.New, sha256.Size},
	prfHMACSHA384: {sha512.New384, sha512.Size384},
	prfHMACSHA512: {sha512.New, sha512.Size},
}

// NewPRF gives the PRF with that IANA number: 5, 6 or 7 for HMAC-SHA2-256, -384 and -512.
func NewPRF(id uint16) (PRF, error) {
	p, ok := prfs[id]
	if !ok {
		return PRF{}, fmt.Errorf("%w: PRF %d", ErrUnsupported, id)
	}
	return p, nil
}

// PRFSupported says whether NewPRF knows the PRF with that IANA number.
func PRFSupported(id uint16) bool { return prfs[id].size != 0 }

// KeyLen is the preferred key length in bytes, which is also the length of Sum's result (RFC 7296 2.13).
func (p PRF) KeyLen() int { return p.size }

// Sum is prf(key, parts[0] | parts[1] | ...), KeyLen bytes.
func (p PRF) Sum(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(p.hash, key)
	for _, b := range parts {
		mac.Write(b)
	}
	return mac.Sum(nil)
}

// Plus is the first n bytes of prf+(key, seed) (RFC 7296 2.13). It is nil when n is beyond 255 * KeyLen, where prf+ ends.
func (p PRF) Plus(key, seed []byte, n int) []byte {
	if n < 0 || n > 255*p.size {
		return nil
	}
	out := make([]byte, 0, n+p.size)
	var block []byte
	for i := byte(1); len(out) < n; i++ {
		block = p.Sum(key, block, seed, []byte{i})
		out = append(out, block...)
	}
	return out[:n:n]
}

// checkNonces holds both nonces to half the PRF's key or more (RFC 7296 2.10).
func (p PRF) checkNonces(ni, nr []byte) error {
	if min(len(ni), len(nr)) < p.size/2 {
		return ErrNonce
	}
	return nil
}
