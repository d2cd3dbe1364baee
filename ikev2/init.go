package ikev2

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

const (
	nonceLen = 32
	// maxInitRounds bounds how often a responder may send us back for a cookie
	// or another group.
	maxInitRounds = 4
)

// initTask is IKE_SA_INIT: proposals, key exchange, nonce (RFC 7296 section
// 1.2). The nonce stays the same when a cookie or another group is asked for,
// and so does the key exchange value of a group (section 2.6).
type initTask struct {
	cookie []byte
	rounds int
}

// opening is the task that a connection's first request is about.
type opening interface {
	task
	begun() *initTask
	// accept takes an answer that works, and changes nothing for another.
	accept(*ikeSA, wire.Header, []wire.Payload) bool
}

func (t *initTask) begun() *initTask { return t }

func (t *initTask) accept(sa *ikeSA, h wire.Header, ps []wire.Payload) bool {
	return sa.acceptInit(h, ps)
}

// begin adds the cookie, and makes the nonce.
func (t *initTask) begin(sa *ikeSA, req *draft) (err error) {
	if t.cookie != nil {
		req.notify(wire.NotifyCookie, t.cookie)
	}
	if sa.ni == nil {
		sa.ni, err = sa.e.random(nonceLen)
	}
	return err
}

func (t *initTask) request(sa *ikeSA, req *draft) (err error) {
	if err = t.begin(sa, req); err != nil {
		return err
	}
	if sa.ke == nil {
		if err = sa.offerGroup(sa.peer.IKE[0].of(wire.TransformKE)[0].ID); err != nil {
			return err
		}
	}
	req.add(&wire.SA{Proposals: offer(sa.peer.IKE, wire.ProtocolIKE, nil)},
		&wire.KE{Group: sa.ke.Group(), Data: sa.ke.Public()},
		&wire.Nonce{Data: sa.ni})
	return nil
}

func (t *initTask) response(*ikeSA, *message) error { return nil }

// initTasks are a connection's first request. initTask comes first; the others
// see the answer when initTask has taken it.
func initTasks() []task {
	return []task{&initTask{}, natdTask{}, fragmentationTask{}, childlessTask{}, intermediateSupported{}, ppkTask{}, redirectableTask{}}
}

func (sa *ikeSA) offerGroup(group uint16) (err error) {
	sa.ke, err = keymat.NewKeyExchange(group, sa.e.rand)
	return err
}

// offer numbers proposals from 1 (RFC 7296 section 3.3.1).
func offer(ps []Proposal, proto wire.Protocol, spi []byte) []wire.Proposal {
	var out []wire.Proposal
	for i, p := range ps {
		out = append(out, wire.Proposal{Number: uint8(i + 1), Protocol: proto, SPI: spi, Transforms: p})
	}
	return out
}

// handleInitResponse takes the answer to a first request. Nothing in it is
// protected, so whatever does not fit is ignored and the wait goes on: the
// first answer that works wins (RFC 7296 section 2.21.1).
func (sa *ikeSA) handleInitResponse(h wire.Header, d Datagram, x *exchange) {
	m, err := wire.Parse(d.Payload)
	if err != nil || d.Path.Remote != sa.path.Remote || wire.Check(h.Exchange, true, m.Payloads) != nil {
		sa.e.drop(dropMalformed)
		return
	}
	if _, ok := wire.Find[*wire.Nonce](m.Payloads); !ok {
		sa.sentBack(m.Payloads, x)
		return
	}
	if !x.tasks[0].(opening).accept(sa, h, m.Payloads) {
		sa.e.drop(dropMalformed)
		return
	}
	sa.initResp = bytes.Clone(d.Payload)
	sa.completed()
	sa.setState(stateAuth)
	answer := &message{header: h, path: d.Path, raw: d.Payload, payloads: m.Payloads}
	for _, t := range x.tasks {
		if t.response(sa, answer) != nil {
			sa.end(ReasonMalformed)
			return
		}
	}
	sa.report(Event{Kind: EventInit, Suite: sa.suite})
	if !sa.path.Encap {
		// RFC 7296 section 2.23 allows it without a NAT, and our ESP is in UDP
		// always.
		sa.path = sa.floated()
		sa.report(Event{Kind: EventFloat})
	}
	sa.startAuth()
}

// sentBack handles a responder that wants the first request again, another, or
// none.
func (sa *ikeSA) sentBack(ps []wire.Payload, x *exchange) {
	if sa.ticketRefused(x, ps) || sa.redirectedInit(ps) {
		return
	}
	t := x.tasks[0].(opening).begun()
	retry := t.rounds < maxInitRounds && (sa.takeCookie(ps, t) || sa.takeGroup(ps))
	if !retry {
		sa.e.drop(dropUnprotected)
		sa.complain(ps)
		return
	}
	t.rounds++
	if sa.write(x) != nil {
		sa.e.drop(dropRandom)
		sa.end(ReasonNone)
		return
	}
	x.tries = 0
	sa.resend(x)
}

// takeCookie: 1 to 64 octets, returned as the first payload (RFC 7296 section
// 2.6). The same cookie again is a duplicate.
func (sa *ikeSA) takeCookie(ps []wire.Payload, t *initTask) bool {
	n := wire.FindNotify(ps, wire.NotifyCookie)
	if n == nil || len(n.Data) < 1 || len(n.Data) > 64 || bytes.Equal(n.Data, t.cookie) {
		return false
	}
	t.cookie = bytes.Clone(n.Data)
	sa.report(Event{Kind: EventRetryCookie})
	return true
}

func (sa *ikeSA) takeGroup(ps []wire.Payload) bool {
	if sa.ke == nil {
		return false
	}
	g, ok := wantedGroup(ps, sa.peer.IKE, sa.ke.Group())
	if !ok || sa.offerGroup(g) != nil {
		return false
	}
	sa.report(Event{Kind: EventRetryKE, Suite: keymat.IKESuite{Group: g}})
	return true
}

// complain reports an unprotected error once. It may be forged, so the
// attempt goes on until its time is over.
func (sa *ikeSA) complain(ps []wire.Payload) {
	n := errorNotify(ps)
	if n == nil || sa.complaint != 0 {
		return
	}
	sa.complaint = n.NotifyType
	reason := ReasonNone
	if n.NotifyType == wire.NotifyNoProposalChosen && sa.peer.PostQuantum.Mode == ModeRequire {
		reason = ReasonPostQuantum
	}
	sa.report(Event{Kind: EventUnprotectedError, Reason: reason, Notify: n.NotifyType, OwnProposals: mostlyClassical(sa.peer.IKE)})
}

// errorNotify is the first notify of an error type (RFC 7296 section 3.10.1).
func errorNotify(ps []wire.Payload) *wire.Notify {
	for _, p := range ps {
		if n, ok := p.(*wire.Notify); ok && n.NotifyType < firstStatusNotify {
			return n
		}
	}
	return nil
}

const firstStatusNotify = 16384

// acceptInit changes nothing unless all of the answer works.
func (sa *ikeSA) acceptInit(h wire.Header, ps []wire.Payload) bool {
	prop, _ := wire.Find[*wire.SA](ps)
	ke, okKE := wire.Find[*wire.KE](ps)
	nonce, okNonce := wire.Find[*wire.Nonce](ps)
	if !okKE || !okNonce || h.ResponderSPI == (wire.SPI{}) || !isChoice(prop) {
		return false
	}
	c, ok := selectProposal(sa.peer.IKE, prop.Proposals, wire.ProtocolIKE, ikeTypes, ke.Group)
	if !ok || c.group.ID != ke.Group || ke.Group != sa.ke.Group() || len(c.methods()) > 0 && !supportsIntermediate(ps) {
		return false
	}
	shared, err := sa.ke.Shared(ke.Data)
	if err != nil {
		return false
	}
	sa.spir, sa.suite, sa.nr = h.ResponderSPI, c.ikeSuite(), bytes.Clone(nonce.Data)
	if sa.deriveKeys(shared) != nil {
		sa.spir = wire.SPI{}
		return false
	}
	return true
}

// nonceFits: a nonce is at least half as long as the PRF's key (RFC 7296
// section 2.10).
func nonceFits(n *wire.Nonce, c choice) bool {
	p, err := keymat.NewPRF(c.prf.ID)
	return err == nil && 2*len(n.Data) >= p.KeyLen()
}

// answerInit is the responder's first exchange. A refusal leaves no state.
func (e *Engine) answerInit(h wire.Header, d Datagram) {
	if own := e.sas[h.InitiatorSPI]; own != nil && own.initiator {
		e.drop(dropReflected)
		return
	}
	if e.shut {
		e.drop(dropState)
		return
	}
	key := initKey{d.Path.Remote, sha256.Sum256(d.Payload)}
	if sa := e.inits[key]; sa != nil {
		sa.repeatInit(d)
		return
	}
	if h.ResponderSPI != (wire.SPI{}) || h.MessageID != 0 || h.Flags&wire.FlagInitiator == 0 {
		e.drop(dropMalformed)
		return
	}
	if !e.admit(h, d) {
		return
	}
	m, err := wire.Parse(d.Payload)
	if err == nil {
		err = wire.Check(h.Exchange, false, m.Payloads)
	}
	if err != nil {
		e.drop(dropMalformed)
		return
	}
	if e.draining {
		e.turnAway(m, d)
		return
	}
	answer := e.answerProposal
	if h.Exchange == wire.ExchangeIKESessionResume {
		answer = e.answerResume
	}
	if answer(m, d, key) != nil {
		e.drop(dropRandom)
	}
}

// answerProposal is the responder's IKE_SA_INIT.
func (e *Engine) answerProposal(m *wire.Message, d Datagram, key initKey) error {
	c, ok := e.chooseIKE(m, d)
	if !ok {
		return nil
	}
	return e.acceptInit(m, d, c, key)
}

// repeatInit answers a retransmission with the same bytes, as long as the peer
// can have missed them (RFC 7296 section 2.1).
func (sa *ikeSA) repeatInit(d Datagram) {
	if sa.expectID != 1 {
		sa.e.drop(dropMessageID)
		return
	}
	sa.answerAgain(d.Path)
}

// chooseIKE picks a proposal out of all that any peer allows, for the identity
// is not known yet, or sends the refusal.
func (e *Engine) chooseIKE(m *wire.Message, d Datagram) (choice, bool) {
	theirs, _ := wire.Find[*wire.SA](m.Payloads)
	ke, _ := wire.Find[*wire.KE](m.Payloads)
	nonce, _ := wire.Find[*wire.Nonce](m.Payloads)
	ours := e.accepted
	if !supportsIntermediate(m.Payloads) {
		ours = classical(ours)
	}
	c, ok := selectProposal(ours, theirs.Proposals, wire.ProtocolIKE, ikeTypes, ke.Group)
	switch {
	case !ok:
		reason := ReasonNoProposal
		if _, ok := selectProposal(withoutAddKE(e.accepted), theirs.Proposals, wire.ProtocolIKE, ikeTypes, ke.Group); ok {
			reason = ReasonPostQuantum
		}
		e.emit(Event{Kind: EventRefused, Reason: reason, Path: d.Path, IKE: SAID{Initiator: m.InitiatorSPI},
			OwnProposals: mostlyClassical(e.accepted), PeerProposals: proposalsOf(theirs.Proposals)})
		e.refuseInit(m.Header, d, wire.NotifyNoProposalChosen, nil)
	case c.group.ID != ke.Group:
		e.refuseInit(m.Header, d, wire.NotifyInvalidKEPayload, binary.BigEndian.AppendUint16(nil, c.group.ID))
		ok = false
	case len(ke.Data) != keymat.PublicLen(ke.Group) || !nonceFits(nonce, c):
		e.drop(dropMalformed)
		ok = false
	}
	return c, ok
}

func proposalsOf(theirs []wire.Proposal) []Proposal {
	var ps []Proposal
	for _, p := range theirs {
		ps = append(ps, slices.Clone(p.Transforms))
	}
	return ps
}

func (e *Engine) refuseInit(h wire.Header, d Datagram, t wire.NotifyType, data []byte) {
	e.drop(dropRefused)
	h.Flags = wire.FlagResponse
	e.replyClear(h, d, &wire.Notify{NotifyType: t, Data: data})
}

func (e *Engine) acceptInit(m *wire.Message, d Datagram, c choice, key initKey) error {
	ke, _ := wire.Find[*wire.KE](m.Payloads)
	nonce, _ := wire.Find[*wire.Nonce](m.Payloads)
	spir, err := e.newSPI()
	if err != nil {
		return err
	}
	nr, err := e.random(nonceLen)
	if err != nil {
		return err
	}
	own, err := keymat.NewKeyExchange(c.group.ID, e.rand)
	if err != nil {
		return err
	}
	sa := e.newHalfOpen(m, d, key, spir)
	sa.suite, sa.ke, sa.peerKE = c.ikeSuite(), own, bytes.Clone(ke.Data)
	sa.ni, sa.nr = bytes.Clone(nonce.Data), nr

	var resp draft
	resp.add(&wire.SA{Proposals: []wire.Proposal{{Number: c.number, Protocol: wire.ProtocolIKE, Transforms: c.transforms(ikeTypes)}}},
		&wire.KE{Group: own.Group(), Data: own.Public()}, &wire.Nonce{Data: nr})
	return sa.answerFirst(m, d, key, &resp)
}

// newHalfOpen is a responder's SA; answerFirst makes it known.
func (e *Engine) newHalfOpen(m *wire.Message, d Datagram, key initKey, spir wire.SPI) *ikeSA {
	sa := e.newSA(nil, false, d.Path, stateAuth)
	sa.initKey, sa.spii, sa.spir, sa.rank = key, m.InitiatorSPI, spir, m.InitiatorSPI
	sa.initReq = bytes.Clone(d.Payload)
	return sa
}

// answerFirst sends the answer to a first request, after what the answerers
// add to it.
func (sa *ikeSA) answerFirst(m *wire.Message, d Datagram, key initKey, resp *draft) (err error) {
	e := sa.e
	req := &message{header: m.Header, path: d.Path, raw: d.Payload, payloads: m.Payloads}
	for _, answer := range answerers[m.Exchange] {
		if err = answer(sa, req, resp); err != nil {
			return err
		}
	}
	sa.answer, err = sa.encode(m.Exchange, wire.FlagResponse, 0, resp.payloads)
	if err != nil {
		return err
	}
	sa.initResp, sa.last, sa.expectID = sa.answer.datagrams[0], key.digest, 1
	e.sas[sa.spir], e.inits[key] = sa, sa
	e.setTimer(&sa.timers, timerLifetime, e.now.Add(e.limits.HalfOpenLifetime))
	sa.report(Event{Kind: EventInit, Suite: sa.suite})
	sa.post(d.Path, sa.answer)
	return nil
}
