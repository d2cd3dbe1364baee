package ikev2

import (
	"cmp"
	"math"
	"net/netip"
	"time"

	"culvert/ikev2/wire"
)

// Limits bound what peers that have not authenticated can claim. A zero field
// means its default; a negative number switches the limit off.
type Limits struct {
	// CookieThreshold is the half-open SA, counted with the one that is asked for,
	// from which on a responder wants a cookie first (RFC 7296 section 2.6). 1:
	// always; negative: never. Default 30, as strongSwan's.
	CookieThreshold int
	// HalfOpen bounds the half-open SAs, by default to 4096, and
	// HalfOpenPerSource those of one IPv4 address or IPv6 /64, by default to 64:
	// whole offices come back at once from behind one NAT. It is more than
	// CookieThreshold, so that only who receives at an address can use it up.
	HalfOpen, HalfOpenPerSource int
	// HalfOpenLifetime is how long a responder waits for a valid IKE_AUTH. The
	// default, also for what is not positive, is 30 s.
	HalfOpenLifetime time.Duration
}

func (l Limits) withDefaults() Limits {
	def := func(n *int, v int) {
		if *n = cmp.Or(*n, v); *n < 0 {
			*n = math.MaxInt
		}
	}
	def(&l.CookieThreshold, 30)
	def(&l.HalfOpen, 4096)
	def(&l.HalfOpenPerSource, 64)
	if l.HalfOpenLifetime <= 0 {
		l.HalfOpenLifetime = 30 * time.Second
	}
	return l
}

// admit says whether a stranger's first message may lead to an SA; if not, the
// message is counted and, for the want of a cookie, answered. It costs little
// and looks at nothing but the nonce and the cookie.
func (e *Engine) admit(h wire.Header, d Datagram) bool {
	source := sourceOf(d.Path.Remote)
	switch {
	case e.wantsCookie() && !e.checkCookie(h, d):
	case e.halfOpen.total >= e.limits.HalfOpen:
		e.drop(dropHalfOpen)
	case e.halfOpen.by[source] >= e.limits.HalfOpenPerSource:
		e.drop(dropHalfOpenSource)
	default:
		return true
	}
	return false
}

// sourceOf is whom an address is counted for: itself, or for IPv6 its /64, of
// which one host has all addresses.
func sourceOf(a netip.AddrPort) netip.Addr {
	addr := a.Addr().Unmap().WithZone("")
	if addr.Is6() {
		p, _ := addr.Prefix(64)
		return p.Addr()
	}
	return addr
}

// crowd counts half-open SAs, in all and by source.
type crowd struct {
	total int
	by    map[netip.Addr]int
}

func (c *crowd) add(source netip.Addr, n int) {
	c.total += n
	if c.by[source] += n; c.by[source] == 0 {
		delete(c.by, source)
	}
}

// countHalfOpen counts an initiator's SA from its making until the initiator is
// authenticated or the SA is gone: what lingers after a refusal takes its room
// too.
func (sa *ikeSA) countHalfOpen(to state) {
	switch {
	case to == stateAuth && !sa.initiator:
		sa.claimant = sourceOf(sa.path.Remote)
		sa.e.halfOpen.add(sa.claimant, 1)
	case to != stateLinger && sa.claimant.IsValid():
		sa.e.halfOpen.add(sa.claimant, -1)
		sa.claimant = netip.Addr{}
	}
}

// What goes to an address that nobody has proven to be at: the total bounds the
// work of a flood whose senders are made up, the other number what one of them
// receives who never asked. Retransmissions are answered from a budget of their
// own, which a flood of strangers does not use up, and a large one: thousands of
// peers may have one NAT in front of them.
var (
	replyBudget  = budget{total: 50000, each: 100}
	repeatBudget = budget{total: 50000, each: 1000}
)

// answerAgain answers a request that has come again. Anybody who has seen it can
// send it in another's name.
func (sa *ikeSA) answerAgain(p Path) {
	if !sa.e.repeats.take(sa.e.now, sourceOf(p.Remote)) {
		sa.e.drop(dropReply)
		return
	}
	sa.e.drop(dropRetransmitted)
	sa.post(p, sa.answer)
}

// replyClear sends unprotected payloads back under the request's SPIs, but no
// more bytes than came and not too often: the sender may be made up.
func (e *Engine) replyClear(h wire.Header, d Datagram, payloads ...wire.Payload) {
	m := wire.Message{Header: h, Payloads: payloads}
	m.Major, m.Minor = 2, 0
	reply := m.Append(nil)
	if len(reply) > len(d.Payload) || !e.replies.take(e.now, sourceOf(d.Path.Remote)) {
		e.drop(dropReply)
		return
	}
	e.transmit(d.Path, reply)
}

// budget allows a number of things a second for messages that anybody can write,
// in all and for one source. It remembers the sources of one second.
type budget struct {
	total, each int
	second      time.Time
	used        int
	by          map[netip.Addr]int
}

func (b *budget) take(now time.Time, source netip.Addr) bool {
	if s := now.Truncate(time.Second); b.by == nil || !s.Equal(b.second) {
		b.second, b.used, b.by = s, 0, map[netip.Addr]int{}
	}
	if b.used >= b.total || b.by[source] >= b.each {
		return false
	}
	b.used++
	b.by[source]++
	return true
}

// auditProtection: who has not authenticated counts as half-open, and a message
// that comes in fragments has its bound.
func (sa *ikeSA) auditProtection(check func(bool, string, ...any)) {
	unproven := !sa.initiator && sa.state == stateAuth
	check(sa.claimant.IsValid() == unproven || sa.state == stateLinger, "IKE SA %v in state %d counts for %v", sa.id(), sa.state, sa.claimant)
	for _, a := range sa.partials {
		missing, size := 0, 0
		for _, part := range a.parts {
			size += len(part)
			if part == nil {
				missing++
			}
		}
		check(missing == a.missing && size == a.size && size <= sa.assembledLimit() && len(a.parts) <= maxFragments,
			"IKE SA %v holds %d bytes of %d fragments, %d of them missing", sa.id(), size, len(a.parts), missing)
		check(a.parts == nil || !sa.timers.at[timerFragments].IsZero(), "IKE SA %v keeps fragments for good", sa.id())
	}
}
