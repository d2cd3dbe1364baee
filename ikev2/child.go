package ikev2

import (
	"encoding/binary"
	"slices"
	"time"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// childSA is one child SA: an ESP SA in each direction.
type childSA struct {
	sa            *ikeSA
	cfg           *Child
	suite         ESPSuite
	in, out       uint32 // SPIs: in is ours, out the peer's
	local, remote []wire.Selector
}

// childTask asks for a child SA, in IKE_AUTH or, with nonces of its own, in
// CREATE_CHILD_SA (RFC 7296 sections 1.2 and 1.3.1).
type childTask struct {
	cfg   *Child
	child *childSA
	nonce []byte // of CREATE_CHILD_SA
}

func (t *childTask) request(sa *ikeSA, req *draft) (err error) {
	t.child = &childSA{sa: sa, cfg: t.cfg}
	if t.child.in, err = sa.e.spis.alloc(sa.e, t.child); err != nil {
		return err
	}
	sa.pending = t.child
	req.add(&wire.SA{Proposals: offer(t.cfg.ESP, wire.ProtocolESP, spiBytes(t.child.in))})
	if sa.state == stateUp {
		if t.nonce, err = sa.e.random(nonceLen); err != nil {
			return err
		}
		req.add(&wire.Nonce{Data: t.nonce})
	}
	req.add(&wire.TS{Selectors: t.cfg.Local}, &wire.TS{Responder: true, Selectors: t.cfg.Remote})
	return nil
}

// response installs what the responder chose. An answer that is not within
// what we asked for is a child that we do not want: it is deleted.
func (t *childTask) response(sa *ikeSA, m *message) error {
	if sa.state != stateUp {
		return nil
	}
	sa.pending = nil
	reason := t.accept(sa, m)
	if reason == ReasonNone {
		delete(sa.refused, t.cfg)
	} else {
		t.refused(sa, m, reason)
	}
	sa.bringUpChildren()
	return nil
}

func (t *childTask) refused(sa *ikeSA, m *message, reason Reason) {
	sa.refused[t.cfg]++
	sa.e.spis.release(t.child.in)
	ev := Event{Kind: EventRefusedByPeer, Reason: reason, Child: t.cfg.Name, OwnProposals: t.cfg.ESP, LocalTS: t.cfg.Local, RemoteTS: t.cfg.Remote}
	if n := errorNotify(m.payloads); n != nil {
		ev.Notify = n.NotifyType
	} else if _, ok := wire.Find[*wire.SA](m.payloads); ok {
		sa.start(wire.ExchangeInformational, &deleteChildTask{t.child.in})
	}
	sa.report(ev)
}

var childRefusals = map[wire.NotifyType]Reason{
	wire.NotifyNoProposalChosen: ReasonChildProposal,
	wire.NotifyTSUnacceptable:   ReasonSelectors,
}

func (t *childTask) accept(sa *ikeSA, m *message) Reason {
	theirs, ok := wire.Find[*wire.SA](m.payloads)
	if !ok {
		if n := errorNotify(m.payloads); n != nil && childRefusals[n.NotifyType] != ReasonNone {
			return childRefusals[n.NotifyType]
		}
		return ReasonChildRefused
	}
	tsi, tsr, ok := findTS(m.payloads)
	c, chosen := selectProposal(t.cfg.ESP, theirs.Proposals, wire.ProtocolESP, espTypes, 0)
	switch {
	case !ok || !isChoice(theirs) || !chosen || !validSPI(c.spi):
		return ReasonChildProposal
	case !within(tsi, t.cfg.Local) || !within(tsr, t.cfg.Remote):
		return ReasonSelectors
	}
	ni, nr := sa.ni, sa.nr
	if t.nonce != nil {
		n, ok := wire.Find[*wire.Nonce](m.payloads)
		if !ok {
			return ReasonChildRefused
		}
		ni, nr = t.nonce, n.Data
	}
	t.child.local, t.child.remote = tsi, tsr
	if sa.install(t.child, c, true, ni, nr) != nil {
		return ReasonChildProposal
	}
	return ReasonNone
}

// answerFirstChild is the child part of IKE_AUTH. Its failure leaves the IKE
// SA up (RFC 7296 section 1.2).
func answerFirstChild(sa *ikeSA, req *message, resp *draft) error {
	if theirs, ok := wire.Find[*wire.SA](req.payloads); ok {
		sa.answerChild(req, resp, withoutKE(theirs.Proposals), sa.ni, sa.nr)
	}
	return nil
}

// answerNewChild is CREATE_CHILD_SA for a further child, without a key exchange
// of its own. Rekeying is declined in the words that make the peer start over
// (RFC 7296 section 1.3.3).
func answerNewChild(sa *ikeSA, req *message, resp *draft) error {
	theirs, _ := wire.Find[*wire.SA](req.payloads)
	ni, _ := wire.Find[*wire.Nonce](req.payloads)
	forIKE := slices.ContainsFunc(theirs.Proposals, func(p wire.Proposal) bool { return p.Protocol == wire.ProtocolIKE })
	if forIKE || wire.FindNotify(req.payloads, wire.NotifyRekeySA) != nil {
		resp.notify(wire.NotifyNoAdditionalSAs, nil)
		return nil
	}
	nr, err := sa.e.random(nonceLen)
	if err != nil {
		resp.notify(wire.NotifyTemporaryFailure, nil)
		return nil
	}
	if sa.answerChild(req, resp, theirs.Proposals, ni.Data, nr) {
		resp.payloads = slices.Insert(resp.payloads, 1, wire.Payload(&wire.Nonce{Data: nr}))
	}
	return nil
}

// answerChild adds SA, TSi and TSr of a new child to the response, or the
// notify that refuses it.
func (sa *ikeSA) answerChild(req *message, resp *draft, theirs []wire.Proposal, ni, nr []byte) bool {
	tsi, tsr, ok := findTS(req.payloads)
	child := sa.narrowToPolicy(tsr, tsi)
	if !ok || child == nil {
		sa.refuseChild(resp, wire.NotifyTSUnacceptable, Event{Reason: ReasonSelectors, PeerLocalTS: tsr, PeerRemoteTS: tsi})
		return false
	}
	c, ok := selectProposal(child.cfg.ESP, theirs, wire.ProtocolESP, espTypes, 0)
	if !ok || !validSPI(c.spi) {
		sa.refuseChild(resp, wire.NotifyNoProposalChosen, Event{Reason: ReasonChildProposal, Child: child.cfg.Name,
			OwnProposals: child.cfg.ESP, PeerProposals: proposalsOf(theirs)})
		return false
	}
	var err error
	if child.in, err = sa.e.spis.alloc(sa.e, child); err == nil {
		err = sa.install(child, c, false, ni, nr)
	}
	if err != nil {
		sa.e.spis.release(child.in)
		sa.refuseChild(resp, wire.NotifyTemporaryFailure, Event{Reason: ReasonChildRefused, Child: child.cfg.Name})
		return false
	}
	resp.add(&wire.SA{Proposals: []wire.Proposal{{Number: c.number, Protocol: wire.ProtocolESP, SPI: spiBytes(child.in), Transforms: c.transforms(espTypes)}}},
		&wire.TS{Selectors: child.remote}, &wire.TS{Responder: true, Selectors: child.local})
	return true
}

func (sa *ikeSA) refuseChild(resp *draft, t wire.NotifyType, ev Event) {
	ev.Kind, ev.Notify = EventRefused, t
	for _, c := range sa.peer.Children {
		if ev.Child == "" || ev.Child == c.Name {
			ev.LocalTS, ev.RemoteTS = append(ev.LocalTS, c.Local...), append(ev.RemoteTS, c.Remote...)
		}
	}
	sa.report(ev)
	resp.notify(t, nil)
}

// withoutKE drops what some peers leave in the proposals of IKE_AUTH, where
// no key exchange can be made.
func withoutKE(ps []wire.Proposal) []wire.Proposal {
	ps = slices.Clone(ps)
	for i := range ps {
		ps[i].Transforms = slices.DeleteFunc(slices.Clone(ps[i].Transforms), func(t wire.Transform) bool { return t.Type == wire.TransformKE })
	}
	return ps
}

// narrowToPolicy finds the first child whose policy has something in common
// with what the peer asks for, on both sides, and narrows to that (RFC 7296
// section 2.9).
func (sa *ikeSA) narrowToPolicy(local, remote []wire.Selector) *childSA {
	for i := range sa.peer.Children {
		cfg := &sa.peer.Children[i]
		l, r := narrow(cfg.Local, local), narrow(cfg.Remote, remote)
		if len(l) > 0 && len(r) > 0 {
			return &childSA{sa: sa, cfg: cfg, local: l, remote: r}
		}
	}
	return nil
}

// install derives the child's keys and hands both directions to the gateway:
// inbound first, so that nothing the peer sends can come too early.
func (sa *ikeSA) install(c *childSA, ch choice, initiator bool, ni, nr []byte) error {
	c.suite, c.out = ch.espSuite(), binary.BigEndian.Uint32(ch.spi)
	toResponder, toInitiator, err := sa.childKeys(c.suite, ni, nr)
	if err != nil {
		return err
	}
	in, out := toResponder, toInitiator
	if initiator {
		in, out = toInitiator, toResponder
	}
	sa.children = append(sa.children, c)
	shared := c.facts()
	sa.e.emit(InstallInbound{shared, in})
	sa.e.emit(InstallOutbound{shared, out})
	sa.report(Event{Kind: EventChildUp, Child: c.cfg.Name, ESP: c.suite, LocalTS: c.local, RemoteTS: c.remote,
		InboundSPI: c.in, OutboundSPI: c.out})
	return nil
}

func (c *childSA) facts() ChildSA {
	return ChildSA{Peer: c.sa.peer.Name, Child: c.cfg.Name, IKE: c.sa.id(), Suite: c.suite, Local: c.local, Remote: c.remote,
		Path: c.sa.espPath(), InboundSPI: c.in, OutboundSPI: c.out}
}

// childKeys cuts KEYMAT (RFC 7296 section 2.17): the initiator's direction
// first, encryption before integrity.
func (sa *ikeSA) childKeys(s ESPSuite, ni, nr []byte) (toResponder, toInitiator ESPKeys, err error) {
	e, err := keymat.EncrKeyLen(s.Encr, s.KeyBits)
	if err != nil {
		return
	}
	i := 0
	if s.Integ != 0 {
		if i, err = keymat.IntegKeyLen(s.Integ); err != nil {
			return
		}
	}
	k, err := keymat.DeriveChild(sa.suite.PRF, sa.keys.SKd, nil, ni, nr, 2*(e+i))
	if err != nil {
		return
	}
	half := e + i
	return ESPKeys{k[:e], k[e:half]}, ESPKeys{k[half : half+e], k[half+e:]}, nil
}

// bringUpChildren asks for the next configured child that is missing. One that
// was refused waits, and holds up no other.
func (sa *ikeSA) bringUpChildren() {
	cfg := sa.missingChild()
	switch {
	case cfg == nil:
	case sa.refused[cfg] == 0:
		sa.askForChild()
	default:
		t := sa.timing()
		wait := sa.e.jitter(backoff(t.Reconnect, t.ReconnectMax, sa.refused[cfg]))
		sa.e.setTimer(&sa.timers, timerChildren, sa.e.now.Add(wait))
	}
}

func (sa *ikeSA) askForChild() {
	if cfg := sa.missingChild(); cfg != nil {
		sa.start(wire.ExchangeCreateChildSA, &childTask{cfg: cfg})
	}
}

// missingChild is the one that was refused least. Only the side that started
// the IKE SA looks for it, one at a time.
func (sa *ikeSA) missingChild() (least *Child) {
	if !sa.initiator || sa.state != stateUp || sa.asksForChild() {
		return nil
	}
	for i := range sa.peer.Children {
		cfg := &sa.peer.Children[i]
		up := slices.ContainsFunc(sa.children, func(c *childSA) bool { return c.cfg == cfg })
		if !up && (least == nil || sa.refused[cfg] < sa.refused[least]) {
			least = cfg
		}
	}
	return least
}

func (sa *ikeSA) asksForChild() bool {
	asks := func(x *exchange) bool { return x != nil && x.kind == wire.ExchangeCreateChildSA }
	return asks(sa.active) || slices.ContainsFunc(sa.queue, asks)
}

func (sa *ikeSA) dropChildren(reason Reason) {
	for len(sa.children) > 0 {
		sa.dropChild(sa.children[0], reason)
	}
	if sa.pending != nil {
		sa.e.spis.release(sa.pending.in)
		sa.pending = nil
	}
	sa.e.setTimer(&sa.timers, timerChildren, time.Time{})
}

func (sa *ikeSA) dropChild(c *childSA, reason Reason) {
	sa.children = slices.DeleteFunc(sa.children, func(x *childSA) bool { return x == c })
	sa.e.spis.release(c.in)
	sa.e.emit(RemoveOutbound{c.in})
	sa.e.emit(RemoveInbound{c.in})
	sa.report(Event{Kind: EventChildDown, Reason: reason, Child: c.cfg.Name, ESP: c.suite, InboundSPI: c.in, OutboundSPI: c.out})
}

func spiBytes(spi uint32) []byte { return binary.BigEndian.AppendUint32(nil, spi) }

// validSPI: four octets, not one of the reserved values (RFC 4303 section 2.1).
func validSPI(b []byte) bool { return len(b) == 4 && binary.BigEndian.Uint32(b) > 255 }
