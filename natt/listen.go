package natt

import (
	"errors"
	"net/netip"
)

func listen(addr netip.AddrPort, opts Options) (Conn, error) {
	return nil, errors.ErrUnsupported
}

func listenError(addr netip.AddrPort, err error) error { return err }

// PathMTU returns what the kernel holds for the MTU of the path to remote, the whole IP packet counted: that of the interface, or less
// where ICMP said so. local may be invalid. It sends nothing.
func PathMTU(local, remote netip.Addr) (int, error) {
	return 0, errors.ErrUnsupported
}
