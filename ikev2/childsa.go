package ikev2

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// maxChildren bounds the memory that a peer can claim, above what a few children
// for each configured one take.
const maxChildren = 256

// childState is how far a child SA has come.
type childState uint8

const (
	childNew     childState = iota // its inbound SPI is reserved
	childHeld                      // we receive on it; we send when the peer is known to have it
	childUp                        // both directions are installed
	childClosing                   // our Delete is out, and nothing is sent any more
	childLate                      // over; takes what was still on its way
	childGone
)

// childTransitions are the only ways from one state of a child to another.
var childTransitions = map[childState][]childState{
	childNew:     {childHeld, childGone},
	childHeld:    {childUp, childClosing, childGone},
	childUp:      {childClosing, childLate, childGone},
	childClosing: {childLate, childGone},
	childLate:    {childGone},
}

// childSA is one child SA: an ESP SA in each direction.
type childSA struct {
	sa      *ikeSA
	cfg     *Child
	state   childState
	suite   ESPSuite
	in, out uint32 // SPIs: in is ours, out the peer's
	// lane has the child's packets: anyLane until the inbound SPI is chosen.
	// resource says that it may be one of several for the same traffic (lanes.go).
	lane          int
	resource      bool
	local, remote []wire.Selector
	// askedLocal and askedRemote are what the peer asked for, where that is not
	// what it got.
	askedLocal, askedRemote []wire.Selector
	outKeys                 ESPKeys // as long as the child is held
	sending                 bool    // the outbound half is installed
	// replaces says that this child took another's place, and replaced that one
	// of ours has taken this one's; replacedBy is the one that the peer made for
	// it.
	replaces, replaced bool
	replacedBy         *childSA
	// from is the IKE SA that the child belonged to, and that the peer has made
	// anew, as long as the child carries what replacedBy is to.
	from     *ikeSA
	lowNonce []byte // the lower nonce of the exchange that made it
	// first is the lower nonce of the exchange that made the first of the children
	// that replaced each other up to this one; ours says that we asked for that.
	first  []byte
	ours   bool
	volume volume
	timers timers
	// untried: the child is to be replaced before its time, so as to see whether
	// the peer would take our proposals as they are, key exchange and all.
	untried bool
	lowered bool // the operator wants it down (raise.go)
}

func (sa *ikeSA) newChild(cfg *Child) *childSA {
	c := &childSA{sa: sa, cfg: cfg, lane: anyLane, volume: sa.e.volume(cfg)}
	c.timers = timers{owner: c, pos: -1}
	return c
}

// setState is the one gate for every change of a child's state.
func (c *childSA) setState(to childState) {
	if !slices.Contains(childTransitions[c.state], to) {
		c.sa.e.badTransitions++
	}
	c.state = to
}

// live: the child carries traffic, or will.
func (c *childSA) live() bool { return c.state == childHeld || c.state == childUp }

// settle leaves one child SA where both sides have asked for the same: the one
// with the lowest nonce is deleted by its initiator, as where both replace a
// child (RFC 7296 section 2.8.1). Who replaces one meanwhile changes nothing of
// that. Several that both sides want (lanes.go) stay.
func (c *childSA) settle() {
	for _, x := range slices.Clone(c.sa.children) {
		if x.ours == c.ours || !x.replaceable() || !x.like(c) || x.resource && c.resource {
			continue
		}
		loser := c
		if bytes.Compare(x.first, c.first) < 0 {
			loser = x
		}
		if loser.ours {
			loser.close(ReasonRekeyed)
		}
		if loser == c {
			return
		}
	}
}

// succeed takes the place of old.
func (c *childSA) succeed(old *childSA) {
	c.replaces, c.first, c.ours, c.resource = true, old.first, old.ours, old.resource
	c.askedLocal, c.askedRemote = old.askedLocal, old.askedRemote
}

func (c *childSA) like(x *childSA) bool {
	return x.cfg == c.cfg && slices.Equal(x.local, c.local) && slices.Equal(x.remote, c.remote)
}

// install derives the child's keys and hands the inbound direction to the
// gateway, so that nothing the peer sends can come too early. activate does the
// other one.
func (c *childSA) install(ch choice, initiator bool, s secrets) error {
	c.suite, c.out = ch.espSuite(), binary.BigEndian.Uint32(ch.spi)
	toResponder, toInitiator, err := c.sa.childKeys(c.suite, s)
	if err != nil {
		return err
	}
	in := toResponder
	c.outKeys = toInitiator
	if initiator {
		in, c.outKeys = toInitiator, toResponder
	}
	c.lowNonce = lower(s.ni, s.nr)
	if c.first == nil {
		c.first, c.ours = c.lowNonce, initiator
	}
	c.setState(childHeld)
	c.sa.children = append(c.sa.children, c)
	c.sa.e.claims.add(c)
	c.sa.e.lifetime(&c.timers, c.cfg.Lifetime)
	c.sa.e.setTimer(&c.timers, timerRekey, time.Time{})
	c.sa.e.emit(InstallInbound{c.facts(), in})
	return nil
}

// lower compares nonces octet by octet; where one ends, it is the lower (RFC
// 7296 section 2.8.1).
func lower(a, b []byte) []byte {
	if bytes.Compare(a, b) < 0 {
		return a
	}
	return b
}

// activate sends the child's traffic through it from now on.
func (c *childSA) activate() {
	c.setState(childUp)
	c.sending = true
	c.sa.e.lifetime(&c.timers, c.cfg.Lifetime)
	c.tryEarly()
	c.sa.e.emit(InstallOutbound{c.facts(), c.outKeys})
	c.outKeys = ESPKeys{}
	ev := Event{Kind: EventChildUp, Child: c.cfg.Name, ESP: c.suite, LocalTS: c.local, RemoteTS: c.remote,
		PeerLocalTS: c.askedLocal, PeerRemoteTS: c.askedRemote, InboundSPI: c.in, OutboundSPI: c.out}
	if c.replaces {
		ev.Reason = ReasonRekeyed
	}
	c.sa.report(ev)
	c.settle()
}

func (c *childSA) facts() ChildSA {
	return ChildSA{Peer: c.sa.peer.Name, Child: c.cfg.Name, IKE: c.sa.id(), Suite: c.suite, Local: c.local, Remote: c.remote,
		Path: c.sa.espPath(), InboundSPI: c.in, OutboundSPI: c.out, Lane: c.lane}
}

// childKeys cuts KEYMAT (RFC 7296 section 2.17): the initiator's direction
// first, encryption before integrity.
func (sa *ikeSA) childKeys(suite ESPSuite, s secrets) (toResponder, toInitiator ESPKeys, err error) {
	e, err := keymat.EncrKeyLen(suite.Encr, suite.KeyBits)
	if err != nil {
		return
	}
	i := 0
	if suite.Integ != 0 {
		if i, err = keymat.IntegKeyLen(suite.Integ); err != nil {
			return
		}
	}
	k, err := keymat.DeriveChild(sa.suite.PRF, sa.keys.SKd, s.shared, s.ni, s.nr, s.more, 2*(e+i))
	if err != nil {
		return
	}
	half := e + i
	return ESPKeys{k[:e], k[e:half]}, ESPKeys{k[half : half+e], k[half+e:]}, nil
}

func (sa *ikeSA) dropChildren(reason Reason) {
	for len(sa.children) > 0 {
		sa.children[0].drop(reason)
	}
	if sa.pending != nil {
		sa.e.spis.release(sa.pending.in)
		sa.pending, sa.gone = nil, nil
	}
	sa.unmake()
	sa.e.setTimer(&sa.timers, timerChildren, time.Time{})
}

// quiet stops sending on the child. Where the peer has replaced it, the
// successor sends instead, first.
func (c *childSA) quiet(reason Reason) {
	if c.replacedBy != nil && c.replacedBy.state == childHeld {
		c.replacedBy.activate()
	}
	if c.sending {
		c.sending = false
		c.sa.e.emit(RemoveOutbound{c.in})
		c.sa.report(Event{Kind: EventChildDown, Reason: reason, Child: c.cfg.Name, ESP: c.suite, InboundSPI: c.in, OutboundSPI: c.out})
	}
}

// close tells the peer that the child ends. The inbound half ends when that is
// answered.
func (c *childSA) close(reason Reason) {
	sa := c.sa
	if c.from != nil { // the peer knows of it no more, or will not soon
		c.giveWay()
		return
	}
	c.setState(childClosing)
	c.replaced = reason == ReasonRekeyed
	c.replacesNone()
	sa.e.stopTimers(&c.timers)
	sa.start(wire.ExchangeInformational, &deleteChildTask{c.in, c})
	c.quiet(reason)
	sa.bringUpChildren()
}

// leave ends a child that the peer has let go of. One that is replaced, or may
// have been by an answer that is still to come, takes what was on its way.
func (c *childSA) leave() {
	reason := ReasonDeleted
	if c.replaced || c.replacedBy != nil {
		reason = ReasonRekeyed
	}
	if c.state == childHeld || reason == ReasonDeleted && !c.sa.plans(rekeys(c)) {
		c.drop(ReasonDeleted)
		return
	}
	c.quiet(reason)
	c.late()
}

// late has the inbound half take what was on its way, and no more.
func (c *childSA) late() {
	c.from = nil
	c.setState(childLate)
	c.sa.e.stopTimers(&c.timers)
	c.sa.e.setTimer(&c.timers, timerLifetime, c.sa.e.now.Add(lateTime))
}

// deletedByPeer obeys a Delete. A child that is deleted without having been
// replaced is brought up again, not at once, if it is wanted at all times.
func (c *childSA) deletedByPeer() {
	had := c.fulfils()
	c.leave()
	for _, w := range had {
		if !c.sa.fulfilled(w) {
			w.refused++
		}
	}
}

// fulfils are the wishes that end with the child.
func (c *childSA) fulfils() (had []*wish) {
	for _, w := range c.sa.wishes {
		if c.replaceable() && w.fulfilledBy(c) {
			had = append(had, w)
		}
	}
	return had
}

// drop forgets the child at once.
func (c *childSA) drop(reason Reason) {
	c.replacedBy = nil
	c.quiet(reason)
	c.forget()
}

func (c *childSA) forget() {
	c.setState(childGone)
	c.replacesNone()
	c.sa.e.claims.remove(c)
	c.sa.children = slices.DeleteFunc(c.sa.children, func(x *childSA) bool { return x == c })
	c.sa.e.stopTimers(&c.timers)
	c.sa.e.spis.release(c.in)
	c.sa.e.emit(RemoveInbound{c.in})
}

// replacesNone: the one whose place the child was to take keeps it, if it is in
// use still.
func (c *childSA) replacesNone() {
	for _, x := range c.sa.children {
		if x.replacedBy == c && x.live() {
			x.replacedBy = nil
		}
	}
}

func spiBytes(spi uint32) []byte { return binary.BigEndian.AppendUint32(nil, spi) }

// validSPI: four octets, not one of the reserved values (RFC 4303 section 2.1).
func validSPI(b []byte) bool { return len(b) == 4 && binary.BigEndian.Uint32(b) > 255 }
