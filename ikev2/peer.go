package ikev2

import (
	"net/netip"
	"slices"
	"time"

	"culvert/ikev2/wire"
)

// peer is a configured Peer and what is going on with it.
type peer struct {
	Peer
	e       *Engine
	wanted  bool   // Connect was said, Disconnect was not
	path    Path   // where Connect sends IKE_SA_INIT
	attempt *ikeSA // our own IKE SA on its way up
	up      *ikeSA
	virtual []netip.Addr // what the peer assigned us last
	stale   bool         // up is to be replaced by one of our own
	leaving *ikeSA       // replaced by up with the input at hand
	failed  int          // attempts since the peer was last up
	// acquired are wishes of packets for when there is an IKE SA; again is when
	// they may have it tried for.
	acquired []*wish
	again    time.Time
	said     map[string]bool // whether children are to be up, by name (raise.go)
	timers   timers

	ticket    *ticket     // of an SA that was lost, for the next attempt
	redirects []time.Time // when the peer sent us elsewhere
	awaited   bool        // Redial was said, Redirected was not
	detour    Path        // where it sent us, until that fails
	sentBy    netip.Addr

	roundTrip time.Duration
}

// withDefaults fills in what is left to the engine.
func (cfg Peer) withDefaults() Peer {
	cfg.IKE = cfg.PostQuantum.proposals(cfg.IKE)
	cfg.Children = slices.Clone(cfg.Children)
	for i := range cfg.Children {
		if len(cfg.Children[i].ESP) == 0 {
			cfg.Children[i].ESP = defaultESP
		}
		if cfg.Children[i].Lifetime == 0 {
			cfg.Children[i].Lifetime = defaultChildLifetime
		}
	}
	if cfg.IKELifetime == 0 {
		cfg.IKELifetime = defaultIKELifetime
	}
	if cfg.RemoteNATTPort == 0 {
		cfg.RemoteNATTPort = 4500
	}
	cfg.Timing = cfg.Timing.withDefaults()
	return cfg
}

func newPeer(e *Engine, policy Peer) *peer {
	p := &peer{Peer: policy, e: e}
	p.timers = timers{owner: p, pos: -1}
	return p
}

func (p *peer) connectTo(c Connect) {
	if c.Once {
		p.connectOnce(c.Path)
		return
	}
	was := p.wanted
	p.path, p.wanted = c.Path, true
	switch {
	case c.Anew:
		p.renew()
	case !was && p.up == nil && p.attempt == nil:
		p.connect()
	}
}

// renew makes another IKE SA, in place of the one that is on its way up and, in
// the end, of the one that is up.
func (p *peer) renew() {
	attempt := p.attempt
	p.attempt, p.failed, p.stale = nil, 0, p.up != nil
	if attempt != nil {
		attempt.end(ReasonReplaced)
	}
	p.connect()
}

func (p *peer) connect() {
	p.e.setTimer(&p.timers, timerReconnect, time.Time{})
	sa, err := p.e.newInitiator(p)
	if err != nil {
		p.e.drop(dropRandom)
		p.retry()
		return
	}
	p.attempt = sa
	p.e.emit(sa.event(Event{Kind: EventConnecting, Attempt: p.failed + 1}))
	if t := p.takeTicket(); t != nil {
		sa.start(wire.ExchangeIKESessionResume, resumeTasks(t)...)
		return
	}
	sa.start(wire.ExchangeIKESAInit, initTasks()...)
}

func (p *peer) disconnect() {
	p.wanted = false
	p.end(ReasonDisconnect)
}

// end takes down what there is of the peer, and waits for nothing.
func (p *peer) end(reason Reason) {
	attempt, up := p.attempt, p.up
	p.attempt, p.up, p.stale = nil, nil, false
	p.awaited, p.ticket, p.detour = false, nil, Path{}
	p.e.stopTimers(&p.timers)
	if attempt != nil {
		attempt.end(reason)
	}
	if up != nil {
		up.close(reason)
	}
}

// idle: the peer is wanted, and nothing goes on that brings it up.
func (p *peer) idle() bool { return p.wanted && p.attempt == nil && (p.up == nil || p.stale) }

// lost is told that an SA of this peer is no longer of use.
func (p *peer) lost(sa *ikeSA) {
	switch sa {
	case p.attempt:
		p.attempt = nil
		p.failed++
		p.detour = Path{}
		if p.stale && p.failed%2 == 1 {
			p.detour = p.up.path // where it is now, if not where it was called
		}
		if !p.wanted {
			p.rest()
		}
	case p.up:
		p.up, p.stale = nil, false
	default:
		return
	}
	switch {
	case !p.idle():
	case p.ticket != nil && p.up == nil: // good for one attempt, so that the next one waits
		p.connect()
	default:
		p.retry()
	}
}

func (p *peer) retry() {
	wait := p.e.jitter(backoff(p.Timing.Reconnect, p.Timing.ReconnectMax, p.failed))
	p.e.setTimer(&p.timers, timerReconnect, p.e.now.Add(wait))
	p.e.emit(Event{Kind: EventRetrying, Peer: p.Name, Path: p.way(), Attempt: p.failed, Wait: wait})
}

func (p *peer) expire(timerKind) {
	if p.idle() {
		p.connect()
	}
}

// established makes sa the peer's SA. An older one of the same identities is
// taken down only when the new one is proven, and its children are in use.
func (p *peer) established(sa *ikeSA, initialContact bool) {
	attempt, old := p.attempt, p.up
	p.attempt, p.up, p.stale, p.failed = nil, sa, false, 0
	p.e.setTimer(&p.timers, timerReconnect, time.Time{})
	if attempt != nil && attempt != sa {
		attempt.end(ReasonReplaced)
	}
	switch {
	case old == nil:
	case initialContact:
		old.end(ReasonReplaced) // the peer has forgotten it (RFC 7296 section 2.4)
	default:
		p.leaving = old
		p.e.then = append(p.e.then, func() {
			p.leaving = nil
			old.makeWay(sa)
		})
	}
}

// findPeer looks a connection up by both identities; a peer that does not say
// whom it wants takes the first that knows it. Nobody else is who we are.
func (e *Engine) findPeer(said, wanted Identity) *peer {
	for _, p := range e.byRemoteID[said] {
		if p.LocalID != said && (wanted == Identity{} || p.LocalID == wanted) {
			return p
		}
	}
	return nil
}
