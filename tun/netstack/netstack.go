// Package netstack is a tun.Device with no kernel device at all: behind it
// stands a network stack in user space, with which this process itself is the
// host. It needs no privileges, and serves the demonstration where namespaces
// are forbidden, and tests.
package netstack

import (
	"context"
	"net"
	"net/netip"
	"time"

	"culvert/tun"
)

// Stack is a tun.Device and the host behind it.
type Stack struct {
	tun.Device
}

// New makes a Stack whose host has the given addresses and sends everything
// else to the device.
func New(addrs []netip.Addr, mtu int) (*Stack, error) { return nil, tun.ErrUnsupported }

// Ping sends one ICMP echo from the host to dst and waits for the answer.
func (s *Stack) Ping(ctx context.Context, dst netip.Addr) (time.Duration, error) {
	return 0, tun.ErrUnsupported
}

// DialTCP connects from the host to dst.
func (s *Stack) DialTCP(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	return nil, tun.ErrUnsupported
}

// ListenTCP listens on one of the host's addresses.
func (s *Stack) ListenTCP(addr netip.AddrPort) (net.Listener, error) {
	return nil, tun.ErrUnsupported
}
