package ikev2

import (
	"bytes"
	"crypto/hmac"
	"slices"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// authTask is the initiator's IKE_AUTH with a pre-shared key (RFC 7296
// sections 1.2 and 2.15).
type authTask struct{}

// startAuth sends what comes next when IKE_SA_INIT is done: the additional key
// exchanges, each in an IKE_INTERMEDIATE of its own, and then IKE_AUTH with the
// first child; the others follow when the IKE SA is up.
func (sa *ikeSA) startAuth() {
	if sa.nextMethod() != 0 {
		sa.start(wire.ExchangeIKEIntermediate, &intermediateTask{})
		return
	}
	sa.start(wire.ExchangeIKEAuth, sa.authTasks()...)
}

// authTasks: authTask comes first, so that the others see only the answer of a
// peer that has proven who it is.
func (sa *ikeSA) authTasks() []task {
	sa.wishes = sa.standingWishes()
	tasks := []task{authTask{}}
	if sa.peer.MOBIKE != ModeOff {
		tasks = append(tasks, mobikeTask{})
	}
	if w := sa.firstWish(); w != nil {
		tasks = append(tasks, &childTask{cfg: w.cfg, wish: w})
	} else {
		tasks = append(tasks, &configTask{})
	}
	return append(append(tasks, sa.keepsakes()...), followTask{})
}

func (authTask) request(sa *ikeSA, req *draft) error {
	id := sa.peer.LocalID.payload(false)
	req.add(id, sa.peer.RemoteID.payload(true),
		&wire.Auth{Method: wire.AuthSharedKey, Data: sa.authValue(sa.offeredKeys(), sa.initiator, sa.peer.PSK, id.Body())})
	sa.offerPPK(req, id.Body())
	if sa.peer.up == nil {
		req.notify(wire.NotifyInitialContact, nil)
	}
	return nil
}

// response checks that the responder is who we want, and only then looks at
// anything else in the message.
func (authTask) response(sa *ikeSA, m *message) error {
	auth, ok := wire.Find[*wire.Auth](m.payloads)
	idr := wire.FindID(m.payloads, true)
	if !ok || idr == nil {
		return sa.refusedByPeer(m.payloads)
	}
	said := identityOf(idr)
	reason := sa.takePPK(m.payloads)
	switch {
	case reason != ReasonNone:
	case said != sa.peer.RemoteID:
		reason = ReasonWrongResponder
	case auth.Method != wire.AuthSharedKey:
		reason = ReasonAuthMethod
	case len(sa.peer.PSK) == 0 || !hmac.Equal(auth.Data, sa.authValue(sa.keys, !sa.initiator, sa.peer.PSK, idr.Body())):
		reason = ReasonWrongKey
	}
	if reason != ReasonNone {
		sa.report(Event{Kind: EventRefused, Reason: reason, PeerSaid: said})
		return &refusal{notify: wire.NotifyAuthenticationFailed, reason: reason}
	}
	sa.establish(false)
	return nil
}

// refusedByPeer is an answer without authentication: protected, but by a peer
// that has not proven who it is.
func (sa *ikeSA) refusedByPeer(ps []wire.Payload) error {
	ev := Event{Kind: EventRefusedByPeer, Reason: ReasonNotify}
	if n := errorNotify(ps); n != nil {
		ev.Notify = n.NotifyType
	}
	if ev.Notify == wire.NotifyAuthenticationFailed {
		ev.Reason = ReasonAuthFailed
	}
	sa.report(ev)
	return &refusal{reason: ev.Reason}
}

// authValue is the AUTH payload of one of the two sides (RFC 7296 section
// 2.15): over its own first message, the other's nonce, its identity and what
// both have said in between. In a resumed SA the key that it had has done its
// part (RFC 5723 section 5.1).
func (sa *ikeSA) authValue(keys keymat.IKEKeys, initiator bool, psk, idBody []byte) []byte {
	first, nonce, skp := sa.initResp, sa.ni, keys.SKpr
	if initiator {
		first, nonce, skp = sa.initReq, sa.nr, keys.SKpi
	}
	if sa.resumed != nil {
		return keymat.ResumeAuth(sa.prf, first, nonce, skp, idBody)
	}
	return keymat.PSKAuth(sa.prf, psk, first, nonce, skp, idBody, sa.intermediate.octets())
}

// noPSK stands for the key of an identity that nobody knows, so that it takes
// as long to refuse as a wrong key.
var noPSK = make([]byte, 32)

// answerAuth authenticates the initiator. All failures look the same on the
// wire; only our own event says what it was.
func answerAuth(sa *ikeSA, req *message, resp *draft) error {
	idi := wire.FindID(req.payloads, false)
	said, wanted := identityOf(idi), Identity{}
	if idr := wire.FindID(req.payloads, true); idr != nil {
		wanted = identityOf(idr)
	}
	p := sa.e.findPeer(said, wanted)
	reason := sa.judge(p, idi, req)
	if reason != ReasonNone {
		ev := sa.event(Event{Kind: EventRefused, Reason: reason, PeerSaid: said, PeerWanted: wanted, PeerPPK: peerPPK(req.payloads)})
		if p != nil {
			ev.Peer, ev.LocalID, ev.RemoteID = p.Name, p.LocalID, p.RemoteID
			ev.OwnProposals = mostlyClassical(p.IKE)
		}
		sa.e.emit(ev)
		return &refusal{notify: wire.NotifyAuthenticationFailed, reason: reason}
	}
	if !sa.yield(p) {
		return &refusal{notify: wire.NotifyTemporaryFailure, reason: ReasonReplaced}
	}
	if p.keepsOut(sa, req) {
		p.up.contest()
		ev := sa.event(Event{Kind: EventRefused, Reason: ReasonDuplicate, Notify: wire.NotifyTemporaryFailure, PeerSaid: said})
		ev.Peer, ev.LocalID, ev.RemoteID = p.Name, p.LocalID, p.RemoteID
		sa.e.emit(ev)
		return &refusal{notify: wire.NotifyTemporaryFailure, reason: ReasonDuplicate}
	}
	sa.peer = p
	id := p.LocalID.payload(true)
	sa.answerPPK(p, req.payloads, resp)
	resp.add(id, &wire.Auth{Method: wire.AuthSharedKey, Data: sa.authValue(sa.keys, sa.initiator, p.PSK, id.Body())})
	// Who resumes has forgotten the SA before (RFC 5723 section 4.3.1).
	forgotten := sa.resumed != nil
	if forgotten {
		sa.e.spend(sa.resumed)
	}
	sa.establish(forgotten || wire.FindNotify(req.payloads, wire.NotifyInitialContact) != nil)
	return nil
}

func (sa *ikeSA) judge(p *peer, idi *wire.ID, req *message) Reason {
	psk := noPSK
	if p != nil {
		psk = p.PSK
	}
	auth, ok := wire.Find[*wire.Auth](req.payloads)
	keys, value, usable := sa.keysOf(p, req.payloads)
	fits := ok && hmac.Equal(value, sa.authValue(keys, !sa.initiator, psk, idi.Body()))
	switch {
	case p == nil, sa.resumed != nil && sa.resumed.peer != p: // RFC 5723 section 5.1: the identities of the ticket
		return ReasonUnknownIdentity
	case !ok || auth.Method != wire.AuthSharedKey:
		return ReasonAuthMethod
	case !usable:
		return ReasonPPK
	case !fits || len(psk) == 0:
		return ReasonWrongKey
	case p.PostQuantum.Mode == ModeRequire && len(addKEMethods(sa.suite)) == 0:
		return ReasonPostQuantum
	case !allowsSuite(p.IKE, sa.suite):
		return ReasonNoProposal
	}
	return ReasonNone
}

// allowsSuite: the suite was chosen before the peer was known.
func allowsSuite(ps []Proposal, s keymat.IKESuite) bool {
	return slices.ContainsFunc(ps, func(p Proposal) bool {
		return slices.Contains(p, encr(s.Encr, s.KeyBits)) && slices.Contains(p, prf(s.PRF)) && slices.Contains(p, group(s.Group)) &&
			(s.Integ == 0 || slices.Contains(p, integ(s.Integ))) && p.allowsAddKE(s.AddKE)
	})
}

// yield decides between this SA and another of the same peer that was under way
// at the same time. Where both sides started one, both see the same two
// initiator SPIs and keep the SA with the lower. An SA that is up by now crossed
// with this one if it was not when this one began; a peer that comes back after
// losing its state begins later.
func (sa *ikeSA) yield(p *peer) bool {
	switch {
	case p.attempt != nil && p.attempt.state == stateAuth:
		return sa.lower(p.attempt)
	case p.up != nil && sa.born < p.up.proven:
		return p.up.dialed && sa.lower(p.up)
	}
	return true
}

func (sa *ikeSA) lower(other *ikeSA) bool { return bytes.Compare(sa.rank[:], other.rank[:]) < 0 }
