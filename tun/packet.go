package tun

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// What can be wrong with an IP packet. The errors are values without detail:
// they name a drop counter and cost no allocation.
var (
	ErrTruncated  = errors.New("tun: packet is shorter than its headers say")
	ErrVersion    = errors.New("tun: neither an IPv4 nor an IPv6 packet")
	ErrHeader     = errors.New("tun: bad IP or transport header length")
	ErrExtensions = errors.New("tun: too many IPv6 extension headers")
	ErrSegment    = errors.New("tun: run of segments is not TCP or UDP, or its checksum place is wrong")
)

// IP protocol numbers that this package looks into.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoDCCP   = 33
	protoICMPv6 = 58
	protoSCTP   = 132
	protoUDPL   = 136

	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAuth        = 51
	extDestination = 60
	extMobility    = 135
	extHIP         = 139
	extShim6       = 140
)

const (
	ipv4Len = 20
	ipv6Len = 40
	// maxExtensions bounds the walk along IPv6 extension headers. RFC 8200,
	// section 4.1 recommends an order of at most seven.
	maxExtensions = 8
)

// Flow names the two ends of a packet, as a security policy looks at them.
type Flow struct {
	Src, Dst netip.Addr
	Protocol uint8 // the transport protocol, behind all extension headers
	// SrcPort and DstPort are valid when HasPorts: not for protocols without
	// ports, for fragments other than the first, and for a first fragment that
	// ends before its ports.
	SrcPort, DstPort uint16
	HasPorts         bool
}

// ParseFlow reads the addresses, protocol and ports of an IP packet. The
// packet may be longer than its IP header says (padding), never shorter.
func ParseFlow(packet []byte) (Flow, error) {
	h, err := ParseHeader(packet)
	if err != nil {
		return Flow{}, err
	}
	return h.Flow(packet), nil
}

// Flow is ParseFlow of a packet whose Header is known.
func (h Header) Flow(packet []byte) Flow {
	f := Flow{Protocol: h.protocol}
	if h.v6() {
		f.Src = netip.AddrFrom16([16]byte(packet[8:24]))
		f.Dst = netip.AddrFrom16([16]byte(packet[24:40]))
	} else {
		f.Src = netip.AddrFrom4([4]byte(packet[12:16]))
		f.Dst = netip.AddrFrom4([4]byte(packet[16:20]))
	}
	if h.showsPorts() {
		f.SrcPort = binary.BigEndian.Uint16(packet[h.transport:])
		f.DstPort = binary.BigEndian.Uint16(packet[h.transport+2:])
		f.HasPorts = true
	}
	return f
}

// Key remembers the flow of a packet, to tell that of another from it at less
// cost than by two Flows. The zero Key is that of no packet. It is filled and
// compared where it is, because a copy of it would be most of the cost.
type Key struct {
	addresses [4]uint64
	rest      uint64 // protocol, IP version, and ports or that there are none
}

// Set makes it the Key of a packet.
func (k *Key) Set(h Header, packet []byte) {
	k.rest = h.keyRest(packet)
	k.addresses[0] = binary.LittleEndian.Uint64(packet[12:])
	if h.v6() {
		for i := range k.addresses {
			k.addresses[i] = binary.LittleEndian.Uint64(packet[8+8*i:])
		}
	}
}

// Matches says whether a packet is of the same Flow.
func (k *Key) Matches(h Header, packet []byte) bool {
	if k.rest != h.keyRest(packet) {
		return false
	}
	if !h.v6() {
		return k.addresses[0] == binary.LittleEndian.Uint64(packet[12:])
	}
	b := packet[8:40]
	return k.addresses[0] == binary.LittleEndian.Uint64(b) && k.addresses[1] == binary.LittleEndian.Uint64(b[8:]) &&
		k.addresses[2] == binary.LittleEndian.Uint64(b[16:]) && k.addresses[3] == binary.LittleEndian.Uint64(b[24:])
}

func (h Header) keyRest(packet []byte) uint64 {
	rest := 1<<63 | uint64(h.protocol)<<32 | uint64(h.marks&markV6)<<40
	if h.showsPorts() {
		rest |= 1<<48 | uint64(binary.LittleEndian.Uint32(packet[h.transport:]))
	}
	return rest
}

// showsPorts: the protocol has ports and they are in this packet.
func (h Header) showsPorts() bool {
	return hasPorts(h.protocol) && !h.laterFragment() && h.transport+4 <= h.end
}

func hasPorts(protocol uint8) bool {
	switch protocol {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPL:
		return true
	}
	return false
}

// Header is where things are in an IP packet. It is parsed once and goes with
// the packet. It has no more than four fields because the compiler keeps only
// such structs in registers.
type Header struct {
	marks     marks
	protocol  uint8 // of what starts at transport
	transport int   // offset behind the IP header, options and extension headers
	end       int   // the length the IP header declares, at most the bytes present
}

// Len is the length in bytes that the packet's IP header declares: what
// remains when the padding of RFC 4303, section 2.7 is cut off. It is at most
// that of the bytes that were parsed.
func (h Header) Len() int { return h.end }

// marks are the yes and no of a header.
type marks uint8

const (
	markV6            marks = 1 << iota
	markFragment            // part of a fragmented packet
	markLaterFragment       // a fragment other than the first: no transport header
)

func (h Header) v6() bool            { return h.marks&markV6 != 0 }
func (h Header) fragment() bool      { return h.marks&markFragment != 0 }
func (h Header) laterFragment() bool { return h.marks&markLaterFragment != 0 }

// bare says that the transport header follows the fixed IP header at once.
func (h Header) bare() bool {
	if h.v6() {
		return h.transport == ipv6Len
	}
	return h.transport == ipv4Len
}

// ParseHeader finds its way through the IP header of a packet and its extension
// headers. The packet may be longer than the header says (padding), never
// shorter.
func ParseHeader(b []byte) (Header, error) {
	h, err := parseFixed(b)
	if err == nil && h.v6() {
		return h.walkExtensions(b[:h.end])
	}
	return h, err
}

// parseFixed reads the IP header without IPv6 extension headers.
func parseFixed(b []byte) (Header, error) {
	if len(b) == 0 {
		return Header{}, ErrTruncated
	}
	switch b[0] >> 4 {
	case 4:
		return parseIPv4(b)
	case 6:
		return parseIPv6(b)
	}
	return Header{}, ErrVersion
}

func parseIPv4(b []byte) (Header, error) {
	if len(b) < ipv4Len {
		return Header{}, ErrTruncated
	}
	h := Header{protocol: b[9], transport: int(b[0]&15) * 4, end: int(binary.BigEndian.Uint16(b[2:]))}
	if h.transport < ipv4Len || h.end < h.transport {
		return Header{}, ErrHeader
	}
	if h.end > len(b) {
		return Header{}, ErrTruncated
	}
	const moreFragments, offset = 0x2000, 0x1fff
	if fragment := binary.BigEndian.Uint16(b[6:]); fragment&(moreFragments|offset) != 0 {
		h.marks = fragmentMarks(fragment&offset != 0)
	}
	return h, nil
}

func fragmentMarks(later bool) marks {
	if later {
		return markFragment | markLaterFragment
	}
	return markFragment
}

func parseIPv6(b []byte) (Header, error) {
	if len(b) < ipv6Len {
		return Header{}, ErrTruncated
	}
	h := Header{marks: markV6, protocol: b[6], transport: ipv6Len, end: ipv6Len + int(binary.BigEndian.Uint16(b[4:]))}
	if h.end > len(b) {
		return Header{}, ErrTruncated
	}
	return h, nil
}

// walkExtensions is h moved along the extension headers of b (RFC 8200, section
// 4) to the transport header, or to the payload of a later fragment.
func (h Header) walkExtensions(b []byte) (Header, error) {
	for range maxExtensions {
		var n int
		rest := b[h.transport:]
		switch h.protocol {
		case extHopByHop, extRouting, extDestination, extMobility, extHIP, extShim6, extFragment, extAuth:
			if len(rest) < 8 {
				return Header{}, ErrTruncated
			}
		default:
			return h, nil
		}
		switch h.protocol {
		case extFragment:
			n = 8
			h.marks |= fragmentMarks(binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0)
		case extAuth: // counts in 4 bytes, RFC 4302, section 2.2
			n = (int(rest[1]) + 2) * 4
		default:
			n = (int(rest[1]) + 1) * 8
		}
		if n > len(rest) {
			return Header{}, ErrTruncated
		}
		h.protocol = rest[0]
		h.transport += n
		if h.laterFragment() {
			return h, nil
		}
	}
	return Header{}, ErrExtensions
}
