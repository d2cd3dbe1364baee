package ikev2

import (
	"net/netip"
	"slices"
	"time"

	"culvert/ikev2/wire"
)

// Roam says that this host's way to a peer has changed, or leads somewhere
// again: Path is the way there now, with the ports of Connect. Its local address
// is used from now on; an SA that is up stays with the address that its peer is
// known by, unless that is of the other family. Again says that the way was gone,
// or that the machine slept, so that the peer is asked at once whether it is
// there. Where that is not answered soon a peer that is wanted is called anew
// beside.
type Roam struct {
	Peer  string
	Path  Path
	Again bool
}

func (Roam) command() {}

// doubtTries is how often a request goes out, in 3 s, before a peer that is
// doubted is called anew: since Roam, or since somebody said in the clear that it
// has lost the SA.
const doubtTries = 3

// roamJitter bounds the wait with which peers that were given up are called
// when the way to them is back.
const roamJitter = 500 * time.Millisecond

func (p *peer) roam(r Roam) {
	moved := r.Path.Local.Addr() != p.path.Local.Addr()
	if p.wanted {
		p.path = r.Path
		if moved {
			p.abandon()
		}
	}
	switch {
	case p.up != nil:
		p.up.roam(r)
	case p.attempt != nil:
		p.attempt.hurry(r.Again)
	}
	if p.idle() && (moved || r.Again) {
		p.failed = 0
		p.e.setTimer(&p.timers, timerReconnect, p.e.now.Add(p.e.part(roamJitter)))
	}
}

// abandon forgets the attempt that is under way.
func (p *peer) abandon() {
	if a := p.attempt; a != nil {
		p.attempt = nil
		a.end(ReasonReplaced)
	}
}

// roam is the part of an SA that is up.
func (sa *ikeSA) roam(r Roam) {
	to := sa.path
	to.Local = addrPort(r.Path.Local.Addr(), to.Local.Port())
	if to.Local.Addr().Is4() != to.Remote.Addr().Is4() {
		to.Remote = addrPort(sa.otherFamily(r.Path.Remote.Addr()), sa.peer.RemoteNATTPort)
	}
	switch {
	case to != sa.path:
		sa.moveTo(to)
		sa.hurry(true)
		sa.doubted = true
		sa.announce()
	case r.Again:
		sa.doubted = true
		sa.hurry(true)
		sa.ask()
	default:
		sa.hurry(false)
	}
}

// otherFamily is an address of the peer's in a's family: one that it told, or a.
func (sa *ikeSA) otherFamily(a netip.Addr) netip.Addr {
	if i := slices.IndexFunc(sa.others, func(o netip.Addr) bool { return o.Is4() == a.Is4() }); i >= 0 {
		return sa.others[i]
	}
	return a
}

// announce tells the peer that we are at another address. A peer without MOBIKE
// follows any authenticated message if it believes us behind a NAT; one that
// does not is lost to this SA.
func (sa *ikeSA) announce() {
	switch {
	case sa.mobike && sa.dialed:
		sa.startRoaming(&updateTask{})
	case sa.mobike:
		sa.start(wire.ExchangeInformational, &addressesTask{})
	case sa.nat.Local, !sa.peer.wanted:
		sa.ask()
	default:
		sa.ask()
		sa.peer.renew()
	}
}

// hurry sends the outstanding request again, if it has gone unanswered; the
// back-off begins anew where the way is another. RFC 4555 section 3.5 has
// requests that are out go on by the new addresses.
func (sa *ikeSA) hurry(anew bool) {
	x := sa.active
	switch {
	case x == nil:
		return
	case anew:
		x.tries = 0
	case x.tries < 2:
		return
	default:
		x.tries--
	}
	sa.resend(x)
}

// despair calls a peer that is doubted and does not answer in time anew, beside
// the SA that may yet be of use.
func (sa *ikeSA) despair() {
	if p := sa.peer; sa.doubted && p.up == sa && p.wanted && p.attempt == nil {
		p.connect()
	}
}

// answered ends the doubt, and with it the call beside that has not come as far
// as the peer's authentication.
func (sa *ikeSA) answered() {
	p := sa.peer
	if !sa.doubted || p.up != sa {
		return
	}
	sa.doubted = false
	if p.attempt != nil && p.attempt.state == stateInit && !p.stale {
		p.failed = 0
		p.abandon()
	}
}

// hear notes an authenticated IKE message. With MOBIKE none but
// UPDATE_SA_ADDRESSES changes addresses (RFC 4555 section 3.8).
func (sa *ikeSA) hear(p Path) {
	sa.heard = sa.e.now
	if !sa.mobike {
		sa.follow(p)
	}
}

// follow moves the SA to where an authenticated message or ESP packet came
// from, if that can be.
func (sa *ikeSA) follow(p Path) {
	sa.heard = sa.e.now
	if sa.mayMove(p) {
		sa.moveTo(p)
	}
}

// mayMove: a responder goes to the port for NAT traversal with its peer. Later
// only a NAT in front of the peer can have moved it, and a side that is itself
// behind one stays where it is (RFC 7296 section 2.23). What comes by port 500
// after that is old.
func (sa *ikeSA) mayMove(p Path) bool {
	switch {
	case p == sa.path || sa.path.Encap && !p.Encap:
		return false
	case sa.state == stateAuth:
		return !sa.initiator
	}
	return !sa.nat.Local && (sa.nat.Remote || !sa.nat.Known)
}

// moveTo takes the SA and its children to another path.
func (sa *ikeSA) moveTo(p Path) {
	esp, former := sa.espPath(), sa.path
	sa.path, sa.espHeld = p, Path{}
	sa.moved(esp, former)
}

// moveIKE takes only the SA there, until its peer has proven to be there.
func (sa *ikeSA) moveIKE(p Path) {
	esp, former := sa.espPath(), sa.path
	sa.path, sa.espHeld = p, esp
	sa.moved(esp, former)
}

// settle lets the children's ESP follow to where the peer has proven to be.
func (sa *ikeSA) settle() {
	if esp := sa.espHeld; esp.Encap {
		sa.espHeld = Path{}
		sa.moved(esp, sa.path)
	}
}

// goBack gives up a path at which the peer does not answer.
func (sa *ikeSA) goBack() {
	former := sa.path
	sa.path, sa.espHeld = sa.espHeld, Path{}
	sa.moved(sa.path, former)
}

// moved says what has become other.
func (sa *ikeSA) moved(esp, former Path) {
	if sa.path != former {
		sa.dropSearch()
		if sa.active != nil {
			sa.active.detoured = true
		}
	}
	if sa.state != stateUp {
		return
	}
	if to := sa.espPath(); to != esp {
		for _, c := range sa.children {
			sa.e.emit(MovePeer{c.in, to})
		}
	}
	if sa.path != former {
		sa.report(Event{Kind: EventMoved, Former: former})
	}
}

// espPath is the path of the children's ESP: always inside UDP on the ports
// for NAT traversal, whichever way IKE goes.
func (sa *ikeSA) espPath() Path {
	switch {
	case sa.espHeld.Encap:
		return sa.espHeld
	case !sa.path.Encap:
		return sa.floated()
	}
	return sa.path
}

func (sa *ikeSA) floated() Path {
	port := uint16(4500)
	if sa.peer != nil {
		port = sa.peer.RemoteNATTPort
	}
	return Path{
		Local:  addrPort(sa.path.Local.Addr(), sa.e.cfg.NATTPort),
		Remote: addrPort(sa.path.Remote.Addr(), port),
		Encap:  true,
	}
}

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
