package espcrypto

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"culvert/espcrypto/aesgcm"
)

// Outbound is the sending end of an SA. One goroutine seals with it.
type Outbound struct {
	sa
	last                     uint64 // the last number that may be used
	sequence, packets, bytes atomic.Uint64
}

// NewOutbound makes the sending end of an SA whose first packet will have
// number 1. It fails with ErrSPI, ErrUnsupported or ErrKeyLength.
func NewOutbound(spi uint32, s Suite, k Keys) (*Outbound, error) {
	a, err := newSA(spi, s, k)
	if err != nil {
		return nil, err
	}
	o := &Outbound{sa: a, last: math.MaxUint32}
	if s.ESN {
		o.last = math.MaxUint64
	}
	return o, nil
}

// Stats may be called from any goroutine.
func (o *Outbound) Stats() Stats {
	return Stats{o.packets.Load(), o.bytes.Load(), o.sequence.Load()}
}

// Seal turns every segment into an ESP packet, under consecutive numbers. It
// fails with ErrSequenceExhausted, when the numbers that are left are too few,
// or ErrSegment, and has then sealed nothing and used no number.
func (o *Outbound) Seal(batch []Segment) error {
	bytes, err := o.measure(batch)
	if err != nil {
		return err
	}
	seq, err := o.reserve(len(batch))
	if err != nil {
		return err
	}
	o.batch = slices.Grow(o.batch[:0], len(batch))[:len(batch)]
	for k := range batch {
		o.frame(&o.batch[k], &batch[k], seq+uint64(k))
	}
	o.transform.Seal(o.batch)
	o.packets.Add(uint64(len(batch)))
	o.bytes.Add(bytes)
	return nil
}

// Skip uses up n numbers without a packet, so that a test comes to the last of
// them. It fails with ErrSequenceExhausted, and has then used none.
func (o *Outbound) Skip(n int) error {
	_, err := o.reserve(n)
	return err
}

// measure sums up the inner bytes of segments whose sizes fit together.
func (o *Outbound) measure(batch []Segment) (bytes uint64, err error) {
	for k := range batch {
		s := &batch[k]
		inner := s.HeadLen + len(s.Body)
		if s.HeadLen < 0 || len(s.Packet) != o.PacketLen(inner) {
			return 0, fmt.Errorf("%w: %d bytes for %d + %d", ErrSegment, len(s.Packet), s.HeadLen, len(s.Body))
		}
		bytes += uint64(inner)
	}
	return bytes, nil
}

// reserve takes n consecutive numbers and returns the first. Numbers never
// come round again (RFC 4303 section 3.3.3), and with them no IV does.
func (o *Outbound) reserve(n int) (first uint64, err error) {
	used := o.sequence.Load()
	if uint64(n) > o.last-used {
		return 0, ErrSequenceExhausted
	}
	o.sequence.Store(used + uint64(n))
	return used + 1, nil
}

// frame writes what stands around the inner packet, and says what to do with
// it. The number doubles as the IV (RFC 4106 section 3.1); CBC overwrites it.
func (o *Outbound) frame(p *aesgcm.Packet, s *Segment, seq uint64) {
	binary.BigEndian.PutUint32(s.Packet, o.spi)
	binary.BigEndian.PutUint32(s.Packet[4:], uint32(seq))
	binary.BigEndian.PutUint64(s.Packet[headerLen:], seq)

	tail := s.Packet[o.InnerOffset()+s.HeadLen+len(s.Body) : len(s.Packet)-o.icv]
	for k := range tail {
		tail[k] = byte(k + 1)
	}
	tail[len(tail)-2] = byte(len(tail) - trailerLen)
	tail[len(tail)-1] = s.NextHeader

	p.Text = s.Packet[o.textOffset:]
	p.Head = o.InnerOffset() + s.HeadLen - o.textOffset
	p.Body = s.Body
	p.IV = seq
	o.cover(p, seq)
}
