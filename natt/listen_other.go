//go:build !linux

package natt

import "net/netip"

func listen(addr netip.AddrPort, opts Options) (Conn, error) {
	return listenPortable(addr, opts)
}
