package tun

import (
	"encoding/binary"
	"net/netip"
)

// TooBig builds the answer to a packet that does not fit: ICMPv4 "fragmentation
// needed and DF set" (type 3 code 4, RFC 1191) or ICMPv6 "packet too big"
// (type 2, RFC 4443), from the given address to the packet's source, with the
// largest inner packet in bytes that would have fitted. It is written over
// buf[:0]; a capacity of 1280 bytes suffices.
//
// It is nil when no error may be sent: for an IPv4 packet without DF, a
// fragment other than the first, an ICMP error, a source that is not one host
// (RFC 1122 3.2.2, RFC 4443 2.4), a from address of the other family, a
// malformed packet. An invalid from stands for the packet's destination. The
// rate is the caller's to limit.
func TooBig(packet []byte, mtu int, from netip.Addr, buf []byte) []byte {
	h, err := ParseHeader(packet)
	if err != nil || h.laterFragment() {
		return nil
	}
	flow, err := ParseFlow(packet)
	if err != nil || !oneHost(flow.Src) {
		return nil
	}
	if !from.IsValid() {
		from = flow.Dst
	}
	if from.Is4() == h.v6() || !oneHost(from) {
		return nil
	}
	if h.v6() {
		return tooBig6(packet[:h.end], h, mtu, from, buf)
	}
	return tooBig4(packet[:h.end], h, mtu, from, buf)
}

// oneHost: an address to which, and from which, an error may be sent.
func oneHost(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

const icmpLen = 8

func tooBig4(packet []byte, h Header, mtu int, from netip.Addr, buf []byte) []byte {
	const dontFragment, unreachable, needed = 0x40, 3, 4
	if packet[6]&dontFragment == 0 {
		return nil
	}
	if h.protocol == protoICMP && (h.transport >= h.end || !icmpQuery(packet[h.transport])) {
		return nil
	}
	// RFC 1812, section 4.3.2.3: as much of the packet as keeps the error within 576 bytes.
	quote := packet[:min(len(packet), 576-ipv4Len-icmpLen)]
	n := ipv4Len + icmpLen + len(quote)
	b := append(buf[:0], make([]byte, ipv4Len+icmpLen)...)
	b = append(b, quote...)
	b[0] = 0x45
	b[1] = 0xc0 // internetwork control, RFC 1812, section 4.3.2.5
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	b[8], b[9] = 64, protoICMP
	src := from.As4()
	copy(b[12:], src[:])
	copy(b[16:20], packet[12:16])
	PutHeaderChecksum(b[:ipv4Len])
	icmp := b[ipv4Len:]
	icmp[0], icmp[1] = unreachable, needed
	binary.BigEndian.PutUint16(icmp[6:], uint16(min(mtu, maxPacket)))
	putChecksum(icmp[2:], sum64(icmp, 0))
	return b
}

// icmpQuery: echo, timestamp, information and address mask, asked or answered
// (RFC 1122, section 3.2.2). Whatever else is an error or a redirect.
func icmpQuery(icmpType uint8) bool {
	return icmpType == 0 || icmpType == 8 || icmpType >= 13 && icmpType <= 18
}

func tooBig6(packet []byte, h Header, mtu int, from netip.Addr, buf []byte) []byte {
	const packetTooBig, firstInformational, redirect, minMTU = 2, 128, 137, 1280
	if h.protocol == protoICMPv6 {
		if h.transport >= h.end {
			return nil
		}
		if t := packet[h.transport]; t < firstInformational || t == redirect {
			return nil
		}
	}
	// RFC 4443, section 2.4 (c): within the minimum MTU.
	quote := packet[:min(len(packet), minMTU-ipv6Len-icmpLen)]
	b := append(buf[:0], make([]byte, ipv6Len+icmpLen)...)
	b = append(b, quote...)
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(icmpLen+len(quote)))
	b[6], b[7] = protoICMPv6, 64
	src := from.As16()
	copy(b[8:], src[:])
	copy(b[24:40], packet[8:24])
	icmp := b[ipv6Len:]
	icmp[0] = packetTooBig
	binary.BigEndian.PutUint32(icmp[4:], uint32(mtu))
	putChecksum(icmp[2:], sum64(icmp, pseudoSum(b, protoICMPv6, len(icmp))))
	return b
}
