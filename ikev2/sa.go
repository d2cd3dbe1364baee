package ikev2

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"time"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// state is how far an IKE SA has come.
type state uint8

const (
	stateInit     state = iota + 1 // initiator: IKE_SA_INIT is out
	stateAuth                      // keys are agreed, nobody is authenticated: IKE_INTERMEDIATE, IKE_AUTH
	stateHeir                      // made by a rekey, and not yet in the old SA's place
	stateUp                        // authenticated
	stateReplaced                  // another has its place; the peer deletes it
	stateClosing                   // our Delete, or our refusal, is out
	stateLinger                    // over; answers only a retransmission of the last request
	stateGone
)

// transitions are the only ways from one state to another.
var transitions = map[state][]state{
	0:             {stateInit, stateAuth, stateHeir},
	stateInit:     {stateAuth, stateGone},
	stateAuth:     {stateUp, stateClosing, stateLinger, stateGone},
	stateHeir:     {stateUp, stateReplaced, stateClosing, stateLinger, stateGone},
	stateUp:       {stateReplaced, stateClosing, stateLinger, stateGone},
	stateReplaced: {stateClosing, stateLinger, stateGone},
	stateClosing:  {stateLinger, stateGone},
	stateLinger:   {stateGone},
}

// requestsAllowed is which exchanges a peer may start in which state; before
// authentication takes decides. An SA that is on its way out refuses new children
// in words.
var requestsAllowed = map[state][]wire.ExchangeType{
	stateHeir:     {wire.ExchangeInformational, wire.ExchangeCreateChildSA},
	stateUp:       {wire.ExchangeInformational, wire.ExchangeCreateChildSA, wire.ExchangeIKEFollowupKE},
	stateReplaced: {wire.ExchangeInformational, wire.ExchangeCreateChildSA, wire.ExchangeIKEFollowupKE},
	stateClosing:  {wire.ExchangeInformational, wire.ExchangeCreateChildSA, wire.ExchangeIKEFollowupKE},
}

// takes: before authentication nothing but what leads to it is taken (hostile
// peers have tried the others), and IKE_AUTH not before all key exchanges that
// were negotiated are done (RFC 9370 section 2.2.2).
func (sa *ikeSA) takes(x wire.ExchangeType) bool {
	if sa.state == stateAuth {
		due := wire.ExchangeIKEAuth
		if sa.nextMethod() != 0 {
			due = wire.ExchangeIKEIntermediate
		}
		return !sa.initiator && x == due
	}
	return slices.Contains(requestsAllowed[sa.state], x)
}

// ikeSA is one IKE SA.
type ikeSA struct {
	e         *Engine
	peer      *peer // a responder knows it from IKE_AUTH on
	initiator bool  // of this SA: by IKE_SA_INIT, or of the rekey that made it
	state     state
	path      Path
	// espHeld is where the children's ESP goes on going until the peer has
	// proven that it is at path (RFC 4555 section 3.7); zero where both go the
	// same way.
	espHeld Path
	initKey initKey // of a responder
	spii    wire.SPI
	spir    wire.SPI
	// claimant is the source that this SA counts for as half-open, as long as it
	// does.
	claimant netip.Addr
	// born and proven order what happened to the engine's SAs: the first
	// message, authentication. dialed says that we began the connection, rank is
	// the initiator's SPI then. An SA that replaces another inherits them.
	born, proven uint64
	dialed       bool
	rank         wire.SPI
	// heir is the SA that the peer made to replace this one while we ask for
	// the same; heirOf is the way back (RFC 7296 section 2.25.2).
	heir, heirOf *ikeSA
	expected     wire.SPI // of the successor that we ask for
	lowNonce     []byte   // the lower nonce of the rekey that made this SA

	suite   keymat.IKESuite
	prf     keymat.PRF
	keys    keymat.IKEKeys
	in, out *keymat.Cipher
	ke      keymat.KeyExchange // until the keys are derived
	peerKE  []byte
	ni, nr  []byte
	// initReq and initResp are the messages that AUTH signs (RFC 7296 section
	// 2.15), gone when the SA is up.
	initReq, initResp []byte
	intermediate      intermediate
	usePPK, ppk       bool // both sides know of PPKs; the keys hold one
	nat               NAT
	// mobike: both sides speak MOBIKE. seenAs is the hash of our address as the
	// peer last saw it, doubted says that the way to the peer has changed, or that
	// the peer may have lost the SA, and nothing has been answered since, and
	// others are the addresses that the peer says it has beside the one in use.
	mobike  bool
	seenAs  []byte
	doubted bool
	others  []netip.Addr

	nextID   uint32 // of our next request
	active   *exchange
	queue    []*exchange
	expectID uint32            // of the peer's next request
	last     [sha256.Size]byte // digest of the peer's latest request
	lastIn   *keymat.Cipher    // that it came under
	answer   *parcel           // our answer to it

	// fragments: both sides take them. narrow: the larger ones seem not to get
	// through. partials are the peer's request and response on their way.
	fragments, narrow bool
	partials          [2]assembly
	search            *sizeSearch // for the path's MTU

	children  []*childSA
	virtual   []netip.Addr // the peer assigned them to us
	leases    []*lease     // we lease them to the peer
	pending   *childSA     // asked for by active, its inbound SPI reserved
	gone      [][]byte     // SPIs that the peer has deleted since, of children that we do not know
	making    *making      // what the peer asks for and has not exchanged all keys for
	wishes    []*wish      // child SAs to ask for
	childless bool         // the peer takes an IKE_AUTH without a child (RFC 6023)
	heard     time.Time    // authenticated traffic of the peer, IKE or ESP
	contested time.Time    // when another SA last wanted this one's place
	sent      time.Time    // anything of ours on path
	timers    timers
	complaint wire.NotifyType // an unprotected error was reported
	hinted    time.Time       // a liveness check was last made for an unprotected hint

	resumed      *ticket // that the SA is made from, until it is up
	ticket       *ticket // that the responder gave us
	ticketed     bool    // we gave the initiator one
	token        []byte  // that proves the peer's loss of the SA
	redirectable bool    // the initiator goes where we send it
}

func (e *Engine) newSA(p *peer, initiator bool, path Path, first state) *ikeSA {
	sa := &ikeSA{e: e, peer: p, initiator: initiator, path: path, born: e.tick()}
	sa.timers = timers{owner: sa, pos: -1}
	sa.setState(first)
	return sa
}

func (e *Engine) newInitiator(p *peer) (*ikeSA, error) {
	spi, err := e.newSPI()
	if err != nil {
		return nil, err
	}
	sa := e.newSA(p, true, p.way(), stateInit)
	sa.spii, sa.rank, sa.dialed = spi, spi, true
	e.sas[spi] = sa
	return sa, nil
}

func (sa *ikeSA) id() SAID { return SAID{sa.spii, sa.spir} }

func (sa *ikeSA) ownSPI() wire.SPI {
	if sa.initiator {
		return sa.spii
	}
	return sa.spir
}

func (sa *ikeSA) hasPeerSPI(spi wire.SPI) bool {
	if sa.initiator {
		return sa.state == stateInit || sa.spir == spi
	}
	return sa.spii == spi
}

// setState is the one gate for every change of state.
func (sa *ikeSA) setState(to state) {
	allowed := false
	for _, s := range transitions[sa.state] {
		allowed = allowed || s == to
	}
	if !allowed {
		sa.e.badTransitions++
	}
	sa.countHalfOpen(to)
	sa.state = to
	if to != stateUp {
		sa.dropSearch()
	}
}

// event fills in what every event of this SA says.
func (sa *ikeSA) event(ev Event) Event {
	ev.IKE, ev.Path, ev.NAT, ev.Initiator = sa.id(), sa.path, sa.nat, sa.initiator
	if sa.peer != nil {
		ev.Peer, ev.LocalID, ev.RemoteID = sa.peer.Name, sa.peer.LocalID, sa.peer.RemoteID
	}
	return ev
}

func (sa *ikeSA) report(ev Event) { sa.e.emit(sa.event(ev)) }

func (sa *ikeSA) timing() Timing {
	if sa.peer != nil {
		return sa.peer.Timing
	}
	return Timing{}.withDefaults()
}

// establish makes an authenticated SA usable and proves it to its peer.
func (sa *ikeSA) establish(initialContact bool) {
	sa.setState(stateUp)
	sa.proven = sa.e.tick()
	sa.initReq, sa.initResp, sa.intermediate = nil, nil, intermediate{}
	resumed := sa.resumed != nil
	sa.resumed = nil
	sa.e.setTimer(&sa.timers, timerLifetime, time.Time{})
	sa.heard = sa.e.now
	sa.report(Event{Kind: EventEstablished, Suite: sa.suite, PPK: sa.ppk, Resumed: resumed})
	sa.adopt()
	sa.peer.established(sa, initialContact)
	sa.armTimers()
	sa.e.then = append(sa.e.then, sa.bringUpChildren)
}

// armTimers starts the life of an SA that is up.
func (sa *ikeSA) armTimers() {
	sa.armDPD()
	sa.armKeepalive()
	sa.armLifetime()
}

// close tells the peer that the SA ends, and ends it when that is answered or
// the peer is given up.
func (sa *ikeSA) close(reason Reason) {
	if sa.state != stateUp {
		sa.end(reason)
		return
	}
	sa.report(Event{Kind: EventDown, Reason: reason})
	sa.sendDelete()
	sa.dropChildren(reason)
	sa.disinherit((*ikeSA).sendDelete)
	sa.leavePeer()
}

// sendDelete is the end of an SA on our side: only the answer is waited for.
func (sa *ikeSA) sendDelete() {
	sa.setState(stateClosing)
	sa.queue, sa.ticket = nil, nil
	for _, k := range []timerKind{timerDPD, timerRekey, timerLifetime} {
		sa.e.setTimer(&sa.timers, k, time.Time{})
	}
	sa.start(wire.ExchangeInformational, &deleteIKETask{})
}

// end forgets the SA at once.
func (sa *ikeSA) end(reason Reason) {
	if sa.state == stateGone {
		return
	}
	if sa.state == stateUp {
		sa.report(Event{Kind: EventDown, Reason: reason})
	}
	sa.setState(stateGone)
	sa.dropChildren(reason)
	sa.active, sa.queue = nil, nil
	sa.e.stopTimers(&sa.timers)
	delete(sa.e.sas, sa.ownSPI())
	sa.expectNone()
	if sa.e.inits[sa.initKey] == sa {
		delete(sa.e.inits, sa.initKey)
	}
	sa.disinherit(func(heir *ikeSA) { heir.end(reason) })
	sa.leaveTicket(reason)
	sa.leavePeer()
}

// linger ends the SA but for the answer to a retransmission, which the peer
// may need to learn why.
func (sa *ikeSA) linger(reason Reason) {
	if sa.state == stateUp {
		sa.report(Event{Kind: EventDown, Reason: reason})
	}
	sa.setState(stateLinger)
	sa.dropChildren(reason)
	sa.active, sa.queue, sa.ticket, sa.partials = nil, nil, nil, [2]assembly{}
	sa.e.stopTimers(&sa.timers)
	sa.e.setTimer(&sa.timers, timerLifetime, sa.e.now.Add(lingerTime))
	sa.disinherit(func(heir *ikeSA) { heir.end(reason) })
	sa.leavePeer()
}

func (sa *ikeSA) leavePeer() {
	sa.returnAddresses()
	if sa.peer != nil {
		sa.peer.lost(sa)
	}
}

func (sa *ikeSA) expire(k timerKind) {
	switch k {
	case timerRetransmit:
		sa.retransmit()
	case timerLifetime:
		sa.expired()
	case timerRekey:
		sa.rekey()
	case timerDPD:
		sa.probe()
	case timerKeepalive:
		sa.keepalive()
	case timerChildren:
		sa.askForChild()
	case timerFollowup:
		sa.unmake()
	case timerFragments:
		sa.dropPartials()
	case timerProbe:
		sa.probeLost()
	}
}
