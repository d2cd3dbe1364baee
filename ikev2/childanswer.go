package ikev2

import (
	"bytes"
	"errors"
	"slices"

	"culvert/ikev2/wire"
)

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
	case len(sa.children) >= max(maxChildren, 8*len(sa.peer.Children)*sa.e.lanes()):
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
			OwnProposals: ours(child.cfg.ESP), PeerProposals: proposalsOf(a.theirs), Renewal: a.old != nil})
		return nil
	}
	if a.old == nil && a.sa.followsUp(asksFor(child)) {
		a.resp.notify(wire.NotifyTemporaryFailure, nil)
		return nil
	}
	if !a.lane(child) {
		a.resp.notify(wire.NotifyTSMaxQueue, nil)
		return nil
	}
	mine, err := a.make(child, c)
	if err != nil {
		return a.notNow(child, err)
	}
	a.resp.add(mine.payloads...)
	if child.resource && a.old == nil {
		a.resp.notify(wire.NotifySAResourceInfo, nil)
	}
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
		if child.untried = !a.fresh; a.old != nil {
			child.succeed(a.old)
		}
		if err := child.install(c, false, s); err != nil {
			return err
		}
		if a.old == nil {
			if !a.sa.peer.holdsBack(child) {
				child.activate()
			}
			a.sa.e.then = append(a.sa.e.then, a.sa.bringUpChildren) // what waited behind a request for this one
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
