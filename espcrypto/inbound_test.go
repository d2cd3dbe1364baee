package espcrypto

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// windowState is all that a packet could change of the replay window.
func (p *pair) windowState() string { return fmt.Sprint(*p.in.window) }

// TestEveryBitCounts flips each bit of a packet, header to ICV. No such packet
// opens, none moves the window, and the true packet still opens after.
func TestEveryBitCounts(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		t.Parallel()
		p := newPair(t, s)
		rng := rand.New(rand.NewPCG(1, 1))
		packets := p.seal(t, inner(rng, 50), inner(rng, 50), inner(rng, 50))
		p.wantDrop(t, 0, packets[0], "first packet")
		p.wantDrop(t, 0, packets[2], "third packet")
		victim, before := packets[1], p.windowState()
		for bit := range 8 * len(victim) {
			forged := slices.Clone(victim)
			forged[bit/8] ^= 1 << (bit % 8)
			got := p.open(forged)[0]
			inNumber := bit/8 >= 4 && bit/8 < 8
			if refused := got.Drop == DropAuthenticationFailed || inNumber && got.Drop == DropReplayed; !refused || got.Inner != nil {
				t.Fatalf("bit %d: %v", bit, got.Drop)
			}
			if p.windowState() != before {
				t.Fatalf("bit %d: window moved", bit)
			}
		}
		p.wantDrop(t, 0, victim, "second packet")
		if stats := p.in.Stats(); stats != (Stats{3, 150, 3}) {
			t.Errorf("%+v", stats)
		}
	})
}

// TestTruncations: no prefix of a packet opens or moves the window.
func TestTruncations(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		t.Parallel()
		p := newPair(t, s)
		whole := p.seal(t, inner(rand.New(rand.NewPCG(1, 1)), 77))[0]
		before := p.windowState()
		for n := range whole {
			want := DropTruncated
			text := n - p.InnerOffset() - p.in.icv
			if text >= 2 && text%p.in.align == 0 {
				want = DropAuthenticationFailed
			}
			p.wantDrop(t, want, whole[:n], fmt.Sprintf("%d of %d bytes", n, len(whole)))
		}
		if p.windowState() != before {
			t.Error("window moved")
		}
		p.wantDrop(t, 0, whole, "whole packet")
	})
}

// TestReplay: every suite refuses what it has seen, within a batch and across
// batches, inside the window and left of it.
func TestReplay(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		t.Parallel()
		p := newPair(t, s)
		rng := rand.New(rand.NewPCG(1, 1))
		packets := p.seal(t, slices.Repeat([][]byte{inner(rng, 40)}, 1200)...)
		for k, opened := range p.open(packets[5], packets[6], packets[5], packets[5]) {
			want := []Drop{0, 0, DropReplayed, DropReplayed}[k]
			if opened.Drop != want {
				t.Errorf("packet %d of the first batch: %v, not %v", k, opened.Drop, want)
			}
		}
		p.wantDrop(t, DropReplayed, packets[6], "second copy")
		p.wantDrop(t, 0, packets[0], "late packet")
		p.wantDrop(t, DropReplayed, packets[0], "its second copy")
		p.wantDrop(t, 0, packets[1199], "far ahead")
		p.wantDrop(t, 0, packets[1199-1023], "last place of the window")
		p.wantDrop(t, DropReplayed, packets[1199-1023], "its second copy")
		if !s.ESN {
			p.wantDrop(t, DropStale, packets[1199-1024], "left of the window")
			p.wantDrop(t, DropStale, packets[5], "replay left of the window")
			return
		}
		// With ESN such a number stands for one 2^32 further on, and then does not authenticate.
		p.wantDrop(t, DropAuthenticationFailed, packets[1199-1024], "left of the window")
		p.wantDrop(t, DropAuthenticationFailed, packets[5], "replay left of the window")
	})
}

// TestDroppedAlone spoils packets of a batch in different ways, and every other
// packet of it opens.
func TestDroppedAlone(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		p := newPair(t, s)
		rng := rand.New(rand.NewPCG(1, 1))
		var inners [][]byte
		for n := range 44 {
			inners = append(inners, inner(rng, 20+30*n))
		}
		packets := p.seal(t, inners...)
		want := map[int]Drop{
			0: DropAuthenticationFailed, 7: DropTruncated, 8: DropTruncated, 9: DropTruncated,
			20: DropReplayed, 43: DropAuthenticationFailed,
		}
		packets[0][len(packets[0])-1] ^= 1
		packets[7] = packets[7][:30]
		packets[8] = nil
		packets[9] = packets[9][:len(packets[9])-1]
		packets[20] = packets[19]
		packets[43][p.InnerOffset()] ^= 0x80
		for k, opened := range p.open(packets...) {
			if opened.Drop != want[k] {
				t.Errorf("packet %d: %v, not %v", k, opened.Drop, want[k])
			}
			if opened.Drop == 0 && !bytes.Equal(opened.Inner, inners[k]) {
				t.Errorf("packet %d: came back different", k)
			}
		}
		p.open() // nothing in hand
		if stats := p.in.Stats(); stats.Packets != 38 {
			t.Errorf("%+v", stats)
		}
	})
}

// TestForeignPacket: a packet of another SA does not open, be it under that
// SA's SPI or, with other keys, under this one's.
func TestForeignPacket(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		p := newPair(t, s)
		other, err := NewOutbound(testSPI+1, s, p.keys)
		if err != nil {
			t.Fatal(err)
		}
		small := inner(rand.New(rand.NewPCG(1, 1)), 30)
		segment := p.segment(small, 20)
		if err := other.Seal([]Segment{segment}); err != nil {
			t.Fatal(err)
		}
		p.wantDrop(t, DropAuthenticationFailed, segment.Packet, "SPI of another SA")
		binary.BigEndian.PutUint32(segment.Packet, testSPI)
		p.wantDrop(t, DropAuthenticationFailed, segment.Packet, "SPI rewritten")

		without := p.Suite
		without.ESN = !s.ESN
		esn := &pair{Suite: without, keys: p.keys}
		if esn.in, err = NewInbound(testSPI, without, p.keys, 0); err != nil {
			t.Fatal(err)
		}
		esn.wantDrop(t, DropAuthenticationFailed, p.seal(t, small)[0], "only one end with ESN")
	})
}

// TestTrailer: what is authentic but wrong inside is dropped by name, and has
// used its number up.
func TestTrailer(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		v4 := append([]byte{0x45}, make([]byte, 25)...)
		v6 := append([]byte{0x60}, make([]byte, 25)...)
		long := make([]byte, 256)
		for k := range long {
			long[k] = byte(k + 1)
		}
		for _, c := range []struct {
			name  string
			inner []byte
			tail  []byte
			want  Drop
		}{
			{"IPv4", v4, []byte{1, 2, 3, 4, 4, 4}, 0},
			{"IPv6", v6, []byte{1, 2, 3, 4, 4, 41}, 0},
			{"no padding", append(v4, 9, 9, 9, 9), []byte{0, 4}, 0},
			{"bytes behind the inner packet", append(v4, make([]byte, 64)...), []byte{1, 2, 3, 4, 4, 4}, 0},
			{"longest padding", append(v4, 0, 0, 0, 0, 0), append(long[:255:255], 255, 4), 0},
			{"padding from 0", v4, []byte{0, 1, 2, 3, 4, 4}, DropBadPadding},
			{"padding of zeros", v4, []byte{0, 0, 0, 0, 4, 4}, DropBadPadding},
			{"first byte of padding wrong", v4, []byte{2, 2, 3, 4, 4, 4}, DropBadPadding},
			{"last byte of padding wrong", v4, []byte{1, 2, 3, 5, 4, 4}, DropBadPadding},
			{"padding longer than the packet", nil, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 4}, DropBadPadding},
			{"padding as long as can be", v4, []byte{1, 2, 3, 4, 255, 4}, DropBadPadding},
			{"padding only", nil, append(long[:14:14], 14, 4), DropBadNextHeader},
			{"IPv6 announced as IPv4", v6, []byte{1, 2, 3, 4, 4, 4}, DropBadNextHeader},
			{"IPv4 announced as IPv6", v4, []byte{1, 2, 3, 4, 4, 41}, DropBadNextHeader},
			{"IP version 0", append([]byte{0}, v4[1:]...), []byte{1, 2, 3, 4, 4, 4}, DropBadNextHeader},
			{"TCP of transport mode", v4, []byte{1, 2, 3, 4, 4, 6}, DropBadNextHeader},
			{"next header 0", v4, []byte{1, 2, 3, 4, 4, 0}, DropBadNextHeader},
			{"dummy", v4, []byte{1, 2, 3, 4, 4, 59}, DropDummy},
			{"dummy of nothing", nil, append(long[:14:14], 14, 59), DropDummy},
		} {
			p := newPair(t, s)
			text := slices.Concat(c.inner, c.tail)
			for len(c.tail) == 6 && len(text)%16 != 0 { // to whole blocks, in front of the padding
				text = slices.Insert(text, len(c.inner), 0)
			}
			inner := text[:len(text)-len(c.tail)]
			packet := p.reference(1, make([]byte, p.InnerOffset()-8), text)
			got := p.open(packet)[0]
			if got.Drop != c.want {
				t.Errorf("%s: %v, not %v", c.name, got.Drop, c.want)
			} else if c.want == 0 && !bytes.Equal(got.Inner, inner) || c.want != 0 && got.Inner != nil {
				t.Errorf("%s: inner packet %x", c.name, got.Inner)
			}
			if got.NextHeader != text[len(text)-1] {
				t.Errorf("%s: next header %d", c.name, got.NextHeader)
			}
			p.wantDrop(t, DropReplayed, packet, c.name+", again")
		}
	})
}

// TestESNBoundary sends across 2^32 with loss, both less and more than the
// window, and reordering, and loses nothing that arrived in the window.
func TestESNBoundary(t *testing.T) {
	const boundary = uint64(1) << 32
	for _, s := range suites() {
		if !s.ESN {
			continue
		}
		t.Run(s.name(), func(t *testing.T) {
			p := newPair(t, s)
			from := 3*boundary - 2000
			p.out.sequence.Store(from)
			p.in.window.Commit(from)
			packets := p.seal(t, slices.Repeat([][]byte{inner(rand.New(rand.NewPCG(1, 1)), 40)}, 6000)...)
			at := func(offset int) []byte { return packets[2000-1+offset] } // from the boundary

			p.wantDrop(t, 0, at(-600), "near the boundary")
			p.wantDrop(t, 0, at(2), "across it, 600 lost")
			p.wantDrop(t, 0, at(-1), "late, from before the boundary")
			p.wantDrop(t, DropReplayed, at(-1), "a copy of that")
			p.wantDrop(t, DropReplayed, at(-600), "a copy from before the boundary")
			p.wantDrop(t, 0, at(0), "low half 0")
			p.wantDrop(t, DropReplayed, at(2), "a copy")
			p.wantDrop(t, 0, at(2-1023), "left edge of the window")

			// Left of the window the guess is a number 2^32 ahead: that is wrong,
			// does not authenticate and leaves the window where it is.
			before := p.windowState()
			p.wantDrop(t, DropAuthenticationFailed, at(2-1024), "left of the window")
			if p.windowState() != before {
				t.Error("a wrong guess moved the window")
			}
			if got := p.in.window.Extend(uint32(from + 977)); got != 3*boundary+uint64(uint32(from+977)) {
				t.Errorf("guess %#x is not the wrong one", got)
			}

			p.wantDrop(t, 0, at(3999), "more than the window lost")
			p.wantDrop(t, DropAuthenticationFailed, at(1), "from before the loss")
			if got := p.in.Stats().Sequence; got != 3*boundary+3999 {
				t.Errorf("top %#x", got)
			}
		})
	}
}

// TestESNBoundaryLostWhole: the loss jumps from before the boundary to beyond
// it by more than the window.
func TestESNBoundaryLostWhole(t *testing.T) {
	for _, s := range suites() {
		if !s.ESN {
			continue
		}
		t.Run(s.name(), func(t *testing.T) {
			p := newPair(t, s)
			small := inner(rand.New(rand.NewPCG(1, 1)), 40)
			p.out.sequence.Store(1<<32 - 5000)
			p.in.window.Commit(1<<32 - 5001)
			p.wantDrop(t, 0, p.seal(t, small)[0], "before")
			p.out.sequence.Store(1<<32 + 1<<31)
			p.wantDrop(t, 0, p.seal(t, small)[0], "2^31 numbers later")
			p.out.sequence.Store(2<<32 + 1<<31 - 2000)
			p.wantDrop(t, 0, p.seal(t, small)[0], "almost 2^32 numbers later")
			p.out.sequence.Store(4<<32 + 1<<31)
			before := p.windowState()
			p.wantDrop(t, DropAuthenticationFailed, p.seal(t, small)[0], "more than 2^32 numbers later")
			if p.windowState() != before {
				t.Error("a wrong guess moved the window")
			}
		})
	}
}

// TestLastNumberWithoutESN: 2^32-1 is received like any other, and nothing
// comes after.
func TestLastNumberWithoutESN(t *testing.T) {
	p := newPair(t, Suite{Encr: 20, KeyBits: 128})
	p.out.sequence.Store(math.MaxUint32 - 1)
	p.wantDrop(t, 0, p.seal(t, inner(rand.New(rand.NewPCG(1, 1)), 40))[0], "last number")
	p.wantDrop(t, DropStale, p.reference(0, make([]byte, 8), make([]byte, 40)), "number 0")
	p.wantDrop(t, DropStale, p.reference(1, make([]byte, 8), make([]byte, 40)), "number 1")
}

// TestNoAllocation: a batch costs no allocation, whatever the suite.
func TestNoAllocation(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		p := newPair(t, s)
		b := newBatch(p, 1408)
		var err error
		if n := testing.AllocsPerRun(20, func() {
			err = p.out.Seal(b.segments)
			p.in.Open(b.packets, b.opened)
		}); n != 0 || err != nil {
			t.Errorf("%v allocations a batch, %v", n, err)
		}
		for k, o := range b.opened {
			if o.Drop != 0 {
				t.Fatalf("packet %d: %v", k, o.Drop)
			}
		}
	})
}
