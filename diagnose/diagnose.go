// Package diagnose says in plain words why a tunnel does not come up, and which line of the configuration to change.
//
//	facts that one side has of a failure  -->  Report
//
// Each situation is a struct of facts with a Report method, a pure function of them. The peer is told nothing of this: on the wire a refusal stays
// the bare notify that RFC 7296 2.21.2 asks for, so that each side can only explain its own half, and does so here.
//
//	UnknownIdentity   responder   nobody here expects the identity that the peer presented, or is whom it asked for
//	WrongResponder    initiator   the responder is not whom we expected
//	WrongKey          both        the identities fit, the keys do not
//	RefusedByPeer     initiator   the peer said AUTHENTICATION_FAILED
//	RefusedOtherwise  both        the peer answered with another error
//	NoProposal        both        no algorithms in common
//	NoPostQuantum     both        an additional key exchange is required and not to be had
//	NoPPK             both        a post-quantum pre-shared key is required and not shared
//	NoSelectors       both        no traffic in common
//	SameNetworks      both        another peer has the same inner addresses
//	Duplicate         responder   the peer is connected already
//	NoAddressLeft     responder   no virtual address for the peer in our pools
//	AddressNotAsked   responder   the peer has to ask for a virtual address
//	NoAddress         initiator   the peer assigned us none
//	AddressRequired   initiator   the peer wants to be asked for one
//	NoAnswer          initiator   nothing came back, or there was no address to send to
//	NoPath            initiator   this machine has no way to the peer
//	Unfinished        responder   nothing came after the first message
//	SinglePair        both        one side knows one pair of networks to a child SA
//	Ended             both        a lifetime was over, or the peer dead or gone, and nothing took the place
//	Flapping          both        made anew again and again
//	RekeyStorm        both        new keys all the time
//	Narrowed          both        a tunnel that is up carries less than is configured
//	SharedNetwork     both        what is behind the peer is connected here too
//	OneWay            both        a tunnel that is up carries packets in one direction only
//	BlackHole         both        the path loses what is large and does not say so
//	Dropped           both        a counter of what goes no further rises
//	Slept, ClockSet   both        the machine has slept, or its clock was set
//	NoStart           both        the gateway does not come up: a device, a port or a right is missing
//
// The package imports nothing of this module: facts are plain strings and addresses. What comes off the wire is escaped and bounded here, whoever
// did so before. No secret is among the facts, so none can be told.
package diagnose

import "net/netip"

// A Report explains one failure. All of it is printable text without line breaks.
type Report struct {
	// Code names the case for scripts and tests: "identity_private_address".
	Code string
	// Summary is one line: what happened.
	Summary string
	// Detail is one paragraph that begins with the Summary: what each side said, why they do not fit, and what to change where.
	Detail string
}

// NAT is what NAT detection found (RFC 7296 2.23), by the side that has a NAT in front of it.
type NAT struct{ Known, Local, Remote bool }

// The types of identity, by the names that Identity.Type has for them (RFC 7296 3.5). Any other is printed as it is.
const (
	TypeIPv4     = "IPv4 address"
	TypeIPv6     = "IPv6 address"
	TypeFQDN     = "FQDN"
	TypeUserFQDN = "user@FQDN"
	TypeKeyID    = "key ID"
)

// An Identity is who a side says it is. The zero Identity is none.
type Identity struct {
	Type string
	// Text is the identity as a configuration writes it: 203.0.113.1, @foo, a@foo, keyid:foo.
	Text string
}

// A Style is how a configuration format writes a key and its value.
type Style uint8

// The styles.
const (
	TOML    Style = iota // key = "value"
	VyOS                 // key value
	Swanctl              // key = value, in the section that Setting.Key has before its last dot
)

// A Setting is a place in a configuration: the one to change.
type Setting struct {
	File string
	Line int // from 1; 0 where the file does not have the key yet
	// Key is what stands before the value, as the file's author wrote it or would: "remote_id", "authentication remote-id".
	Key   string
	Style Style
}

// A Connection is a configured peer, with the places of what may have to change.
type Connection struct {
	Name              string
	Remote            string // the peer's address or host name as configured, empty for any
	LocalID, RemoteID Identity

	RemoteAt, LocalIDAt, RemoteIDAt, KeyAt Setting
}

// A Peer is where the other side's messages come from or go to, and what lies between.
type Peer struct {
	Addr netip.AddrPort
	NAT  NAT
}
