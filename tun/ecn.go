package tun

import "encoding/binary"

// ECN codepoints in the lower two bits of the TOS byte (RFC 3168, section 5).
const (
	ecnNotECT = 0b00
	ecnECT1   = 0b01
	ecnCE     = 0b11
	ecnMask   = 0b11
)

// TOS is the IPv4 TOS or IPv6 traffic class byte of a packet: DSCP in the
// upper six bits, ECN in the lower two. It is 0 for what is no IP packet.
func TOS(packet []byte) uint8 {
	switch {
	case len(packet) < 2:
		return 0
	case packet[0]>>4 == 4:
		return packet[1]
	case packet[0]>>4 == 6:
		return packet[0]<<4 | packet[1]>>4
	}
	return 0
}

// Encapsulate is the TOS byte of the outer header for a packet whose own is
// inner: DSCP copied (RFC 4301, section 5.1.2.1), ECN by the normal mode of
// RFC 6040, section 4.1, which copies too.
func Encapsulate(inner uint8) uint8 { return inner }

// Decapsulate carries a congestion mark of the outer header over to the inner
// packet (RFC 6040, section 4.2), mending the IPv4 header checksum. The DSCP of
// the inner packet stays as it is. drop means that the packet must be dropped:
// the outer header says "congestion experienced" and the inner transport
// would not understand it.
func Decapsulate(outer uint8, packet []byte) (drop bool) {
	inner := TOS(packet) & ecnMask
	switch outer & ecnMask {
	case ecnCE:
		if inner == ecnNotECT {
			return true
		}
		setECN(packet, ecnCE)
	case ecnECT1:
		// RFC 6040, figure 4: ECT(1) outside wins over ECT(0) inside, so that
		// it can be the lesser of two marks.
		if inner != ecnNotECT && inner != ecnCE {
			setECN(packet, ecnECT1)
		}
	}
	return false
}

func setECN(packet []byte, ecn uint8) {
	switch {
	case packet[0]>>4 == 6 && len(packet) >= ipv6Len:
		packet[1] = packet[1]&^(ecnMask<<4) | ecn<<4
	case packet[0]>>4 == 4 && len(packet) >= ipv4Len:
		old := binary.BigEndian.Uint16(packet)
		packet[1] = packet[1]&^ecnMask | ecn
		replaceSum(packet[10:], old, binary.BigEndian.Uint16(packet))
	}
}
