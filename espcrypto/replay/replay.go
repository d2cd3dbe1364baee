// Package replay keeps the anti-replay window of an inbound ESP SA (RFC 4303
// section 3.4.3).
//
//	          top-size+1                          top
//	┄┄┄┄┄┄┄┄┄┄┄┄┄┄┼────────────────────────────────┼┄┄┄┄┄┄┄┄┄┄┄> number
//	    stale     │  one bit each: seen or fresh   │   fresh
//
// A packet is checked before it is authenticated, because that is cheap, and
// committed after, because only an authentic packet may move the window. The
// bits live in a ring of words that slides by clearing whole words (RFC 6479).
package replay

import "math/bits"

// MinSize is the smallest window in packets. Peers send hundreds of packets in
// a burst, and networks reorder what they send.
const MinSize = 1024

// Verdict is what the window says of a sequence number.
type Verdict uint8

const (
	Fresh    Verdict = iota
	Replayed         // seen before
	Stale            // left of the window, so that nobody knows
)

// Window is the state of one SA. One goroutine owns it.
type Window struct {
	ring []uint64 // a power of two of words, at least one more than size needs
	size uint64
	top  uint64 // the highest number committed
}

// New makes a window of size packets, rounded up to a multiple of 64 that is
// at least MinSize. The first number of an SA is 1 (RFC 4303 section 3.3.3),
// so that 0 counts as seen.
func New(size int) *Window {
	words := (max(size, MinSize) + 63) / 64
	w := &Window{ring: make([]uint64, 1<<bits.Len(uint(words))), size: 64 * uint64(words)}
	w.ring[0] = 1
	return w
}

// Size is the number of packets that the window spans.
func (w *Window) Size() int { return int(w.size) }

// Top is the highest number committed, 0 before the first.
func (w *Window) Top() uint64 { return w.top }

// Check tells what Commit would say now, and changes nothing.
func (w *Window) Check(seq uint64) Verdict {
	switch {
	case seq > w.top:
		return Fresh
	case w.top-seq >= w.size:
		return Stale
	case *w.word(seq)>>(seq%64)&1 != 0:
		return Replayed
	}
	return Fresh
}

// Commit records the number of an authentic packet if it is still Fresh: of
// two copies that were checked together, one gets in.
func (w *Window) Commit(seq uint64) Verdict {
	if v := w.Check(seq); v != Fresh {
		return v
	}
	w.slide(seq)
	*w.word(seq) |= 1 << (seq % 64)
	return Fresh
}

// slide makes seq the top, if it is higher, over words that are clear.
func (w *Window) slide(seq uint64) {
	if seq <= w.top {
		return
	}
	steps := min(seq/64-w.top/64, uint64(len(w.ring)))
	for i := range steps {
		*w.word(seq - 64*i) = 0
	}
	w.top = seq
}

func (w *Window) word(seq uint64) *uint64 {
	return &w.ring[seq/64&uint64(len(w.ring)-1)]
}

// Extend gives the 64-bit extended sequence number that the 32 bits on the
// wire most likely stand for (RFC 4303 appendix A2.1): the one inside the
// window or, failing that, the next one above it. It is a guess. Where it is
// wrong, the packet does not authenticate and that is the end of it.
func (w *Window) Extend(low uint32) uint64 {
	bottom := w.top - min(w.top, w.size-1)
	seq := bottom&^0xffffffff | uint64(low)
	if low < uint32(bottom) {
		seq += 1 << 32
	}
	return seq
}
