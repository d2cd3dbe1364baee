package tun

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddAddr gives the device an address of its own, with no network around it.
// That it has it already is no error; that another interface does is
// ErrAddrExists.
func AddAddr(device string, a netip.Addr) error {
	if err := addrElsewhere(device, a); err != nil {
		return fmt.Errorf("address %s for %s: %w", a, device, err)
	}
	link, err := netlink.LinkByName(device)
	if err == nil {
		err = netlink.AddrReplace(link, linuxAddr(a))
	}
	if err != nil {
		return fmt.Errorf("address %s for %s: %w", a, device, err)
	}
	return nil
}

// DelAddr takes the address back. That it is gone, or the device, is no error.
// The kernel drops IPv4 routes that name the address as their source, so
// ChangeRoute comes first.
func DelAddr(device string, a netip.Addr) error {
	link, err := netlink.LinkByName(device)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = delLinuxAddr(link, a)
	}
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s from %s: %w", a, device, err)
	}
	return nil
}

// delLinuxAddr puts back the routes that go with an interface's last IPv4
// address.
func delLinuxAddr(link netlink.Link, a netip.Addr) error {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_MAIN},
		netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	if err == nil {
		err = netlink.AddrDel(link, linuxAddr(a))
	}
	for i := range routes {
		if err == nil && a.Is4() && !routes[i].Src.Equal(a.AsSlice()) {
			err = netlink.RouteReplace(&routes[i])
		}
	}
	return err
}

// linuxAddr: no other host can have the address, so that it may be used at once.
func linuxAddr(a netip.Addr) *netlink.Addr {
	n := a.BitLen()
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(n, n)}}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}
