package ikev2

import (
	"container/heap"
	"time"
)

// timerKind is one thing that a connection may wait for.
type timerKind uint8

const (
	timerRetransmit timerKind = iota // the outstanding request has no answer
	timerLifetime                    // the SA ends, whatever its state
	timerRekey                       // the SA is to be replaced
	timerDPD                         // the peer has been silent
	timerKeepalive                   // our NAT's mapping wants a packet
	timerChildren                    // a child SA that is wanted is missing
	timerFollowup                    // the peer does not go on with its key exchanges
	timerReconnect                   // the next attempt is due
	timerFragments                   // a message whose fragments do not come is given up
	timerProbe                       // a packet of some size is not answered
	numTimers
)

// timers are all waits of one owner in one small table. The zero time is "not
// set".
type timers struct {
	at    [numTimers]time.Time
	owner interface{ expire(timerKind) }
	pos   int // in the engine's heap, -1 when not there
}

func (t *timers) next() (kind timerKind, at time.Time) {
	for k, when := range t.at {
		if !when.IsZero() && (at.IsZero() || when.Before(at)) {
			kind, at = timerKind(k), when
		}
	}
	return kind, at
}

// timerHeap orders owners by their next deadline, so that one timeout costs
// the logarithm of their number.
type timerHeap []*timers

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	_, a := h[i].next()
	_, b := h[j].next()
	return a.Before(b)
}
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}
func (h *timerHeap) Push(x any) {
	t := x.(*timers)
	t.pos = len(*h)
	*h = append(*h, t)
}
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.pos = -1
	return t
}

func (e *Engine) setTimer(t *timers, k timerKind, at time.Time) {
	t.at[k] = at
	_, next := t.next()
	switch {
	case next.IsZero() && t.pos >= 0:
		heap.Remove(&e.heap, t.pos)
	case !next.IsZero() && t.pos >= 0:
		heap.Fix(&e.heap, t.pos)
	case !next.IsZero():
		heap.Push(&e.heap, t)
	}
}

func (e *Engine) stopTimers(t *timers) {
	t.at = [numTimers]time.Time{}
	if t.pos >= 0 {
		heap.Remove(&e.heap, t.pos)
	}
}

// Deadline is the time of the next HandleTimeout; false when there is nothing
// to wait for.
func (e *Engine) Deadline() (time.Time, bool) {
	if len(e.heap) == 0 {
		return time.Time{}, false
	}
	_, at := e.heap[0].next()
	return at, true
}

// HandleTimeout does what is due at now.
func (e *Engine) HandleTimeout(now time.Time) {
	e.now = now
	for len(e.heap) > 0 {
		t := e.heap[0]
		kind, at := t.next()
		if at.After(now) {
			return
		}
		e.setTimer(t, kind, time.Time{})
		t.owner.expire(kind)
	}
}
