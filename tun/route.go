package tun

import (
	"errors"
	"net"
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
// not ours to change. The error that wraps it names the other interface where
// the system tells.
var ErrRouteExists = errors.New("a route to this prefix exists already")

// ErrUnsupported: this operating system has no such device or routes.
var ErrUnsupported = errors.New("tun: not supported on this operating system")

// HostAddr is an address of this host inside prefix, if there is one: the
// source to give to AddRoute for traffic out of that prefix. It looks in the
// network namespace of the calling thread.
func HostAddr(prefix netip.Prefix) (netip.Addr, bool) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, false
	}
	return addrInside(prefix, addrs)
}

func addrInside(prefix netip.Prefix, addrs []net.Addr) (netip.Addr, bool) {
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(n.IP)
		if addr = addr.Unmap(); ok && prefix.Contains(addr) && !addr.IsLoopback() && !addr.IsLinkLocalUnicast() {
			return addr, true
		}
	}
	return netip.Addr{}, false
}
