package ikev2

import (
	"fmt"
	"slices"

	"culvert/ikev2/wire"
)

// StartMode says what brings a child SA up.
type StartMode uint8

// The modes.
const (
	StartNow     StartMode = iota // with the IKE SA, by the side that began that, and again when it is gone
	StartTraffic                  // the first packet that its selectors cover; the command Acquire says so
	StartPeer                     // only the peer
)

// Acquire says that a packet wants out for which there is no child SA, though
// the policy of Child, a name of Peer's, covers it (RFC 4301 section 4.4.1). If
// the IKE SA is up, or when it comes up, the child is asked for, once. A peer
// that refuses it is asked again by a later packet, not at once.
type Acquire struct {
	Peer, Child string
	// Local and Remote are the packet's own selectors, one address and as far as
	// it shows them one port each, seen from here.
	Local, Remote wire.Selector
}

func (Acquire) command() {}

// packet is the traffic that a child SA is wanted for.
type packet struct{ local, remote wire.Selector }

// within finds the selectors that the packet lies in.
func (p *packet) within(local, remote []wire.Selector) (l, r wire.Selector, ok bool) {
	i := slices.IndexFunc(local, func(s wire.Selector) bool { return contains(s, p.local) })
	j := slices.IndexFunc(remote, func(s wire.Selector) bool { return contains(s, p.remote) })
	if i < 0 || j < 0 {
		return l, r, false
	}
	return local[i], remote[j], true
}

// first puts the packet's selectors before the others, so that a responder that
// has to choose chooses what it lies in (RFC 7296 section 2.9).
func (p *packet) first(local, remote []wire.Selector) (l, r []wire.Selector) {
	lead := func(s wire.Selector, rest []wire.Selector) []wire.Selector {
		if len(rest) == 1 && rest[0] == s {
			return rest
		}
		return append([]wire.Selector{s}, rest[:min(len(rest), maxSelectors-1)]...)
	}
	return lead(p.local, local), lead(p.remote, remote)
}

// carriedBy: the packet may go through the child SA.
func (p *packet) carriedBy(c *childSA) bool {
	_, _, ok := p.within(c.local, c.remote)
	return ok
}

// acquire asks for the child, now or when the IKE SA is up.
func (p *peer) acquire(a Acquire) error {
	i := slices.IndexFunc(p.Children, func(c Child) bool { return c.Name == a.Child })
	if i < 0 {
		return fmt.Errorf("peer %q has no child named %q", p.Name, a.Child)
	}
	if p.lowers(&p.Children[i]) {
		return nil
	}
	wants := &packet{a.Local, a.Remote}
	w := &wish{cfg: &p.Children[i], packet: wants, once: true}
	sa := p.up
	if sa == nil {
		sa = &ikeSA{e: p.e, peer: p, path: p.path} // the one that there will be
	}
	if _, _, ok := wants.within(w.scope(sa)); !ok {
		return fmt.Errorf("child %q of peer %q does not cover %v to %v", a.Child, a.Peer, a.Local, a.Remote)
	}
	if w.cfg.LocalDynamic && sa.lacksAddress() {
		w.packet = nil // it cannot have the address that we shall have
	}
	if w.cfg.SinglePair && w.packet != nil {
		w = w.pairs(sa)[0]
	}
	switch {
	case p.up == nil:
		p.remember(w)
	case !slices.ContainsFunc(p.up.children, func(c *childSA) bool { return c.live() && wants.carriedBy(c) }):
		p.up.want(w)
		p.up.bringUpChildren()
	}
	return nil
}

// remember keeps the latest packet's wish for each child until the IKE SA is up.
func (p *peer) remember(w *wish) {
	if i := slices.IndexFunc(p.acquired, func(v *wish) bool { return v.cfg == w.cfg }); i >= 0 {
		p.acquired[i] = w
		return
	}
	p.acquired = append(p.acquired, w)
}

// adopt takes what packets and the operator wanted while there was no IKE SA.
func (sa *ikeSA) adopt() {
	for _, w := range sa.peer.acquired {
		sa.want(w)
	}
	sa.peer.acquired = nil
	if !sa.dialed {
		sa.wishes = append(sa.wishes, sa.standingWishes()...)
	}
}

// connectOnce tries once, for what packets want; not at once after a failure.
func (p *peer) connectOnce(path Path) {
	if p.wanted || p.up != nil || p.attempt != nil || p.e.now.Before(p.again) {
		return
	}
	p.path = path
	p.connect()
}

// rest is how long a peer that is only wanted by packets is left alone after a
// failure.
func (p *peer) rest() {
	p.acquired = nil
	p.again = p.e.now.Add(p.e.jitter(backoff(p.Timing.Reconnect, p.Timing.ReconnectMax, p.failed)))
}
