package tun

import (
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
func ParseFlow(packet []byte) (Flow, error) { return Flow{}, ErrVersion }

// InnerLen is the length in bytes that the packet's IP header declares: what
// remains when the padding of RFC 4303, section 2.7 is cut off. It is an
// error if that is more than the bytes present.
func InnerLen(packet []byte) (int, error) { return 0, ErrVersion }
