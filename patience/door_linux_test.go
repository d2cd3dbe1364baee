package patience

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hall is a door with the other end of its descriptor, a pipe's.
type hall struct {
	*Door
	outside int
	taken   []byte
	try     func(fd uintptr) bool
	tries   int
}

func newHall(t *testing.T) *hall {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	d, err := NewDoor(p[0])
	if err != nil {
		t.Fatal(err)
	}
	h := &hall{Door: d, outside: p[1], taken: make([]byte, 0, 1<<12)}
	h.try = h.take
	t.Cleanup(func() {
		_ = d.Close()
		unix.Close(p[0])
		unix.Close(p[1])
	})
	return h
}

var everyByte = func() (all []byte) {
	for i := range 256 {
		all = append(all, byte(i))
	}
	return all
}()

// take takes a byte.
func (h *hall) take(fd uintptr) bool {
	h.tries++
	n, _ := unix.Read(int(fd), h.taken[len(h.taken):len(h.taken)+1])
	if n == 1 {
		h.taken = h.taken[:len(h.taken)+1]
	}
	return n == 1
}

// knock gives the door a byte to read.
func (h *hall) knock(t *testing.T, b byte) {
	if _, err := unix.Write(h.outside, everyByte[b:int(b)+1]); err != nil {
		t.Error(err)
	}
}

// ways are the three in which a wait can end.
var ways = []struct {
	name  string
	begin func(*Door)
}{
	{"asleep", func(d *Door) { d.patience.window = 0 }},
	{"napping", func(d *Door) { d.patience.window = 1 }}, // a look of a nanosecond
	{"looking", func(d *Door) { d.patience.window = most }},
}

// TestRead: each of many bytes that two sides hand each other arrives, in whichever
// way the one that waits does so. One that got lost would stop them for good.
func TestRead(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			const count = 2000
			a, b := newHall(t), newHall(t)
			carry := func(from, to *hall) {
				for i := range count {
					way.begin(from.Door)
					if err := from.Read(from.try); err != nil {
						t.Error(err)
						return
					}
					to.knock(t, byte(i))
				}
			}
			var both sync.WaitGroup
			both.Go(func() { carry(a, b) })
			both.Go(func() { carry(b, a) })
			a.knock(t, 0)
			both.Wait()
			for _, h := range []*hall{a, b} {
				for i, got := range h.taken {
					if want := byte(i); h == b && got != want {
						t.Fatalf("byte %d is %d, want %d", i, got, want)
					}
				}
				if len(h.taken) != count {
					t.Errorf("%d bytes, want %d", len(h.taken), count)
				}
			}
		})
	}
}

// TestAlarmIsForSleepers: what comes while nobody sleeps leaves the alarm alone, and
// so Go's poller. What comes then is found without waiting.
func TestAlarmIsForSleepers(t *testing.T) {
	h := newHall(t)
	ready := func() bool {
		p := []unix.PollFd{{Events: unix.POLLIN}}
		if err := h.alarmRaw.Control(func(alarm uintptr) { p[0].Fd = int32(alarm) }); err != nil {
			t.Fatal(err)
		}
		n, err := unix.Poll(p, 0)
		return n != 0 || err != nil
	}
	for range 3 {
		h.knock(t, 1)
		if ready() {
			t.Fatal("the alarm goes off for nobody")
		}
		if err := h.Read(h.try); err != nil {
			t.Fatal(err)
		}
		var done sync.WaitGroup
		done.Go(func() { _ = h.Read(h.try) })
		h.knock(t, 2)
		done.Wait()
		if ready() {
			t.Fatal("the alarm was not stopped")
		}
	}
	if !slices.Equal(h.taken, []byte{1, 2, 1, 2, 1, 2}) {
		t.Errorf("took %v", h.taken)
	}
}

// TestAlarmLeftSet: what came before it is set again, while it still stood from
// another time, is told all the same.
func TestAlarmLeftSet(t *testing.T) {
	h := newHall(t)
	for range 20 {
		h.set = false
		if err := h.alarmRaw.Control(func(alarm uintptr) {
			if h.ring(alarm) {
				t.Error("goes off for nothing")
			}
		}); err != nil {
			t.Fatal(err)
		}
		h.knock(t, 1)
		time.Sleep(time.Millisecond) // most times enough for Go's poller to hear of it, and forget
		ways[0].begin(h.Door)
		missed := false
		if err := h.Read(func(fd uintptr) bool {
			if !missed {
				missed = true
				return false
			}
			return h.take(fd)
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClose wakes who waits, however he does, and from then on nobody gets in.
func TestClose(t *testing.T) {
	for _, way := range ways {
		h := newHall(t)
		way.begin(h.Door)
		in := make(chan struct{})
		var got error
		var waiting sync.WaitGroup
		waiting.Go(func() {
			got = h.Read(func(uintptr) bool {
				if h.tries++; h.tries == 1 {
					close(in)
				}
				return false
			})
		})
		<-in
		if err := h.Close(); err != nil {
			t.Errorf("%s: %v", way.name, err)
		}
		tries := h.tries // nobody is in there any more
		waiting.Wait()
		if !errors.Is(got, os.ErrClosed) || h.tries != tries {
			t.Errorf("%s: %v, %d tries after Close", way.name, got, h.tries-tries)
		}
		never := func(uintptr) bool { t.Error("used after Close"); return true }
		for _, err := range []error{h.Read(never), h.Write(never), h.Control(func(uintptr) { never(0) }), h.Close()} {
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("%s, after Close: %v", way.name, err)
			}
		}
	}
}

// TestNapLeavesAProcessor: one of Go's is always there for who becomes ready while
// others nap.
func TestNapLeavesAProcessor(t *testing.T) {
	h := newHall(t)
	h.knock(t, 1)
	processors := runtime.GOMAXPROCS(0)
	for others := range processors {
		napping.Add(int32(others))
		if enough, want := h.nap(), others < processors-1; enough != want {
			t.Errorf("with %d napping on %d processors: %v, want %v", others, processors, enough, want)
		}
		napping.Add(int32(-others))
	}
	if n := napping.Load(); n != 0 {
		t.Errorf("%d are left napping", n)
	}
}

// TestNapEnds by itself, and when everything has to stop.
func TestNapEnds(t *testing.T) {
	h := newHall(t)
	var collecting sync.WaitGroup
	collecting.Go(func() {
		for range 20 {
			runtime.GC()
		}
	})
	for range 20 {
		if h.nap() && h.try(uintptr(h.fd)) {
			t.Error("found something")
		}
	}
	collecting.Wait()
}

func TestNewDoorOfNothing(t *testing.T) {
	if _, err := NewDoor(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("%v, want %v", err, unix.EBADF)
	}
}

func TestNoAllocation(t *testing.T) {
	h := newHall(t)
	for _, way := range ways {
		wanted := make(chan byte, 1)
		var knocking sync.WaitGroup
		knocking.Go(func() {
			for b := range wanted {
				h.knock(t, b)
			}
		})
		n := testing.AllocsPerRun(100, func() {
			h.taken = h.taken[:0]
			way.begin(h.Door)
			wanted <- 0
			_ = h.Read(h.try)
		})
		close(wanted)
		knocking.Wait()
		if n != 0 {
			t.Errorf("%s: %v allocations a wait", way.name, n)
		}
	}
}
