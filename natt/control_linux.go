package natt

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlBuffer is room for the control messages of one message, aligned as their headers need: at most pktinfo 40 bytes, TOS 24 (and IPv6's
// traffic class 24), segment size 24.
type controlBuffer struct {
	_     [0]uint64
	bytes [128]byte
}

// controlInfo is what the kernel says of a received message beside its bytes.
type controlInfo struct {
	local       netip.Addr
	tos         uint8
	segmentSize int // 0: no run
}

func parseControl(b []byte) (info controlInfo) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if h.Len < unix.SizeofCmsghdr || int(h.Len) > len(b) {
			return info
		}
		data := b[unix.CmsgLen(0):h.Len]
		info.take(h.Level, h.Type, data)
		b = b[min(unix.CmsgSpace(len(data)), len(b)):]
	}
	return info
}

func (info *controlInfo) take(level, kind int32, data []byte) {
	switch {
	case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		info.local = netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Addr)
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		info.local = netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Addr).Unmap()
	case level == unix.IPPROTO_IP && kind == unix.IP_TOS && len(data) >= 1:
		info.tos = data[0]
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_TCLASS && len(data) >= 4:
		info.tos = uint8(binary.NativeEndian.Uint32(data))
	case level == unix.IPPROTO_UDP && kind == unix.UDP_GRO && len(data) >= 4:
		info.segmentSize = int(binary.NativeEndian.Uint32(data))
	}
}

// appendControl lays out a control message with room for n bytes of data at b[used:], and returns the data and the new length.
func appendControl(b []byte, used int, level, kind int32, n int) (data []byte, end int) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[used]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(n))
	start := used + unix.CmsgLen(0)
	return b[start : start+n], used + unix.CmsgSpace(n)
}

// networkOrder turns a port between the machine's order and the network's, either way.
func networkOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&port))[:])
}

// zoneIndex is the interface number of a link-local address's zone, 0 if it has none.
func zoneIndex(a netip.Addr) uint32 {
	zone := a.Zone()
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	return 0
}

// zoned is the address with its interface, where it means nothing without.
func zoned(a netip.Addr, zone uint32) netip.Addr {
	if zone == 0 || !a.IsLinkLocalUnicast() {
		return a
	}
	return a.WithZone(strconv.FormatUint(uint64(zone), 10))
}
