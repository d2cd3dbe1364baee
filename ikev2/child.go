package ikev2

import (
	"bytes"
	"encoding/binary"
	"errors"
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
	sa            *ikeSA
	cfg           *Child
	state         childState
	suite         ESPSuite
	in, out       uint32 // SPIs: in is ours, out the peer's
	local, remote []wire.Selector
	outKeys       ESPKeys // as long as the child is held
	sending       bool    // the outbound half is installed
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
}

func (sa *ikeSA) newChild(cfg *Child) *childSA {
	c := &childSA{sa: sa, cfg: cfg, volume: sa.e.volume(cfg)}
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

// childTask asks for a child SA, in IKE_AUTH or, with nonces and mostly a key
// exchange of its own, in CREATE_CHILD_SA (RFC 7296 sections 1.2 and 1.3.1).
type childTask struct {
	cfg    *Child
	wish   *wish // nil where a child is replaced
	child  *childSA
	config configTask
	fresh  freshKeys // of CREATE_CHILD_SA
	choice choice    // the responder's
	rival  *childSA  // of another peer, which has the traffic
}

func (t *childTask) obsolete(sa *ikeSA) bool { return sa.fulfilled(t.wish) || !sa.peer.has(t.cfg) }

func (t *childTask) request(sa *ikeSA, req *draft) error {
	if err := t.config.request(sa, req); err != nil {
		return err
	}
	local, remote := t.wish.selectors(sa)
	return t.ask(sa, req, local, remote)
}

func (t *childTask) ask(sa *ikeSA, req *draft, local, remote []wire.Selector) (err error) {
	t.child = sa.newChild(t.cfg)
	t.child.local, t.child.remote = local, remote
	if t.child.in, err = sa.e.spis.alloc(sa.e, t.child); err != nil {
		return err
	}
	sa.pending = t.child
	var keys draft
	if sa.state == stateUp {
		if err = t.fresh.request(sa.e, &keys, t.cfg.ESP); err != nil {
			return err
		}
	}
	req.add(&wire.SA{Proposals: offer(t.offered(), wire.ProtocolESP, spiBytes(t.child.in))})
	req.add(keys.payloads...)
	req.add(&wire.TS{Selectors: local}, &wire.TS{Responder: true, Selectors: remote})
	return nil
}

// offered: no key exchange can be made in IKE_AUTH.
func (t *childTask) offered() []Proposal {
	if t.fresh.nonce == nil {
		return withoutKE(t.cfg.ESP)
	}
	return t.cfg.ESP
}

// response takes what the responder chose.
func (t *childTask) response(sa *ikeSA, m *message) error {
	if sa.state != stateUp {
		return nil
	}
	if err := t.config.response(sa, m); err != nil {
		return err
	}
	if t.cfg.LocalDynamic {
		t.child.local = narrow(sa.localTS(t.cfg), t.child.local) // now that the address is known
	}
	s, reason := t.take(sa, m)
	sa.followUp(t, m, s, reason)
	return nil
}

func (t *childTask) chosen() *choice { return &t.choice }

func (t *childTask) rivalNonce(*ikeSA) []byte { return nil }

func (t *childTask) begun(m *making) bool {
	return m.child != nil && m.old == nil && t.child.like(m.child)
}

// finish installs what the responder chose. An answer that is not within what we
// asked for is a child that we do not want: it is deleted.
func (t *childTask) finish(sa *ikeSA, m *message, s secrets, reason Reason) {
	if sa.state != stateUp {
		return
	}
	reason = t.accept(sa, s, reason)
	switch {
	case reason == ReasonNone:
		t.granted(sa, m)
	case t.fresh.again(m.payloads, t.cfg.ESP):
		sa.start(wire.ExchangeCreateChildSA, &childTask{cfg: t.cfg, wish: t.wish, fresh: t.fresh})
	case reason == ReasonRekeyed, reason == ReasonDeleted: // the peer makes the same one, or has let go of this one
		sa.putOff(t.wish, reason)
	case reason == ReasonSinglePair && sa.divide(t.wish, t.wish.pairs(sa)):
	default:
		sa.putOff(t.wish, reason)
		t.refused(sa, m, reason)
	}
	sa.bringUpChildren()
}

// granted begins to use the child SA.
func (t *childTask) granted(sa *ikeSA, m *message) {
	sa.fulfil(t.wish, t.child, wire.FindNotify(m.payloads, wire.NotifyAdditionalTSPossible) != nil)
	t.child.activate()
}

// settle leaves one child SA where both sides have asked for the same: the one
// with the lowest nonce is deleted by its initiator, as where both replace a
// child (RFC 7296 section 2.8.1). Who replaces one meanwhile changes nothing of
// that.
func (c *childSA) settle() {
	for _, x := range c.sa.children {
		if x.ours == c.ours || !x.replaceable() || !x.like(c) {
			continue
		}
		loser := c
		if bytes.Compare(x.first, c.first) < 0 {
			loser = x
		}
		if loser.ours {
			loser.close(ReasonRekeyed)
			return
		}
	}
}

// succeed takes the place of old.
func (c *childSA) succeed(old *childSA) { c.replaces, c.first, c.ours = true, old.first, old.ours }

func (c *childSA) like(x *childSA) bool {
	return x.cfg == c.cfg && slices.Equal(x.local, c.local) && slices.Equal(x.remote, c.remote)
}

// asksFor finds a request for a child SA like this one.
func asksFor(c *childSA) func(task) bool {
	return func(t task) bool { x, is := t.(*childTask); return is && x.child.like(c) }
}

func (t *childTask) refused(sa *ikeSA, m *message, reason Reason) {
	_, chose := wire.Find[*wire.SA](m.payloads)
	_, followed := wire.Find[*wire.KE](m.payloads)
	ev := Event{Kind: EventRefusedByPeer, Reason: reason, Child: t.cfg.Name, OwnProposals: t.offered(), LocalTS: sa.wantedTS(t.cfg), RemoteTS: sa.remoteTS(t.cfg)}
	if reason == ReasonSelectorConflict {
		ev = t.child.conflictWith(t.rival)
	}
	if n := errorNotify(m.payloads); n != nil {
		ev.Notify = n.NotifyType
	} else if chose || followed { // the peer has it
		sa.start(wire.ExchangeInformational, &deleteChildTask{in: t.child.in})
	}
	if reason != ReasonNoAddress { // which is said already
		sa.report(ev)
	}
}

var childRefusals = map[wire.NotifyType]Reason{
	wire.NotifyNoProposalChosen:   ReasonChildProposal,
	wire.NotifyTSUnacceptable:     ReasonSelectors,
	wire.NotifySinglePairRequired: ReasonSinglePair,
	wire.NotifyFailedCPRequired:   ReasonAddressRequired,
}

// accept installs the inbound half of what the answer describes, or gives the
// SPI back. The peer's Delete may have overtaken the answer.
func (t *childTask) accept(sa *ikeSA, s secrets, reason Reason) Reason {
	gone := sa.gone
	sa.pending, sa.gone = nil, nil
	if reason == ReasonNone && slices.ContainsFunc(gone, func(spi []byte) bool { return bytes.Equal(spi, t.choice.spi) }) {
		reason = ReasonDeleted
	}
	if reason == ReasonNone && t.child.install(t.choice, true, s) != nil {
		reason = ReasonChildProposal
	}
	if reason != ReasonNone {
		sa.e.spis.release(t.child.in)
		t.child.setState(childGone)
	}
	return reason
}

func (t *childTask) take(sa *ikeSA, m *message) (s secrets, reason Reason) {
	theirs, ok := wire.Find[*wire.SA](m.payloads)
	if len(t.child.local) == 0 {
		return s, ReasonNoAddress
	}
	if !ok {
		if n := errorNotify(m.payloads); n != nil && childRefusals[n.NotifyType] != ReasonNone {
			return s, childRefusals[n.NotifyType]
		}
		return s, ReasonChildRefused
	}
	tsi, tsr, ok := findTS(m.payloads)
	c, chosen := selectProposal(t.offered(), theirs.Proposals, wire.ProtocolESP, espTypes, t.fresh.tried)
	switch {
	case !ok || !isChoice(theirs) || !chosen || !validSPI(c.spi):
		return s, ReasonChildProposal
	case !within(tsi, t.child.local) || !within(tsr, t.child.remote):
		return s, ReasonSelectors
	}
	t.child.local, t.child.remote, t.choice = tsi, tsr, c
	t.choice.spi = bytes.Clone(c.spi)
	if t.wish != nil && t.wish.packet != nil && !t.wish.packet.carriedBy(t.child) {
		return s, ReasonSelectors
	}
	if t.rival = sa.e.claims.rival(t.child); t.rival != nil {
		return s, ReasonSelectorConflict
	}
	s = secrets{ni: sa.ni, nr: sa.nr}
	if t.fresh.nonce != nil {
		if s, ok = t.fresh.response(m.payloads, c.group.ID); !ok {
			return s, ReasonChildRefused
		}
	}
	return s, ReasonNone
}

// answerFirstChild is the child part of IKE_AUTH. Its failure leaves the IKE
// SA up (RFC 7296 section 1.2). Some peers leave in it the key exchanges of
// their proposals, where none can be made.
func answerFirstChild(sa *ikeSA, req *message, resp *draft) error {
	theirs, ok := wire.Find[*wire.SA](req.payloads)
	if !sa.configure(req, resp) || !ok {
		return nil
	}
	a := childAnswer{sa: sa, req: req, resp: resp, theirs: slices.Clone(theirs.Proposals), secrets: secrets{ni: sa.ni, nr: sa.nr}}
	for i, p := range withoutKEOf(a.theirs) {
		a.theirs[i].Transforms = p
	}
	return a.build(sa.narrowToPolicy(req), withoutKE)
}

func withoutKEOf(ps []wire.Proposal) (out []Proposal) {
	for _, p := range ps {
		out = append(out, withoutKE([]Proposal{p.Transforms})[0])
	}
	return out
}

// answerCreateChildSA tells the three uses of the exchange apart. While the IKE
// SA is being replaced or deleted it takes no new children (RFC 7296 section
// 2.25.2).
func answerCreateChildSA(sa *ikeSA, req *message, resp *draft) error {
	theirs, _ := wire.Find[*wire.SA](req.payloads)
	forIKE := slices.ContainsFunc(theirs.Proposals, func(p wire.Proposal) bool { return p.Protocol == wire.ProtocolIKE })
	rekey := wire.FindNotify(req.payloads, wire.NotifyRekeySA)
	if sa.state != stateUp {
		resp.notify(wire.NotifyTemporaryFailure, nil)
		return nil
	}
	sa.unmake() // the peer begins something else
	switch {
	case forIKE:
		return answerRekeyIKE(sa, req, resp)
	case sa.busyWith(rekeysIKE):
		resp.notify(wire.NotifyTemporaryFailure, nil)
		return nil
	case len(sa.children) >= max(maxChildren, 8*len(sa.peer.Children)):
		resp.notify(wire.NotifyNoAdditionalSAs, nil)
		return nil
	case rekey != nil:
		return answerRekeyChild(sa, req, resp, rekey)
	}
	return answerNewChild(sa, req, resp)
}

// answerNewChild is CREATE_CHILD_SA for a further child.
func answerNewChild(sa *ikeSA, req *message, resp *draft) error {
	if !sa.configure(req, resp) {
		return nil
	}
	return sa.answerChild(req, resp).build(sa.narrowToPolicy(req), sa.peer.PostQuantum.acceptable)
}

// childAnswer is the answer to a request for a child: build adds SA, Nr, KEr,
// TSi and TSr to resp and installs the inbound half, at once or when all keys
// are exchanged, or refuses in a notify.
type childAnswer struct {
	sa      *ikeSA
	req     *message
	resp    *draft
	theirs  []wire.Proposal
	secrets secrets
	fresh   bool     // nonces and a key exchange of its own
	old     *childSA // that is replaced, nil where none is
}

func (sa *ikeSA) answerChild(req *message, resp *draft) *childAnswer {
	theirs, _ := wire.Find[*wire.SA](req.payloads)
	return &childAnswer{sa: sa, req: req, resp: resp, theirs: theirs.Proposals, fresh: true}
}

// build fails only with a *refusal that ends the IKE SA.
func (a *childAnswer) build(n narrowing, ours func([]Proposal) []Proposal) error {
	child := n.child
	if child == nil {
		a.noTraffic(n)
		return nil
	}
	if rival := a.sa.e.claims.rival(child); rival != nil {
		a.sa.refuseChild(a.resp, wire.NotifyTSUnacceptable, child.conflictWith(rival))
		return nil
	}
	c, ok := selectProposal(ours(child.cfg.ESP), a.theirs, wire.ProtocolESP, espTypes, groupOf(a.req.payloads))
	if !ok || !validSPI(c.spi) {
		a.sa.refuseChild(a.resp, wire.NotifyNoProposalChosen, Event{Reason: ReasonChildProposal, Child: child.cfg.Name,
			OwnProposals: ours(child.cfg.ESP), PeerProposals: proposalsOf(a.theirs)})
		return nil
	}
	if a.old == nil && a.sa.followsUp(asksFor(child)) {
		a.resp.notify(wire.NotifyTemporaryFailure, nil)
		return nil
	}
	mine, err := a.make(child, c)
	if err != nil {
		return a.notNow(child, err)
	}
	a.resp.add(mine.payloads...)
	if n.more {
		a.resp.notify(wire.NotifyAdditionalTSPossible, nil)
	}
	return nil
}

// noTraffic refuses selectors that no child's policy has anything in common
// with, perhaps because the peer has no address for them yet (RFC 7296 section
// 3.10.1).
func (a *childAnswer) noTraffic(n narrowing) {
	tsi, tsr, _ := findTS(a.req.payloads)
	notify := n.notify()
	ev := Event{Reason: childRefusals[notify], PeerLocalTS: tsr, PeerRemoteTS: tsi}
	if a.sa.mustAsk() {
		notify, ev.Reason = wire.NotifyFailedCPRequired, ReasonAddressNotAsked
	}
	a.sa.refuseChild(a.resp, notify, ev)
}

func (a *childAnswer) make(child *childSA, c choice) (mine draft, err error) {
	var keys draft
	if a.fresh {
		if a.secrets, err = answerFreshKeys(a.sa.e, a.req.payloads, &keys, c.group.ID); err != nil {
			return mine, err
		}
	}
	if child.in, err = a.sa.e.spis.alloc(a.sa.e, child); err != nil {
		return mine, err
	}
	mine.add(&wire.SA{Proposals: []wire.Proposal{{Number: c.number, Protocol: wire.ProtocolESP, SPI: spiBytes(child.in), Transforms: c.transforms(espTypes)}}})
	mine.add(keys.payloads...)
	mine.add(&wire.TS{Selectors: child.remote}, &wire.TS{Responder: true, Selectors: child.local})
	return mine, a.sa.makeOrAwait(a.making(child, c), &mine)
}

// making is the child as it is when all keys are exchanged.
func (a *childAnswer) making(child *childSA, c choice) *making {
	c.spi = bytes.Clone(c.spi)
	return &making{rest: c.methods(), secrets: a.secrets, child: child, old: a.old, finish: func(s secrets, _ *draft) error {
		if a.old != nil && (!a.old.live() || a.old.replacedBy != nil) || a.sa.e.claims.rival(child) != nil {
			return errOvertaken
		}
		if a.old != nil {
			child.succeed(a.old)
		}
		if err := child.install(c, false, s); err != nil {
			return err
		}
		if a.old == nil {
			if !a.sa.peer.holdsBack(child) {
				child.activate()
			}
			return nil
		}
		if a.old.state == childHeld {
			a.old.activate() // the peer can only replace what it has
		}
		a.old.replacedBy = child
		return nil
	}}
}

// notNow answers what went wrong on the way, in the words of err if it has any.
func (a *childAnswer) notNow(child *childSA, err error) error {
	if child.in != 0 {
		a.sa.e.spis.release(child.in)
	}
	child.setState(childGone)
	var r *refusal
	switch {
	case !errors.As(err, &r):
		a.sa.refuseChild(a.resp, wire.NotifyTemporaryFailure, Event{Reason: ReasonChildRefused, Child: child.cfg.Name})
	case r.notify == wire.NotifyInvalidSyntax:
		return r
	default:
		a.resp.notify(r.notify, r.data)
	}
	return nil
}

func (sa *ikeSA) refuseChild(resp *draft, t wire.NotifyType, ev Event) {
	ev.Kind, ev.Notify = EventRefused, t
	for i := range sa.peer.Children {
		if c := &sa.peer.Children[i]; ev.Rival == "" && (ev.Child == "" || ev.Child == c.Name) {
			ev.LocalTS, ev.RemoteTS = append(ev.LocalTS, sa.localTS(c)...), append(ev.RemoteTS, sa.remoteTS(c)...)
		}
	}
	sa.report(ev)
	resp.notify(t, nil)
}

// narrowing is what our policy leaves of the selectors of a request.
type narrowing struct {
	child *childSA // nil: nothing
	// more: further traffic of the request can have child SAs of its own.
	more bool
	// pairs: there would be several pairs of selectors where policy has one to a
	// child SA.
	pairs bool
}

func (n narrowing) notify() wire.NotifyType {
	if n.pairs {
		return wire.NotifySinglePairRequired
	}
	return wire.NotifyTSUnacceptable
}

// narrowToPolicy finds the child whose policy has something in common with what
// the peer asks for, on both sides, and narrows to that (RFC 7296 section 2.9):
// the one that has all of the first selectors, which may be those of a packet,
// or else the first one.
func (sa *ikeSA) narrowToPolicy(req *message) narrowing {
	var fits []*childSA
	for i := range sa.peer.Children {
		cfg := &sa.peer.Children[i]
		if c := sa.narrowTo(cfg, sa.localTS(cfg), sa.remoteTS(cfg), req); c != nil {
			fits = append(fits, c)
		}
	}
	if len(fits) == 0 {
		return narrowing{}
	}
	remote, local, _ := findTS(req.payloads)
	lead := packet{local[0], remote[0]}
	n := narrowing{child: fits[max(0, slices.IndexFunc(fits, lead.carriedBy))]}
	n.more = slices.ContainsFunc(fits, func(c *childSA) bool { return c.cfg != n.child.cfg && !sa.fulfilled(&wish{cfg: c.cfg}) })
	if n.child.cfg.SinglePair && len(n.child.local)*len(n.child.remote) > 1 {
		return n.toPair(lead, leads(local) || leads(remote))
	}
	return n
}

// toPair narrows to the pair that a packet lies in. Without one it would be a
// guess.
func (n narrowing) toPair(lead packet, specific bool) narrowing {
	l, r, ok := lead.within(n.child.local, n.child.remote)
	if !ok || !specific {
		return narrowing{pairs: true}
	}
	n.child.local, n.child.remote, n.more = []wire.Selector{l}, []wire.Selector{r}, true
	return n
}

// leads: the first selector lies inside another, as a packet's does.
func leads(ss []wire.Selector) bool {
	return slices.ContainsFunc(ss[1:], func(s wire.Selector) bool { return contains(s, ss[0]) })
}

func (sa *ikeSA) narrowTo(cfg *Child, local, remote []wire.Selector, req *message) *childSA {
	tsi, tsr, _ := findTS(req.payloads)
	l, r := narrow(local, tsr), narrow(remote, tsi)
	if len(l) == 0 || len(r) == 0 {
		return nil
	}
	c := sa.newChild(cfg)
	c.local, c.remote = l, r
	return c
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
	c.sa.e.emit(InstallOutbound{c.facts(), c.outKeys})
	c.outKeys = ESPKeys{}
	ev := Event{Kind: EventChildUp, Child: c.cfg.Name, ESP: c.suite, LocalTS: c.local, RemoteTS: c.remote, InboundSPI: c.in, OutboundSPI: c.out}
	if c.replaces {
		ev.Reason = ReasonRekeyed
	}
	c.sa.report(ev)
	c.settle()
}

func (c *childSA) facts() ChildSA {
	return ChildSA{Peer: c.sa.peer.Name, Child: c.cfg.Name, IKE: c.sa.id(), Suite: c.suite, Local: c.local, Remote: c.remote,
		Path: c.sa.espPath(), InboundSPI: c.in, OutboundSPI: c.out}
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
