package ikev2

import (
	"slices"

	"culvert/ikev2/wire"
)

// rekeyChildTask replaces a child SA by one with new keys and the same
// selectors (RFC 7296 sections 1.3.3 and 2.8). No packet is lost:
//
//	initiator                                  responder
//	CREATE_CHILD_SA  N(REKEY_SA)     ------->  installs new inbound
//	installs new inbound, outbound   <-------  answers, goes on sending on the old
//	removes old outbound
//	INFORMATIONAL    D(old)          ------->  installs new outbound, removes old outbound
//	                                 <-------  answers
//	 5 s later: removes old inbound            5 s later: removes old inbound
//
// Where both sides begin at once there are two new SAs. The one with the lowest
// of the four nonces is deleted by its initiator, and the initiator of the
// other deletes the old one (section 2.8.1).
type rekeyChildTask struct {
	childTask
	old *childSA
}

// rekey begins to replace the child, unless that is under way.
func (c *childSA) rekey() {
	switch {
	case !c.replaceable() || c.sa.plans(rekeys(c)):
	case c.sa.making.replaces(c):
		c.sa.e.rekeyLater(&c.timers) // unless the peer has done it by then
	default:
		c.sa.start(wire.ExchangeCreateChildSA, &rekeyChildTask{childTask{cfg: c.cfg}, c})
	}
}

func rekeys(c *childSA) func(task) bool {
	return func(t task) bool { r, is := t.(*rekeyChildTask); return is && r.old == c }
}

// replaceable: in use, and not replaced by the peer.
func (c *childSA) replaceable() bool {
	return c.state == childUp && c.replacedBy == nil && c.from == nil
}

func (t *rekeyChildTask) obsolete(*ikeSA) bool { return !t.old.replaceable() }

// request names the child by the SPI that we receive on (RFC 7296 section
// 1.3.3).
func (t *rekeyChildTask) request(sa *ikeSA, req *draft) error {
	req.add(&wire.Notify{Protocol: wire.ProtocolESP, SPI: spiBytes(t.old.in), NotifyType: wire.NotifyRekeySA})
	t.child = sa.newChild(t.cfg)
	t.child.local, t.child.remote, t.child.lane = t.old.local, t.old.remote, t.old.lane
	t.child.succeed(t.old)
	return t.ask(sa, req)
}

func (t *rekeyChildTask) response(sa *ikeSA, m *message) error {
	s, reason := t.take(sa, m)
	sa.followUp(t, m, s, reason)
	return nil
}

func (t *rekeyChildTask) finish(sa *ikeSA, m *message, s secrets, reason Reason) {
	if sa.state != stateUp {
		return
	}
	if reason = t.accept(sa, s, reason); reason == ReasonNone {
		t.replace(sa)
	} else {
		t.failed(sa, m, reason)
	}
	sa.bringUpChildren()
}

func (t *rekeyChildTask) rivalNonce(*ikeSA) []byte {
	if t.old.replacedBy != nil {
		return t.old.replacedBy.lowNonce
	}
	return nil
}

func (t *rekeyChildTask) begun(m *making) bool { return m.replaces(t.old) }

// replace switches to the new child, unless the peer's own replacement stays.
func (t *rekeyChildTask) replace(sa *ikeSA) {
	overtaken := t.old.state == childClosing && t.old.replaced // a twin has its place
	if overtaken || sa.loses(t, t.child.lowNonce) {
		t.child.close(ReasonRekeyed)
		return
	}
	t.child.activate()
	if t.old.live() {
		t.old.replacedBy = nil
		t.old.close(ReasonRekeyed)
	}
}

func (t *rekeyChildTask) failed(sa *ikeSA, m *message, reason Reason) {
	n := errorNotify(m.payloads)
	switch {
	case t.fresh.again(m.payloads, t.cfg.ESP):
		sa.start(wire.ExchangeCreateChildSA, &rekeyChildTask{childTask{cfg: t.cfg, fresh: t.fresh}, t.old})
		return
	case !t.old.replaceable():
		return
	case reason == ReasonRekeyed, reason == ReasonDeleted:
	case n != nil && n.NotifyType == wire.NotifyChildSANotFound:
		t.startOver(sa)
		return
	case n == nil || n.NotifyType != wire.NotifyTemporaryFailure:
		t.refused(sa, m, reason)
		if t.old.untried {
			t.old.untried = false
			sa.e.renewInTime(&t.old.timers, t.old.cfg.Lifetime)
			return
		}
	}
	sa.e.rekeyLater(&t.old.timers)
}

// startOver: what the peer does not have any more is no use to us, and is asked
// for anew (RFC 7296 section 2.25).
func (t *rekeyChildTask) startOver(sa *ikeSA) {
	standing := slices.ContainsFunc(sa.wishes, func(w *wish) bool { return w.fulfilledBy(t.old) && !w.additional() })
	if !standing && sa.peer.start(t.cfg) != StartPeer {
		sa.want(&wish{cfg: t.cfg, local: t.old.local, remote: t.old.remote, once: true})
	}
	t.old.drop(ReasonDeleted)
}

// answerRekeyChild makes the peer's replacement of a child (RFC 7296 section
// 2.25.1 says when not). We receive on it from now on, but go on sending on the
// old child until the peer deletes that: by then it has our answer. A child that
// we do not know may be one that we ask for, whose answer is still to come.
func answerRekeyChild(sa *ikeSA, req *message, resp *draft, n *wire.Notify) error {
	old := sa.childByOutbound(n.SPI)
	switch {
	case n.Protocol != wire.ProtocolESP || old == nil && sa.pending == nil:
		resp.add(&wire.Notify{Protocol: wire.ProtocolESP, SPI: n.SPI, NotifyType: wire.NotifyChildSANotFound})
		return nil
	case old == nil || !old.live() || old.replacedBy != nil || sa.followsUp(rekeys(old)):
		resp.notify(wire.NotifyTemporaryFailure, nil)
		return nil
	}
	a := sa.answerChild(req, resp)
	a.old = old
	return a.build(narrowing{child: sa.narrowAgain(old, req)}, sa.peer.PostQuantum.acceptable)
}

// narrowAgain narrows to policy; where that has one pair of selectors to a child
// SA, to the old one's.
func (sa *ikeSA) narrowAgain(old *childSA, req *message) *childSA {
	local, remote := sa.localTS(old.cfg), sa.remoteTS(old.cfg)
	if old.cfg.SinglePair {
		local, remote = old.local, old.remote
	}
	return sa.narrowTo(old.cfg, local, remote, req)
}
