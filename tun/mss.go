package tun

import "encoding/binary"

// ClampMSS lowers the maximum segment size announced in a TCP SYN to what fits
// an inner packet of mtu bytes (mtu minus 40 for IPv4, 60 for IPv6), updating
// the checksum incrementally. It reports whether it changed the packet. Every
// other packet, and a malformed one, is left alone. h is the packet's, and the
// packet's checksum must be complete: call it after Splitter.Load.
func (h Header) ClampMSS(packet []byte, mtu int) bool {
	if h.protocol != protoTCP || h.fragment() {
		return false
	}
	end, checksum, err := transportHeader(packet, h)
	if err != nil || packet[h.transport+tcpFlags]&flagSYN == 0 {
		return false
	}
	limit := mtu - ipv4Len - tcpLen
	if h.v6() {
		limit = mtu - ipv6Len - tcpLen
	}
	at := findMSS(packet[h.transport:end])
	if at < 0 || limit <= 0 || limit > maxPacket {
		return false
	}
	at += h.transport
	old := binary.BigEndian.Uint16(packet[at:])
	if int(old) <= limit {
		return false
	}
	// An option may start at an odd offset: RFC 1624 works on aligned words.
	odd := (at - h.transport) & 1
	before := aligned(packet, at-odd, odd)
	binary.BigEndian.PutUint16(packet[at:], uint16(limit))
	after := aligned(packet, at-odd, odd)
	for i := range before {
		replaceSum(packet[checksum:], before[i], after[i])
	}
	return true
}

// aligned is the two 16-bit words from offset i on that hold a field; for a
// field that is itself aligned the second is of no concern and given as 0.
func aligned(packet []byte, i, odd int) (w [2]uint16) {
	w[0] = binary.BigEndian.Uint16(packet[i:])
	if odd == 1 {
		w[1] = binary.BigEndian.Uint16(packet[i+2:])
	}
	return w
}

// findMSS returns the offset of the value of the MSS option (RFC 9293, section
// 3.2) in a TCP header, or -1.
func findMSS(tcp []byte) int {
	const optEnd, optNop, optMSS = 0, 1, 2
	for i := tcpLen; i < len(tcp); {
		switch kind := tcp[i]; {
		case kind == optEnd:
			return -1
		case kind == optNop:
			i++
		case i+1 >= len(tcp) || tcp[i+1] < 2 || i+int(tcp[i+1]) > len(tcp):
			return -1
		case kind == optMSS:
			if tcp[i+1] != 4 {
				return -1
			}
			return i + 2
		default:
			i += int(tcp[i+1])
		}
	}
	return -1
}
