package diagnose

import (
	"fmt"
	"strings"
)

// NoAddressLeft is the view of a side whose pools have no virtual address (RFC 7296 2.19) for the peer.
type NoAddressLeft struct {
	Peer       Peer
	Connection Connection
	Pools      []string  // their names
	PoolsAt    []Setting // where their ranges are
}

// Report names the pools and where to make them larger.
func (f NoAddressLeft) Report() Report {
	summary := fmt.Sprintf("peer at %v asks for a virtual address for %s, and none is left in %s", f.Peer, f.Connection, list(f.Pools))
	var places []string
	for _, at := range f.PoolsAt[:min(len(f.PoolsAt), maxList)] {
		places = append(places, at.place())
	}
	fix := "Make a pool larger, or give the connection another one."
	if len(places) > 0 {
		fix = fmt.Sprintf("Make the range larger in %s, or give the connection another pool.", strings.Join(places, " or "))
	}
	return compose("pool_exhausted", summary,
		"Either they are of the other address family, or every address belongs to a peer that is connected; one that is gone loses its address to the next that needs one.",
		fix, "The peer was told INTERNAL_ADDRESS_FAILURE; its connection stays up, without this tunnel.")
}

// AddressNotAsked is the view of a side whose tunnel is for an address that it assigns, of a peer that asks for none.
type AddressNotAsked struct {
	Peer       Peer
	Connection Connection
	Tunnel     string
	RemoteAt   Setting
}

// Report says how to ask, and what to configure where no address is to be assigned.
func (f AddressNotAsked) Report() Report {
	c := f.Connection
	return compose("address_not_asked",
		fmt.Sprintf("peer at %v asks for no virtual address, and %s gives its tunnel to the address that it assigns", f.Peer, c),
		fmt.Sprintf("Either there, have the peer ask for one (`request_address = [\"ipv4\"]`; in swanctl.conf: `vips = 0.0.0.0`); or here, %s.",
			c.change(f.RemoteAt, f.RemoteAt.assign("NETWORK"), "remote selectors", "the peer's network")),
		"The peer was told FAILED_CP_REQUIRED.")
}

// NoAddress is the view of a side that asked its peer for a virtual address and has none.
type NoAddress struct {
	Peer       Peer
	Connection Connection
	Notify     string // what the peer said instead, empty where it said nothing
	RequestAt  Setting
}

// Report tells a pool that is used up from a peer that assigns none.
func (f NoAddress) Report() Report {
	c := f.Connection
	summary := fmt.Sprintf("peer at %v assigned no virtual address to %s, which asks for one", f.Peer, c)
	place := ""
	if f.RequestAt.Key != "" {
		place = fmt.Sprintf("It is asked for in %s.", f.RequestAt.place())
	}
	if f.Notify == "" {
		return compose("no_address", summary,
			"The peer passed the request over, or answered with an address that cannot be used: it has no pool for this connection. There, give it one (`pools = [\"NAME\"]`; in swanctl.conf: `pools = NAME`).",
			place)
	}
	return compose("no_address", summary,
		fmt.Sprintf("It answered %s: its pool has no address left for this side, or none of the family asked for.", clean(f.Notify)),
		place, "It is asked again from time to time.")
}

// AddressRequired is the view of a side that was told FAILED_CP_REQUIRED.
type AddressRequired struct {
	Peer       Peer
	Connection Connection
	RequestAt  Setting
	LocalAt    Setting // the tunnel's networks on this side
}

// Report says how to ask.
func (f AddressRequired) Report() Report {
	c := f.Connection
	return compose("address_required",
		fmt.Sprintf("peer at %v makes the tunnel of %s only for a virtual address that it assigns", f.Peer, c),
		fmt.Sprintf("It said FAILED_CP_REQUIRED. Here, %s, and %s.",
			c.change(f.LocalAt, f.LocalAt.assign("dynamic"), "local networks", "dynamic"),
			c.change(f.RequestAt, f.RequestAt.assignList([]string{"ipv4"}), "request for an address", "ipv4")))
}
