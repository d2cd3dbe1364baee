package ikev2

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"net/netip"
	"time"

	"culvert/ikev2/wire"
)

// Engine is the IKEv2 protocol of one gateway: every peer's IKE SAs and child
// SAs, without I/O. It is driven from one goroutine: after each input the
// caller drains Poll. The same configuration, random bytes and inputs give
// the same outputs.
type Engine struct {
	cfg    Config
	rand   io.Reader
	now    time.Time
	peers  []*peer
	byName map[string]*peer
	// byRemoteID is the first half of the look-up by a pair of identities.
	byRemoteID map[Identity][]*peer
	accepted   []Proposal    // every peer's IKE proposals, each once
	strangers  Fragmentation // of peers that are not known yet

	sas    map[wire.SPI]*ikeSA // by our own SPI
	coming map[wire.SPI]*ikeSA // which IKE SA asks for a successor with this SPI
	inits  map[initKey]*ikeSA  // as responder, by what identifies an IKE_SA_INIT
	claims claims              // child SAs by what they protect
	spis   spiTable
	// leases are the addresses of our pools that peers have or had.
	leases leaseTable
	heap   timerHeap
	out    []Output
	drops  [numDrops]uint64
	// halfOpen counts the SAs of initiators that have not authenticated, limits
	// bounds them, and cookies thin them out.
	halfOpen crowd
	limits   Limits
	cookies  cookies
	// badTransitions counts changes of state that the table forbids: a bug.
	badTransitions int

	// then is what is done when the input at hand has been dealt with.
	then []func()
	// ticks counts the events in the lives of SAs whose order matters.
	ticks uint64
	// shut: Shutdown was said; draining: Drain was, with drainTo.
	shut, draining bool
	drainTo        string
	// spent are the tickets that have been used, and when they expire.
	spent map[ticketSalt]time.Time
	// probing are the IKE SAs that wait for an answer to a probe, by its SPI.
	probing map[wire.SPI]*ikeSA

	replies budget // of unprotected messages
	repeats budget // of answers from the cache
	hints   budget // that an SA is lost
}

// initKey finds the SA of a retransmitted IKE_SA_INIT request: by the whole
// message, for two peers behind one NAT may choose the same SPI, and so may a
// forger (RFC 7296 section 2.1).
type initKey struct {
	remote netip.AddrPort
	digest [sha256.Size]byte
}

// New makes an engine. Random bytes for SPIs, nonces and key exchange come
// from rand alone; an error of it is fatal to what needed the bytes, never to
// the engine.
func New(cfg Config, rand io.Reader) *Engine {
	if cfg.IKEPort == 0 {
		cfg.IKEPort = 500
	}
	if cfg.NATTPort == 0 {
		cfg.NATTPort = 4500
	}
	e := &Engine{
		cfg: cfg, rand: rand, limits: cfg.Limits.withDefaults(), halfOpen: crowd{by: map[netip.Addr]int{}},
		sas: map[wire.SPI]*ikeSA{}, coming: map[wire.SPI]*ikeSA{}, inits: map[initKey]*ikeSA{}, claims: claims{},
		spent: map[ticketSalt]time.Time{}, probing: map[wire.SPI]*ikeSA{},
		replies: replyBudget, repeats: repeatBudget, hints: budget{total: hintsPerSecond, each: hintsOfSource},
	}
	e.leases.seed(e, cfg.Leases)
	var peers []*peer
	for _, policy := range cfg.Peers {
		peers = append(peers, newPeer(e, policy.withDefaults()))
	}
	e.know(peers)
	return e
}

// know makes these the peers of the engine, and no others.
func (e *Engine) know(peers []*peer) {
	e.peers, e.accepted = peers, nil
	e.byName, e.byRemoteID = map[string]*peer{}, map[Identity][]*peer{}
	seen, lists := map[string]bool{}, map[*Proposal]bool{}
	for _, p := range peers {
		e.byName[p.Name] = p
		e.byRemoteID[p.RemoteID] = append(e.byRemoteID[p.RemoteID], p)
		if len(p.IKE) == 0 || lists[&p.IKE[0]] {
			continue
		}
		lists[&p.IKE[0]] = true
		for _, prop := range p.IKE {
			if s := prop.String(); !seen[s] {
				seen[s] = true
				e.accepted = append(e.accepted, prop)
			}
		}
	}
	e.accepted, e.strangers = additionalFirst(e.accepted), forStrangers(e.peers)
}

// HandleDatagram takes one received IKE message through its stages: header,
// cached answer, decryption, parsing, legality, tasks. What fails at any stage
// is counted and leaves the SA as it was.
func (e *Engine) HandleDatagram(now time.Time, d Datagram) {
	e.now = now
	h, err := wire.ParseHeader(d.Payload)
	switch {
	case err != nil || int(h.Length) != len(d.Payload):
		e.drop(dropHeader)
	case e.probing[h.InitiatorSPI] != nil && h.Flags&wire.FlagResponse != 0:
		e.probing[h.InitiatorSPI].probeAnswered(d.Path)
	case h.Exchange == wire.ExchangeInformational && h.Major == 2 && h.Flags&wire.FlagResponse == 0 && inTheClear(h):
		e.unprotectedSPI(d)
	case h.InitiatorSPI == (wire.SPI{}):
		e.drop(dropHeader)
	case h.Major != 2:
		e.refuseVersion(h, d)
	case opens(h.Exchange) && h.Flags&wire.FlagResponse == 0:
		e.answerInit(h, d)
	default:
		e.dispatch(h, d)
	}
	for len(e.then) > 0 {
		f := e.then[0]
		e.then = e.then[1:]
		f()
	}
}

// dispatch hands a message to its SA. The initiator flag says which of the
// two SPIs is ours (RFC 7296 section 3.1).
func (e *Engine) dispatch(h wire.Header, d Datagram) {
	ours, theirs := h.ResponderSPI, h.InitiatorSPI
	fromInitiator := h.Flags&wire.FlagInitiator != 0
	if !fromInitiator {
		ours, theirs = theirs, ours
	}
	sa := e.sas[ours]
	if sa == nil || sa.initiator == fromInitiator || !sa.hasPeerSPI(theirs) {
		e.drop(dropUnknownSA)
		if sa == nil && e.coming[ours] == nil {
			e.answerUnknownSA(h, d)
		}
		return
	}
	if inTheClear(h) {
		sa.unprotected(d)
		return
	}
	if h.Flags&wire.FlagResponse != 0 {
		sa.handleResponse(h, d)
	} else {
		sa.handleRequest(h, d)
	}
}

// Command carries out what the operator or the data path asks for. The error
// names a peer or a child that is not configured.
func (e *Engine) Command(now time.Time, c Command) error {
	e.now = now
	switch c := c.(type) {
	case Connect:
		return e.withPeer(c.Peer, func(p *peer) { p.connectTo(c) })
	case Acquire:
		var refused error
		err := e.withPeer(c.Peer, func(p *peer) { refused = p.acquire(c) })
		return cmp.Or(err, refused)
	case Raise:
		return e.say(c.Peer, c.Child, true)
	case Lower:
		return e.say(c.Peer, c.Child, false)
	case Disconnect:
		return e.withPeer(c.Peer, (*peer).disconnect)
	case Shutdown:
		e.shutdown()
	case Moved:
		if child := e.spis.get(c.SPI); child != nil {
			child.sa.follow(c.Path)
		}
	case Roam:
		return e.withPeer(c.Peer, func(p *peer) { p.roam(c) })
	case Slept:
		e.slept(c.For)
	case Traffic:
		if child := e.spis.get(c.SPI); child != nil {
			child.traffic(c, now)
		}
	case UnknownSPI:
		e.unknownSPI(c)
	case Drain:
		return e.drain(c)
	case Redirected:
		return e.withPeer(c.Peer, func(p *peer) { p.goTo(c.Path) })
	case Rekey:
		if child := e.spis.get(c.SPI); child != nil {
			child.rekey()
		}
	case Measure:
		return e.withPeer(c.Peer, func(p *peer) {
			if p.up != nil {
				p.up.ask()
			}
		})
	case FindPathMTU:
		return e.withPeer(c.Peer, func(p *peer) {
			if p.up != nil {
				p.up.findPathMTU(c.Most)
			}
		})
	case Reveal:
		e.reveal(c.On)
	case RekeyIKE:
		return e.withPeer(c.Peer, func(p *peer) {
			if p.up != nil {
				p.up.rekey()
			}
		})
	}
	return nil
}

// shutdown leaves nothing but SAs whose peer is being told, and those that are
// over.
func (e *Engine) shutdown() {
	e.shut = true
	for _, p := range e.peers {
		if e.draining && p.up != nil && p.up.ticketed {
			p.wanted = false
			p.up.end(ReasonDisconnect)
		}
		p.disconnect()
	}
	for _, sa := range e.sas {
		if sa.state == stateAuth {
			sa.end(ReasonDisconnect)
		}
	}
}

func (e *Engine) withPeer(name string, do func(*peer)) error {
	p := e.byName[name]
	if p == nil {
		return fmt.Errorf("no peer is named %q", name)
	}
	do(p)
	return nil
}

// Poll gives the next output; false when there is none.
func (e *Engine) Poll() (Output, bool) {
	if len(e.out) == 0 {
		e.out = nil
		return nil, false
	}
	o := e.out[0]
	e.out = e.out[1:]
	return o, true
}

// Idle says that no SA is left, not even one that is being deleted; only some
// that are over and may still answer a retransmission.
func (e *Engine) Idle() bool {
	for _, sa := range e.sas {
		if sa.state != stateLinger && sa.state != stateReplaced {
			return false
		}
	}
	return true
}

func (e *Engine) tick() uint64 {
	e.ticks++
	return e.ticks
}

func (e *Engine) emit(o Output) { e.out = append(e.out, o) }

func (e *Engine) transmit(p Path, b []byte) { e.emit(Transmit{Path: p, Payload: b}) }

func (e *Engine) random(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(e.rand, b)
	return b, err
}

func (e *Engine) newSPI() (spi wire.SPI, err error) {
	for spi == (wire.SPI{}) || e.sas[spi] != nil {
		if _, err = io.ReadFull(e.rand, spi[:]); err != nil {
			return spi, err
		}
	}
	return spi, nil
}

// jitter is any wait up to d, so that peers which failed together return
// spread over all of it.
func (e *Engine) jitter(d time.Duration) time.Duration { return d - e.part(d) }

// refuseVersion answers a request of a later major version with what we speak
// (RFC 7296 section 2.5), unprotected. IKEv1 gets no answer: its header has other
// meanings.
func (e *Engine) refuseVersion(h wire.Header, d Datagram) {
	e.drop(dropVersion)
	if h.Major < 2 || h.Flags&wire.FlagResponse != 0 {
		return
	}
	h.Flags ^= wire.FlagResponse | wire.FlagInitiator
	e.replyClear(h, d, &wire.Notify{NotifyType: wire.NotifyInvalidMajorVersion})
}

// drop is a reason for which a datagram, or a part of one, had no effect.
type drop uint8

const (
	dropHeader             drop = iota // shorter than a header, length wrong, initiator SPI zero
	dropVersion                        // another major version
	dropUnknownSA                      // no SA has these SPIs in this role
	dropMessageID                      // outside the window of one
	dropState                          // an exchange that has no place in this state
	dropIntegrity                      // the checksum is wrong
	dropMalformed                      // a message that breaks the format or the rules
	dropReflected                      // our own IKE_SA_INIT came back
	dropUnexpected                     // a response nobody waits for
	dropRetransmitted                  // answered from the cache
	dropHalfOpen                       // too many unauthenticated SAs
	dropRandom                         // the source of random bytes failed
	dropRefused                        // an IKE_SA_INIT that was answered with a refusal
	dropUnprotected                    // an unprotected answer that only a forger or a refusing peer sends
	dropHalfOpenSource                 // too many unauthenticated SAs of one source
	dropCookie                         // an IKE_SA_INIT without the cookie that it needs; it was asked for it
	dropReply                          // an unprotected reply that was not sent: too many, or longer than what it answers
	dropFragment                       // a fragment that is there already, or of an older division of its message
	dropFragmentLimit                  // fragments that are too many or too large
	dropFragmentIncomplete             // a message of which not all fragments came
	dropConfiguration                  // a configuration payload, or an attribute, that has no place or makes no sense
	numDrops
)

var dropNames = [numDrops]string{
	"ike_bad_header", "ike_version", "ike_unknown_sa", "ike_message_id", "ike_state", "ike_integrity",
	"ike_malformed", "ike_reflected", "ike_unexpected_response", "ike_retransmission", "ike_half_open_limit", "ike_no_random",
	"ike_init_refused", "ike_unprotected_notify", "ike_half_open_source_limit", "ike_cookie_asked", "ike_reply_limit",
	"ike_fragment_duplicate", "ike_fragment_limit", "ike_fragment_incomplete", "ike_configuration",
}

func (e *Engine) drop(d drop) { e.drops[d]++ }

// Drops counts, by name, the datagrams that had no effect.
func (e *Engine) Drops() map[string]uint64 {
	m := make(map[string]uint64, numDrops)
	for i, n := range e.drops {
		m[dropNames[i]] = n
	}
	return m
}
