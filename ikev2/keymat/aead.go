package keymat

import (
	"crypto/cipher"
	"encoding/binary"
	"io"
	"math"
	"slices"
)

const aeadIVLen = 8

// aeadMode is AES-GCM (RFC 5282) or ChaCha20-Poly1305 (RFC 7634): nonce = salt | IV.
type aeadMode struct {
	aead cipher.AEAD
	salt [saltLen]byte
	used uint64 // IVs used so far, and so the last of them
}

func (m *aeadMode) bodyLen(plain int) int { return aeadIVLen + plain + 1 + m.aead.Overhead() }

func (m *aeadMode) nonce(iv []byte) []byte { return slices.Concat(m.salt[:], iv) }

// seal takes no padding: an AEAD needs none (RFC 5282 3).
func (m *aeadMode) seal(prefix, plaintext []byte, _ io.Reader) ([]byte, error) {
	if m.used == math.MaxUint64 {
		return nil, ErrExhausted
	}
	m.used++
	out := slices.Grow(prefix, m.bodyLen(len(plaintext)))
	out = binary.BigEndian.AppendUint64(out, m.used)
	start := len(out)
	out = append(append(out, plaintext...), 0)
	return m.aead.Seal(out[:start], m.nonce(out[len(prefix):start]), out[start:], out[:len(prefix)]), nil
}

func (m *aeadMode) open(datagram []byte, bodyOffset int) ([]byte, error) {
	aad, body := datagram[:bodyOffset], datagram[bodyOffset:]
	if len(body) < m.bodyLen(0) {
		return nil, ErrAuth
	}
	plain, err := m.aead.Open(nil, m.nonce(body[:aeadIVLen]), body[aeadIVLen:], aad)
	if err != nil {
		return nil, ErrAuth
	}
	return unpad(plain)
}
