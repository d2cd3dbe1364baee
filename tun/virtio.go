package tun

import "encoding/binary"

// The virtio header (see the package documentation), its flags and types.
const (
	virtioLen = 10

	virtioNeedsCsum = 1

	gsoNone  = 0
	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoUDP   = 5
	gsoECN   = 0x80
)

// decodeVirtio takes the header off a packet that was read. It checks that the
// type of run is a known one and fits the IP version; offsets are the
// Splitter's to check, and hdr_len is not looked at: on forwarded packets it
// is something else.
func decodeVirtio(b []byte) (Super, error) {
	if len(b) < virtioLen+ipv4Len {
		return Super{}, ErrTruncated
	}
	s := Super{Packet: b[virtioLen:]}
	if b[0]&virtioNeedsCsum != 0 {
		s.ChecksumStart = int(binary.LittleEndian.Uint16(b[6:]))
		s.ChecksumOffset = int(binary.LittleEndian.Uint16(b[8:]))
		if s.ChecksumStart < ipv4Len {
			return Super{}, ErrSegment
		}
	}
	kind := b[1] &^ gsoECN
	if kind == gsoNone {
		return s, nil
	}
	s.SegmentSize = int(binary.LittleEndian.Uint16(b[4:]))
	if s.SegmentSize == 0 || kind != gsoUDP && kind != gsoTCPv4 && kind != gsoTCPv6 {
		return Super{}, ErrSegment
	}
	v6 := s.Packet[0]>>4 == 6
	if kind == gsoTCPv4 && v6 || kind == gsoTCPv6 && !v6 {
		return Super{}, ErrSegment
	}
	return s, nil
}

// encodeVirtio writes the header for a packet to be written.
func encodeVirtio(b *[virtioLen]byte, s Super) error {
	*b = [virtioLen]byte{}
	if s.ChecksumStart > 0 {
		b[0] = virtioNeedsCsum
		binary.LittleEndian.PutUint16(b[6:], uint16(s.ChecksumStart))
		binary.LittleEndian.PutUint16(b[8:], uint16(s.ChecksumOffset))
	}
	if s.SegmentSize == 0 {
		return nil
	}
	headLen, kind, err := runHeader(s)
	if err != nil {
		return err
	}
	b[1] = kind
	binary.LittleEndian.PutUint16(b[2:], uint16(headLen))
	binary.LittleEndian.PutUint16(b[4:], uint16(s.SegmentSize))
	return nil
}

// runHeader finds the header length and type of a run, whose IP header speaks
// of more bytes than s.Packet holds.
func runHeader(s Super) (headLen int, kind uint8, err error) {
	p, at := s.Packet, s.ChecksumStart
	if at < ipv4Len || s.SegmentSize > maxPacket || at+tcpLen > len(p) && s.ChecksumOffset == tcpChecksum {
		return 0, 0, ErrSegment
	}
	switch {
	case s.ChecksumOffset == udpChecksum:
		return at + udpLen, gsoUDP, nil
	case s.ChecksumOffset != tcpChecksum:
		return 0, 0, ErrSegment
	case p[0]>>4 == 6:
		kind = gsoTCPv6
	default:
		kind = gsoTCPv4
	}
	return at + int(p[at+tcpOffset]>>4)*4, kind, nil
}
