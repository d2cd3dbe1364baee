package keymat

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"io"
	"math"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	aeadIVLen  = 8
	aeadICVLen = 16
)

// aeadMode is AES-GCM (RFC 5282) or ChaCha20-Poly1305 (RFC 7634): nonce = salt | IV. It keeps the key alone, and makes the cipher for each
// message: an idle SA has few, and AES-GCM's tables are twenty times as long as its key.
type aeadMode struct {
	encr uint16
	key  []byte // salt last
	used uint64 // IVs used so far, and so the last of them
}

func newAEADMode(encr uint16, key []byte) (*aeadMode, error) {
	m := &aeadMode{encr: encr, key: slices.Clone(key)}
	_, err := m.aead()
	return m, err
}

func (m *aeadMode) aead() (cipher.AEAD, error) {
	key := m.key[:len(m.key)-saltLen]
	if m.encr == encrChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (m *aeadMode) bodyLen(plain int) int { return aeadIVLen + plain + 1 + aeadICVLen }

func (m *aeadMode) nonce(iv []byte) []byte { return slices.Concat(m.key[len(m.key)-saltLen:], iv) }

// seal takes no padding: an AEAD needs none (RFC 5282 3).
func (m *aeadMode) seal(prefix, plaintext []byte, _ io.Reader) ([]byte, error) {
	if m.used == math.MaxUint64 {
		return nil, ErrExhausted
	}
	aead, err := m.aead()
	if err != nil {
		return nil, err
	}
	m.used++
	out := slices.Grow(prefix, m.bodyLen(len(plaintext)))
	out = binary.BigEndian.AppendUint64(out, m.used)
	start := len(out)
	out = append(append(out, plaintext...), 0)
	return aead.Seal(out[:start], m.nonce(out[len(prefix):start]), out[start:], out[:len(prefix)]), nil
}

func (m *aeadMode) open(datagram []byte, bodyOffset int) ([]byte, error) {
	aad, body := datagram[:bodyOffset], datagram[bodyOffset:]
	if len(body) < m.bodyLen(0) {
		return nil, ErrAuth
	}
	aead, err := m.aead()
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, m.nonce(body[:aeadIVLen]), body[aeadIVLen:], aad)
	if err != nil {
		return nil, ErrAuth
	}
	return unpad(plain)
}
