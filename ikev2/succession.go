package ikev2

import (
	"slices"
	"time"
)

// settleTime is how long a responder sends on the children of an IKE SA that its
// peer has made anew, unless it hears sooner that the peer has the new ones: long
// enough for two lost answers. A peer that is silent and deletes nothing may be
// one that has lost the old ones.
const settleTime = 2 * time.Second

// makeWay leaves the place of an IKE SA, and what is on its way to its children,
// to the one that replaces it. An initiator sends on the new children already; a
// responder whose answer the peer may not have yet goes on with the old ones, and
// leaves the IKE SA to the peer to delete, as where either is rekeyed (RFC 7296
// section 2.8).
func (sa *ikeSA) makeWay(to *ikeSA) {
	waits := false
	for _, c := range slices.Clone(sa.children) {
		if to.state == stateUp && c.passTo(to) {
			waits = true
		}
	}
	if !waits {
		sa.close(ReasonReplaced)
		return
	}
	sa.report(Event{Kind: EventDown, Reason: ReasonReplaced})
	sa.dropChildren(ReasonReplaced)
	sa.disinherit((*ikeSA).sendDelete)
	sa.queue, sa.ticket = nil, nil
	sa.returnAddresses()
	sa.retire()
	sa.e.setTimer(&sa.timers, timerLifetime, sa.e.now.Add(settleTime))
}

// holdsBack: the peer sends and receives on a child of the IKE SA that is
// replaced, and by the same way, until it has this one.
func (p *peer) holdsBack(child *childSA) bool {
	old := p.leaving
	return old != nil && old.state == stateUp && old.espPath() == child.sa.espPath() &&
		slices.ContainsFunc(old.children, func(c *childSA) bool { return c.state == childUp && c.like(child) })
}

func (sa *ikeSA) heldLike(c *childSA) *childSA {
	i := slices.IndexFunc(sa.children, func(x *childSA) bool { return x.state == childHeld && x.like(c) })
	if i < 0 {
		return nil
	}
	return sa.children[i]
}

// passTo leaves a child of an IKE SA to the one that replaces it, where it takes
// what is on its way, or carries on until its successor there does.
func (c *childSA) passTo(to *ikeSA) (waits bool) {
	successor, from := to.heldLike(c), c.sa
	switch {
	case c.state == childHeld: // nobody sends on it
		return false
	case c.state == childClosing:
		c.late()
	case c.state == childUp && (successor == nil || c.replacedBy != nil && c.from == nil): // by one that follows
		c.giveWay()
	case c.state == childUp:
		waits = true
	}
	from.children = slices.DeleteFunc(from.children, func(x *childSA) bool { return x == c })
	to.children, c.sa = append(to.children, c), to
	if waits {
		c.waitFor(successor, from)
	}
	return waits
}

// waitFor has a child of from carry on until the peer is known to have its
// successor.
func (c *childSA) waitFor(successor *childSA, from *ikeSA) {
	c.replacedBy, c.from = successor, from
	c.sa.e.stopTimers(&c.timers)
	c.sa.e.setTimer(&c.timers, timerLifetime, c.sa.e.now.Add(settleTime))
}

// giveWay has the successor, if there is one, send instead, and takes what is on
// its way.
func (c *childSA) giveWay() {
	c.quiet(ReasonReplaced)
	c.late()
}

// hasMadeWay: the peer deletes an IKE SA that was replaced, and so has the one
// that replaces it.
func (sa *ikeSA) hasMadeWay() {
	if sa.peer.up == nil {
		return
	}
	for _, c := range slices.Clone(sa.peer.up.children) {
		if c.from == sa {
			c.giveWay()
		}
	}
}
