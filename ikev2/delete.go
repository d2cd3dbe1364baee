package ikev2

import (
	"bytes"
	"encoding/binary"

	"culvert/ikev2/wire"
)

// deleteIKETask ends the IKE SA and all its children (RFC 7296 section 1.4.1).
type deleteIKETask struct{}

func (deleteIKETask) request(_ *ikeSA, req *draft) error {
	req.add(&wire.Delete{Protocol: wire.ProtocolIKE})
	return nil
}

func (deleteIKETask) response(sa *ikeSA, _ *message) error {
	sa.end(ReasonDisconnect)
	return nil
}

// deleteChildTask ends one child SA, named by our inbound SPI. child is nil
// where only the peer has one.
type deleteChildTask struct {
	in    uint32
	child *childSA
}

// obsolete: the peer has deleted the child first.
func (t *deleteChildTask) obsolete(*ikeSA) bool {
	return t.child != nil && t.child.state != childClosing
}

func (t *deleteChildTask) request(_ *ikeSA, req *draft) error {
	req.add(&wire.Delete{Protocol: wire.ProtocolESP, SPIs: [][]byte{spiBytes(t.in)}})
	return nil
}

func (t *deleteChildTask) response(sa *ikeSA, _ *message) error {
	if t.child != nil && t.child.state == childClosing {
		t.child.leave()
		sa.bringUpChildren()
	}
	return nil
}

// answerDelete obeys the peer's Delete payloads. Deleting twice, or what is
// not there, changes nothing. The answer names our halves of the pairs.
func answerDelete(sa *ikeSA, req *message, resp *draft) error {
	var gone [][]byte
	for _, p := range req.payloads {
		d, ok := p.(*wire.Delete)
		switch {
		case !ok:
		case d.Protocol == wire.ProtocolIKE:
			*resp = draft{}
			sa.inherit()
			sa.hasMadeWay()
			resp.after(func() { sa.linger(ReasonDeleted) })
			return nil
		case d.Protocol == wire.ProtocolESP:
			gone = append(gone, sa.deleteChildren(d.SPIs)...)
			resp.after(sa.bringUpChildren)
		}
	}
	if len(gone) > 0 {
		resp.add(&wire.Delete{Protocol: wire.ProtocolESP, SPIs: gone})
	}
	return nil
}

// maxGone bounds what is remembered of a peer's Deletes.
const maxGone = 64

// deleteChildren removes the children to which the peer's inbound SPIs belong
// and returns ours, but not of those whose Delete by us crosses the peer's
// (RFC 7296 section 1.4.1). One that we do not know may be what we are asking
// for, whose answer comes later than its Delete.
func (sa *ikeSA) deleteChildren(spis [][]byte) (own [][]byte) {
	for _, b := range spis {
		c := sa.childByOutbound(b)
		switch {
		case c == nil && sa.pending != nil && len(sa.gone) < maxGone:
			sa.gone = append(sa.gone, bytes.Clone(b))
		case c == nil:
		default:
			if c.state != childClosing {
				own = append(own, spiBytes(c.in))
			}
			c.deletedByPeer()
		}
	}
	return own
}

func (sa *ikeSA) childByOutbound(spi []byte) *childSA {
	for _, c := range sa.children {
		if c.state != childLate && len(spi) == 4 && binary.BigEndian.Uint32(spi) == c.out {
			return c
		}
	}
	return nil
}

// failureTask tells a responder that we do not accept it (RFC 7296 section
// 2.21.2).
type failureTask struct{ notify wire.NotifyType }

func (t *failureTask) request(_ *ikeSA, req *draft) error {
	req.notify(t.notify, nil)
	return nil
}

func (t *failureTask) response(sa *ikeSA, _ *message) error {
	sa.end(ReasonNone)
	return nil
}

// answerPeerFailure takes an initiator's protected error: it does not accept
// us, and the IKE SA is over.
func answerPeerFailure(sa *ikeSA, req *message, resp *draft) error {
	n := errorNotify(req.payloads)
	if n == nil || n.NotifyType != wire.NotifyAuthenticationFailed && n.NotifyType != wire.NotifyInvalidSyntax {
		return nil
	}
	sa.report(Event{Kind: EventRefusedByPeer, Reason: ReasonAuthFailed, Notify: n.NotifyType})
	resp.after(func() { sa.linger(ReasonAuthFailed) })
	return nil
}
