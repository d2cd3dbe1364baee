package ikev2

import "time"

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
	e.setTimer(t, timerRekey, e.now.Add(life-e.part(life/10)))
	e.setTimer(t, timerLifetime, e.now.Add(life+max(life/10, hardMargin)))
}

// part is a random part of d.
func (e *Engine) part(d time.Duration) time.Duration {
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

func (sa *ikeSA) armLifetime() { sa.e.lifetime(&sa.timers, sa.peer.IKELifetime) }

// expired: a half-open, failed or replaced SA is over, and so is one that
// could not be replaced in time.
func (sa *ikeSA) expired() {
	if sa.state == stateUp {
		sa.close(ReasonExpired)
		return
	}
	sa.end(ReasonDead)
}

// expire is what a child's timers do.
func (c *childSA) expire(k timerKind) {
	switch {
	case k == timerRekey:
		c.rekey()
	case c.state == childLate:
		c.forget()
	case c.state != childClosing:
		c.close(ReasonExpired)
	}
}
