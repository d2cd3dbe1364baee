package keymat

import (
	"fmt"
	"slices"
)

// An IKESuite names the algorithms of an IKE SA by their IANA numbers. KeyBits is 0 where the cipher has one key length, Integ is 0 with
// an AEAD cipher.
type IKESuite struct {
	Encr, KeyBits, PRF, Integ, Group uint16
	// AddKE are the methods of ADDKE1 to ADDKE7 (RFC 9370), 0 where there is none.
	AddKE [7]uint16
}

// IKEKeys are the keys of an IKE SA (RFC 7296 2.14). SKai and SKar are empty with an AEAD cipher; SKei and SKer end with its salt.
type IKEKeys struct {
	redacted
	SKd, SKai, SKar, SKei, SKer, SKpi, SKpr []byte
}

// DeriveIKE gives the keys of a first IKE SA (RFC 7296 2.14). The nonces are Ni and Nr, the SPIs those of its header; shared is g^ir.
func DeriveIKE(s IKESuite, ni, nr, shared []byte, spii, spir [8]byte) (IKEKeys, error) {
	prf, err := NewPRF(s.PRF)
	if err != nil {
		return IKEKeys{}, err
	}
	return deriveIKE(s, firstSeed(prf, ni, nr, shared), ni, nr, spii, spir)
}

// DeriveIKERekey gives the keys of an IKE SA that replaces another (RFC 7296 2.18, RFC 9370 2.2.4). oldPRF and oldSKd are those of the old SA; all
// the rest is of the new one. more are the secrets of additional key exchanges, one after the other.
func DeriveIKERekey(s IKESuite, oldPRF uint16, oldSKd, ni, nr, shared, more []byte, spii, spir [8]byte) (IKEKeys, error) {
	prf, err := NewPRF(oldPRF)
	if err != nil {
		return IKEKeys{}, err
	}
	return deriveIKE(s, rekeySeed(prf, oldSKd, ni, nr, shared, more), ni, nr, spii, spir)
}

// DeriveIKENext gives the keys of an IKE SA after an additional key exchange in IKE_INTERMEDIATE (RFC 9370 2.2.2): skd is the SK_d so far, shared
// what was exchanged, all the rest is as it was.
func DeriveIKENext(s IKESuite, skd, ni, nr, shared []byte, spii, spir [8]byte) (IKEKeys, error) {
	return DeriveIKERekey(s, s.PRF, skd, ni, nr, shared, nil, spii, spir)
}

// WithPPK mixes a post-quantum pre-shared key into the keys of an IKE SA (RFC 8784 3): into SK_d, SK_pi and SK_pr.
func (k IKEKeys) WithPPK(prf PRF, ppk []byte) IKEKeys {
	mix := func(key []byte) []byte { return prf.Plus(ppk, key, len(key)) }
	k.SKd, k.SKpi, k.SKpr = mix(k.SKd), mix(k.SKpi), mix(k.SKpr)
	return k
}

// DeriveIKEResume gives the keys of an IKE SA that is resumed from a ticket (RFC 5723 5.1). The suite and oldSKd are those of the SA that the
// ticket is of; the nonces and SPIs are of IKE_SESSION_RESUME.
func DeriveIKEResume(s IKESuite, oldSKd, ni, nr []byte, spii, spir [8]byte) (IKEKeys, error) {
	prf, err := NewPRF(s.PRF)
	if err != nil {
		return IKEKeys{}, err
	}
	return deriveIKE(s, resumeSeed(prf, oldSKd, ni, nr), ni, nr, spii, spir)
}

// firstSeed is SKEYSEED = prf(Ni | Nr, g^ir).
func firstSeed(prf PRF, ni, nr, shared []byte) []byte {
	return prf.Sum(slices.Concat(ni, nr), shared)
}

// rekeySeed is SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr | SK(1) | ... SK(n)).
func rekeySeed(prf PRF, oldSKd, ni, nr, shared, more []byte) []byte {
	return prf.Sum(oldSKd, shared, ni, nr, more)
}

// resumeSeed is SKEYSEED = prf(SK_d (old), "Resumption" | Ni | Nr).
func resumeSeed(prf PRF, oldSKd, ni, nr []byte) []byte {
	return prf.Sum(oldSKd, []byte("Resumption"), ni, nr)
}

func deriveIKE(s IKESuite, skeyseed, ni, nr []byte, spii, spir [8]byte) (IKEKeys, error) {
	defer clear(skeyseed)
	prf, err := NewPRF(s.PRF)
	if err != nil {
		return IKEKeys{}, err
	}
	if err := prf.checkNonces(ni, nr); err != nil {
		return IKEKeys{}, err
	}
	encr, integ, err := cipherKeyLens(s.Encr, s.KeyBits, s.Integ)
	if err != nil {
		return IKEKeys{}, err
	}
	return cutIKE(prf, encr, integ, skeyseed, slices.Concat(ni, nr, spii[:], spir[:])), nil
}

// cutIKE cuts prf+(SKEYSEED, Ni | Nr | SPIi | SPIr) into the seven keys, in the order of RFC 7296 2.14.
func cutIKE(prf PRF, encr, integ int, skeyseed, seed []byte) IKEKeys {
	d := prf.KeyLen()
	rest := prf.Plus(skeyseed, seed, 3*d+2*integ+2*encr)
	take := func(n int) []byte {
		k := rest[:n:n]
		rest = rest[n:]
		return k
	}
	return IKEKeys{
		SKd:  take(d),
		SKai: take(integ), SKar: take(integ),
		SKei: take(encr), SKer: take(encr),
		SKpi: take(d), SKpr: take(d),
	}
}

// DeriveChild gives n bytes of KEYMAT for a child SA (RFC 7296 2.17, RFC 9370 2.2.4): prf+(SK_d, g^ir | Ni | Nr | SK(1) | ... SK(n)). shared is
// nil where the child made no key exchange of its own, more where it made no additional ones.
func DeriveChild(prf uint16, skd, shared, ni, nr, more []byte, n int) ([]byte, error) {
	p, err := NewPRF(prf)
	if err != nil {
		return nil, err
	}
	if err := p.checkNonces(ni, nr); err != nil {
		return nil, err
	}
	keymat := p.Plus(skd, slices.Concat(shared, ni, nr, more), n)
	if keymat == nil {
		return nil, fmt.Errorf("%w: %d bytes of KEYMAT", ErrUnsupported, n)
	}
	return keymat, nil
}
