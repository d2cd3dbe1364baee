package natt

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// portable is a Conn on the net package and golang.org/x/net: one datagram a call, no offload. It is for systems without recvmmsg; on Linux
// only the tests use it, so that they try it.
type portable struct {
	counters
	socket *net.UDPConn
	raw    syscall.RawConn
	local  netip.AddrPort
	six    bool
	natt   bool

	buffer  []byte // of Receive
	control []byte

	mu  sync.Mutex // of Send
	tos uint8      // what the socket marks IPv4 datagrams with
}

func listenPortable(addr netip.AddrPort, opts Options) (*portable, error) {
	network, address := "udp", addr.String()
	switch a := addr.Addr().Unmap(); {
	case !a.IsValid() || a.IsUnspecified():
		address = netip.AddrPortFrom(netip.IPv6Unspecified(), addr.Port()).String()
		if !hasIPv6() {
			address = netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port()).String()
		}
	case a.Is4():
		network = "udp4"
	default:
		network = "udp6"
	}
	packets, err := new(net.ListenConfig).ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	c := &portable{socket: packets.(*net.UDPConn), natt: opts.NATT, buffer: make([]byte, 1<<16), control: make([]byte, 256)}
	if err := c.setUp(); err != nil {
		c.socket.Close()
		return nil, err
	}
	return c, nil
}

func hasIPv6() bool {
	c, err := net.ListenPacket("udp6", "[::]:0")
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func (c *portable) setUp() error {
	bound := c.socket.LocalAddr().(*net.UDPAddr).AddrPort()
	c.six = !bound.Addr().Is4()
	c.local = unmap(bound)
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return err
	}
	c.raw = raw
	// TOS is worth having, not worth failing for: systems differ in what they give on a socket for both families.
	_ = raw.Control(func(fd uintptr) {
		_ = enableTOS(fd)
		setFragmentation(fd, c.six, !c.natt)
		if c.natt {
			setBuffers(fd)
		}
	})
	if c.six {
		p := ipv6.NewPacketConn(c.socket)
		_ = p.SetControlMessage(ipv6.FlagTrafficClass, true)
		return p.SetControlMessage(ipv6.FlagDst, true)
	}
	return ipv4.NewPacketConn(c.socket).SetControlMessage(ipv4.FlagDst, true)
}

// LocalAddr implements Conn.
func (c *portable) LocalAddr() netip.AddrPort { return c.local }

// Close implements Conn.
func (c *portable) Close() error { return c.socket.Close() }

// Offload implements Conn.
func (c *portable) Offload() string { return "none" }

// Receive implements Conn.
func (c *portable) Receive(runs []Run) (int, error) {
	for len(runs) > 0 {
		n, controls, flags, remote, err := c.socket.ReadMsgUDPAddrPort(c.buffer, c.control)
		switch {
		case errors.Is(err, net.ErrClosed):
			return 0, net.ErrClosed
		case err != nil && fatal(err):
			return 0, bare(err)
		case err != nil:
			c.count(receiveError)
			continue
		case flags&truncated != 0:
			c.count(receiveTruncated)
			continue
		}
		local, tos := c.parse(c.control[:controls])
		runs[0] = Run{
			Bytes: c.buffer[:n],
			TOS:   tos,
			Path:  Path{Local: netip.AddrPortFrom(local, c.local.Port()), Remote: unmap(remote), Encap: c.natt},
		}
		return 1, nil
	}
	return 0, nil
}

// parse reads the control messages. Without one about the destination the address is the bound one, if that says anything.
func (c *portable) parse(b []byte) (local netip.Addr, tos uint8) {
	var dst net.IP
	if c.six {
		var m ipv6.ControlMessage
		if m.Parse(b) == nil {
			dst, tos = m.Dst, uint8(m.TrafficClass)
		}
	} else {
		var m ipv4.ControlMessage
		if m.Parse(b) == nil {
			dst = m.Dst
		}
	}
	if t, ok := parseTOS(b); ok {
		tos = t
	}
	if a, ok := netip.AddrFromSlice(dst); ok {
		return a.Unmap(), tos
	}
	if !c.local.Addr().IsUnspecified() {
		local = c.local.Addr()
	}
	return local, tos
}

// Send implements Conn. Unlike the batch implementation it waits while the socket's buffer is full.
func (c *portable) Send(runs []Run) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	whole := 0
	for i, run := range runs {
		ok, err := c.sendRun(run)
		if err != nil {
			return i, err
		}
		if ok {
			whole++
		}
	}
	return whole, nil
}

// sendRun sends the datagrams of a run. The error is one that ends the socket.
func (c *portable) sendRun(run Run) (whole bool, err error) {
	c.mark(run)
	if c.natt && !run.Whole && Classify(run.Bytes) == IKE {
		c.fragment(true)
		defer c.fragment(false)
	}
	control := c.controlFor(run)
	whole = true
	for i := range run.Segments() {
		_, _, err := c.socket.WriteMsgUDPAddrPort(run.Segment(i), control, run.Path.Remote)
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return false, net.ErrClosed
		case fatal(err):
			return false, bare(err)
		default:
			whole = false
			c.count(sendCounter(err))
		}
	}
	return whole, nil
}

func (c *portable) fragment(allow bool) {
	_ = c.raw.Control(func(fd uintptr) { setFragmentation(fd, c.six, allow) })
}

// mark sets the socket's TOS for IPv4, for which golang.org/x/net has no control message.
func (c *portable) mark(run Run) {
	if !run.Path.Remote.Addr().Is4() || run.TOS == c.tos {
		return
	}
	_ = c.raw.Control(func(fd uintptr) {
		if setTOS(fd, run.TOS) == nil {
			c.tos = run.TOS
		}
	})
}

func (c *portable) controlFor(run Run) []byte {
	local, four := run.Path.Local.Addr(), run.Path.Remote.Addr().Is4()
	sourced := local.IsValid() && !local.IsUnspecified() && local.Is4() == four
	switch {
	case four && sourced:
		return (&ipv4.ControlMessage{Src: local.AsSlice()}).Marshal()
	case four:
		return nil
	}
	m := ipv6.ControlMessage{TrafficClass: int(run.TOS)}
	if sourced {
		m.Src = local.AsSlice()
	}
	return m.Marshal()
}
