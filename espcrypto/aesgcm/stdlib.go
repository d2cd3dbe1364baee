package aesgcm

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// stdlib copies the body next to the head and seals in place, a packet a call.
type stdlib struct {
	gcm   cipher.AEAD
	nonce [12]byte // salt, then the IV of the packet in work
}

func newStdlib(key []byte, salt [4]byte) (*stdlib, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	s := &stdlib{gcm: gcm}
	copy(s.nonce[:], salt[:])
	return s, nil
}

func (s *stdlib) seal(batch []Packet) {
	for i := range batch {
		p := &batch[i]
		binary.BigEndian.PutUint64(s.nonce[4:], p.IV)
		s.gcm.Seal(p.Text[:0], s.nonce[:], p.Gather(), p.AAD[:p.AADLen])
	}
}

func (s *stdlib) open(batch []Packet) {
	for i := range batch {
		p := &batch[i]
		binary.BigEndian.PutUint64(s.nonce[4:], p.IV)
		_, err := s.gcm.Open(p.Text[:0], s.nonce[:], p.Text, p.AAD[:p.AADLen])
		if p.OK = err == nil; !p.OK {
			clear(p.Text)
		}
	}
}
