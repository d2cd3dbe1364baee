package ikev2

import (
	"bytes"
	"time"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// rekeyIKETask replaces an IKE SA by one with new SPIs and keys, which inherits
// the children; the data path notices nothing (RFC 7296 sections 1.3.2 and
// 2.18).
//
//	initiator                                  responder
//	CREATE_CHILD_SA  SA(SPIi) Ni KEi ------->  hands all over to the new SA
//	hands all over to the new SA     <-------  SA(SPIr) Nr KEr
//	INFORMATIONAL    D(old)          ------->  (on the old SA)
//
// Where both sides begin at once, a responder keeps the peer's new SA as its
// heir until its own request is answered; then the one with the lowest of the
// four nonces is deleted by its initiator, and the initiator of the other
// deletes the old one (section 2.25.2).
type rekeyIKETask struct {
	old    *ikeSA
	spi    wire.SPI
	fresh  freshKeys
	choice choice
}

func rekeysIKE(t task) bool { _, is := t.(*rekeyIKETask); return is }

// changesChild: a request that makes, replaces or deletes a child.
func changesChild(t task) bool {
	switch t.(type) {
	case *childTask, *rekeyChildTask, *deleteChildTask:
		return true
	}
	return false
}

// rekey begins to replace the IKE SA, unless that is under way.
func (sa *ikeSA) rekey() {
	switch {
	case sa.state != stateUp || sa.plans(rekeysIKE):
	case sa.making.replaces(nil):
		sa.e.rekeyLater(&sa.timers) // unless the peer has done it by then
	default:
		sa.start(wire.ExchangeCreateChildSA, &rekeyIKETask{old: sa})
	}
}

// obsolete: the peer has replaced the SA first.
func (t *rekeyIKETask) obsolete(sa *ikeSA) bool { return t.old != sa || sa.state != stateUp }

func (t *rekeyIKETask) request(sa *ikeSA, req *draft) (err error) {
	if t.spi, err = sa.e.newSPI(); err != nil {
		return err
	}
	sa.expect(t.spi)
	req.add(&wire.SA{Proposals: offer(sa.peer.IKE, wire.ProtocolIKE, t.spi[:])})
	return t.fresh.request(sa.e, req, sa.peer.IKE)
}

// expect notes the SPI of the successor that the SA asks for. The peer has that
// one sooner than we, so what it says in it may come before its answer, and is not
// for an SA that is lost.
func (sa *ikeSA) expect(spi wire.SPI) {
	sa.expectNone()
	sa.expected = spi
	sa.e.coming[spi] = sa
}

func (sa *ikeSA) expectNone() {
	delete(sa.e.coming, sa.expected)
	sa.expected = wire.SPI{}
}

func (t *rekeyIKETask) response(sa *ikeSA, m *message) error {
	s, reason := t.take(sa, m)
	sa.followUp(t, m, s, reason)
	return nil
}

func (t *rekeyIKETask) chosen() *choice { return &t.choice }

func (t *rekeyIKETask) rivalNonce(sa *ikeSA) []byte {
	if sa.heir != nil {
		return sa.heir.lowNonce
	}
	return nil
}

func (t *rekeyIKETask) begun(m *making) bool { return m.replaces(nil) }

func (t *rekeyIKETask) finish(sa *ikeSA, m *message, s secrets, reason Reason) {
	sa.expectNone()
	made := t.accept(sa, s, reason)
	switch {
	case made == nil:
		t.failed(sa, m, reason)
	case sa.state != stateUp || sa.loses(t, made.lowNonce):
		sa.inherit()
		made.sendDelete()
	default:
		made.takeToken(m.payloads)
		sa.disinherit((*ikeSA).retire)
		sa.handOver(made)
		sa.sendDelete()
	}
}

func (t *rekeyIKETask) take(sa *ikeSA, m *message) (s secrets, reason Reason) {
	theirs, ok := wire.Find[*wire.SA](m.payloads)
	if !ok || !isChoice(theirs) {
		return s, ReasonNotify
	}
	c, ok := selectProposal(sa.peer.IKE, theirs.Proposals, wire.ProtocolIKE, ikeTypes, t.fresh.tried)
	if !ok || !validIKESPI(c.spi) {
		return s, ReasonNotify
	}
	if s, ok = t.fresh.response(m.payloads, c.group.ID); !ok {
		return s, ReasonNotify
	}
	t.choice = c
	t.choice.spi = bytes.Clone(c.spi)
	return s, ReasonNone
}

// accept makes the new SA; nil where that does not work.
func (t *rekeyIKETask) accept(sa *ikeSA, s secrets, reason Reason) *ikeSA {
	if reason != ReasonNone || sa.e.sas[t.spi] != nil {
		return nil
	}
	made, err := sa.successor(true, t.choice, SAID{t.spi, wire.SPI(t.choice.spi)}, s)
	if err != nil {
		return nil
	}
	sa.e.sas[t.spi] = made
	return made
}

func validIKESPI(b []byte) bool { return len(b) == 8 && wire.SPI(b) != wire.SPI{} }

func (t *rekeyIKETask) failed(sa *ikeSA, m *message, reason Reason) {
	n := errorNotify(m.payloads)
	switch {
	case sa.state != stateUp:
	case sa.heir != nil:
		sa.inherit()
	case reason == ReasonRekeyed:
		sa.e.rekeyLater(&sa.timers)
	case t.fresh.again(m.payloads, sa.peer.IKE):
		sa.start(wire.ExchangeCreateChildSA, &rekeyIKETask{old: sa, fresh: t.fresh})
	default:
		if n == nil {
			sa.report(Event{Kind: EventRefusedByPeer, Reason: ReasonMalformed})
		} else if n.NotifyType != wire.NotifyTemporaryFailure {
			sa.report(Event{Kind: EventRefusedByPeer, Reason: ReasonNotify, Notify: n.NotifyType})
		}
		sa.e.rekeyLater(&sa.timers)
		sa.bringUpChildren() // which waited for the answer
	}
}

// answerRekeyIKE makes the peer's replacement of the IKE SA, but not while one
// of our requests changes a child of the old one, or its path (RFC 7296 section
// 2.25.2).
func answerRekeyIKE(sa *ikeSA, req *message, resp *draft) error {
	if sa.busyWith(changesChild) || sa.busyWith(roams) || sa.heir != nil || sa.followsUp(rekeysIKE) {
		resp.notify(wire.NotifyTemporaryFailure, nil)
		return nil
	}
	return resp.orNotify(sa.answerSuccessor(req, resp))
}

func (sa *ikeSA) answerSuccessor(req *message, resp *draft) error {
	theirs, _ := wire.Find[*wire.SA](req.payloads)
	nonce, _ := wire.Find[*wire.Nonce](req.payloads)
	c, ok := selectProposal(sa.peer.IKE, theirs.Proposals, wire.ProtocolIKE, ikeTypes, groupOf(req.payloads))
	if !ok || !validIKESPI(c.spi) || !nonceFits(nonce, c) {
		sa.report(Event{Kind: EventRefused, Reason: ReasonNoProposal, Notify: wire.NotifyNoProposalChosen,
			OwnProposals: mostlyClassical(sa.peer.IKE), PeerProposals: proposalsOf(theirs.Proposals)})
		return &refusal{notify: wire.NotifyNoProposalChosen, reason: ReasonNoProposal}
	}
	spi, err := sa.e.newSPI()
	if err != nil {
		return err
	}
	var mine draft
	s, err := answerFreshKeys(sa.e, req.payloads, &mine, c.group.ID)
	if err != nil {
		return err
	}
	resp.add(&wire.SA{Proposals: []wire.Proposal{{Number: c.number, Protocol: wire.ProtocolIKE, SPI: spi[:], Transforms: c.transforms(ikeTypes)}}})
	resp.add(mine.payloads...)
	id := SAID{wire.SPI(c.spi), spi}
	return sa.makeOrAwait(&making{rest: c.methods(), secrets: s, finish: func(s secrets, resp *draft) error {
		return sa.makeHeir(c, id, s, resp)
	}}, resp)
}

// makeHeir makes the peer's successor the SA in use, or the heir while we ask
// for one of ours.
func (sa *ikeSA) makeHeir(c choice, id SAID, s secrets, resp *draft) error {
	if sa.busyWith(changesChild) || sa.busyWith(roams) || sa.heir != nil || sa.e.sas[id.Responder] != nil {
		return errOvertaken
	}
	made, err := sa.successor(false, c, id, s)
	if err != nil {
		return err
	}
	made.giveToken(resp)
	sa.heir, made.heirOf = made, sa
	sa.e.sas[made.spir] = made
	if !sa.busyWith(rekeysIKE) {
		resp.after(sa.inherit)
	}
	return nil
}

// successor is the new SA (RFC 7296 section 2.18). Who begins the rekey is its
// original initiator; message IDs begin at 0.
func (sa *ikeSA) successor(initiator bool, c choice, id SAID, s secrets) (*ikeSA, error) {
	keys, err := keymat.DeriveIKERekey(c.ikeSuite(), sa.suite.PRF, sa.keys.SKd, s.ni, s.nr, s.shared, s.more, id.Initiator, id.Responder)
	if err != nil {
		return nil, err
	}
	made := sa.e.newSA(sa.peer, initiator, sa.path, stateHeir)
	made.spii, made.spir, made.suite = id.Initiator, id.Responder, c.ikeSuite()
	made.lowNonce, made.nat, made.ppk = lower(s.ni, s.nr), sa.nat, sa.ppk
	made.fragments, made.narrow = sa.fragments, sa.narrow
	return made, made.useKeys(keys)
}

// claim makes an heir the SA in use when the peer uses it for anything but its
// deletion: it has decided for it.
func (sa *ikeSA) claim(m *message) {
	if sa.state != stateHeir || sa.heirOf == nil {
		return
	}
	for _, p := range m.payloads {
		if d, ok := p.(*wire.Delete); ok && d.Protocol == wire.ProtocolIKE {
			return
		}
	}
	sa.heirOf.inherit()
}

// inherit hands all over to the heir, if there is one.
func (sa *ikeSA) inherit() {
	if sa.heir != nil && sa.state == stateUp {
		sa.disinherit(sa.handOver)
	}
}

// disinherit leaves the heir, if there is one, to what do makes of it. An heir
// that ends first is no heir any more.
func (sa *ikeSA) disinherit(do func(heir *ikeSA)) {
	if sa.heirOf != nil {
		sa.heirOf.heir, sa.heirOf = nil, nil
	}
	if heir := sa.heir; heir != nil {
		sa.heir, heir.heirOf = nil, nil
		do(heir)
	}
}

// handOver gives everything that lives on an SA to its successor.
func (sa *ikeSA) handOver(to *ikeSA) {
	sa.unmake()
	to.children, sa.children = sa.children, nil
	for _, c := range to.children {
		c.sa = to
	}
	to.virtual, sa.virtual = sa.virtual, nil
	sa.e.leases.handOver(sa, to)
	to.queue, sa.queue = sa.queue, nil
	to.wishes, sa.wishes = sa.wishes, nil
	to.born, to.proven, to.dialed, to.rank = sa.born, sa.proven, sa.dialed, sa.rank
	to.heard, to.sent = sa.e.now, sa.sent
	to.redirectable = sa.redirectable
	to.path, to.espHeld, to.nat = sa.path, sa.espHeld, sa.nat
	to.mobike, to.others = sa.mobike, sa.others
	if sa.peer.up == sa {
		sa.peer.up = to
	}
	waiting := sa.timers.at[timerChildren]
	to.setState(stateUp)
	sa.retire()
	to.armTimers()
	to.e.setTimer(&to.timers, timerChildren, waiting)
	to.report(Event{Kind: EventRekeyed, Replaced: sa.id(), Suite: to.suite, PPK: to.ppk})
	to.pump()
	to.renewKeepsakes(sa)
	to.bringUpChildren()
}

// retire leaves an SA to the peer to delete. Requests that are out may still be
// answered.
func (sa *ikeSA) retire() {
	sa.setState(stateReplaced)
	for _, k := range []timerKind{timerDPD, timerKeepalive, timerRekey, timerChildren} {
		sa.e.setTimer(&sa.timers, k, time.Time{})
	}
	sa.e.setTimer(&sa.timers, timerLifetime, sa.e.now.Add(replacedTime))
}
