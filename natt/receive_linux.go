package natt

import (
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// A run that UDP_GRO delivers, or one datagram, is at most an IP packet.
	runBuffer = 1 << 16

	// 16 runs are some 700 full-sized ESP packets, or 16 small ones; either is enough to make the system call cheap beside its work,
	// and the whole stays at 1 MB, inside a core's own cache. IKE alone needs less.
	bulkRuns = 16
	ikeRuns  = 4

	// Buffers that all start at the same page offset would share cache sets for just the bytes that are read first.
	runStride = runBuffer + 5*64
)

// receiver is the state of Receive, which one goroutine uses at a time.
type receiver struct {
	messages []mmsghdr
	iovecs   []unix.Iovec
	names    []unix.RawSockaddrInet6 // the larger of the two
	controls []controlBuffer
	try      func(fd uintptr) bool // the body of a Door.Read, made once: a closure a call would be an allocation a call
	want     int
	got      int
	errno    syscall.Errno
}

func (c *conn) initReceiver() {
	n := ikeRuns
	if c.natt {
		n = bulkRuns
	}
	r := &c.receiver
	r.messages = make([]mmsghdr, n)
	r.iovecs = make([]unix.Iovec, n)
	r.names = make([]unix.RawSockaddrInet6, n)
	r.controls = make([]controlBuffer, n)
	r.try = c.receiveNow
	slab := make([]byte, n*runStride)
	for i := range r.messages {
		r.iovecs[i].Base = &slab[i*runStride]
		r.iovecs[i].SetLen(runBuffer)
		h := &r.messages[i].header
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov = &r.iovecs[i]
		h.SetIovlen(1)
		h.Control = &r.controls[i].bytes[0]
	}
}

// Receive implements Conn.
func (c *conn) Receive(runs []Run) (int, error) {
	r := &c.receiver
	r.want = min(len(runs), len(r.messages))
	for r.want > 0 {
		r.reset()
		if err := c.door.Read(r.try); err != nil {
			return 0, net.ErrClosed
		}
		if r.errno != 0 {
			if fatal(r.errno) {
				return 0, r.errno
			}
			c.count(receiveError)
			continue
		}
		if n := c.collect(runs); n > 0 {
			return n, nil
		}
	}
	return 0, nil
}

// reset undoes what the kernel wrote into the message headers.
func (r *receiver) reset() {
	r.got = 0
	for i := range r.messages[:r.want] {
		h := &r.messages[i].header
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(len(r.controls[i].bytes))
		h.Flags = 0
	}
}

// receiveNow takes what is there, and reports whether there was anything, be it an error.
func (c *conn) receiveNow(fd uintptr) bool {
	r := &c.receiver
	r.got, r.errno = c.recvmmsg(fd, r.messages[:r.want])
	if r.errno == unix.EINTR {
		r.errno = unix.EAGAIN // the door, where there is something, asks again at once
	}
	return r.errno != unix.EAGAIN
}

// collect turns what the kernel filled into runs and returns how many are whole.
func (c *conn) collect(runs []Run) (n int) {
	r := &c.receiver
	for i := range r.messages[:r.got] {
		if r.messages[i].header.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			c.count(receiveTruncated)
			continue
		}
		c.fill(&runs[n], i)
		n++
	}
	return n
}

func (c *conn) fill(run *Run, i int) {
	r := &c.receiver
	h := &r.messages[i].header
	info := parseControl(r.controls[i].bytes[:h.Controllen])
	length := int(r.messages[i].length)
	*run = Run{
		Bytes: unsafe.Slice(r.iovecs[i].Base, length),
		TOS:   info.tos,
		Path: Path{
			Local:  netip.AddrPortFrom(info.local, c.local.Port()),
			Remote: remoteAddr(&r.names[i]),
			Encap:  c.natt,
		},
	}
	if info.segmentSize < length {
		run.SegmentSize = info.segmentSize
	}
}

func remoteAddr(name *unix.RawSockaddrInet6) netip.AddrPort {
	if name.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), networkOrder(four.Port))
	}
	return netip.AddrPortFrom(zoned(netip.AddrFrom16(name.Addr).Unmap(), name.Scope_id), networkOrder(name.Port))
}

// zoned is the address with its interface, where it means nothing without.
func zoned(a netip.Addr, zone uint32) netip.Addr {
	if zone == 0 || !a.IsLinkLocalUnicast() {
		return a
	}
	return a.WithZone(strconv.FormatUint(uint64(zone), 10))
}
