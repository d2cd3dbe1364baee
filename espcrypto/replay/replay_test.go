package replay

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pion/transport/v3/replaydetector"
)

// TestAgainstOracle walks windows of several sizes through runs, small and
// large jumps, late packets and duplicates, and compares every verdict.
func TestAgainstOracle(t *testing.T) {
	for _, size := range []int{1024, 1088, 2048, 4096, 8192, 12345} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(size)))
			w := New(size)
			oracle := replaydetector.New(uint(w.Size()), math.MaxUint64)
			var counts [3]int
			for range 60_000 {
				seq := next(rng, w)
				accept, fresh := oracle.Check(seq)
				v := w.Check(seq)
				if fresh != (v == Fresh) {
					t.Fatalf("top %d, number %d: verdict %d, oracle says fresh=%v", w.Top(), seq, v, fresh)
				}
				if stale := w.Top() >= seq+uint64(w.Size()); stale != (v == Stale) {
					t.Fatalf("top %d, number %d: verdict %d", w.Top(), seq, v)
				}
				counts[v]++
				if rng.IntN(4) == 0 {
					continue // did not authenticate
				}
				if got := w.Commit(seq); got != v {
					t.Fatalf("check says %d, commit %d", v, got)
				}
				if fresh {
					accept()
				}
			}
			for v, n := range counts {
				if n < 1000 {
					t.Errorf("verdict %d seen only %d times", v, n)
				}
			}
		})
	}
}

// next picks a number worth trying, never 0.
func next(rng *rand.Rand, w *Window) uint64 {
	size := int64(w.Size())
	var offset int64
	switch rng.IntN(40) {
	case 0:
		offset = rng.Int64N(3 * size) // some loss, beyond the ring now and then
	case 1:
		offset = -rng.Int64N(3 * size)
	case 2:
		offset = size + rng.Int64N(130) - 65 // around the edges
	case 3:
		offset = -size + rng.Int64N(130) - 65
	case 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15:
		offset = -rng.Int64N(64)
	default:
		offset = 1 + rng.Int64N(3)
	}
	return uint64(max(1, int64(w.Top())+offset))
}

// TestFirstNumberIsOne: 0 is never sent, and an empty window knows it.
func TestFirstNumberIsOne(t *testing.T) {
	w := New(0)
	if v := w.Check(0); v != Replayed {
		t.Errorf("number 0: verdict %d", v)
	}
	if v := w.Commit(1); v != Fresh {
		t.Errorf("number 1: verdict %d", v)
	}
	if w.Size() != MinSize {
		t.Errorf("size %d", w.Size())
	}
}

// TestJumpClearsTheWindow goes around the ring and finds no bit of the past.
func TestJumpClearsTheWindow(t *testing.T) {
	w := New(MinSize)
	for seq := range uint64(5000) {
		w.Commit(seq)
	}
	for _, jump := range []uint64{1 << 20, 1<<20 + 64*uint64(len(w.ring)), 1 << 40, math.MaxUint64} {
		if v := w.Commit(jump); v != Fresh {
			t.Fatalf("jump to %d: verdict %d", jump, v)
		}
		for back := uint64(1); back < uint64(w.Size()); back++ {
			if v := w.Check(jump - back); v != Fresh {
				t.Fatalf("%d below %d: verdict %d", back, jump, v)
			}
		}
		if v := w.Check(jump - uint64(w.Size())); v != Stale {
			t.Fatalf("left of the window: verdict %d", v)
		}
	}
}

// appendixA2 follows RFC 4303 appendix A2.1 letter by letter, for windows that
// do not reach below 0.
func appendixA2(top, size uint64, low uint32) uint64 {
	th, tl, w := uint32(top>>32), uint32(top), uint32(size)
	seqh := th
	if tl >= w-1 { // case A: the window is within one subspace
		if low < tl-w+1 {
			seqh = th + 1
		}
	} else if low >= tl-w+1 { // case B: it spans two
		seqh = th - 1
	}
	return uint64(seqh)<<32 | uint64(low)
}

func TestExtendIsAppendixA2(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 300_000 {
		w := New(1024 << rng.IntN(4))
		w.top = uint64(1+rng.IntN(3))<<32 + uint64(rng.Int64N(4*int64(w.size))) - 2*w.size
		low := rng.Uint32()
		if rng.IntN(2) == 0 {
			low = uint32(w.top) + uint32(rng.IntN(8*int(w.size))) - uint32(4*w.size)
		}
		if got, want := w.Extend(low), appendixA2(w.top, w.size, low); got != want {
			t.Fatalf("top %#x, size %d, low %#x: %#x, not %#x", w.top, w.size, low, got, want)
		}
	}
}

// TestExtendFindsTheNumber: any number that is in the window, or less than
// 2^32 beyond its left edge, comes back whole.
func TestExtendFindsTheNumber(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 100_000 {
		w := New(4096)
		w.top = rng.Uint64N(1 << 40)
		seq := w.top - min(w.top, w.size-1) + rng.Uint64N(1<<32)
		if got := w.Extend(uint32(seq)); got != seq {
			t.Fatalf("top %#x: %#x became %#x", w.top, seq, got)
		}
	}
}

// TestExtendAtTheEnds: nothing lies below 0, and what wraps at 2^64 is stale.
func TestExtendAtTheEnds(t *testing.T) {
	w := New(1024)
	w.Commit(10)
	if got := w.Extend(0xfffffff0); got != 0xfffffff0 {
		t.Errorf("in a fresh window: %#x", got)
	}
	w.Commit(math.MaxUint64)
	if got := w.Extend(5); w.Check(got) != Stale {
		t.Errorf("after the last number: %#x is not stale", got)
	}
}

func BenchmarkCheckCommit(b *testing.B) {
	w := New(4096)
	var seq uint64
	for b.Loop() {
		seq++
		if w.Check(seq) != Fresh || w.Commit(seq) != Fresh {
			b.Fatal(seq)
		}
	}
}
