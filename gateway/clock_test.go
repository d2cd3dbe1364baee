package gateway

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"culvert/natt/nattest"
)

// TestClockSet: what people are told of times goes by the clock as it was set; the
// peers are asked only where the machine may have been paused.
func TestClockSet(t *testing.T) {
	for _, by := range []time.Duration{5 * time.Hour, -5 * time.Hour, 3 * time.Second} {
		t.Run(by.String(), func(t *testing.T) {
			inWorld(t, nattest.Config{}, func(w *world) {
				net, change := watched()
				a := w.start(w.net.A, "a", with(textA, either...))
				b := w.start(w.net.B, "b", with(textB, either...), change)
				w.untilUp(a, b, 5*time.Second)
				before := b.peer()
				all := func() int { return len(w.sent(func(nattest.Datagram) bool { return true })) }
				sent := all()
				net.set.Store(int64(by))
				time.Sleep(2 * clockInterval)
				synctest.Wait()
				jumped := max(by, -by) >= clockJump
				if said := len(b.log.of("clock_set")) == 1; said != jumped || len(b.log.of("resumed")) != 0 {
					w.Errorf("it says: %v, %v", b.log.of("clock_set"), b.log.of("resumed"))
				}
				if asked := all() > sent; asked != (by >= clockJump) {
					w.Errorf("peers were asked: %v", asked)
				}
				after := b.peer()
				if moved := after.Since.Sub(before.Since); jumped && (moved != by || after.Children[0].Since.Sub(before.Children[0].Since) != by) {
					w.Errorf("it is up since %v later", moved)
				}
				w.bothWays(a, b)
				if last := b.peer().Children[0].LastIn; time.Since(last) > time.Second {
					w.Errorf("last packet at %v", last)
				}
			})
		})
	}
}

// TestNothingGoesByTheWall: but for records, nothing here reads the time of day as
// a number, and so stands still when that is set back.
func TestNothingGoesByTheWall(t *testing.T) {
	files, err := filepath.Glob("*.go")
	noError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		noError(t, err)
		if !strings.HasSuffix(f, "_test.go") && strings.Contains(string(text), "UnixNano()") && !slices.Contains([]string{"clock.go", "capture.go"}, f) {
			t.Errorf("%s reads the time of day: take nanotime", f)
		}
	}
	at := nanotime()
	if since := sinceNano(at); since < 0 || since > time.Minute {
		t.Errorf("%v since now", since)
	}
	if off := time.Since(wallTime(at)); off < -time.Second || off > time.Minute || !wallTime(0).IsZero() {
		t.Errorf("now was %v ago", off)
	}
	if slept := sleptTime(); slept < -time.Second {
		t.Errorf("the machine slept for %v", slept)
	}
}
