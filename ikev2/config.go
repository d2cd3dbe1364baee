package ikev2

import (
	"time"

	"culvert/ikev2/wire"
)

// Config is all that the engine knows of the world. Nobody changes it after
// New; Reconfigure takes another.
type Config struct {
	Peers []Peer
	// IKEPort and NATTPort are our own UDP ports; 0 means 500 and 4500.
	IKEPort, NATTPort uint16
	// KeyLog makes the engine emit IKEKeys, for Wireshark. Secret material.
	KeyLog bool
	Limits Limits
	Pools  []Pool
	// Leases are those of an earlier run, as Engine.Leases gave them.
	Leases []Lease
	Resume ResumePolicy
	// Lanes is how many child SAs a gateway has use for where one would do, one
	// for each of its cores (RFC 9611): 1 to 64, 0 means 1. It cannot change.
	Lanes int
}

// Peer is one configured connection. A peer is found by the pair of its
// identities, never by its address alone (RFC 7296 section 2.15).
type Peer struct {
	Name string
	// LocalID is what we say we are, RemoteID what the peer must say it is.
	LocalID, RemoteID Identity
	// PSK is the pre-shared key.
	PSK []byte
	// IKE and the children's ESP are proposals, most wanted first; empty
	// means the defaults. Key exchanges of ESP count in CREATE_CHILD_SA, not in
	// IKE_AUTH.
	IKE      []Proposal
	Children []Child
	// RemoteNATTPort is the peer's port for IKE and ESP behind the non-ESP
	// marker; 0 means 4500.
	RemoteNATTPort uint16
	Timing         Timing
	// IKELifetime is the age at which the IKE SA is replaced (RFC 7296 section
	// 2.8). 0 means 4 h; negative: never.
	IKELifetime   time.Duration
	Duplicates    DuplicatePolicy
	Fragmentation Fragmentation
	// MOBIKE is preferred by default; it cannot be required.
	MOBIKE      Mode
	PostQuantum PostQuantum
	PPK         PPK
	Address     AddressPolicy
	// Redirect says whether the peer may send us elsewhere (RFC 5685).
	Redirect Mode
	// Resumption says whether tickets are asked for and given (RFC 5723).
	Resumption Mode
}

// Mode is how much a peer is asked for something that both sides have to know.
// The zero value is each thing's own default.
type Mode uint8

// The modes.
const (
	ModeDefault Mode = iota
	ModeOff          // not offered, not accepted
	ModePrefer       // offered and accepted; done without where the peer cannot
	ModeRequire      // there is no SA without it
)

// Child is one child SA's policy: traffic from Local to Remote and back is
// protected, no other.
type Child struct {
	Name          string
	Local, Remote []wire.Selector
	// LocalDynamic adds to Local the addresses that the peer assigns to us, or
	// where none are asked for, our end of the IKE SA. RemoteDynamic adds to
	// Remote those that we lease to the peer, or where it has no pools, its end.
	LocalDynamic, RemoteDynamic bool
	ESP                         []Proposal
	// Lifetime is the age at which the child SA is replaced. 0 means 1 h;
	// negative: never.
	Lifetime time.Duration
	// LifeBytes and LifePackets are how much the child carries in one direction
	// before it is replaced (RFC 4301 section 4.4.2.1). 0: no such limit.
	LifeBytes, LifePackets uint64
	Start                  StartMode
	// SinglePair has one pair of selectors to a child SA, several child SAs where
	// there are more, as some peers demand (RFC 7296 section 2.9).
	SinglePair bool
}

// Timing holds a peer's intervals. A zero field means its default; a negative
// one switches the thing off where that has a meaning.
type Timing struct {
	// Keepalive is how often the side behind a NAT sends the one-byte
	// keepalive (RFC 3948 section 4). Default 20 s; negative: never.
	Keepalive time.Duration
	// DPD is the silence after which the peer is asked whether it lives (RFC
	// 7296 section 2.4). Default 30 s; negative: never.
	DPD time.Duration
	// Retransmit is the wait before a request is sent again; it doubles up to
	// RetransmitMax, which is short enough for a path that is back to be found
	// by it. Default 1 s and 4 s.
	Retransmit, RetransmitMax time.Duration
	// Tries is how often a request is sent before the peer is given up.
	// Default 21: 79 s in all. The first request of an IKE SA is sent
	// InitialTries times, default 9: 31 s in all.
	Tries, InitialTries int
	// Reconnect is the longest wait before a failed connection is tried again;
	// it doubles up to ReconnectMax. Default 1 s and 60 s. What is waited is any
	// part of it, so that peers which failed together do not return together.
	Reconnect, ReconnectMax time.Duration
	// FirstRenewal is when a child SA that was made in IKE_AUTH is replaced for
	// the first time where the peer may refuse that, with two thirds less at most.
	// Default 1 min; negative: when its lifetime is over, as the others.
	FirstRenewal time.Duration
}

// lingerTime is how long an SA that failed still answers retransmissions of the
// request that it failed on.
const lingerTime = 10 * time.Second

func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.Keepalive, 20*time.Second)
	def(&t.DPD, 30*time.Second)
	def(&t.FirstRenewal, time.Minute)
	def(&t.Retransmit, time.Second)
	def(&t.RetransmitMax, 4*time.Second)
	def(&t.Reconnect, time.Second)
	def(&t.ReconnectMax, time.Minute)
	if t.Tries == 0 {
		t.Tries = 21
	}
	if t.InitialTries == 0 {
		t.InitialTries = 9
	}
	return t
}

// backoff doubles d for each try after the first, up to ceiling.
func backoff(d, ceiling time.Duration, try int) time.Duration {
	for ; try > 1 && d < ceiling; try-- {
		d *= 2
	}
	return min(d, ceiling)
}
