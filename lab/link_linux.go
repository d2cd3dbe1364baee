package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routerSysctls make a namespace a router that asks no questions: forwarding, no
// reverse-path filter, IPv6 at once usable (no duplicate address detection).
var routerSysctls = [][2]string{
	{"net.ipv4.ip_forward", "1"},
	{"net.ipv4.conf.all.rp_filter", "0"},
	{"net.ipv4.conf.default.rp_filter", "0"},
	{"net.ipv6.conf.all.disable_ipv6", "0"},
	{"net.ipv6.conf.default.disable_ipv6", "0"},
	{"net.ipv6.conf.all.forwarding", "1"},
	{"net.ipv6.conf.default.accept_dad", "0"},
}

func writeSysctls(list [][2]string) error {
	for _, kv := range list {
		if err := writeSysctl(kv[0], kv[1]); err != nil {
			return err
		}
	}
	return nil
}

// writeSysctl leaves a value alone that is right already, and one that is not there
// in a kernel without IPv6.
func writeSysctl(key, value string) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
	now, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(key, "net.ipv6.") {
		return nil
	}
	if err == nil && strings.TrimSpace(string(now)) == value {
		return nil
	}
	err = os.WriteFile(path, []byte(value), 0)
	if errors.Is(err, unix.EROFS) && unlockSysctls() == nil {
		err = os.WriteFile(path, []byte(value), 0)
	}
	if err != nil {
		return fmt.Errorf("set %s: %w", key, err)
	}
	return nil
}

// unlockSysctls gives the calling thread, which is to end soon, a view of its own
// of /proc/sys, writable: a container that may do that often has it read-only.
func unlockSysctls() error {
	if err := privateMountNamespace(); err != nil {
		return err
	}
	return unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// Sysctl sets a kernel variable of the host's network, such as
// "net.ipv4.conf.all.forwarding".
func (h *Host) Sysctl(key, value string) error {
	return h.Do(func() error { return writeSysctl(key, value) })
}

// Link joins two hosts by a veth pair and gives each end its address. mtu is in
// bytes, 0 means 1500.
func (l *Lab) Link(a, b End, mtu int) error {
	if mtu == 0 {
		mtu = 1500
	}
	err := b.Host.ns.hold(func(fd int) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = a.Interface, mtu
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: b.Interface, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(fd)}
		return a.Host.Do(func() error { return netlink.LinkAdd(veth) })
	})
	if err != nil {
		return fmt.Errorf("lab: link %s to %s: %w", a.Host.Name, b.Host.Name, err)
	}
	for _, step := range []func(End) error{End.configure, End.awaitUp} {
		for _, end := range []End{a, b} {
			if err := step(end); err != nil {
				return err
			}
		}
	}
	return nil
}

// linkUp is how long the kernel may take until it uses what it was given: it
// notices a carrier, and lets go of its doubts about an IPv6 address, in its own
// time, and drops packets until then.
const linkUp = 5 * time.Second

func (e End) awaitUp() error {
	return e.Host.Do(func() error {
		for deadline := time.Now().Add(linkUp); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if up, err := e.up(); up || err != nil {
				return err
			}
		}
		return fmt.Errorf("lab: %s on %s stays down", e.Interface, e.Host.Name)
	})
}

func (e End) up() (bool, error) {
	link, err := netlink.LinkByName(e.Interface)
	if err != nil {
		return false, fmt.Errorf("lab: find %s on %s: %w", e.Interface, e.Host.Name, err)
	}
	if link.Attrs().OperState != netlink.OperUp {
		return false, nil
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if errors.Is(err, netlink.ErrDumpInterrupted) { // changed meanwhile: look again
		return false, nil
	}
	tentative := func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }
	return !slices.ContainsFunc(addrs, tentative), err
}

func (e End) configure() error {
	return e.Host.Do(func() error {
		link, err := netlink.LinkByName(e.Interface)
		if err != nil {
			return fmt.Errorf("lab: find %s on %s: %w", e.Interface, e.Host.Name, err)
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(e.Address), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("lab: give %s on %s the address %s: %w", e.Interface, e.Host.Name, e.Address, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("lab: bring up %s on %s: %w", e.Interface, e.Host.Name, err)
		}
		return nil
	})
}

// Route adds a route through a neighbour.
func (h *Host) Route(dst netip.Prefix, via netip.Addr) error {
	return h.Do(func() error {
		if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()}); err != nil {
			return fmt.Errorf("lab: route %s via %s on %s: %w", dst, via, h.Name, err)
		}
		return nil
	})
}

// Attach brings up a device that a program made on the host, once it is there,
// with an MTU in bytes, and sends these networks into it.
func (h *Host) Attach(iface string, mtu int, networks ...netip.Prefix) error {
	return h.Do(func() error {
		link, err := awaitLink(iface)
		if err == nil {
			err = netlink.LinkSetMTU(link, mtu)
		}
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		for _, n := range networks {
			if err == nil {
				err = netlink.RouteAdd(&netlink.Route{Dst: ipNet(n), LinkIndex: link.Attrs().Index})
			}
		}
		if err != nil {
			return fmt.Errorf("lab: attach %s to %s: %w", iface, h.Name, err)
		}
		return nil
	})
}

func awaitLink(iface string) (link netlink.Link, err error) {
	for deadline := time.Now().Add(linkUp); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if link, err = netlink.LinkByName(iface); err == nil {
			return link, nil
		}
	}
	return nil, err
}

// SetMTU changes the MTU, in bytes, of one interface of the host.
func (h *Host) SetMTU(iface string, mtu int) error {
	return h.Do(func() error {
		link, err := netlink.LinkByName(iface)
		if err == nil {
			err = netlink.LinkSetMTU(link, mtu)
		}
		if err != nil {
			return fmt.Errorf("lab: MTU %d of %s on %s: %w", mtu, iface, h.Name, err)
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
