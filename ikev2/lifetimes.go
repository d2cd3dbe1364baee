package ikev2

import (
	"math"
	"time"
)

const (
	// defaultIKELifetime and defaultChildLifetime are those of strongSwan's
	// rekey_time.
	defaultIKELifetime   = 4 * time.Hour
	defaultChildLifetime = time.Hour
	// hardMargin is how long, at least, an SA that was to be replaced is kept
	// while that does not succeed.
	hardMargin = time.Minute
	// lateTime is how long the inbound half of a replaced child still takes
	// packets that were on their way.
	lateTime = 5 * time.Second
	// replacedTime is how long an SA waits for the peer to delete it: longer
	// than the peer asks again for an answer that was lost.
	replacedTime = 2 * time.Minute
	// retryTime bounds the wait after TEMPORARY_FAILURE (RFC 7296 section
	// 2.25), with retryJitter less, so that two sides do not meet again.
	retryTime   = 15 * time.Second
	retryJitter = 9 * time.Second
)

// lifetime sets when an SA is to be replaced, up to a tenth before life is
// over, so that the two sides and many SAs do not begin at once (RFC 7296
// section 2.8), and when it ends unless it was.
func (e *Engine) lifetime(t *timers, life time.Duration) {
	if life <= 0 {
		return
	}
	e.setTimer(t, timerLifetime, e.now.Add(life+max(life/10, hardMargin)))
	e.renewInTime(t, life)
}

// renewInTime has an SA whose timerLifetime is set replaced when it is due.
func (e *Engine) renewInTime(t *timers, life time.Duration) {
	due := t.at[timerLifetime].Add(-max(life/10, hardMargin))
	e.setTimer(t, timerRekey, due.Add(-e.part(life/10)))
}

// tryEarly has a child SA of IKE_AUTH replaced soon, where the peer may refuse to
// replace it: no key exchange can be made in IKE_AUTH (RFC 7296 section 1.2), so
// that a peer which wants one and a side which does not, or the other way round,
// would find out when the lifetime of the child is nearly over. The turn of the
// side that did not ask for the child comes after the other's.
func (c *childSA) tryEarly() {
	wait := c.sa.timing().FirstRenewal
	if c.untried = c.untried && c.cfg.Lifetime > 0 && wait > 0 && !eitherWay(c.cfg.ESP); !c.untried {
		return
	}
	early := c.sa.e.now.Add(wait - c.sa.e.part(wait*2/3))
	if !c.ours {
		early = early.Add(wait)
	}
	if c.untried = early.Before(c.timers.at[timerRekey]); c.untried {
		c.sa.e.setTimer(&c.timers, timerRekey, early)
	}
}

// Slept says that the machine has slept, and everything here with it. The sleep
// counts for the lifetimes of SAs and tickets.
type Slept struct{ For time.Duration }

func (Slept) command() {}

func (e *Engine) slept(d time.Duration) {
	for _, p := range e.peers {
		if p.ticket != nil {
			p.ticket.expires = p.ticket.expires.Add(-d)
		}
		if p.up == nil {
			continue
		}
		e.age(&p.up.timers, d)
		if t := p.up.ticket; t != nil {
			t.expires = t.expires.Add(-d)
		}
		for _, c := range p.up.children {
			if c.state == childUp {
				e.age(&c.timers, d)
			}
		}
	}
}

// wakeTime is by when what is overdue after a sleep begins to be replaced: first
// it is found out whether the peer is still there.
const wakeTime = 10 * time.Second

// age brings the ends of an SA nearer. One that is overdue has the time that it
// takes to replace it.
func (e *Engine) age(t *timers, d time.Duration) {
	sooner := func(k timerKind, earliest time.Duration) {
		if at := t.at[k]; !at.IsZero() {
			soonest := e.now.Add(earliest)
			if aged := at.Add(-d); aged.After(soonest) {
				soonest = aged
			}
			if soonest.Before(at) {
				e.setTimer(t, k, soonest)
			}
		}
	}
	sooner(timerRekey, wakeTime+e.part(wakeTime))
	sooner(timerLifetime, 2*wakeTime+hardMargin)
}

// part is a random part of d.
func (e *Engine) part(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	b, err := e.random(2)
	if err != nil {
		return 0
	}
	return d / (1 << 16) * time.Duration(uint16(b[0])<<8|uint16(b[1]))
}

// rekeyLater asks for the replacement again in 6 to 15 s.
func (e *Engine) rekeyLater(t *timers) {
	e.setTimer(t, timerRekey, e.now.Add(retryTime-e.part(retryJitter)))
}

// volume is how much a child may carry: replaced when a limit is reached, and
// ended when it was exceeded by so much that the replacement does not succeed.
type volume struct {
	bytes, packets uint64
	worn           bool // reached, and the replacement has begun
}

// volume takes up to a tenth off the limits, as time does.
func (e *Engine) volume(cfg *Child) volume {
	return volume{bytes: e.shortened(cfg.LifeBytes), packets: e.shortened(cfg.LifePackets)}
}

func (e *Engine) shortened(limit uint64) uint64 {
	return limit - uint64(e.part(time.Duration(min(limit, math.MaxInt64)/10)))
}

// hardVolume is how many times its limit a child may carry: the data path says
// how much it was now and then only, and a fast one carries a lot between.
const hardVolume = 2

func (v volume) reached(t Traffic, times uint64) bool {
	over := func(n, limit uint64) bool { return limit != 0 && n/times >= limit }
	return over(t.Bytes, v.bytes) || over(t.Packets, v.packets)
}

// spend replaces a child that has carried what it may. Later tries are those of
// the timer.
func (c *childSA) spend(t Traffic) {
	switch {
	case c.state != childUp:
	case c.volume.reached(t, hardVolume):
		c.close(ReasonExpired)
	case c.volume.reached(t, 1) && !c.volume.worn:
		c.volume.worn = true
		c.rekey()
	}
}

func (sa *ikeSA) armLifetime() { sa.e.lifetime(&sa.timers, sa.peer.IKELifetime) }

// expired: a half-open or failed SA is over, and so is one that could not be
// replaced in time. One that was replaced, and that the peer has not deleted, we
// do.
func (sa *ikeSA) expired() {
	switch sa.state {
	case stateUp:
		sa.close(ReasonExpired)
	case stateReplaced:
		sa.sendDelete()
	default:
		if sa.state == stateAuth && !sa.initiator {
			sa.report(Event{Kind: EventRefused, Reason: ReasonUnfinished})
		}
		sa.end(ReasonDead)
	}
}

// expire is what a child's timers do.
func (c *childSA) expire(k timerKind) {
	switch {
	case k == timerRekey:
		c.rekey()
	case c.state == childLate:
		c.forget()
	case c.from != nil:
		c.giveWay()
	case c.state != childClosing:
		c.close(ReasonExpired)
	}
}
