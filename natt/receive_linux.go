package natt

import (
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// A run that UDP_GRO delivers, or one datagram, is at most an IP packet.
	runBuffer = 1 << 16

	// 16 runs are some 700 full-sized ESP packets, or 16 small ones; either is enough to make the system call cheap beside its work,
	// and the whole stays at 1 MB, inside a core's own cache. IKE alone needs less.
	callRuns = 16
	ikeRuns  = 4

	// Where nobody joins datagrams on the way, 16 are too few for the packets in them to become a long run of the TUN device. So calls that come
	// back full of such go on, into buffers of their own: those hold 64 datagrams, or 90 KB of full-sized ones.
	bulkRuns = 4 * callRuns

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

	// The last call: messages from first on.
	first int
	want  int
	got   int
	errno syscall.Errno
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
func (c *conn) Receive(runs []Run) (n int, err error) {
	r := &c.receiver
	for n == 0 && r.begin(0, len(runs)) {
		if err := c.door.Read(r.try); err != nil {
			return 0, net.ErrClosed
		}
		if r.errno != 0 && fatal(r.errno) {
			return 0, r.errno
		}
		n = c.collect(runs, 0)
		for r.moreIsLikely() && r.begin(r.first+r.want, len(runs)) && c.door.Write(r.try) == nil {
			n = c.collect(runs, n)
		}
	}
	return n, nil
}

// begin prepares a call for messages from first on, of those that most runs have room for, and undoes what the kernel wrote into their headers. It
// reports whether there are any.
func (r *receiver) begin(first, most int) bool {
	r.first, r.want, r.got = first, min(most, len(r.messages), first+callRuns)-first, 0
	for i := first; i < first+r.want; i++ {
		h := &r.messages[i].header
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(len(r.controls[i].bytes))
		h.Flags = 0
	}
	return r.want > 0
}

// receiveNow takes what is there, and reports whether there was anything, be it an error.
func (c *conn) receiveNow(fd uintptr) bool {
	r := &c.receiver
	r.got, r.errno = c.recvmmsg(fd, r.messages[r.first:r.first+r.want])
	if r.errno == unix.EINTR {
		r.errno = unix.EAGAIN // the door, where there is something, asks again at once
	}
	return r.errno != unix.EAGAIN
}

// moreIsLikely: the call came back full, and of little.
func (r *receiver) moreIsLikely() bool {
	if r.got < r.want {
		return false
	}
	bytes := 0
	for i := range r.got {
		bytes += int(r.messages[r.first+i].length)
	}
	return bytes < runBuffer
}

// collect turns what the kernel filled into runs behind the first n, and returns how many there are then that are whole.
func (c *conn) collect(runs []Run, n int) int {
	r := &c.receiver
	if r.errno != 0 && r.errno != unix.EAGAIN {
		c.count(receiveError)
		return n
	}
	for i := r.first; i < r.first+r.got; i++ {
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
