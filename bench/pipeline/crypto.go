package pipeline

import (
	"errors"
	"fmt"
	"time"

	"culvert/espcrypto/aesgcm"
)

// Crypto is nothing but the encryption, of the same bytes from and to the same
// places: what is left of a data path's time is its own.
func Crypto(bits int) System {
	return System{Name: fmt.Sprintf("AES-%d-GCM alone", bits), New: func(w *Workload) (Carrier, error) { return newCrypto(w, bits) }}
}

type crypto struct {
	aead   *aesgcm.AEAD
	batch  []aesgcm.Packet
	sealed []byte // all of the arena after Seal
	arena  []byte
}

func newCrypto(w *Workload, bits int) (*crypto, error) {
	a, err := aesgcm.New(make([]byte, bits/8), [4]byte{})
	if err != nil {
		return nil, err
	}
	const header, trailer = 16, 2
	size := header + (w.PacketBytes()+trailer+3)&^3 + aesgcm.TagLen
	c := &crypto{aead: a, arena: make([]byte, size*w.Packets())}
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
	return c, nil
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
