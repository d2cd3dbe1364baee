package ikev2

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"culvert/ikev2/wire"
)

// MOBIKE (RFC 4555) keeps an IKE SA and its children through a change of
// addresses. The side that began the connection decides where both go.
//
//	original initiator                            original responder
//	is at another address: all goes by it now
//	INFORMATIONAL N(UPDATE_SA_ADDRESSES) ------>  IKE goes to that address
//	  N(COOKIE2) N(NAT_DETECTION_*)               ESP stays
//	NAT: found again                     <------  N(COOKIE2) N(NAT_DETECTION_*)
//	                                     <------  INFORMATIONAL N(COOKIE2)
//	N(COOKIE2)                           ------>  who answered is there: ESP follows
//
// The responder's second exchange is the return routability check of section
// 3.7. Where the responder is at another address it tells its list of addresses
// from there, and the initiator checks that address with the update itself,
// before its ESP goes there.

// cookie2Len is within the 8 to 64 octets of RFC 4555 section 4.2.5.
const cookie2Len = 16

// maxOthers bounds the further addresses that are kept of a peer.
const maxOthers = 8

// provingTries is how often a peer is asked at an address that it has not
// proven to be at, 11 s in all, before we go back to where it was.
const provingTries = 4

// mobikeTask says in IKE_AUTH that we speak MOBIKE (RFC 4555 section 3.3).
type mobikeTask struct{}

func (mobikeTask) request(_ *ikeSA, req *draft) error {
	req.notify(wire.NotifyMobIKESupported, nil)
	return nil
}

func (mobikeTask) response(sa *ikeSA, m *message) error {
	sa.speaksMOBIKE(m)
	return nil
}

func answerMOBIKE(sa *ikeSA, req *message, resp *draft) error {
	if sa.peer.MOBIKE != ModeOff && sa.speaksMOBIKE(req) {
		resp.notify(wire.NotifyMobIKESupported, nil)
	}
	return nil
}

func (sa *ikeSA) speaksMOBIKE(m *message) bool {
	sa.mobike = wire.FindNotify(m.payloads, wire.NotifyMobIKESupported) != nil
	if sa.mobike {
		sa.learnAddresses(m)
	}
	return sa.mobike
}

// learnAddresses takes the addresses that the peer has beside the one in use; a
// list replaces the one before (RFC 4555 section 3.6). It reports whether there
// is one.
func (sa *ikeSA) learnAddresses(m *message) (listed bool) {
	var list []netip.Addr
	for _, p := range m.payloads {
		n, ok := p.(*wire.Notify)
		if !ok {
			continue
		}
		switch n.NotifyType {
		case wire.NotifyNoAdditionalAddresses:
			listed = true
		case wire.NotifyAdditionalIP4Address, wire.NotifyAdditionalIP6Address:
			listed = true
			if a, _ := netip.AddrFromSlice(n.Data); len(list) < maxOthers { // of the right length, or wire had refused it
				list = append(list, a.Unmap())
			}
		}
	}
	if listed {
		sa.others = list
	}
	return listed
}

// updateTask tells the responder where we are now (RFC 4555 section 3.5).
type updateTask struct {
	path   Path // that NAT detection is about
	cookie []byte
}

// checkTask asks a peer to show that it gets what is sent to its new address
// (RFC 4555 section 3.7).
type checkTask struct{ cookie []byte }

// addressesTask tells the original initiator that we are at another address:
// only it can change them (RFC 4555 section 3.6).
type addressesTask struct{}

func roams(t task) bool {
	switch t.(type) {
	case *updateTask, *checkTask:
		return true
	}
	return false
}

// startRoaming puts t before all other requests, in place of one that waits.
func (sa *ikeSA) startRoaming(t task) {
	sa.queue = slices.DeleteFunc(sa.queue, func(x *exchange) bool { return slices.ContainsFunc(x.tasks, roams) })
	sa.queue = slices.Insert(sa.queue, 0, &exchange{kind: wire.ExchangeInformational, tasks: []task{t}, started: sa.e.now})
	sa.pump()
}

func (t *updateTask) request(sa *ikeSA, req *draft) (err error) {
	t.path = sa.path
	req.notify(wire.NotifyUpdateSAAddresses, nil)
	addNATDetection(req, sa.id(), sa.path, true)
	t.cookie, err = sa.addCookie2(req)
	return err
}

func (sa *ikeSA) addCookie2(req *draft) (cookie []byte, err error) {
	if cookie, err = sa.e.random(cookie2Len); err == nil {
		req.notify(wire.NotifyCookie2, cookie)
	}
	return cookie, err
}

// response: what is said of an address that is no longer ours means nothing,
// for another update follows.
func (t *updateTask) response(sa *ikeSA, m *message) error {
	switch {
	case sa.state != stateUp || !sa.returned(t.cookie, m) || sa.path != t.path:
		return nil
	case errorNotify(m.payloads) != nil:
		sa.report(Event{Kind: EventRefusedByPeer, Reason: ReasonNotify, Notify: errorNotify(m.payloads).NotifyType})
		if sa.peer.wanted {
			sa.peer.renew()
		}
		return nil
	}
	sa.findNAT(m)
	sa.seenOtherwise(m)
	sa.settle()
	return nil
}

// returned holds the answer to the cookie of our request. An SA whose peer
// makes up another is closed (RFC 4555 section 3.7).
func (sa *ikeSA) returned(cookie []byte, m *message) bool {
	n := wire.FindNotify(m.payloads, wire.NotifyCookie2)
	if n != nil && bytes.Equal(n.Data, cookie) {
		return true
	}
	sa.report(Event{Kind: EventRefused, Reason: ReasonMalformed, Notify: wire.NotifyCookie2})
	sa.close(ReasonMalformed)
	return false
}

// findNAT looks for NATs again where the message says something of them.
func (sa *ikeSA) findNAT(m *message) {
	if nat := detectNAT(m.payloads, sa.id(), m.path); nat.Known {
		sa.nat = nat
		sa.armKeepalive()
	}
}

func (t *checkTask) request(sa *ikeSA, req *draft) (err error) {
	t.cookie, err = sa.addCookie2(req)
	return err
}

// response: where the request went to several addresses, its answer does not
// tell which of them works, so the one that it came from is asked again.
func (t *checkTask) response(sa *ikeSA, m *message) error {
	switch {
	case sa.state != stateUp || !sa.returned(t.cookie, m):
	case !m.detoured:
		sa.settle()
	case m.path != sa.espPath() && acceptable(m.path):
		sa.moveIKE(m.path)
		sa.startRoaming(&checkTask{})
	case sa.espHeld.Encap:
		sa.goBack()
	}
	return nil
}

func (*addressesTask) request(_ *ikeSA, req *draft) error {
	req.notify(wire.NotifyNoAdditionalAddresses, nil)
	return nil
}

func (*addressesTask) response(*ikeSA, *message) error { return nil }

// answerRoaming answers what MOBIKE adds to INFORMATIONAL: the cookie of a
// check, NAT detection, other addresses.
func answerRoaming(sa *ikeSA, req *message, resp *draft) error {
	if !sa.mobike || sa.state != stateUp {
		return nil
	}
	if n := wire.FindNotify(req.payloads, wire.NotifyCookie2); n != nil {
		resp.notify(wire.NotifyCookie2, n.Data)
	}
	listed := sa.learnAddresses(req)
	switch {
	case wire.FindNotify(req.payloads, wire.NotifyUpdateSAAddresses) != nil && !sa.dialed:
		if no := refusesUpdate(req); no != 0 {
			resp.notify(no, nil)
			return nil
		}
		sa.obeyUpdate(req, resp)
	case listed && sa.dialed && req.path != sa.path && acceptable(req.path):
		sa.moveIKE(req.path)
		resp.after(func() { sa.startRoaming(&updateTask{}) })
	}
	if wire.FindNotify(req.payloads, wire.NotifyNATDetectionSourceIP) != nil {
		addNATDetection(resp, sa.id(), req.path, !sa.nat.Local && !sa.nat.Remote)
	}
	return nil
}

// refusesUpdate is why an update is not followed, 0 if it is.
func refusesUpdate(req *message) wire.NotifyType {
	n := wire.FindNotify(req.payloads, wire.NotifyNoNATsAllowed)
	switch {
	case n != nil && !bytes.Equal(n.Data, noNATs(req.path)):
		return wire.NotifyUnexpectedNATDetected
	case !acceptable(req.path):
		return wire.NotifyUnacceptableAddresses
	}
	return 0
}

// noNATs is what NO_NATS_ALLOWED holds in a message that met none: source and
// destination address, source and destination port (RFC 4555 section 4.2.6).
func noNATs(p Path) []byte {
	b := append(p.Remote.Addr().AsSlice(), p.Local.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, p.Remote.Port())
	return binary.BigEndian.AppendUint16(b, p.Local.Port())
}

// acceptable: a peer can be at one host's address, and by now it uses the port
// for NAT traversal.
func acceptable(p Path) bool {
	a := p.Remote.Addr()
	return p.Encap && p.Remote.Port() != 0 && !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// obeyUpdate takes the IKE SA to where the update came from, and its children
// after a check of that.
func (sa *ikeSA) obeyUpdate(req *message, resp *draft) {
	sa.findNAT(req)
	if req.path == sa.path {
		return
	}
	if req.path == sa.espPath() {
		sa.moveTo(req.path) // back to where it has been all the time
		return
	}
	sa.moveIKE(req.path)
	resp.after(func() {
		sa.hurry(true)
		sa.startRoaming(&checkTask{})
	})
}

// watchesNAT: the side behind a NAT that may decide looks, while it asks
// whether the peer lives, whether the peer still sees it at the same address
// (RFC 4555 section 3.8).
func (sa *ikeSA) watchesNAT() bool { return sa.mobike && sa.dialed && sa.nat.Local }

// seenOtherwise takes the hash of our address in a peer's answer, and says
// whether it has changed since the last time. The first answer of each IKE SA,
// whose SPIs are in the hash, counts as a change: that costs an update (RFC 4555
// section 3.8), and finds a NAT that has changed before.
func (sa *ikeSA) seenOtherwise(m *message) bool {
	n := wire.FindNotify(m.payloads, wire.NotifyNATDetectionDestinationIP)
	if n == nil || bytes.Equal(n.Data, sa.seenAs) {
		return false
	}
	sa.seenAs = bytes.Clone(n.Data)
	return true
}
