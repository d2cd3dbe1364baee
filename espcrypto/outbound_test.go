package espcrypto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestNumbersAndIVs: numbers start at 1 and go up by 1 across batches. No IV
// comes twice, and with CBC no IV has to do with the number or the plaintext.
func TestNumbersAndIVs(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		p := newPair(t, s)
		same := inner(rand.New(rand.NewPCG(1, 1)), 60)
		ivs, first := map[string]bool{}, map[string]bool{}
		var seq uint32
		for n := range 100 {
			for _, packet := range p.seal(t, slices.Repeat([][]byte{same}, n)...) {
				seq++
				if got := binary.BigEndian.Uint32(packet[4:]); got != seq {
					t.Fatalf("number %d, not %d", got, seq)
				}
				ivs[string(packet[8:p.InnerOffset()])] = true
				first[string(packet[p.InnerOffset():][:16])] = true
			}
		}
		if len(ivs) != int(seq) || len(first) != int(seq) {
			t.Errorf("%d packets, %d IVs, %d first blocks", seq, len(ivs), len(first))
		}
		if stats := p.out.Stats(); stats != (Stats{uint64(seq), 60 * uint64(seq), uint64(seq)}) {
			t.Errorf("%+v after %d packets", stats, seq)
		}
	})
}

// TestCBCIVIsUnpredictable: two SAs with the same keys and packets, as alike as
// can be, choose different IVs.
func TestCBCIVIsUnpredictable(t *testing.T) {
	s := Suite{Encr: 12, KeyBits: 128, Integ: 12}
	p, q := newPair(t, s), newPair(t, s)
	same := inner(rand.New(rand.NewPCG(1, 1)), 60)
	for range 100 {
		a, b := p.seal(t, same)[0], q.seal(t, same)[0]
		if bytes.Equal(a[8:24], b[8:24]) {
			t.Fatalf("IV %x twice", a[8:24])
		}
	}
}

// TestSequenceExhausted comes to the last number, uses it, and stops for good:
// at 2^32-1 without ESN, at 2^64-1 with it. The boundary of one is no boundary
// of the other.
func TestSequenceExhausted(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		p := newPair(t, s)
		last := uint64(math.MaxUint32)
		if s.ESN {
			last = math.MaxUint64
		}
		p.out.sequence.Store(last - 5)
		small := inner(rand.New(rand.NewPCG(1, 1)), 30)
		tooMany := slices.Repeat([]Segment{p.segment(small, 20)}, 6)
		before := slices.Clone(tooMany[0].Packet)
		if err := p.out.Seal(tooMany); !errors.Is(err, ErrSequenceExhausted) {
			t.Fatalf("6 packets with 5 numbers left: %v", err)
		}
		if !bytes.Equal(tooMany[0].Packet, before) || p.out.Stats() != (Stats{Sequence: last - 5}) {
			t.Fatal("something was sealed all the same")
		}
		packets := p.seal(t, slices.Repeat([][]byte{small}, 5)...)
		if got := binary.BigEndian.Uint32(packets[4][4:]); got != math.MaxUint32 {
			t.Errorf("last number %d", got)
		}
		for range 3 {
			if err := p.out.Seal(tooMany[:1]); !errors.Is(err, ErrSequenceExhausted) {
				t.Fatalf("beyond the last number: %v", err)
			}
		}
		if err := p.out.Seal(nil); err != nil {
			t.Errorf("nothing to seal: %v", err)
		}
	})
}

// TestSealRefusesWrongSizes: one segment that does not fit fails the batch
// before a number is used.
func TestSealRefusesWrongSizes(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		p := newPair(t, s)
		good := func() Segment { return p.segment(inner(rand.New(rand.NewPCG(1, 1)), 100), 40) }
		for name, spoil := range map[string]func(*Segment){
			"no packet":     func(s *Segment) { s.Packet = nil },
			"short packet":  func(s *Segment) { s.Packet = s.Packet[1:] },
			"long packet":   func(s *Segment) { s.Packet = append(s.Packet, 0) },
			"body missing":  func(s *Segment) { s.Body = nil },
			"negative head": func(s *Segment) { s.HeadLen, s.Body = -20, make([]byte, 120) },
			"huge head":     func(s *Segment) { s.HeadLen = math.MaxInt },
		} {
			bad := good()
			spoil(&bad)
			if err := p.out.Seal([]Segment{good(), bad}); !errors.Is(err, ErrSegment) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if stats := p.out.Stats(); stats != (Stats{}) {
			t.Errorf("%+v", stats)
		}
	})
}
