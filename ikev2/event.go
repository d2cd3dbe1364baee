package ikev2

import (
	"net/netip"
	"time"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// EventKind says what happened.
type EventKind uint8

// The kinds, in the order in which a connection meets them.
const (
	EventConnecting       EventKind = iota + 1 // IKE_SA_INIT goes out; Attempt counts
	EventRetryKE                               // the responder asked for another group; Suite.Group is it
	EventRetryCookie                           // the responder asked for a cookie
	EventUnprotectedError                      // an unauthenticated error arrived; Notify. Nothing is torn down for it
	EventInit                                  // IKE_SA_INIT is complete: Suite, NAT
	EventFloat                                 // the initiator moves to the port for NAT traversal
	EventEstablished                           // both sides are authenticated: LocalID, RemoteID
	EventChildUp                               // Child, ESP, Local and Remote selectors
	EventChildDown                             // a child SA is gone; Reason
	EventDown                                  // an established IKE SA is gone; Reason
	EventRefused                               // we refused the peer; Reason and the facts
	EventRefusedByPeer                         // the peer refused us, protected; Reason, Notify
	EventGaveUp                                // no answer to Exchange after Attempt tries in Wait
	EventRetrying                              // the next attempt comes after Wait
	EventMoved                                 // we or the peer are at another address or port: Path, Former
	EventRekeyed                               // an IKE SA has taken the place of Replaced, with all its children
	EventLeased                                // the peer has Addresses of our pools
	EventAssigned                              // we have Addresses of the peer's
	EventTicketRefused                         // the responder does not resume the SA; a full exchange follows
	EventRedirected                            // the peer sends us to Gateway, and we go
)

var eventNames = [...]string{
	EventConnecting: "connecting", EventRetryKE: "retry_group", EventRetryCookie: "retry_cookie",
	EventUnprotectedError: "unprotected_error", EventInit: "init", EventFloat: "float", EventEstablished: "established",
	EventChildUp: "child_up", EventChildDown: "child_down", EventDown: "down", EventRefused: "refused",
	EventRefusedByPeer: "refused_by_peer", EventGaveUp: "gave_up", EventRetrying: "retrying", EventMoved: "moved",
	EventRekeyed: "rekeyed", EventLeased: "leased", EventAssigned: "assigned",
	EventTicketRefused: "ticket_refused", EventRedirected: "redirected",
}

// String is the kind's name in logs and scripts.
func (k EventKind) String() string { return eventNames[k] }

// Reason says why something was refused or ended.
type Reason uint8

// The reasons.
const (
	ReasonNone             Reason = iota
	ReasonNoProposal              // IKE proposals have nothing in common
	ReasonUnknownIdentity         // nobody is configured for the pair of identities
	ReasonWrongKey                // the identities are known, the AUTH value does not fit
	ReasonAuthMethod              // the peer authenticates otherwise than by a pre-shared key
	ReasonWrongResponder          // the responder is not the one we configured
	ReasonAuthFailed              // the peer says AUTHENTICATION_FAILED
	ReasonChildProposal           // ESP proposals have nothing in common
	ReasonSelectors               // the traffic selectors have nothing in common
	ReasonChildRefused            // the peer refused the child otherwise; Notify
	ReasonMalformed               // an authenticated message broke the protocol
	ReasonDeleted                 // the peer deleted it
	ReasonDisconnect              // we were told to
	ReasonDead                    // the peer no longer answers
	ReasonReplaced                // a newer SA of the same identities took over
	ReasonNotify                  // another protected error notify
	ReasonRekeyed                 // a child SA with new keys takes over, or has
	ReasonExpired                 // its lifetime is over and nothing replaced it
	ReasonSelectorConflict        // another peer's child SA has the same traffic; Rival
	ReasonSinglePair              // one pair of selectors to a child SA is allowed
	ReasonDuplicate               // the peer has an IKE SA, and its policy is to keep that
	ReasonReconfigured            // the configuration has changed
	ReasonPoolExhausted           // no address of Pools is free for the peer
	ReasonAddressNotAsked         // the peer has to ask for an address and did not
	ReasonNoAddress               // the peer assigned us none that we can use
	ReasonAddressRequired         // the peer wants us to ask it for an address
	ReasonRestarted               // the peer has proven that it has lost the SA
	ReasonTicket                  // the ticket is not ours, spent, expired, or of a peer that is no longer configured so
	ReasonRedirects               // the peer sends us on too often
	ReasonPostQuantum             // an additional key exchange is required and not to be had
	ReasonPPK                     // a post-quantum pre-shared key is required, here or there, and not shared
	ReasonUnfinished              // the initiator began, and did not authenticate itself in time
)

var reasonNames = [...]string{
	ReasonNone: "none", ReasonNoProposal: "no_proposal_chosen", ReasonUnknownIdentity: "unknown_identity", ReasonWrongKey: "wrong_key",
	ReasonAuthMethod: "auth_method", ReasonWrongResponder: "wrong_responder", ReasonAuthFailed: "authentication_failed",
	ReasonChildProposal: "child_proposal", ReasonSelectors: "selectors", ReasonChildRefused: "child_refused", ReasonMalformed: "malformed",
	ReasonDeleted: "deleted_by_peer", ReasonDisconnect: "disconnect", ReasonDead: "dead_peer", ReasonReplaced: "replaced", ReasonNotify: "error_notify",
	ReasonRekeyed: "rekeyed", ReasonExpired: "expired",
	ReasonSelectorConflict: "selector_conflict", ReasonSinglePair: "single_pair_required", ReasonDuplicate: "duplicate",
	ReasonReconfigured:  "reconfigured",
	ReasonPoolExhausted: "pool_exhausted", ReasonAddressNotAsked: "address_not_asked", ReasonNoAddress: "no_address",
	ReasonAddressRequired: "address_required", ReasonPostQuantum: "no_post_quantum", ReasonPPK: "no_ppk",
	ReasonRestarted: "restarted", ReasonTicket: "ticket", ReasonRedirects: "redirects", ReasonUnfinished: "unfinished",
}

// String is the reason's name in logs and scripts.
func (r Reason) String() string { return reasonNames[r] }

// NAT is what NAT detection found (RFC 7296 section 2.23). Known is false as
// long as the peer has sent nothing to tell by.
type NAT struct{ Known, Local, Remote bool }

// String says it in a few words.
func (n NAT) String() string {
	switch {
	case !n.Known:
		return "unknown"
	case n.Local && n.Remote:
		return "both sides"
	case n.Local:
		return "this side"
	case n.Remote:
		return "peer side"
	}
	return "none"
}

// Event carries the facts of something that happened, whichever of them its
// kind has. It holds no secret. Identities and lists that came off the wire
// are the peer's words.
type Event struct {
	Kind   EventKind
	Reason Reason
	Peer   string // configured name, empty where the peer is not known
	Child  string
	IKE    SAID
	// Replaced is the IKE SA whose place IKE has taken.
	Replaced SAID
	Path     Path
	Former   Path // before the move
	NAT      NAT
	// Initiator says whether we started the IKE SA, Resumed whether it is made
	// from a ticket.
	Initiator, Resumed bool
	// Gateway is an address or name: the peer's word.
	Gateway string
	// LocalID and RemoteID are the identities in use, or the ones that were
	// expected where something is refused.
	LocalID, RemoteID Identity
	// PeerSaid is the identity the peer presented; PeerWanted the one it asked
	// us to be (IDr of an initiator), zero where it did not ask.
	PeerSaid, PeerWanted Identity
	Notify               wire.NotifyType
	Exchange             wire.ExchangeType
	Suite                keymat.IKESuite
	PPK                  bool   // the keys of the IKE SA hold a PPK
	PeerPPK              string // the name of the PPK that the peer wants, in its words
	ESP                  ESPSuite
	InboundSPI           uint32
	OutboundSPI          uint32
	// Renewal: what was refused is the successor of a child SA that is up.
	Renewal bool
	// OwnProposals and PeerProposals are both sides' lists where they have
	// nothing in common.
	OwnProposals, PeerProposals []Proposal
	// LocalTS and RemoteTS are the selectors in use or configured;
	// PeerLocalTS and PeerRemoteTS what the peer proposed for our side and its,
	// with EventChildUp where it got less than that.
	LocalTS, RemoteTS         []wire.Selector
	PeerLocalTS, PeerRemoteTS []wire.Selector
	// Rival and RivalChild name the peer that has the traffic already, with
	// ReasonSelectorConflict; RivalTS are the addresses on its side.
	Rival, RivalChild string
	RivalTS           []wire.Selector
	// Addresses are virtual ones, Pools the names of those that they are from or
	// could not be from.
	Addresses []netip.Addr
	Pools     []string
	Attempt   int
	Wait      time.Duration
}
