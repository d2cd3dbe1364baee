package keymat

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"io"
	"slices"
)

// An integ is HMAC-SHA2 with its result cut to half (RFC 4868 2.1).
type integ struct {
	prf    PRF
	icvLen int
}

var integs = map[uint16]integ{
	integHMACSHA256128: {prfs[prfHMACSHA256], 16},
	integHMACSHA384192: {prfs[prfHMACSHA384], 24},
	integHMACSHA512256: {prfs[prfHMACSHA512], 32},
}

func (i integ) icv(key, b []byte) []byte { return i.prf.Sum(key, b)[:i.icvLen] }

// cbcMode is AES-CBC (RFC 3602), encrypted first and then authenticated (RFC 7296 3.14).
type cbcMode struct {
	block    cipher.Block
	integ    integ
	integKey []byte
}

func newCBC(encrKey []byte, i integ, integKey []byte) (mode, error) {
	block, err := aes.NewCipher(encrKey)
	if err != nil {
		return nil, err
	}
	return &cbcMode{block: block, integ: i, integKey: bytes.Clone(integKey)}, nil
}

// padded is the plaintext's length with padding and pad length: whole blocks.
func padded(plain int) int { return (plain/aes.BlockSize + 1) * aes.BlockSize }

func (m *cbcMode) bodyLen(plain int) int { return aes.BlockSize + padded(plain) + m.integ.icvLen }

func (m *cbcMode) seal(prefix, plaintext []byte, rand io.Reader) ([]byte, error) {
	var iv [aes.BlockSize]byte
	if _, err := io.ReadFull(rand, iv[:]); err != nil {
		return nil, ErrRandom
	}
	out := slices.Grow(prefix, m.bodyLen(len(plaintext)))
	out = append(out, iv[:]...)
	start := len(out)
	out = append(out, plaintext...)
	pad := padded(len(plaintext)) - len(plaintext) - 1
	out = append(append(out, make([]byte, pad)...), byte(pad))
	cipher.NewCBCEncrypter(m.block, iv[:]).CryptBlocks(out[start:], out[start:])
	return append(out, m.integ.icv(m.integKey, out)...), nil
}

func (m *cbcMode) open(datagram []byte, bodyOffset int) ([]byte, error) {
	if len(datagram)-bodyOffset < m.bodyLen(0) {
		return nil, ErrAuth
	}
	covered := datagram[:len(datagram)-m.integ.icvLen]
	if !hmac.Equal(m.integ.icv(m.integKey, covered), datagram[len(covered):]) {
		return nil, ErrAuth
	}
	iv, sealed := covered[bodyOffset:bodyOffset+aes.BlockSize], covered[bodyOffset+aes.BlockSize:]
	if len(sealed)%aes.BlockSize != 0 {
		return nil, ErrAuth
	}
	plain := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(m.block, iv).CryptBlocks(plain, sealed)
	return unpad(plain)
}
