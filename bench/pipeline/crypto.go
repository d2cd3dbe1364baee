package pipeline

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"culvert/espcrypto/aesgcm"
)

// Ciphers are nothing but the encryption, of the same bytes from and to the
// same places: what is left of a data path's time is its own.
func Ciphers() []System {
	return []System{cipherOf(128), cipherOf(256)}
}

func cipherOf(bits int) System {
	return System{Name: fmt.Sprintf("AES-%d-GCM alone", bits), New: func(w *Workload) (Carrier, error) {
		a, err := aesgcm.New(make([]byte, bits/8), [4]byte{})
		if err != nil {
			return nil, err
		}
		return newCrypto(w, a), nil
	}}
}

// Comparisons are encryption alone by what others call a packet at a time: the
// standard library's AES-GCM, and ChaCha20-Poly1305.
func Comparisons() []System {
	return []System{
		{Name: "AES-128-GCM, standard library", New: func(w *Workload) (Carrier, error) {
			block, err := aes.NewCipher(make([]byte, 16))
			if err != nil {
				return nil, err
			}
			gcm, err := cipher.NewGCM(block)
			if err != nil {
				return nil, err
			}
			return newCrypto(w, &each{aead: gcm}), nil
		}},
		{Name: "ChaCha20-Poly1305", New: func(w *Workload) (Carrier, error) {
			aead, err := chacha20poly1305.New(make([]byte, chacha20poly1305.KeySize))
			if err != nil {
				return nil, err
			}
			return newCrypto(w, &each{aead: aead}), nil
		}},
	}
}

// batcher seals and opens batches.
type batcher interface {
	Seal([]aesgcm.Packet)
	Open([]aesgcm.Packet)
}

// each is a batcher of one call a packet.
type each struct {
	aead  cipher.AEAD
	nonce [12]byte
}

func (e *each) Seal(batch []aesgcm.Packet) {
	for i := range batch {
		p := &batch[i]
		binary.BigEndian.PutUint64(e.nonce[4:], p.IV)
		e.aead.Seal(p.Text[:0], e.nonce[:], p.Gather(), p.AAD[:p.AADLen])
	}
}

func (e *each) Open(batch []aesgcm.Packet) {
	for i := range batch {
		p := &batch[i]
		binary.BigEndian.PutUint64(e.nonce[4:], p.IV)
		_, err := e.aead.Open(p.Text[:0], e.nonce[:], p.Text, p.AAD[:p.AADLen])
		p.OK = err == nil
	}
}

type crypto struct {
	aead   batcher
	batch  []aesgcm.Packet
	sealed []byte // all of the arena after Seal
	arena  []byte
}

func newCrypto(w *Workload, aead batcher) *crypto {
	const header, trailer = 16, 2
	size := header + (w.PacketBytes()+trailer+3)&^3 + aesgcm.TagLen
	c := &crypto{aead: aead, arena: make([]byte, size*w.Packets())}
	for _, s := range w.Burst {
		body, head, segment := s.Packet, 0, len(s.Packet)
		if s.SegmentSize > 0 {
			head, segment = w.PacketBytes()-s.SegmentSize, s.SegmentSize
			body = s.Packet[head:]
		}
		for ; len(body) > 0; body = body[segment:] {
			at := len(c.batch) * size
			c.batch = append(c.batch, aesgcm.Packet{Text: c.arena[at+header : at+size : at+size], Head: head, Body: body[:segment], AADLen: 8})
		}
	}
	c.seal()
	c.sealed = append(c.sealed, c.arena...)
	return c
}

func (c *crypto) seal() {
	for i := range c.batch {
		c.batch[i].IV = uint64(i)
	}
	c.aead.Seal(c.batch)
}

func (c *crypto) Out(bursts int) (time.Duration, error) {
	start := time.Now()
	for range bursts {
		c.seal()
	}
	return time.Since(start), nil
}

func (c *crypto) In(bursts int) (busy time.Duration, err error) {
	for range bursts {
		copy(c.arena, c.sealed)
		start := time.Now()
		c.aead.Open(c.batch)
		busy += time.Since(start)
		if !c.batch[0].OK {
			return 0, errors.New("what was sealed does not open")
		}
	}
	return busy, nil
}
