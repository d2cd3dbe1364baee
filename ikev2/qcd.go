package ikev2

import (
	"crypto/hmac"
	"encoding/binary"
	"net/netip"
	"time"

	"culvert/ikev2/wire"
)

// How a side learns that its peer has forgotten an SA, sooner than by the
// silence of a dead peer. What comes in the clear may be forged, so it makes us
// ask at most (RFC 7296 sections 1.5 and 2.21.4), unless it holds the token that
// the peer gave us for the case (RFC 6290):
//
//	ESP with an SPI that is gone -->
//	                                 <-- INFORMATIONAL, clear: N(INVALID_SPI)
//	INFORMATIONAL: do you live? -->
//	                                 <-- clear: N(QUICK_CRASH_DETECTION), N(INVALID_IKE_SPI)
//	the SA is over; the next one is resumed from its ticket

// tokenLen is the least that RFC 6290 section 4.1 allows, in octets, so that
// the answer that holds one is not longer than an empty request.
const (
	tokenLen     = 16
	maxTokenLen  = 128
	hintInterval = 10 * time.Second
	// hintsPerSecond bounds the work that a flood of hints makes, in all and for
	// a source: each costs a look at every peer.
	hintsPerSecond = 100
	hintsOfSource  = 5
)

func (e *Engine) makesTokens() bool { return len(e.cfg.Resume.Key) > 0 }

// makeToken is stateless (RFC 6290 section 5.1). Role and address are in it, so that
// no look at a header that is turned round, and no other gateway with the same
// key, gives away the token of a living SA (section 9.2).
func (e *Engine) makeToken(id SAID, initiator bool, local netip.Addr) []byte {
	role := []byte("responder")
	if initiator {
		role = []byte("initiator")
	}
	return e.resumeKey("token", id.Initiator[:], id.Responder[:], role, local.AsSlice())[:tokenLen]
}

func (sa *ikeSA) giveToken(d *draft) {
	if sa.e.makesTokens() {
		d.notify(wire.NotifyQuickCrashDetection, sa.e.makeToken(sa.id(), sa.initiator, sa.path.Local.Addr()))
	}
}

// takeToken keeps the token of an authenticated peer; a later one replaces it
// (RFC 6290 section 4.4).
func (sa *ikeSA) takeToken(ps []wire.Payload) {
	n := wire.FindNotify(ps, wire.NotifyQuickCrashDetection)
	if n != nil && sa.peer != nil && len(n.Data) >= tokenLen && len(n.Data) <= maxTokenLen {
		sa.token = append([]byte(nil), n.Data...)
	}
}

// tokenTask gives our token and takes the peer's.
type tokenTask struct{}

func (tokenTask) request(sa *ikeSA, req *draft) error {
	sa.giveToken(req)
	return nil
}

func (tokenTask) response(sa *ikeSA, m *message) error {
	sa.takeToken(m.payloads)
	return nil
}

func answerToken(sa *ikeSA, req *message, resp *draft) error {
	sa.takeToken(req.payloads)
	if req.header.Exchange == wire.ExchangeIKEAuth {
		sa.giveToken(resp)
	}
	return nil
}

// answerUnknownSA shows the token of an SA that is not there to who sends a
// protected request for it (RFC 6290 section 4.5). The answer is never longer
// than the request; where both notifications do not fit, the token says it all.
func (e *Engine) answerUnknownSA(h wire.Header, d Datagram) {
	protected := h.NextPayload == wire.PayloadSK || h.NextPayload == wire.PayloadSKF
	if !protected || h.Flags&wire.FlagResponse != 0 || h.ResponderSPI == (wire.SPI{}) || !e.makesTokens() {
		return
	}
	byInitiator := h.Flags&wire.FlagInitiator != 0
	token := e.makeToken(SAID{h.InitiatorSPI, h.ResponderSPI}, !byInitiator, d.Path.Local.Addr())
	h.Flags ^= wire.FlagResponse | wire.FlagInitiator
	ps := []wire.Payload{&wire.Notify{NotifyType: wire.NotifyQuickCrashDetection, Data: token}, &wire.Notify{NotifyType: wire.NotifyInvalidIKESPI}}
	if len(d.Payload) < wire.HeaderLen+2*notifyHeadLen+tokenLen {
		ps = ps[:1]
	}
	e.replyClear(h, d, ps...)
}

// notifyHeadLen is what a notification takes beside its data.
const notifyHeadLen = 8

// inTheClear says that a message that should be protected is notifications in
// the clear.
func inTheClear(h wire.Header) bool {
	return h.NextPayload == wire.PayloadNotify && !opens(h.Exchange)
}

// unprotected takes what somebody says of the SA in the clear. The token proves
// that the peer has lost it; without one, or with another, as of a peer that has
// restarted with another key, it is worth a question.
func (sa *ikeSA) unprotected(d Datagram) {
	sa.e.drop(dropUnprotected)
	m, err := wire.Parse(d.Payload)
	if err != nil {
		return
	}
	for _, p := range m.Payloads {
		n, ok := p.(*wire.Notify)
		switch {
		case !ok:
		case n.NotifyType == wire.NotifyQuickCrashDetection && sa.token != nil && hmac.Equal(n.Data, sa.token):
			sa.lostByPeer()
			return
		case n.NotifyType == wire.NotifyInvalidIKESPI, n.NotifyType == wire.NotifyQuickCrashDetection:
			sa.hint()
		}
	}
}

func (sa *ikeSA) lostByPeer() {
	if sa.state == stateUp || sa.state == stateReplaced || sa.state == stateClosing {
		sa.end(ReasonRestarted)
	}
}

// hint asks the peer, now and then, whether it lives, because somebody said
// that something is wrong (RFC 7296 section 2.4). A peer that is being asked
// something is called anew beside if it does not answer soon.
func (sa *ikeSA) hint() {
	switch {
	case sa.state != stateUp:
	case sa.active != nil:
		sa.doubted = true
		if sa.active.tries >= doubtTries {
			sa.despair()
		}
	case sa.e.now.Sub(sa.hinted) >= hintInterval:
		sa.hinted = sa.e.now
		sa.start(wire.ExchangeInformational, livenessTask{})
	}
}

// UnknownSPI says that ESP came by Path with an SPI that no child has.
type UnknownSPI struct {
	SPI  uint32
	Path Path
}

func (UnknownSPI) command() {}

// unknownSPI tells the sender, over the IKE SA with it if there is one and in
// the clear if there is none, and few times a second (RFC 7296 section 1.5).
func (e *Engine) unknownSPI(c UnknownSPI) {
	if e.shut || e.spis.get(c.SPI) != nil || !e.hints.take(e.now, sourceOf(c.Path.Remote)) {
		return
	}
	for _, p := range e.peers {
		if p.up != nil && p.up.espPath().Remote == c.Path.Remote {
			p.up.complainOf(c.SPI)
			return
		}
	}
	m := wire.Message{Payloads: []wire.Payload{&wire.Notify{NotifyType: wire.NotifyInvalidSPI, Data: spiBytes(c.SPI)}}}
	m.Major, m.Exchange, m.Flags = 2, wire.ExchangeInformational, wire.FlagInitiator
	e.transmit(c.Path, m.Append(nil))
}

func (sa *ikeSA) complainOf(spi uint32) {
	if sa.active == nil && sa.e.now.Sub(sa.hinted) >= hintInterval {
		sa.hinted = sa.e.now
		sa.start(wire.ExchangeInformational, &invalidSPITask{spi})
	}
}

// invalidSPITask tells the peer that it sends with an SPI that we do not have.
type invalidSPITask struct{ spi uint32 }

func (t *invalidSPITask) request(_ *ikeSA, req *draft) error {
	req.notify(wire.NotifyInvalidSPI, spiBytes(t.spi))
	return nil
}

func (t *invalidSPITask) response(*ikeSA, *message) error { return nil }

// answerInvalidSPI: the peer does not have the child that we send with, so
// another takes its place.
func answerInvalidSPI(sa *ikeSA, req *message, resp *draft) error {
	n := wire.FindNotify(req.payloads, wire.NotifyInvalidSPI)
	if n == nil || sa.state != stateUp {
		return nil
	}
	if c := sa.childByOutbound(n.Data); c != nil && c.state == childUp {
		resp.after(func() {
			if c.state == childUp && sa.state == stateUp {
				for _, w := range c.fulfils() {
					w.refused++
				}
				c.close(ReasonDeleted)
			}
		})
	}
	return nil
}

// unprotectedSPI takes INVALID_SPI in the clear, under any SPIs: somebody says
// that the peer of a child has forgotten it (RFC 7296 section 1.5).
func (e *Engine) unprotectedSPI(d Datagram) {
	e.drop(dropUnprotected)
	m, err := wire.Parse(d.Payload)
	if err != nil || !e.hints.take(e.now, sourceOf(d.Path.Remote)) {
		return
	}
	n := wire.FindNotify(m.Payloads, wire.NotifyInvalidSPI)
	if n == nil || len(n.Data) != 4 {
		return
	}
	spi := binary.BigEndian.Uint32(n.Data)
	for _, p := range e.peers {
		if p.up != nil && p.up.espPath().Remote == d.Path.Remote && p.up.sendsWith(spi) {
			p.up.hint()
		}
	}
}

func (sa *ikeSA) sendsWith(spi uint32) bool {
	for _, c := range sa.children {
		if c.out == spi && c.state == childUp {
			return true
		}
	}
	return false
}
