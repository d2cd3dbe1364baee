package natt

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sendBatch  = 64    // messages a system call; a run that must go plain takes one a datagram
	maxPayload = 65507 // of one send, segmented or not: an IPv4 packet less its headers
)

// cursor is how far a Send has come: run, and offset in its bytes.
type cursor struct{ run, offset int }

// part is what a message is of the runs.
type part struct {
	after     cursor // where it ends
	segmented bool   // it is several datagrams
}

// sender is the state of Send, under its mutex.
type sender struct {
	mu       sync.Mutex
	segments int // most that one message may hold; 1: segmentation is off
	plain    int // the run that the kernel will not segment, -1 if none
	lost     int // the run that last lost a part, -1 if none

	messages [sendBatch]mmsghdr
	iovecs   [sendBatch]unix.Iovec
	names    [sendBatch]unix.RawSockaddrInet6
	controls [sendBatch]controlBuffer
	parts    [sendBatch]part
	try      func(fd uintptr) bool
	count    int
	fragment bool // these are IKE
	sent     int
	errno    syscall.Errno
}

func (c *conn) initSender(segments int) {
	s := &c.sender
	s.segments = segments
	s.try = c.trySend
	for i := range s.messages {
		h := &s.messages[i].header
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
		h.Iov = &s.iovecs[i]
		h.SetIovlen(1)
	}
}

// Send implements Conn.
func (c *conn) Send(runs []Run) (int, error) {
	s := &c.sender
	s.mu.Lock()
	defer s.mu.Unlock()
	whole := len(runs)
	s.plain, s.lost = -1, -1
	for at := (cursor{}); at.run < len(runs); {
		c.prepare(runs, at)
		if err := c.door.Write(s.try); err != nil {
			return at.run, net.ErrClosed
		}
		if s.sent > 0 {
			at = s.parts[s.sent-1].after
			continue
		}
		if fatal(s.errno) {
			return at.run, s.errno
		}
		if c.retry(at) {
			continue
		}
		c.count(sendCounter(s.errno))
		if s.lost != at.run {
			s.lost = at.run
			whole--
		}
		at = s.parts[0].after
	}
	return whole, nil
}

// prepare lays out messages from at on, as many as fit a system call and are alike in whether they may be fragmented.
func (c *conn) prepare(runs []Run, at cursor) {
	s := &c.sender
	s.count = 0
	s.fragment = c.mayFragment(runs[at.run])
	for at.run < len(runs) && s.count < sendBatch {
		run := &runs[at.run]
		if at.offset == 0 && c.mayFragment(*run) != s.fragment {
			return
		}
		end, size := s.next(run, at)
		c.message(run, run.Bytes[at.offset:end], size)
		at.offset = end
		if end == len(run.Bytes) {
			at = cursor{run: at.run + 1}
		}
		s.parts[s.count] = part{after: at, segmented: size > 0}
		s.count++
	}
}

// mayFragment: IKE may, ESP may not. On the IKE socket all is IKE, and the socket is set so for good.
func (c *conn) mayFragment(r Run) bool {
	return c.natt && !r.Whole && Classify(r.Bytes) == IKE
}

// next returns where the message that starts at at ends, and its segment size, 0 for one datagram. ESP makes what came from the TUN
// device longer, so a run may be over what one send can hold: it goes as several.
func (s *sender) next(run *Run, at cursor) (end, size int) {
	rest := len(run.Bytes) - at.offset
	if run.SegmentSize <= 0 || rest <= run.SegmentSize {
		return len(run.Bytes), 0
	}
	n := min(s.segments, maxPayload/run.SegmentSize)
	if n < 2 || at.run == s.plain {
		return at.offset + run.SegmentSize, 0
	}
	return at.offset + min(rest, n*run.SegmentSize), run.SegmentSize
}

// message writes message number s.count.
func (c *conn) message(run *Run, b []byte, size int) {
	s := &c.sender
	i := s.count
	s.iovecs[i].Base = unsafe.SliceData(b)
	s.iovecs[i].SetLen(len(b))
	h := &s.messages[i].header
	h.Namelen = c.name(&s.names[i], run.Path.Remote)
	buf := s.controls[i].bytes[:]
	used := 0
	var data []byte
	if size > 0 {
		data, used = appendControl(buf, used, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(data, uint16(size))
	}
	four := run.Path.Remote.Addr().Is4()
	if local := run.Path.Local.Addr(); local.IsValid() && !local.IsUnspecified() && local.Is4() == four {
		used = appendSource(buf, used, local)
	}
	if run.TOS != 0 {
		level, kind := int32(unix.IPPROTO_IPV6), int32(unix.IPV6_TCLASS)
		if four {
			level, kind = unix.IPPROTO_IP, unix.IP_TOS
		}
		data, used = appendControl(buf, used, level, kind, 4)
		binary.NativeEndian.PutUint32(data, uint32(run.TOS))
	}
	h.Control = &buf[0]
	h.SetControllen(used)
}

// appendSource has the datagram leave from local (RFC 7296 section 2.11: an answer comes from the address that was asked).
func appendSource(b []byte, used int, local netip.Addr) int {
	var data []byte
	if local.Is4() {
		data, used = appendControl(b, used, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		*(*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])) = unix.Inet4Pktinfo{Spec_dst: local.As4()}
		return used
	}
	data, used = appendControl(b, used, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
	*(*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])) = unix.Inet6Pktinfo{Addr: local.As16(), Ifindex: zoneIndex(local)}
	return used
}

// name writes the address and returns its length. An IPv4 socket is given an IPv6 address as it is: the kernel refuses it, and that counts.
func (c *conn) name(name *unix.RawSockaddrInet6, to netip.AddrPort) uint32 {
	a := to.Addr()
	if a.Is4() && !c.six {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(name)) = unix.RawSockaddrInet4{
			Family: unix.AF_INET, Port: networkOrder(to.Port()), Addr: a.As4(),
		}
		return unix.SizeofSockaddrInet4
	}
	*name = unix.RawSockaddrInet6{
		Family: unix.AF_INET6, Port: networkOrder(to.Port()), Addr: a.As16(), Scope_id: zoneIndex(a),
	}
	return unix.SizeofSockaddrInet6
}

// trySend is the body of a Door.Write, which never waits: a datagram that finds the buffer full is dropped, as a
// router drops it, and the loop that reads the TUN device stays alive.
func (c *conn) trySend(fd uintptr) bool {
	s := &c.sender
	if s.fragment {
		setFragmentation(fd, c.six, true)
		defer setFragmentation(fd, c.six, false)
	}
	for {
		s.sent, s.errno = c.sendmmsg(fd, s.messages[:s.count])
		if s.errno != unix.EINTR {
			return true
		}
	}
}

// retry tells whether the first message, which was refused, has another way to go, and opens it.
func (c *conn) retry(at cursor) bool {
	s := &c.sender
	if !s.parts[0].segmented {
		return false
	}
	switch s.errno {
	case unix.EIO: // the device has no checksum offload, or IPsec policies stand in the way: it will not get better
		s.segments = 1
		c.count(segmentationDisabled)
		return true
	case unix.EMSGSIZE, unix.EINVAL:
		s.plain = at.run
		c.count(segmentationRefused)
		return true
	}
	return false
}
