package gateway

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"culvert/config"
	"culvert/diagnose"
	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// peerStatus is what control remembers of a peer between events.
type peerStatus struct {
	PeerStatus
	code string       // of Problem, as diagnose names it
	nat  diagnose.NAT // as found last
}

func newPeerStatus(p *config.Peer) *peerStatus {
	return &peerStatus{PeerStatus: PeerStatus{Name: p.Name, State: "down", LocalID: p.LocalID.String(), RemoteID: p.RemoteID.String(), NAT: ikev2.NAT{}.String()}}
}

// happened writes an event down: into the log, a line and where something
// failed a paragraph, and into the peer's status.
func (c *control) happened(ctx context.Context, e ikev2.Event) {
	report, text := c.explain(e), sentence(e)
	if report.Detail != "" {
		text = report.Detail
	}
	again := c.saidBefore(e, report)
	if p := c.peers[e.Peer]; p != nil {
		p.note(e, text)
		p.Totals.note(e)
		if p.Problem == text {
			p.code, p.Why = report.Code, cmp.Or(report.Summary, strings.TrimPrefix(sentence(e), e.Peer+": "))
		}
	}
	if ch := c.children[e.InboundSPI]; ch != nil && e.Kind == ikev2.EventChildUp {
		ch.askedLocal, ch.askedRemote = e.PeerLocalTS, e.PeerRemoteTS
	}
	c.watch.saw(e, report)
	if e.Kind == ikev2.EventLeased {
		c.leasesChanged = true
	}
	if e.Kind == ikev2.EventRetrying {
		c.lookAgain(ctx, e.Peer)
	}
	if unproven(e) && !c.allowStranger(e.Kind) {
		return
	}
	level := slog.LevelInfo
	if troubles[e.Kind] || ranOut(e) {
		level = slog.LevelWarn
	}
	if again {
		text = report.Summary + ", as before"
	}
	c.g.log.Log(ctx, level, text, attributes(e, report)...)
}

// saidBefore: the log has the whole paragraph, and what has happened since is the
// same again. A peer that is refused for a week is one paragraph, and lines.
func (c *control) saidBefore(e ikev2.Event, r diagnose.Report) bool {
	if r.Summary == "" {
		return false
	}
	p := c.peers[e.Peer]
	return p != nil && p.Problem == r.Detail ||
		slices.ContainsFunc(c.watch.refused, func(old refusal) bool { return old.report.Detail == r.Detail })
}

// troubles are the events that keep a tunnel from being up.
var troubles = map[ikev2.EventKind]bool{
	ikev2.EventUnprotectedError: true, ikev2.EventRefused: true, ikev2.EventRefusedByPeer: true, ikev2.EventGaveUp: true,
}

// ranOut: a tunnel's lifetime was over, and nothing has taken its place.
func ranOut(e ikev2.Event) bool {
	return e.Kind == ikev2.EventChildDown && e.Reason == ikev2.ReasonExpired
}

// noPath says that a peer cannot even be called, and why.
func (c *control) noPath(p *config.Peer, err error) {
	r, s := facts{cfg: c.g.cfg}.noPath(p, err), c.peers[p.Name]
	if s.Problem == r.Detail {
		return // said, and tried every few seconds
	}
	s.Problem, s.Why, s.code = r.Detail, r.Summary, r.Code
	c.g.log.Warn(r.Detail, "event", "no_path", "peer", p.Name, "wait", dialRetry, "diagnosis", r.Code)
}

// lookAgain gives the next attempt the address that the peer's name has then.
func (c *control) lookAgain(ctx context.Context, name string) {
	for i := range c.g.cfg.Peers {
		if p := &c.g.cfg.Peers[i]; p.Name == name && c.initiates(p) {
			c.dial(ctx, p)
		}
	}
}

// unproven: anybody on the internet can make this event happen, as often as it
// likes, without being the peer that it may name.
func unproven(e ikev2.Event) bool {
	return e.Peer == "" || e.Kind == ikev2.EventRefused && !e.Initiator && !e.Renewal
}

// strangersPerSecond bounds the records of each kind that strangers cause, so
// that a flood of refusals does not become a flood of log.
const strangersPerSecond = 5

// strangers are the records of one kind that strangers cause.
type strangers struct {
	limiter
	leftOut int // and not told of
}

func (c *control) allowStranger(k ikev2.EventKind) bool {
	s := c.strangers[k]
	if s == nil {
		s = &strangers{limiter: limiter{every: time.Second / strangersPerSecond, burst: strangersPerSecond}}
		c.strangers[k] = s
	}
	if s.allow(nanotime()) {
		return true
	}
	s.leftOut++
	c.g.counters.count(recordsLeftOut)
	return false
}

// tellLeftOut says how many records are missing, once in a trafficInterval.
func (c *control) tellLeftOut() {
	for _, k := range slices.Sorted(maps.Keys(c.strangers)) {
		if s := c.strangers[k]; s.leftOut > 0 {
			c.g.log.Warn(fmt.Sprintf("%d more like the last %q, of anybody, are left out here", s.leftOut, k), "event", "left_out", "kind", k.String(), "count", s.leftOut)
			s.leftOut = 0
		}
	}
}

// note takes an event, and the text that says what it is. While an IKE SA is
// up, what happens outside it changes nothing: anybody may try to be this peer.
func (p *peerStatus) note(e ikev2.Event, text string) {
	if p.State == "up" && e.Kind != ikev2.EventEstablished && !p.has(e.IKE) && !p.has(e.Replaced) {
		return
	}
	switch e.Kind {
	case ikev2.EventConnecting:
		p.State, p.Attempt, p.Since = "connecting", e.Attempt, time.Now()
	case ikev2.EventEstablished:
		p.State, p.Since, p.Attempt, p.Problem, p.Why = "up", time.Now(), 0, "", ""
		p.InitiatorSPI, p.ResponderSPI = hex8(e.IKE.Initiator), hex8(e.IKE.Responder)
		p.Initiator, p.NAT, p.Suite, p.PostQuantum, p.Resumed = e.Initiator, e.NAT.String(), suiteText(e), postQuantum(e), e.Resumed
	case ikev2.EventRekeyed:
		p.InitiatorSPI, p.ResponderSPI = hex8(e.IKE.Initiator), hex8(e.IKE.Responder)
		p.Initiator, p.Suite, p.PostQuantum = e.Initiator, suiteText(e), postQuantum(e)
	case ikev2.EventGaveUp, ikev2.EventRefusedByPeer:
		if p.State == "connecting" {
			p.State = "down" // unless EventRetrying follows
		}
	case ikev2.EventRetrying:
		p.State = "connecting"
	case ikev2.EventChildUp:
		p.Problem, p.Why = "", ""
	case ikev2.EventDown:
		p.State, p.Since = "down", time.Now()
		p.InitiatorSPI, p.ResponderSPI, p.Suite, p.PostQuantum = "", "", "", false
	}
	if e.NAT.Known {
		p.nat, p.NAT = diagnose.NAT(e.NAT), e.NAT.String()
	}
	if troubles[e.Kind] || e.Kind == ikev2.EventDown || ranOut(e) {
		p.Problem = text
	}
	if e.Path.Remote.IsValid() {
		p.LocalAddress, p.RemoteAddress = e.Path.Local, e.Path.Remote
	}
}

func (p *peerStatus) has(id ikev2.SAID) bool {
	return p.InitiatorSPI == hex8(id.Initiator) && p.ResponderSPI == hex8(id.Responder)
}

func hex8(spi wire.SPI) string { return fmt.Sprintf("%x", spi[:]) }

func spiText(spi uint32) string { return fmt.Sprintf("%08x", spi) }

func suiteText(e ikev2.Event) string {
	p := ikev2.Proposal{{Type: wire.TransformEncr, ID: e.Suite.Encr, KeyBits: e.Suite.KeyBits}, {Type: wire.TransformPRF, ID: e.Suite.PRF}}
	if e.Suite.Integ != 0 {
		p = append(p, wire.Transform{Type: wire.TransformInteg, ID: e.Suite.Integ})
	}
	p = append(p, wire.Transform{Type: wire.TransformKE, ID: e.Suite.Group})
	for i, id := range e.Suite.AddKE {
		if id != 0 {
			p = append(p, wire.Transform{Type: wire.TransformADDKE1 + wire.TransformType(i), ID: id})
		}
	}
	if e.PPK {
		return p.String() + "/PPK"
	}
	return p.String()
}

// postQuantum says that no quantum computer gets the keys out of what is recorded
// today.
func postQuantum(e ikev2.Event) bool { return e.PPK || e.Suite.AddKE != [7]uint16{} }

func groupText(id uint16) string { return wire.Transform{Type: wire.TransformKE, ID: id}.String() }

// sentence says in a line what happened.
func sentence(e ikev2.Event) string {
	remote := e.Path.Remote
	switch e.Kind {
	case ikev2.EventConnecting:
		return fmt.Sprintf("%s: IKE_SA_INIT to %v, attempt %d", e.Peer, remote, e.Attempt)
	case ikev2.EventRetryKE:
		return fmt.Sprintf("%s: the peer wants key exchange group %s; trying again with it", e.Peer, groupText(e.Suite.Group))
	case ikev2.EventRetryCookie:
		return fmt.Sprintf("%s: the peer wants a cookie; trying again with it", e.Peer)
	case ikev2.EventInit:
		return fmt.Sprintf("%s: IKE_SA_INIT with %v done, %s; NAT: %v", orStranger(e.Peer), remote, suiteText(e), natText(e))
	case ikev2.EventFloat:
		return fmt.Sprintf("%s: moving to UDP port %d", e.Peer, remote.Port())
	case ikev2.EventEstablished:
		how := "authenticated"
		if e.Resumed {
			how = "resumed the session with"
		}
		return fmt.Sprintf("%s: %s %v (%s) at %v; we are %v; %s", e.Peer, how, e.RemoteID, e.RemoteID.TypeName(), remote, e.LocalID, suiteText(e))
	case ikev2.EventChildUp:
		return fmt.Sprintf("%s: tunnel %s is up, %v <-> %v, %v, SPIs %08x in, %08x out", e.Peer, e.Child, list(e.LocalTS), list(e.RemoteTS), e.ESP, e.InboundSPI, e.OutboundSPI)
	case ikev2.EventRekeyed:
		return fmt.Sprintf("%s: the connection with %v has new keys, %s", e.Peer, remote, suiteText(e))
	case ikev2.EventLeased:
		return fmt.Sprintf("%s: has %s, from %s", e.Peer, addrList(e.Addresses), strings.Join(e.Pools, ", "))
	case ikev2.EventAssigned:
		return fmt.Sprintf("%s: we are %s there", e.Peer, addrList(e.Addresses))
	case ikev2.EventChildDown:
		return fmt.Sprintf("%s: tunnel %s is down: %s", e.Peer, e.Child, reasonText(e.Reason))
	case ikev2.EventDown:
		return fmt.Sprintf("%s: the connection with %v is down: %s", e.Peer, remote, reasonText(e.Reason))
	case ikev2.EventRetrying:
		return fmt.Sprintf("%s: next attempt in %v", e.Peer, e.Wait.Round(10*time.Millisecond))
	case ikev2.EventTicketRefused:
		return fmt.Sprintf("%s: %v does not resume the session; a full exchange follows", e.Peer, remote)
	case ikev2.EventRedirected:
		return fmt.Sprintf("%s: %v sends us to %s", e.Peer, remote, e.Gateway)
	case ikev2.EventMoved:
		return fmt.Sprintf("%s: goes by %v <-> %v now, before by %v <-> %v", e.Peer, e.Path.Local, remote, e.Former.Local, e.Former.Remote)
	case ikev2.EventRefused:
		return fmt.Sprintf("%s at %v is refused: %s", orStranger(e.Peer), remote, reasonText(e.Reason))
	case ikev2.EventRefusedByPeer:
		return fmt.Sprintf("%s: %v refused us: %s%s", e.Peer, remote, reasonText(e.Reason), notifyText(e.Notify))
	case ikev2.EventGaveUp:
		return fmt.Sprintf("%s: %v did not answer %v, sent %d times in %v", e.Peer, remote, e.Exchange, e.Attempt, e.Wait.Round(time.Second))
	case ikev2.EventUnprotectedError:
		return fmt.Sprintf("%s: %v answered %v, unprotected; going on in case that is forged", e.Peer, remote, e.Notify)
	}
	return fmt.Sprintf("%s: %v", orStranger(e.Peer), e.Kind)
}

func notifyText(n wire.NotifyType) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%v)", n)
}

func orStranger(peer string) string {
	if peer == "" {
		return "a peer"
	}
	return peer
}

func natText(e ikev2.Event) string {
	switch {
	case !e.NAT.Known:
		return "not known, the peer does not detect it"
	case e.NAT.Local && e.NAT.Remote:
		return "in front of this side and in front of the peer"
	case e.NAT.Local:
		return fmt.Sprintf("in front of this side (%v is not what the peer sees)", e.Path.Local.Addr())
	case e.NAT.Remote:
		return fmt.Sprintf("in front of the peer (%v is not its own address)", e.Path.Remote.Addr())
	}
	return "none"
}

var reasonTexts = [...]string{
	ikev2.ReasonNone:             "no reason is known",
	ikev2.ReasonNoProposal:       "the IKE proposals have nothing in common",
	ikev2.ReasonUnknownIdentity:  "nobody is configured for these two identities",
	ikev2.ReasonWrongKey:         "the pre-shared keys differ",
	ikev2.ReasonAuthMethod:       "the peer does not authenticate by a pre-shared key",
	ikev2.ReasonWrongResponder:   "the peer is not the one that is configured",
	ikev2.ReasonAuthFailed:       "the peer did not accept our authentication",
	ikev2.ReasonChildProposal:    "the ESP proposals have nothing in common",
	ikev2.ReasonSelectors:        "the traffic selectors have nothing in common",
	ikev2.ReasonChildRefused:     "the peer did not make the child SA",
	ikev2.ReasonMalformed:        "an authenticated message broke the protocol",
	ikev2.ReasonDeleted:          "the peer deleted it",
	ikev2.ReasonDisconnect:       "we took it down",
	ikev2.ReasonDead:             "the peer does not answer",
	ikev2.ReasonReplaced:         "a newer one took its place",
	ikev2.ReasonNotify:           "the peer answered with an error",
	ikev2.ReasonRekeyed:          "one with new keys took its place",
	ikev2.ReasonExpired:          "its lifetime is over and it was not replaced",
	ikev2.ReasonSelectorConflict: "another peer has the same traffic",
	ikev2.ReasonSinglePair:       "one pair of traffic selectors to a child SA is allowed, and several were asked for",
	ikev2.ReasonRestarted:        "the peer has proven that it has restarted",
	ikev2.ReasonTicket:           "its ticket is not one of ours, or no longer good",
	ikev2.ReasonRedirects:        "the peer sends us on too often",
	ikev2.ReasonDuplicate:        "the peer is connected already, and that connection stays",
	ikev2.ReasonReconfigured:     "the configuration has changed",
	ikev2.ReasonPoolExhausted:    "no address is left for it in its pools",
	ikev2.ReasonAddressNotAsked:  "its tunnel is for an address that we assign, and it asks for none",
	ikev2.ReasonNoAddress:        "it assigned us no address that we can use",
	ikev2.ReasonAddressRequired:  "it wants us to ask it for an address",
	ikev2.ReasonPostQuantum:      "a post-quantum key exchange is required, and one side makes none",
	ikev2.ReasonUnfinished:       "it began to connect and did not go on",
	ikev2.ReasonPPK:              "a post-quantum pre-shared key is required, and not shared",
}

func reasonText(r ikev2.Reason) string { return reasonTexts[r] }

func list(ss []wire.Selector) string {
	words := make([]string, len(ss))
	for i, s := range ss {
		words[i] = s.String()
	}
	return strings.Join(words, ", ")
}

func addrList(as []netip.Addr) string {
	words := make([]string, len(as))
	for i, a := range as {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

// attributes are the event's facts for those who read logs by machine; the
// keys are the same everywhere.
func attributes(e ikev2.Event, r diagnose.Report) []any {
	a := []any{"event", e.Kind.String()}
	add := func(key string, value any, present bool) {
		if present {
			a = append(a, key, value)
		}
	}
	add("peer", e.Peer, e.Peer != "")
	add("tunnel", e.Child, e.Child != "")
	add("remote", e.Path.Remote.String(), e.Path.Remote.IsValid())
	add("local", e.Path.Local.String(), e.Path.Local.IsValid())
	add("reason", e.Reason.String(), e.Reason != ikev2.ReasonNone)
	add("notify", e.Notify.String(), e.Notify != 0)
	add("diagnosis", r.Code, r.Code != "")
	add("nat", e.NAT.String(), e.Kind == ikev2.EventInit)
	add("suite", suiteText(e), e.Suite.Encr != 0)
	add("local_id", e.LocalID.String(), e.Kind == ikev2.EventEstablished)
	add("remote_id", e.RemoteID.String(), e.Kind == ikev2.EventEstablished)
	add("peer_said", e.PeerSaid.String(), e.PeerSaid.Type != 0)
	add("local_ts", list(e.LocalTS), e.Kind == ikev2.EventChildUp)
	add("remote_ts", list(e.RemoteTS), e.Kind == ikev2.EventChildUp)
	add("esp", e.ESP.String(), e.Kind == ikev2.EventChildUp)
	add("spi_in", spiText(e.InboundSPI), e.InboundSPI != 0)
	add("spi_out", spiText(e.OutboundSPI), e.OutboundSPI != 0)
	add("addresses", addrList(e.Addresses), len(e.Addresses) > 0)
	add("pools", strings.Join(e.Pools, ", "), len(e.Pools) > 0)
	add("resumed", e.Resumed, e.Kind == ikev2.EventEstablished)
	add("gateway", e.Gateway, e.Gateway != "")
	add("attempt", e.Attempt, e.Attempt != 0)
	add("wait", e.Wait.String(), e.Wait != 0)
	return a
}
