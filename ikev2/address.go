package ikev2

import "net/netip"

// Pool is a range of virtual addresses for peers (RFC 7296 section 2.19).
type Pool struct {
	Name string
	// First and Last bound the addresses, both included, of one family.
	First, Last netip.Addr
	// DNS and Domains are given with an address, Subnets are what the peer may
	// reach.
	DNS     []netip.Addr
	Domains []string
	Subnets []netip.Prefix
}

// AddressPolicy is the configuration payload of one peer.
type AddressPolicy struct {
	// Pools are the names of the pools that the peer's addresses come from.
	Pools []string
	// Request4 and Request6 ask the peer for an address of that family.
	Request4, Request6 bool
}
