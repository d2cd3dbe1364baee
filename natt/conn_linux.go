package natt

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"culvert/patience"
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// system is the system calls of the data path. Tests put failures in their place.
type system struct {
	recvmmsg func(fd uintptr, m []mmsghdr) (int, syscall.Errno)
	sendmmsg func(fd uintptr, m []mmsghdr) (int, syscall.Errno)
	version  version
	setInt   func(fd, level, option, value int) error
	getInt   func(fd, level, option int) (int, error)
}

// machine is the system that we run on.
func machine() system {
	return system{recvmmsg, sendmmsg, kernelVersion(), unix.SetsockoptInt, unix.GetsockoptInt}
}

// The descriptor does not block, so the calls need not tell the scheduler about themselves, which would cost as much again as entering the
// kernel does. They last as long as the kernel's path for a batch, tens of microseconds, and a garbage collection waits for that.

func recvmmsg(fd uintptr, m []mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func sendmmsg(fd uintptr, m []mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// conn is a Conn on recvmmsg and sendmmsg. The descriptor does not block; waiting is its door's work, so that Close wakes it.
type conn struct {
	counters
	system
	fd    int
	door  *patience.Door
	local netip.AddrPort
	six   bool // an AF_INET6 socket, where IPv4 addresses travel IPv4-mapped
	natt  bool
	gro   bool
	lanes string // how many sockets share the port, and by what

	receiver receiver
	sender   sender
}

func listen(addr netip.AddrPort, opts Options) (Conn, error) {
	c, err := listenBatch(addr, opts, machine())
	if err != nil {
		return nil, err // not a nil *conn in an interface
	}
	return c, nil
}

func listenBatch(addr netip.AddrPort, opts Options, on system) (*conn, error) {
	fd, six, err := bind(addr, opts.join)
	if err != nil {
		return nil, err
	}
	c := &conn{system: on, fd: fd, six: six, natt: opts.NATT}
	if err := c.setUp(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return c, nil
}

func (c *conn) setUp() (err error) {
	if err = enableControl(c.fd, c.six); err != nil {
		return err
	}
	if c.local, err = localAddr(c.fd); err != nil {
		return err
	}
	c.initReceiver()
	c.initSender(c.tune(c.fd))
	c.door, err = patience.NewDoor(c.fd)
	return err
}

// bind opens the socket. The net package is passed by because it decides once, by trying the loopback interface, whether a process may
// have sockets for both families, and in a network namespace the loopback interface may be down.
func bind(addr netip.AddrPort, join bool) (fd int, six bool, err error) {
	a := addr.Addr().Unmap()
	if !a.IsValid() || a.IsUnspecified() {
		fd, err = open(netip.AddrPortFrom(netip.IPv6Unspecified(), addr.Port()), join)
		if err != unix.EAFNOSUPPORT && err != unix.EADDRNOTAVAIL { // the two ways of having no IPv6
			return fd, true, err
		}
		a = netip.IPv4Unspecified()
	}
	fd, err = open(netip.AddrPortFrom(a, addr.Port()), join)
	return fd, a.Is6(), err
}

func open(a netip.AddrPort, join bool) (int, error) {
	family := unix.AF_INET
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if err == nil && join {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(a))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// sockaddr is a's form for system calls.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: zoneIndex(a.Addr())}
}

// enableControl has each datagram come with its destination address and its TOS. On an IPv6 socket IPV6_RECVPKTINFO serves IPv4 as well.
func enableControl(fd int, six bool) error {
	type option struct{ level, name int }
	options := []option{{unix.IPPROTO_IP, unix.IP_PKTINFO}, {unix.IPPROTO_IP, unix.IP_RECVTOS}}
	if six {
		options = []option{{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO}, {unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS}, {unix.IPPROTO_IP, unix.IP_RECVTOS}}
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// tune sets what the kind of socket wants and returns how many segments one send may hold, 1 without offload.
// UDP_ENCAP must never be set: it hands ESP to the kernel's own IPsec.
func (c *conn) tune(fd int) (segments int) {
	setFragmentation(uintptr(fd), c.six, !c.natt)
	if !c.natt {
		return 1
	}
	c.setBuffers(fd)
	// Before 5.12 the kernel can deliver runs that were never meant to be one.
	c.gro = c.version.atLeast(5, 12) && c.setInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
	if _, err := c.getInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT); err != nil {
		return 1
	}
	return c.version.maxSegments()
}

// setBuffers asks for big buffers: past the system's limit with CAP_NET_ADMIN, up to it otherwise. Small ones only cost speed, so errors do not count.
func (s *system) setBuffers(fd int) {
	for _, o := range [...]struct{ force, plain int }{
		{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF},
		{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF},
	} {
		if s.setInt(fd, unix.SOL_SOCKET, o.force, socketBuffer) != nil {
			_ = s.setInt(fd, unix.SOL_SOCKET, o.plain, socketBuffer)
		}
	}
}

func localAddr(fd int) (netip.AddrPort, error) {
	bound, err := unix.Getsockname(fd)
	switch bound := bound.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(bound.Addr), uint16(bound.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(zoned(netip.AddrFrom16(bound.Addr).Unmap(), bound.ZoneId), uint16(bound.Port)), nil
	}
	return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
}

// LocalAddr implements Conn.
func (c *conn) LocalAddr() netip.AddrPort { return c.local }

// Close implements Conn.
func (c *conn) Close() error {
	if err := c.door.Close(); err != nil {
		return net.ErrClosed
	}
	return os.NewSyscallError("close", unix.Close(c.fd))
}

// Offload implements Conn.
func (c *conn) Offload() string {
	s := "recvmmsg, sendmmsg"
	if c.gro {
		s += ", UDP_GRO"
	}
	if c.lanes != "" {
		s += ", " + c.lanes
	}
	c.sender.mu.Lock()
	defer c.sender.mu.Unlock()
	if c.sender.segments > 1 {
		s += ", UDP_SEGMENT (" + strconv.Itoa(c.sender.segments) + ")"
	}
	return s
}

// version is the kernel's, as far as it matters.
type version struct{ major, minor int }

func kernelVersion() version {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return version{}
	}
	return parseVersion(unix.ByteSliceToString(u.Release[:]))
}

// parseVersion reads the two leading numbers of a kernel release such as "6.18.44-cloud". What it cannot read is 0, the oldest.
func parseVersion(release string) (v version) {
	rest := digits(release, &v.major)
	if len(rest) > 0 && rest[0] == '.' {
		digits(rest[1:], &v.minor)
	}
	return v
}

func digits(s string, n *int) (rest string) {
	for s != "" && '0' <= s[0] && s[0] <= '9' && *n < 1000 {
		*n = *n*10 + int(s[0]-'0')
		s = s[1:]
	}
	return s
}

func (v version) atLeast(major, minor int) bool {
	return v.major > major || v.major == major && v.minor >= minor
}

// maxSegments is the kernel's UDP_MAX_SEGMENTS.
func (v version) maxSegments() int {
	if v.atLeast(6, 9) {
		return 128
	}
	return 64
}
