// Package patience decides how long to look at an empty door, a device or a
// socket, before going to sleep at it.
//
// To be woken is dear: on a virtual machine 30 µs for a processor that has
// stopped, and then the kernel wakes a thread where its waker runs, though
// another processor be free. To keep looking costs a processor that others may
// want. So it is done only where waits have been short of late, for little
// longer than a wake-up takes, and the processor is offered to others between
// two looks: when somebody took it, the next look is the last, and the wait goes
// on asleep. Where packets are far between nobody looks, and nothing is used.
//
//	for p.Begin(); p.Look(); {
//		if packet, ok := door.Try(); ok {
//			return packet
//		}
//	}
//	packet := door.Wait() // asleep
//	p.Slept()
//
// The rule is that by which kernels poll before they halt a processor: a wait
// that was short makes the next look longer, one that was long makes it shorter.
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

// Patience is that of one loop at one door. The zero value sleeps at once until
// waits turn out to be short. One goroutine owns it.
type Patience struct {
	window time.Duration // how long to look, 0: not at all
	began  time.Time
	looks  int
}

// Begin begins a wait: the door was found empty.
func (p *Patience) Begin() { p.began, p.looks = time.Now(), 0 }

// Look says whether to look once more before sleeping. Between two looks it
// offers the processor to others, and looks when it has it back.
func (p *Patience) Look() bool {
	if p.window == 0 || p.looks == maxLooks || time.Since(p.began) > p.window {
		return false
	}
	if p.looks++; p.looks > 1 {
		yield()
	}
	return true
}

// Slept ends a wait that came to an end asleep.
func (p *Patience) Slept() { p.learn(time.Since(p.began)) }

// learn sets how long to look next time after a wait that looking did not end.
func (p *Patience) learn(wait time.Duration) {
	if wait <= short {
		p.window = min(max(2*p.window, least), most)
		return
	}
	if p.window /= 2; p.window < least {
		p.window = 0
	}
}
