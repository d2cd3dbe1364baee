// Package patience waits at a descriptor, a device's or a socket's, for what
// comes in: how long to look, when to nap, when to sleep.
//
// To be woken is dear: on a virtual machine 30 µs for a processor that has
// stopped, and then the kernel wakes a thread where its waker runs, though
// another processor be free. To keep looking costs a processor that others may
// want. So a [Door] waits in three steps, of which the first two are taken only
// where waits have been short of late:
//
//		        nothing there            20 µs            500 µs
//		try ────────────────► look ─────────────► nap ─────────────► sleep
//		 ▲                     │                   │                   │
//		 └── something came ───┴───────────────────┴───────────────────┘
//
//	  - To look is to try again and again for little longer than a wake-up takes,
//	    and to offer the processor to others between two tries.
//	  - To nap is to sleep for so short a time that Go's scheduler need not know: it
//	    counts the goroutine as running, and has nothing to undo when it wakes.
//	  - To sleep is to sleep as long as it takes, while the scheduler gives the
//	    processor to others.
//
// Who does not wait is not woken. Go's own poller keeps a descriptor's wake-ups
// armed all the time: a thread that waits there for anything at all is woken for
// each packet that comes while the loop is busy with those before, and for each
// that the kernel has sent and freed.
package patience

import "time"

const (
	// most bounds one look, of the order of what waking up takes. Longer ones
	// carried no more TCP, and fewer small packets under overload, which profit
	// from the batch that piles up while one sleeps.
	most = 20 * time.Microsecond
	// least is where looking begins, and below which it is not worth it.
	least = 5 * time.Microsecond
	// short is a wait after which the next one is expected to be short too: some
	// of them between the packets of a stream, none where nobody is in a hurry.
	short = 500 * time.Microsecond
	// maxLooks ends a look where the clock stands still, as it may in tests.
	maxLooks = 128
)

// patience is what a door has learnt of its waits. The rule is that by which
// kernels poll before they halt a processor: a wait that was short makes the next
// look longer, one that was long makes it shorter. The zero value expects nothing.
type patience struct {
	window time.Duration // how long to look, 0: not at all
	began  time.Time
	looks  int
}

// begin begins a wait: the door was found empty.
func (p *patience) begin() { p.began, p.looks = time.Now(), 0 }

// look says whether to look once more before sleeping. Time that others had the
// processor for counts.
func (p *patience) look() bool {
	if !p.expecting() || p.looks == maxLooks || time.Since(p.began) > p.window {
		return false
	}
	p.looks++
	return true
}

// expecting says whether waits have been short of late.
func (p *patience) expecting() bool { return p.window > 0 }

// slept ends a wait that looking did not end.
func (p *patience) slept() { p.learn(time.Since(p.began)) }

func (p *patience) learn(wait time.Duration) {
	if wait <= short {
		p.window = min(max(2*p.window, least), most)
		return
	}
	if p.window /= 2; p.window < least {
		p.window = 0
	}
}
