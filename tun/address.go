package tun

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// ErrAddrExists: the host has this address already, on another interface.
var ErrAddrExists = errors.New("this host has the address already")

// addrElsewhere finds the address on an interface of the host other than the
// device.
func addrElsewhere(device string, a netip.Addr) error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		addrs, err := l.Addrs()
		if err != nil || l.Name == device {
			continue
		}
		for _, x := range addrs {
			if n, ok := x.(*net.IPNet); ok && n.IP.Equal(a.AsSlice()) {
				return fmt.Errorf("%w, on %s", ErrAddrExists, l.Name)
			}
		}
	}
	return nil
}
