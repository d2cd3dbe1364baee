package espcrypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"slices"

	"culvert/espcrypto/aesgcm"
)

// hmacs are the integrity algorithms beside AES-CBC, by IANA's number: the
// keys have the length of the hash, the ICV half of it (RFC 4868 section 2.6).
var hmacs = map[uint16]hmacAlgorithm{
	12: {sha256.New, 32, 16},
	13: {sha512.New384, 48, 24},
	14: {sha512.New, 64, 32},
}

type hmacAlgorithm struct {
	hash     func() hash.Hash
	key, icv int
}

// cbc encrypts, then authenticates (RFC 4303 section 3.3.2). The text of its
// packets starts with the IV, which it takes for the first block of the
// ciphertext. Under a random first block of plaintext the IV that comes out is
// as random, so that it cannot be predicted (RFC 3602 section 3), whatever the
// chain held before; and of all blocks only that first one depends on the
// chain's past when it is decrypted. So one chain a direction serves all packets.
type cbc struct {
	encrypt, decrypt cipher.BlockMode
	mac              hash.Hash
	icv              int
	sum              []byte
	ivs              []byte // random, for one batch
}

func newCBC(key, integ []byte, h hmacAlgorithm) (*cbc, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	var start [aes.BlockSize]byte
	return &cbc{
		encrypt: cipher.NewCBCEncrypter(block, start[:]),
		decrypt: cipher.NewCBCDecrypter(block, start[:]),
		mac:     hmac.New(h.hash, integ),
		icv:     h.icv,
	}, nil
}

func (c *cbc) Seal(batch []aesgcm.Packet) {
	c.ivs = slices.Grow(c.ivs[:0], len(batch)*aes.BlockSize)[:len(batch)*aes.BlockSize]
	rand.Read(c.ivs)
	for i := range batch {
		p := &batch[i]
		text, icv := c.split(p)
		copy(text, c.ivs[i*aes.BlockSize:][:aes.BlockSize])
		copy(text[p.Head:], p.Body)
		c.encrypt.CryptBlocks(text, text)
		copy(icv, c.authenticate(p, text))
	}
}

func (c *cbc) Open(batch []aesgcm.Packet) {
	for i := range batch {
		p := &batch[i]
		text, icv := c.split(p)
		p.OK = hmac.Equal(icv, c.authenticate(p, text)[:c.icv])
		if p.OK {
			c.decrypt.CryptBlocks(text, text)
		}
	}
}

func (c *cbc) split(p *aesgcm.Packet) (text, icv []byte) {
	end := len(p.Text) - c.icv
	return p.Text[:end], p.Text[end:]
}

// authenticate computes the MAC over the packet as it is on the wire and, with
// ESN, the high half of the sequence number behind it (RFC 4303 section 2.2.1).
func (c *cbc) authenticate(p *aesgcm.Packet, text []byte) []byte {
	low := p.AADLen - 4
	c.mac.Reset()
	c.mac.Write(p.AAD[:4])
	c.mac.Write(p.AAD[low:p.AADLen])
	c.mac.Write(text)
	c.mac.Write(p.AAD[4:low])
	c.sum = c.mac.Sum(c.sum[:0])
	return c.sum
}
