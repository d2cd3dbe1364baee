package ikev2

import (
	"slices"
	"time"

	"culvert/ikev2/wire"
)

// maxParts bounds into how many child SAs a peer can divide what one
// configured child protects.
const maxParts = 64

// wish is a child SA that this side asks for: all that a configured child
// protects, or the part of it that one child SA is to carry. The parts of a
// child have no traffic in common, so that a child SA fulfils the wish whose
// part it lies in.
type wish struct {
	cfg           *Child
	local, remote []wire.Selector // nil: all of cfg's
	// packet wants the child SA, which then is asked for once (trap.go).
	packet *packet
	once   bool
	extra  bool // ADDITIONAL_TS_POSSIBLE said that there may be one
	// lanes is how many child SAs there are to be with just these selectors and
	// this suite, if there is one at all; 0 but in additional wishes (lanes.go).
	lanes int
	suite ESPSuite
	// refused is how often in a row it came to nothing. A wish of a packet is
	// asleep then: it waits for another packet, which counts from again on.
	refused int
	asleep  bool
	again   time.Time
}

// scope is what the wish asks for.
func (w *wish) scope(sa *ikeSA) (local, remote []wire.Selector) {
	if local, remote = w.local, w.remote; local == nil {
		local, remote = sa.wantedTS(w.cfg), sa.remoteTS(w.cfg)
	}
	return local, remote
}

// possible: there is something to ask for. A side that is dynamic may have no
// address yet.
func (w *wish) possible(sa *ikeSA) bool {
	local, remote := w.scope(sa)
	return len(local) > 0 && len(remote) > 0
}

// selectors are the scope as a request words it: a packet's own come first (RFC
// 7296 section 2.9).
func (w *wish) selectors(sa *ikeSA) (local, remote []wire.Selector) {
	local, remote = w.scope(sa)
	if w.packet != nil && w.local == nil {
		local, remote = w.packet.first(local, remote)
	}
	return local, remote
}

// fulfilledBy: a child SA of the same policy that the packet may go through, or
// that lies within the wish's part.
func (w *wish) fulfilledBy(c *childSA) bool {
	switch {
	case c.cfg != w.cfg || !c.live() || c.from != nil:
		return false
	case w.additional():
		return c.resource && c.replacedBy == nil && c.carries(w.local, w.remote)
	case w.packet != nil:
		return w.packet.carriedBy(c)
	}
	return w.local == nil || within(c.local, w.local) && within(c.remote, w.remote)
}

func (sa *ikeSA) fulfilled(w *wish) bool {
	if w.additional() {
		n := sa.count(w)
		return n == 0 || n >= w.lanes
	}
	return slices.ContainsFunc(sa.children, w.fulfilledBy)
}

// standingWishes are for the children that start with the IKE SA. Only the side
// that began the connection asks for them, so that they do not come twice, or the
// one whose operator wants them.
func (sa *ikeSA) standingWishes() (ws []*wish) {
	for i := range sa.peer.Children {
		c := &sa.peer.Children[i]
		if _, said := sa.peer.said[c.Name]; (sa.dialed || said) && sa.peer.start(c) == StartNow {
			ws = append(ws, sa.newWishes(c)...)
		}
	}
	return ws
}

func (sa *ikeSA) newWishes(cfg *Child) []*wish {
	w := &wish{cfg: cfg}
	if parts := w.pairs(sa); cfg.SinglePair && len(parts) > 0 {
		return parts
	}
	return []*wish{w}
}

// firstWish goes along in IKE_AUTH. A responder may need to be asked for some
// child there, wanted or not (RFC 6023 section 2).
func (sa *ikeSA) firstWish() *wish {
	if len(sa.wishes) == 0 && len(sa.peer.acquired) > 0 {
		sa.wishes, sa.peer.acquired = sa.peer.acquired[:1:1], sa.peer.acquired[1:]
	}
	ask := sa.wishes
	for i := range sa.peer.Children {
		if c := &sa.peer.Children[i]; len(sa.wishes) == 0 && sa.peer.start(c) != StartPeer && !sa.childless {
			ask = append(ask, &wish{cfg: c, once: true})
		}
	}
	i := slices.IndexFunc(ask, func(w *wish) bool { return w.possible(sa) })
	if i < 0 {
		return nil
	}
	return ask[i]
}

// bringUpChildren asks for the next child SA that is wanted and missing. One
// that was refused waits, and holds up no other. One that is configured no more
// ends.
func (sa *ikeSA) bringUpChildren() {
	sa.endUnwanted()
	w := sa.missing()
	switch {
	case w == nil:
	case w.waits() == 0:
		sa.askForChild()
	default:
		at := sa.e.now.Add(sa.patience(w))
		if set := sa.timers.at[timerChildren]; set.IsZero() || at.Before(set) {
			sa.e.setTimer(&sa.timers, timerChildren, at)
		}
	}
}

// waits is how often the wish has to stand back: not at all where a packet is
// behind it, which has waited before it woke.
func (w *wish) waits() int {
	if w.once {
		return 0
	}
	return w.refused
}

// patience is the wait after a refusal.
func (sa *ikeSA) patience(w *wish) time.Duration {
	t := sa.timing()
	return sa.e.jitter(backoff(t.Reconnect, t.ReconnectMax, w.refused))
}

func (sa *ikeSA) askForChild() {
	if w := sa.missing(); w != nil {
		sa.start(wire.ExchangeCreateChildSA, &childTask{cfg: w.cfg, wish: w})
	}
}

// missing is the wish that was refused least, one at a time. What was wanted
// once and is there is wanted no more.
func (sa *ikeSA) missing() (least *wish) {
	if sa.state != stateUp || sa.asksForChild() {
		return nil
	}
	sa.wishes = slices.DeleteFunc(sa.wishes, func(w *wish) bool { return w.once && sa.fulfilled(w) || w.additional() && sa.count(w) == 0 })
	for _, w := range sa.wishes {
		if !w.asleep && !sa.fulfilled(w) && w.possible(sa) && (least == nil || w.waits() < least.waits()) {
			least = w
		}
	}
	return least
}

func (sa *ikeSA) asksForChild() bool {
	asks := func(x *exchange) bool {
		return x.kind == wire.ExchangeCreateChildSA || x.kind == wire.ExchangeIKEFollowupKE
	}
	will := func(x *exchange) bool { return asks(x) && !x.obsolete(sa) }
	return sa.active != nil && asks(sa.active) || slices.ContainsFunc(sa.queue, will)
}

// want adds a wish that is to be fulfilled once. There is one such to a
// configured child at a time.
func (sa *ikeSA) want(w *wish) {
	i := slices.IndexFunc(sa.wishes, func(v *wish) bool { return v.once && v.cfg == w.cfg })
	switch {
	case i < 0:
		sa.wishes = append(sa.wishes, w)
	case sa.wishes[i].asleep && !sa.e.now.Before(sa.wishes[i].again):
		w.refused = sa.wishes[i].refused
		sa.wishes[i] = w
	}
}

// putOff takes a refusal. What the peer only said to be possible is not asked
// for again when it is not.
func (sa *ikeSA) putOff(w *wish, r Reason) {
	w.refused++
	switch {
	case w.extra && r == ReasonSelectors:
		sa.forgetWish(w)
	case w.once:
		w.asleep, w.again = true, sa.e.now.Add(sa.patience(w))
	}
}

// fulfil takes the child SA that was granted, beside which the peer may take
// others.
func (sa *ikeSA) fulfil(w *wish, c *childSA, more bool) {
	w.refused = 0
	switch {
	case w.once:
		sa.forgetWish(w)
	case more && !w.additional():
		sa.divide(w, w.remainder(c))
	}
}

func (sa *ikeSA) forgetWish(w *wish) {
	sa.wishes = slices.DeleteFunc(sa.wishes, func(v *wish) bool { return v == w })
}

// divide has several child SAs in the place of the one that w asked for.
func (sa *ikeSA) divide(w *wish, parts []*wish) bool {
	i, count := slices.Index(sa.wishes, w), len(parts)
	for _, v := range sa.wishes {
		if v.cfg == w.cfg && !v.additional() {
			count++
		}
	}
	if i < 0 || len(parts) == 0 || count > maxParts {
		return false
	}
	sa.wishes = slices.Replace(sa.wishes, i, i+1, parts...)
	return true
}

// pairs are what to ask for where a child SA may have one pair of selectors
// only (RFC 7296 section 2.9); none where that has been asked for.
func (w *wish) pairs(sa *ikeSA) (parts []*wish) {
	local, remote := w.scope(sa)
	if w.packet != nil {
		return w.pairOfPacket(local, remote)
	}
	local, remote = narrow(local, local), narrow(remote, remote) // without those inside others
	if len(local)*len(remote) == 1 {
		return nil
	}
	for _, l := range local {
		for _, r := range remote {
			parts = append(parts, w.part(l, r))
		}
	}
	return parts
}

func (w *wish) part(local, remote wire.Selector) *wish {
	return &wish{cfg: w.cfg, local: []wire.Selector{local}, remote: []wire.Selector{remote}, packet: w.packet, once: w.once}
}

// pairOfPacket is the pair that the packet lies in; of that, then, its two
// addresses alone.
func (w *wish) pairOfPacket(local, remote []wire.Selector) []*wish {
	l, r, _ := w.packet.within(local, remote)
	p := w.part(l, r)
	if w.local != nil {
		p = w.part(oneAddress(w.packet.local, l), oneAddress(w.packet.remote, r))
	}
	if w.local != nil && slices.Equal(p.local, w.local) && slices.Equal(p.remote, w.remote) {
		return nil
	}
	return []*wish{p}
}

// oneAddress narrows s to an address of it.
func oneAddress(of, s wire.Selector) wire.Selector {
	s.Start, s.End = of.Start, of.End
	return s
}

// remainder is what the wish asks for beside a child SA that the peer says may
// be followed by others (ADDITIONAL_TS_POSSIBLE, RFC 7296 section 2.9): the
// rest of our side to all of the peer's, and of the peer's to what has been
// granted of ours.
func (w *wish) remainder(c *childSA) []*wish {
	local, remote := w.scope(c.sa)
	parts := []*wish{{cfg: w.cfg, local: c.local, remote: c.remote}}
	for _, rest := range []wish{{local: without(local, c.local), remote: remote}, {local: c.local, remote: without(remote, c.remote)}} {
		if len(rest.local) > 0 && len(rest.remote) > 0 {
			parts = append(parts, &wish{cfg: w.cfg, local: rest.local, remote: rest.remote, extra: true})
		}
	}
	return parts
}
