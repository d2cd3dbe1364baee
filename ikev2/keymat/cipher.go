package keymat

import (
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

// IANA numbers of the ciphers (transform type 1) and integrity algorithms (type 3) that NewCipher knows.
const (
	encrAESCBC           = 12
	encrAESGCM16         = 20
	encrChaCha20Poly1305 = 28

	integNone          = 0
	integHMACSHA256128 = 12
	integHMACSHA384192 = 13
	integHMACSHA512256 = 14
)

const saltLen = 4 // of an AEAD's nonce, from the end of the key (RFC 5282 4, RFC 7634 2)

// A Cipher protects the Encrypted payloads of one direction of one IKE SA: the sending side seals, the receiving side opens. There
// must be one Cipher for a key, since it is the Cipher that keeps its IVs from repeating. It is for one goroutine at a time.
type Cipher struct {
	redacted
	mode mode
}

// A mode is how a cipher fills the body of an Encrypted payload.
type mode interface {
	bodyLen(plain int) int
	seal(prefix, plaintext []byte, rand io.Reader) ([]byte, error)
	open(datagram []byte, bodyOffset int) ([]byte, error)
}

// NewCipher makes the Cipher of encr with that key length, and of integ, which is 0 with an AEAD cipher and an HMAC without. encrKey has
// EncrKeyLen bytes, an AEAD's salt last; integKey has IntegKeyLen bytes.
func NewCipher(encr, keyBits, integ uint16, encrKey, integKey []byte) (*Cipher, error) {
	encrLen, integLen, err := cipherKeyLens(encr, keyBits, integ)
	if err != nil {
		return nil, err
	}
	if len(encrKey) != encrLen || len(integKey) != integLen {
		return nil, ErrKeyLength
	}
	m, err := newMode(encr, integ, encrKey, integKey)
	if err != nil {
		return nil, ErrKeyLength
	}
	return &Cipher{mode: m}, nil
}

func newMode(encr, integ uint16, encrKey, integKey []byte) (mode, error) {
	if encr == encrAESCBC {
		return newCBC(encrKey, integs[integ], integKey)
	}
	return newAEADMode(encr, encrKey)
}

// BodyLen is the length of the body that Seal makes of a plaintext of that many bytes: IV, plaintext, padding, pad length and ICV.
func (c *Cipher) BodyLen(plain int) int { return c.mode.bodyLen(plain) }

// Seal appends the body of an Encrypted payload to prefix, which is the datagram so far: it ends with the generic payload header (with the
// fragment numbers, in a fragment), and its length fields already count the body. An AEAD's IV is a counter; CBC's comes from rand.
func (c *Cipher) Seal(prefix, plaintext []byte, rand io.Reader) ([]byte, error) {
	return c.mode.seal(prefix, plaintext, rand)
}

// Open gives the payload chain inside the Encrypted payload whose body reaches from bodyOffset to the end of the datagram, without its
// padding, in memory of its own. It is ErrAuth for every failure.
func (c *Cipher) Open(datagram []byte, bodyOffset int) ([]byte, error) {
	if bodyOffset < 0 || bodyOffset > len(datagram) {
		return nil, ErrAuth
	}
	return c.mode.open(datagram, bodyOffset)
}

// unpad cuts the padding off a decrypted body. Its content is the sender's choice (RFC 7296 3.14).
func unpad(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, ErrAuth
	}
	n := len(b) - 1 - int(b[len(b)-1])
	if n < 0 {
		return nil, ErrAuth
	}
	return b[:n], nil
}

// IsAEAD says whether the cipher with that IANA number authenticates by itself, so that it takes no integrity algorithm.
func IsAEAD(encr uint16) bool { return encr == encrAESGCM16 || encr == encrChaCha20Poly1305 }

// EncrKeyLen is the length in bytes of the key material of a cipher, an AEAD's salt included. keyBits is the Key Length attribute, 0
// where it is absent.
func EncrKeyLen(encr, keyBits uint16) (int, error) {
	aesKey := keyBits == 128 || keyBits == 192 || keyBits == 256
	switch {
	case encr == encrAESGCM16 && aesKey:
		return int(keyBits)/8 + saltLen, nil
	case encr == encrAESCBC && aesKey:
		return int(keyBits) / 8, nil
	case encr == encrChaCha20Poly1305 && keyBits == 0: // RFC 7634 3: the attribute must be absent
		return chacha20poly1305.KeySize + saltLen, nil
	}
	return 0, fmt.Errorf("%w: cipher %d with a key length of %d bits", ErrUnsupported, encr, keyBits)
}

// EncrSupported says whether the cipher is known with that Key Length attribute, 0 where it is absent.
func EncrSupported(encr, keyBits uint16) bool {
	_, err := EncrKeyLen(encr, keyBits)
	return err == nil
}

// IntegKeyLen is the length in bytes of the key of an integrity algorithm.
func IntegKeyLen(integ uint16) (int, error) {
	i, ok := integs[integ]
	if !ok {
		return 0, fmt.Errorf("%w: integrity algorithm %d", ErrUnsupported, integ)
	}
	return i.prf.size, nil
}

// IntegSupported says whether the integrity algorithm with that IANA number is known.
func IntegSupported(integ uint16) bool { return integs[integ].icvLen != 0 }

// cipherKeyLens gives the key lengths of a cipher and its integrity algorithm: none with an AEAD cipher, one with any other (RFC 7296 3.3).
func cipherKeyLens(encr, keyBits, integ uint16) (encrLen, integLen int, err error) {
	if encrLen, err = EncrKeyLen(encr, keyBits); err != nil {
		return 0, 0, err
	}
	if IsAEAD(encr) {
		if integ != integNone {
			return 0, 0, fmt.Errorf("%w: cipher %d takes no integrity algorithm", ErrUnsupported, encr)
		}
		return encrLen, 0, nil
	}
	integLen, err = IntegKeyLen(integ)
	return encrLen, integLen, err
}
