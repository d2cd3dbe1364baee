package ikev2

import (
	"bytes"
	"slices"

	"culvert/ikev2/wire"
)

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

func (t *childTask) obsolete(sa *ikeSA) bool {
	return sa.fulfilled(t.wish) || !sa.peer.has(t.cfg) || sa.peer.lowers(t.cfg)
}

func (t *childTask) request(sa *ikeSA, req *draft) error {
	if err := t.config.request(sa, req); err != nil {
		return err
	}
	t.child = sa.newChild(t.cfg)
	t.child.local, t.child.remote = t.wish.selectors(sa)
	t.child.lane = sa.freeLane(t.child)
	if err := t.ask(sa, req); err != nil {
		return err
	}
	sa.askForLane(t.wish, t.child, req)
	return nil
}

// ask asks for t.child.
func (t *childTask) ask(sa *ikeSA, req *draft) (err error) {
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
	req.add(&wire.TS{Selectors: t.child.local}, &wire.TS{Responder: true, Selectors: t.child.remote})
	return nil
}

// offered: no key exchange can be made in IKE_AUTH.
func (t *childTask) offered() []Proposal {
	switch {
	case t.fresh.nonce == nil:
		return withoutKE(t.cfg.ESP)
	case t.wish.additional():
		return t.wish.suite.within(t.cfg.ESP)
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
	case t.wish.additional():
		t.refusedLane(sa, m)
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
	sa.wantLanes(t.wish, t.child)
}

// asksFor finds a request for a child SA like this one.
func asksFor(c *childSA) func(task) bool {
	return func(t task) bool { x, is := t.(*childTask); return is && x.child.like(c) }
}

func (t *childTask) refused(sa *ikeSA, m *message, reason Reason) {
	_, chose := wire.Find[*wire.SA](m.payloads)
	_, followed := wire.Find[*wire.KE](m.payloads)
	ev := Event{Kind: EventRefusedByPeer, Reason: reason, Child: t.cfg.Name, OwnProposals: t.offered(), LocalTS: sa.wantedTS(t.cfg), RemoteTS: sa.remoteTS(t.cfg), Renewal: t.wish == nil}
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
	t.child.untried = t.fresh.nonce == nil
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
	if reason = t.takeLane(sa, m, tsi, tsr); reason != ReasonNone {
		return s, reason
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
