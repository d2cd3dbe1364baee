package ikev2

import (
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

// deleteChildTask ends one child SA, named by our inbound SPI.
type deleteChildTask struct{ in uint32 }

func (t *deleteChildTask) request(_ *ikeSA, req *draft) error {
	req.add(&wire.Delete{Protocol: wire.ProtocolESP, SPIs: [][]byte{spiBytes(t.in)}})
	return nil
}

func (t *deleteChildTask) response(*ikeSA, *message) error { return nil }

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
			resp.after(func() { sa.linger(ReasonDeleted) })
			return nil
		case d.Protocol == wire.ProtocolESP:
			gone = append(gone, sa.deleteChildren(d.SPIs)...)
		}
	}
	if len(gone) > 0 {
		resp.add(&wire.Delete{Protocol: wire.ProtocolESP, SPIs: gone})
		resp.after(sa.bringUpChildren)
	}
	return nil
}

// deleteChildren removes the children to which the peer's inbound SPIs belong
// and returns ours.
func (sa *ikeSA) deleteChildren(spis [][]byte) (own [][]byte) {
	for _, b := range spis {
		if c := sa.childByOutbound(b); c != nil {
			own = append(own, spiBytes(c.in))
			sa.refused[c.cfg]++
			sa.dropChild(c, ReasonDeleted)
		}
	}
	return own
}

func (sa *ikeSA) childByOutbound(spi []byte) *childSA {
	for _, c := range sa.children {
		if len(spi) == 4 && binary.BigEndian.Uint32(spi) == c.out {
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
