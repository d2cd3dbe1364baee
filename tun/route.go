package tun

import (
	"errors"
	"net/netip"
)

// RouteOptions refine a route through the device. The zero value is a plain route.
type RouteOptions struct {
	// Source is the address that this host's own traffic to the prefix should
	// carry (see HostAddr), so that it falls inside the tunnel's selectors.
	Source netip.Addr
	// MTU is the path MTU in bytes to remember with the route, AdvMSS the TCP
	// maximum segment size that local sockets announce; 0 leaves each out.
	// Elsewhere than on Linux they are ignored.
	MTU, AdvMSS int
}

// ErrRouteExists: there is already a route to the very same prefix, which is
// not ours to change. The error that wraps it names the other interface.
var ErrRouteExists = errors.New("a route to this prefix exists already")

// ErrUnsupported: this operating system has no such device or routes.
var ErrUnsupported = errors.New("tun: not supported on this operating system")

// HostAddr is an address of this host inside prefix, if there is one: the
// source to give to AddRoute for traffic out of that prefix.
func HostAddr(prefix netip.Prefix) (netip.Addr, bool) { return netip.Addr{}, false }
