package patience

import (
	"testing"
	"testing/synctest"
	"time"
)

// looks is how often one wait looks before it sleeps.
func looks(p *patience) (n int) {
	for p.begin(); p.look(); {
		n++
	}
	return n
}

// TestLearns: in a bubble the clock stands still but for sleeps, so that waits
// last as long as they say, and a look that is not in vain goes on to its bound.
func TestLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p patience
		wait := func(d time.Duration) {
			p.begin()
			time.Sleep(d)
			p.slept()
		}
		if looks(&p) != 0 || p.expecting() {
			t.Error("looks before anything is known")
		}
		wait(short)
		if looks(&p) != maxLooks || !p.expecting() {
			t.Error("does not look after a short wait")
		}
		for range 10 {
			wait(time.Microsecond)
		}
		if p.window != most {
			t.Errorf("looks for %v after many short waits, want %v", p.window, most)
		}
		longWaits := 0
		for ; looks(&p) > 0; longWaits++ {
			wait(short + 1)
		}
		if longWaits != 3 {
			t.Errorf("looks on for %d long waits, want 3", longWaits)
		}
		wait(time.Hour)
		if p != (patience{began: p.began}) {
			t.Errorf("a long wait leaves %+v", p)
		}
	})
}

// TestLookEnds: the time is over when somebody else had the processor for long.
func TestLookEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := patience{window: most}
		p.begin()
		if !p.look() {
			t.Fatal("does not look once")
		}
		time.Sleep(most + 1)
		if p.look() {
			t.Error("looks longer than its time")
		}
	})
}
