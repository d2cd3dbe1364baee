//go:build !linux

package natt

import (
	"fmt"
	"net"
	"net/netip"
)

// PathMTU returns the MTU of the interface that packets to remote leave by. local may be invalid. It sends nothing.
func PathMTU(local, remote netip.Addr) (int, error) {
	dialer := net.Dialer{}
	if local.IsValid() && !local.IsUnspecified() {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	// The port is of no matter: connecting a UDP socket only looks up the route.
	c, err := dialer.Dial("udp", netip.AddrPortFrom(remote, 4500).String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return interfaceMTU(c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap())
}

func interfaceMTU(local netip.Addr) (int, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return 0, err
	}
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == local.WithZone("") {
				return i.MTU, nil
			}
		}
	}
	return 0, fmt.Errorf("no interface has the address %v", local)
}
