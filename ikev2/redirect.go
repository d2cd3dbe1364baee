package ikev2

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"time"

	"culvert/ikev2/wire"
)

// A gateway sends its peers to another one (RFC 5685), in its answer to
// IKE_SA_INIT or, when the SA is up, in a request. A peer that allows it asks
// for the way there (Redial), connects, and only then leaves the old gateway.
// The identities and the key stay the configured ones, wherever it is sent.

// Drain has the gateway take no new peers. Those that can be redirected are
// sent to another gateway, new ones and those that are up; other new ones are
// refused, and others that are up stay. Then Shutdown says nothing to peers that
// hold a ticket, so that they can resume. Off ends it all.
type Drain struct {
	// To is the other gateway's address or host name; empty: there is none.
	To  string
	Off bool
}

// Redirected is the way that Redial asked for.
type Redirected struct {
	Peer string
	Path Path
}

func (Drain) command()      {}
func (Redirected) command() {}

// Redial wants the way to a gateway that a peer sends us to: an address or a
// name, the peer's word. The answer is Redirected, or nothing.
type Redial struct{ Peer, Host string }

func (Redial) output() {}

// The types of a gateway's identity (RFC 5685 section 7.2).
const (
	gatewayIPv4 = 1
	gatewayIPv6 = 2
	gatewayFQDN = 3
)

func gatewayOctets(host string) []byte {
	kind, id := uint8(gatewayFQDN), []byte(host)
	if a, err := netip.ParseAddr(host); err == nil {
		kind, id = gatewayIPv6, a.Unmap().AsSlice()
		if len(id) == 4 {
			kind = gatewayIPv4
		}
	}
	return append([]byte{kind, uint8(len(id))}, id...)
}

// parseGateway reads a gateway's identity; what follows is the nonce, in
// IKE_SA_INIT.
func parseGateway(b []byte) (host string, nonce []byte, ok bool) {
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return "", nil, false
	}
	kind, id, nonce := b[0], b[2:2+b[1]], b[2+b[1]:]
	switch {
	case kind == gatewayIPv4 && len(id) == 4, kind == gatewayIPv6 && len(id) == 16:
		a, _ := netip.AddrFromSlice(id)
		return a.String(), nonce, true
	case kind == gatewayFQDN:
		name := Identity{wire.IDFQDN, string(id)}
		return name.Data, nonce, name.check() == nil
	}
	return "", nil, false
}

// redirectableTask says that we can be sent elsewhere, and who sent us here
// (RFC 5685 sections 3 and 4).
type redirectableTask struct{}

func (redirectableTask) request(sa *ikeSA, req *draft) error {
	if !sa.peer.followsRedirects() {
		return nil
	}
	req.notify(wire.NotifyRedirectSupported, nil)
	if sa.peer.detour != (Path{}) {
		req.notify(wire.NotifyRedirectedFrom, gatewayOctets(sa.peer.sentBy.String()))
	}
	return nil
}

func (redirectableTask) response(*ikeSA, *message) error { return nil }

func answerRedirectable(sa *ikeSA, req *message, _ *draft) error {
	sa.redirectable = redirectable(req.payloads)
	return nil
}

func redirectable(ps []wire.Payload) bool {
	return wire.FindNotify(ps, wire.NotifyRedirectSupported) != nil || wire.FindNotify(ps, wire.NotifyRedirectedFrom) != nil
}

// drain begins or ends to take no new peers.
func (e *Engine) drain(c Drain) error {
	if _, _, ok := parseGateway(gatewayOctets(c.To)); c.To != "" && (!ok || len(c.To) > 255) {
		return errors.New("the other gateway is neither an address nor a host name")
	}
	e.draining, e.drainTo = !c.Off, c.To
	if c.Off || c.To == "" {
		return nil
	}
	for _, p := range e.peers {
		if p.up != nil && p.up.redirectable && !p.up.dialed {
			p.up.start(wire.ExchangeInformational, &redirectTask{c.To})
		}
	}
	return nil
}

// turnAway answers a new peer while the gateway drains.
func (e *Engine) turnAway(m *wire.Message, d Datagram) {
	if e.drainTo == "" || !redirectable(m.Payloads) {
		e.refuseInit(m.Header, d, wire.NotifyTemporaryFailure, nil)
		return
	}
	nonce, _ := wire.Find[*wire.Nonce](m.Payloads)
	e.refuseInit(m.Header, d, wire.NotifyRedirect, append(gatewayOctets(e.drainTo), nonce.Data...))
}

// redirectTask sends a peer that is up elsewhere (RFC 5685 section 5). It is
// the peer that leaves.
type redirectTask struct{ to string }

func (t *redirectTask) request(_ *ikeSA, req *draft) error {
	req.notify(wire.NotifyRedirect, gatewayOctets(t.to))
	return nil
}

func (t *redirectTask) response(*ikeSA, *message) error { return nil }

// answerRedirect takes the REDIRECT of a gateway that we are connected to.
func answerRedirect(sa *ikeSA, req *message, resp *draft) error {
	if sa.state == stateUp && sa.dialed {
		resp.after(func() { sa.redirected(req.payloads) })
	}
	return nil
}

// followTask takes a REDIRECT in IKE_AUTH (RFC 5685 section 6).
type followTask struct{}

func (followTask) request(*ikeSA, *draft) error { return nil }

func (followTask) response(sa *ikeSA, m *message) error {
	sa.redirected(m.payloads)
	return nil
}

func (sa *ikeSA) redirected(ps []wire.Payload) {
	if n := wire.FindNotify(ps, wire.NotifyRedirect); n != nil && sa.state == stateUp {
		if host, _, ok := parseGateway(n.Data); ok {
			sa.leaveFor(host)
		}
	}
}

// redirectedInit takes a REDIRECT in answer to the first request. It is not
// authenticated: only who has seen the request can know its nonce (RFC 5685
// section 4).
func (sa *ikeSA) redirectedInit(ps []wire.Payload) bool {
	n := wire.FindNotify(ps, wire.NotifyRedirect)
	if n == nil {
		return false
	}
	host, nonce, ok := parseGateway(n.Data)
	if !ok || !bytes.Equal(nonce, sa.ni) || !sa.leaveFor(host) {
		return false
	}
	sa.peer.abandon()
	sa.peer.retry() // in case that no way is found
	return true
}

// Where a peer is sent more often, it is sent in circles (RFC 5685 section 4).
const (
	maxRedirects   = 5
	redirectPeriod = 5 * time.Minute
)

func (p *peer) followsRedirects() bool { return p.Redirect == ModePrefer || p.Redirect == ModeRequire }

// leaveFor asks for the way to where this SA's peer sends us.
func (sa *ikeSA) leaveFor(host string) bool {
	p := sa.peer
	if !p.followsRedirects() || !p.wanted {
		return false
	}
	p.redirects = slices.DeleteFunc(p.redirects, func(at time.Time) bool { return sa.e.now.Sub(at) >= redirectPeriod })
	if len(p.redirects) >= maxRedirects {
		sa.report(Event{Kind: EventRefused, Reason: ReasonRedirects, Gateway: host})
		return false
	}
	p.redirects = append(p.redirects, sa.e.now)
	p.awaited, p.sentBy = true, sa.path.Remote.Addr()
	sa.report(Event{Kind: EventRedirected, Gateway: host})
	sa.e.emit(Redial{p.Name, host})
	return true
}

// goTo connects to where the peer was sent. An SA that is up stays until the
// new one is; its ticket may be good there.
func (p *peer) goTo(path Path) {
	if !p.awaited || !p.wanted {
		return
	}
	p.awaited, p.detour = false, path
	p.abandon()
	if p.up != nil {
		p.ticket, p.up.ticket = p.up.ticket, nil
	}
	p.connect()
}

// way is where the next attempt goes.
func (p *peer) way() Path {
	if p.detour != (Path{}) {
		return p.detour
	}
	return p.path
}
