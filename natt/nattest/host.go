package nattest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"culvert/natt"

	"github.com/pion/transport/v3"
	"github.com/pion/transport/v3/vnet"
)

// Host is a machine on the network.
type Host struct {
	network *Network
	addr    netip.Addr

	mu      sync.Mutex
	uplink  *vnet.Net
	sockets map[uint16]*socket
	moved   uint16 // inner ports taken since the NAT first forgot them; 0 before
}

func newHost(n *Network, a netip.Addr, uplink *vnet.Net) *Host {
	return &Host{network: n, addr: a, uplink: uplink, sockets: map[uint16]*socket{}}
}

// Addr is the address that the host's own interface has.
func (h *Host) Addr() netip.Addr { return h.addr }

// Listen opens a socket on the host; it stands in for natt.Listen. The address of addr may be invalid, unspecified or the host's, and its
// port must be given.
func (h *Host) Listen(addr netip.AddrPort, opts natt.Options) (natt.Conn, error) {
	a, port := addr.Addr().Unmap(), addr.Port()
	if a.IsValid() && !a.IsUnspecified() && a != h.addr {
		return nil, fmt.Errorf("%v: %w", a, syscall.EADDRNOTAVAIL)
	}
	if port == 0 {
		return nil, errors.New("a socket in memory needs its port chosen")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sockets[port] != nil {
		return nil, fmt.Errorf("UDP port %d: %w", port, syscall.EADDRINUSE)
	}
	s := &socket{host: h, bound: addr, local: netip.AddrPortFrom(h.addr, port), natt: opts.NATT}
	s.inbox, s.done = make(chan arrival, 64), make(chan struct{})
	if err := s.attach(h.uplink, h.innerPort(port)); err != nil {
		return nil, err
	}
	h.sockets[port] = s
	return s, nil
}

// move connects the host's sockets to uplink. The NAT there has never seen their new inner ports, so that it has to make new mappings, and
// what comes through the old ones finds nobody; the sockets' owners see nothing of this.
func (h *Host) move(uplink *vnet.Net, newPorts bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uplink = uplink
	if newPorts {
		h.moved++
	}
	for port, s := range h.sockets {
		if err := s.attach(uplink, h.innerPort(port)); err != nil {
			return err
		}
	}
	return nil
}

// innerPort is the port that the NAT sees a socket at: its own, or after the NAT has forgotten that, one never used.
func (h *Host) innerPort(port uint16) uint16 {
	if h.moved == 0 {
		return port
	}
	h.moved++
	return 20000 + h.moved
}

func (h *Host) close() {
	h.mu.Lock()
	sockets := make([]*socket, 0, len(h.sockets))
	for _, s := range h.sockets {
		sockets = append(sockets, s)
	}
	h.mu.Unlock()
	for _, s := range sockets {
		s.Close()
	}
}

// socket is a natt.Conn on a virtual network. Each datagram on the wire has its TOS in front of it, because vnet has no IP header to put it in.
type socket struct {
	host  *Host
	bound netip.AddrPort // as Listen was told
	local netip.AddrPort
	natt  bool
	inbox chan arrival
	done  chan struct{} // closed by Close
	once  sync.Once

	mu   sync.Mutex
	wire transport.UDPConn

	badAddress, unreachable atomic.Uint64
}

type arrival struct {
	frame []byte
	from  netip.AddrPort
}

// attach opens the socket's wire, in place of the one it has.
func (s *socket) attach(uplink *vnet.Net, port uint16) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire != nil {
		s.wire.Close()
	}
	wire, err := uplink.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.host.addr, port)))
	if err != nil {
		return err
	}
	s.wire = wire
	go s.read(wire)
	return nil
}

// read ends when its wire closes, or the socket.
func (s *socket) read(wire transport.UDPConn) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := wire.ReadFrom(b)
		if err != nil {
			return
		}
		select {
		case s.inbox <- arrival{bytes.Clone(b[:n]), from.(*net.UDPAddr).AddrPort()}:
		case <-s.done:
			return
		}
	}
}

// LocalAddr implements natt.Conn.
func (s *socket) LocalAddr() netip.AddrPort {
	if s.bound.Addr().IsValid() {
		return s.bound
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), s.bound.Port())
}

// Offload implements natt.Conn.
func (s *socket) Offload() string { return "in memory" }

// Counters implements natt.Conn.
func (s *socket) Counters() map[string]uint64 {
	return map[string]uint64{"send_bad_address": s.badAddress.Load(), "send_unreachable": s.unreachable.Load()}
}

// Receive implements natt.Conn: a run is one datagram.
func (s *socket) Receive(runs []natt.Run) (n int, err error) {
	select {
	case <-s.done:
		return 0, net.ErrClosed
	default:
	}
	for n < len(runs) {
		if n > 0 && len(s.inbox) == 0 {
			break
		}
		select {
		case a := <-s.inbox:
			runs[n] = s.run(a)
			n++
		case <-s.done:
			return 0, net.ErrClosed
		}
	}
	return n, nil
}

func (s *socket) run(a arrival) natt.Run {
	from := netip.AddrPortFrom(a.from.Addr().Unmap(), a.from.Port())
	return natt.Run{Bytes: a.frame[1:], TOS: a.frame[0], Path: natt.Path{Local: s.local, Remote: from, Encap: s.natt}}
}

// Send implements natt.Conn.
func (s *socket) Send(runs []natt.Run) (n int, err error) {
	for i, run := range runs {
		select {
		case <-s.done:
			return i, net.ErrClosed
		default:
		}
		if !s.routable(run.Path) {
			continue
		}
		for k := range run.Segments() {
			s.transmit(run.Path.Remote, run.TOS, run.Segment(k))
		}
		n++
	}
	return n, nil
}

func (s *socket) routable(p natt.Path) bool {
	local := p.Local.Addr()
	switch {
	case !p.Remote.Addr().Is4() || p.Remote.Port() == 0:
		s.unreachable.Add(1)
		return false
	case local.IsValid() && !local.IsUnspecified() && local != s.host.addr:
		s.badAddress.Add(1)
		return false
	}
	return true
}

func (s *socket) transmit(to netip.AddrPort, tos uint8, b []byte) {
	v := s.host.network.judge(Datagram{From: s.local, To: to, TOS: tos, Bytes: b})
	if v.Drop {
		return
	}
	frame := append([]byte{tos}, b...)
	for range 1 + v.Copies {
		if v.Delay > 0 {
			time.AfterFunc(v.Delay, func() { s.write(frame, to) })
			continue
		}
		s.write(frame, to)
	}
}

// write cannot fail but for a network that is closed, where nobody would notice.
func (s *socket) write(frame []byte, to netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.wire.WriteTo(frame, net.UDPAddrFromAddrPort(to))
}

// Close implements natt.Conn.
func (s *socket) Close() error {
	err := net.ErrClosed
	s.once.Do(func() {
		close(s.done)
		s.host.mu.Lock()
		delete(s.host.sockets, s.local.Port())
		s.host.mu.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		err = s.wire.Close()
	})
	return err
}
