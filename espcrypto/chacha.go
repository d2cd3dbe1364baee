package espcrypto

import (
	"crypto/cipher"
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"

	"culvert/espcrypto/aesgcm"
)

// chacha is ChaCha20-Poly1305 in ESP (RFC 7634), which has the shape of
// AES-GCM's: a nonce of salt and IV, and the same associated data.
type chacha struct {
	aead  cipher.AEAD
	nonce [chacha20poly1305.NonceSize]byte
}

func newChaCha(key []byte, salt [saltLen]byte) (*chacha, error) {
	aead, err := chacha20poly1305.New(key)
	c := &chacha{aead: aead}
	copy(c.nonce[:], salt[:])
	return c, err
}

func (c *chacha) Seal(batch []aesgcm.Packet) {
	for i := range batch {
		p := &batch[i]
		binary.BigEndian.PutUint64(c.nonce[saltLen:], p.IV)
		c.aead.Seal(p.Text[:0], c.nonce[:], p.Gather(), p.AAD[:p.AADLen])
	}
}

func (c *chacha) Open(batch []aesgcm.Packet) {
	for i := range batch {
		p := &batch[i]
		binary.BigEndian.PutUint64(c.nonce[saltLen:], p.IV)
		_, err := c.aead.Open(p.Text[:0], c.nonce[:], p.Text, p.AAD[:p.AADLen])
		p.OK = err == nil
	}
}
