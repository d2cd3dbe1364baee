// Package netstack is a tun.Device with no kernel device at all: behind it
// stands a network stack in user space, with which this process itself is the
// host. It needs no privileges, and serves the demonstration where namespaces
// are forbidden, and tests (but not inside testing/synctest, where the stack's
// goroutines keep virtual time from advancing: package tuntest is for that).
//
//	this process                                    a gateway
//	Ping, DialTCP, ListenTCP -> Stack (gVisor) -> Read  -> ...
//	                                           <- Write <- ...
package netstack

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"culvert/tun"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	nic   = 1
	queue = 1024 // packets that wait to be read
)

// Stack is a tun.Device and the host behind it. All methods are safe for
// concurrent use. TCP crosses it in runs, like in a kernel.
type Stack struct {
	stack  *stack.Stack
	link   *channel.Endpoint
	mtu    int
	events chan tun.Event
	close  func()
}

var _ tun.Device = (*Stack)(nil)

// New makes a Stack whose host has the given addresses and sends everything
// else to the device.
func New(addrs []netip.Addr, mtu int) (*Stack, error) {
	s := &Stack{
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
			HandleLocal:        true,
		}),
		link:   channel.New(queue, uint32(mtu), ""),
		mtu:    mtu,
		events: make(chan tun.Event, 1),
	}
	s.close = sync.OnceFunc(s.stop)
	if err := s.configure(addrs); err != nil {
		s.Close()
		return nil, err
	}
	s.events <- tun.EventUp
	return s, nil
}

func (s *Stack) configure(addrs []netip.Addr) error {
	sack, cubic := tcpip.TCPSACKEnabled(true), tcpip.CongestionControlOption("cubic")
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &cubic} {
		if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return fmt.Errorf("netstack: TCP option: %s", err)
		}
	}
	s.link.SupportedGSOKind = stack.HostGSOSupported
	if err := s.stack.CreateNIC(nic, s.link); err != nil {
		return fmt.Errorf("netstack: create interface: %s", err)
	}
	for _, a := range addrs {
		address := tcpip.ProtocolAddress{Protocol: network(a), AddressWithPrefix: address(a).WithPrefix()}
		if err := s.stack.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("netstack: add address %s: %s", a, err)
		}
	}
	s.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	return nil
}

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func network(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func endpoint(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: address(a.Addr()), Port: a.Port()}
}

// Name is "netstack".
func (s *Stack) Name() string { return "netstack" }

// MTU is what New was given.
func (s *Stack) MTU() int { return s.mtu }

// Offload is TCP's: the stack takes and gives runs of segments.
func (s *Stack) Offload() tun.Offload { return tun.Offload{TCP: true} }

// Events says that the device is up.
func (s *Stack) Events() <-chan tun.Event { return s.events }

// Read waits for a packet of the host.
func (s *Stack) Read(slab []byte) (tun.Super, error) {
	p := s.link.ReadContext(context.Background())
	if p == nil {
		return tun.Super{}, closedError("read")
	}
	return into(slab, p)
}

// TryRead is Read without waiting.
func (s *Stack) TryRead(slab []byte) (tun.Super, error) {
	p := s.link.Read()
	if p == nil {
		return tun.Super{}, tun.ErrWouldBlock
	}
	return into(slab, p)
}

func into(slab []byte, p *stack.PacketBuffer) (tun.Super, error) {
	defer p.DecRef()
	if len(slab) < tun.SlabLen || p.Size() > len(slab) {
		return tun.Super{}, io.ErrShortBuffer
	}
	n := 0
	for _, b := range p.AsSlices() {
		n += copy(slab[n:], b)
	}
	s := tun.Super{Packet: slab[:n]}
	gso := p.GSOOptions
	if gso.NeedsCsum {
		s.ChecksumStart, s.ChecksumOffset = int(gso.L3HdrLen), int(gso.CsumOffset)
	}
	if gso.Type != stack.GSONone && n-len(p.NetworkHeader().Slice())-len(p.TransportHeader().Slice()) > int(gso.MSS) {
		s.SegmentSize = int(gso.MSS)
	}
	return s, nil
}

// Write gives a packet to the host. A run is given as the one long segment
// that it is, with its checksum made whole.
func (s *Stack) Write(p tun.Super) error {
	if !s.link.IsAttached() {
		return closedError("write")
	}
	packet := slices.Concat(append([][]byte{p.Packet}, p.Rest...)...)
	var whole tun.Splitter
	if err := whole.Load(&tun.Super{Packet: packet, ChecksumStart: p.ChecksumStart, ChecksumOffset: p.ChecksumOffset}); err != nil {
		return &os.PathError{Op: "write", Path: "netstack", Err: err}
	}
	in := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(whole.Body(0))})
	defer in.DecRef()
	protocol := header.IPv6ProtocolNumber
	if packet[0]>>4 == 4 {
		protocol = header.IPv4ProtocolNumber
	}
	s.link.InjectInbound(protocol, in)
	return nil
}

// Close ends the device and the host's connections.
func (s *Stack) Close() error {
	s.close()
	return nil
}

func (s *Stack) stop() {
	s.stack.Close()
	s.stack.RemoveNIC(nic)
	s.link.Attach(nil)
	s.link.Close()
	close(s.events)
}

func closedError(op string) error { return &os.PathError{Op: op, Path: "netstack", Err: os.ErrClosed} }

// DialTCP connects from the host to dst.
func (s *Stack) DialTCP(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	return gonet.DialContextTCP(ctx, s.stack, endpoint(dst), network(dst.Addr()))
}

// ListenTCP listens on one of the host's addresses.
func (s *Stack) ListenTCP(addr netip.AddrPort) (net.Listener, error) {
	return gonet.ListenTCP(s.stack, endpoint(addr), network(addr.Addr()))
}

// Ping sends one ICMP echo from the host to dst and waits for the answer. It
// returns the round-trip time, or ctx's error.
func (s *Stack) Ping(ctx context.Context, dst netip.Addr) (time.Duration, error) {
	p, err := s.dialPing(dst)
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", dst, err)
	}
	defer p.ep.Close()
	start := time.Now()
	if err := p.exchange(ctx); err != nil {
		return 0, fmt.Errorf("ping %s: %w", dst, err)
	}
	return time.Since(start), nil
}
