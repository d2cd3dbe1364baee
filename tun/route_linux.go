package tun

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// queueLen is the number of packets (or runs) that wait in the device for the
// gateway. The kernel's 500 overflow in bursts of small packets.
const queueLen = 5000

// SetUp sets the device's MTU (0: leaves it) and queue length and brings it up,
// in the network namespace of the calling thread.
func SetUp(device string, mtu int) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	if mtu > 0 {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set MTU of %s to %d: %w", device, mtu, err)
		}
	}
	// No link-local address: the router solicitations and multicast reports
	// that come with one fit no tunnel. Where IPv6 is off this fails, and need not succeed.
	_ = netlink.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE)
	if err := netlink.LinkSetTxQLen(link, queueLen); err != nil {
		return fmt.Errorf("set queue length of %s: %w", device, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", device, err)
	}
	return nil
}

// AddRoute sends prefix into the device. It fails with ErrRouteExists when the
// host has a route to that prefix already, over whatever interface.
func AddRoute(device string, prefix netip.Prefix, opts RouteOptions) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("route to %s: find %s: %w", prefix, device, err)
	}
	route, err := linuxRoute(link.Attrs().Index, prefix, opts)
	if err != nil {
		return err
	}
	// The kernel refuses only the very same route: one of another metric, or an
	// IPv6 one over another device, would stand beside ours and perhaps win.
	if other, ok := routeTo(route.Dst, prefix); ok {
		return fmt.Errorf("route to %s through %s: %w, %s", prefix, device, ErrRouteExists, describeRoute(other))
	}
	if err := netlink.RouteAdd(route); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("route to %s through %s: %w", prefix, device, ErrRouteExists)
		}
		return fmt.Errorf("route to %s through %s: %w", prefix, device, err)
	}
	return nil
}

// ChangeRoute gives a route that AddRoute made other options, with no moment in
// which there is none.
func ChangeRoute(device string, prefix netip.Prefix, opts RouteOptions) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("change route to %s: find %s: %w", prefix, device, err)
	}
	route, err := linuxRoute(link.Attrs().Index, prefix, opts)
	if err != nil {
		return err
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("change route to %s through %s: %w", prefix, device, err)
	}
	return nil
}

func linuxRoute(index int, prefix netip.Prefix, opts RouteOptions) (*netlink.Route, error) {
	if !prefix.IsValid() {
		return nil, fmt.Errorf("route to %s: not a prefix", prefix)
	}
	prefix = prefix.Masked()
	r := &netlink.Route{
		LinkIndex: index,
		Dst:       &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())},
		Protocol:  unix.RTPROT_STATIC,
		Scope:     netlink.SCOPE_LINK,
		MTU:       opts.MTU,
		AdvMSS:    opts.AdvMSS,
	}
	if opts.Source.IsValid() {
		if opts.Source.Is4() != prefix.Addr().Is4() {
			return nil, fmt.Errorf("route to %s: source %s is of the other address family", prefix, opts.Source)
		}
		r.Src = opts.Source.AsSlice()
	}
	return r, nil
}

// routeTo finds a route to exactly this prefix in the main table.
func routeTo(dst *net.IPNet, prefix netip.Prefix) (netlink.Route, bool) {
	family := netlink.FAMILY_V6
	if prefix.Addr().Is4() {
		family = netlink.FAMILY_V4
	}
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Dst: dst, Table: unix.RT_TABLE_MAIN},
		netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	if err != nil || len(routes) == 0 {
		return netlink.Route{}, false
	}
	return routes[0], true
}

func describeRoute(r netlink.Route) string {
	via := fmt.Sprintf("interface %d", r.LinkIndex)
	if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
		via = link.Attrs().Name
	}
	if r.Gw != nil {
		return fmt.Sprintf("over %s by gateway %s", via, r.Gw)
	}
	return "over " + via
}

// DelRoute removes the route to prefix through the device. That there is none
// (any more), or no such device, is no error.
func DelRoute(device string, prefix netip.Prefix) error {
	link, err := netlink.LinkByName(device)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove route to %s: find %s: %w", prefix, device, err)
	}
	route, err := linuxRoute(link.Attrs().Index, prefix, RouteOptions{})
	if err != nil {
		return err
	}
	if err := netlink.RouteDel(route); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route to %s through %s: %w", prefix, device, err)
	}
	return nil
}
