package tun

import "encoding/binary"

// TCP header offsets and flags, UDP header length.
const (
	tcpSeq, tcpAck, tcpOffset, tcpFlags, tcpChecksum = 4, 8, 12, 13, 16
	tcpLen, maxTCPLen                                = 20, 60

	flagFIN, flagSYN, flagPSH, flagACK, flagECE, flagCWR = 0x01, 0x02, 0x08, 0x10, 0x40, 0x80

	udpLength, udpChecksum, udpLen = 4, 6, 8
)

// Splitter takes a Super apart into the packets it stands for, without moving
// the payload: Head makes the i-th packet's headers, Body points at its
// payload inside the slab.
//
//	s, err := dev.Read(slab); err = sp.Load(&s)
//	for i := range sp.Count() {
//		n := sp.Head(i, dst)  // dst[:n], n == sp.HeadLen()
//		body := sp.Body(i)    // n + len(body) == sp.InnerLen(i)
//	}
//
// A packet that is no run is the case Count() == 1, HeadLen() == 0: the whole
// packet is Body(0). Its checksum is completed in place by Load, so that the
// packet's own bytes may be looked at and changed (ClampMSS) after Load.
//
// The zero value is ready. It allocates nothing and refers to the slab until
// the next Load.
type Splitter struct {
	packet  []byte // all of it
	header  Header
	head    []byte // IP and transport header of a run, nil for a single packet
	payload []byte // a run's transport payload, or the single packet
	size    int    // payload bytes a segment
	count   int

	v6, udp   bool
	transport int
	id        uint16 // of the first segment
	seq       uint32
	flags     uint8

	// Sums over the headers without the fields that differ between segments.
	ipSum, transportSum uint64
}

// Load validates s, trusting nothing that the device said about it, and makes
// it the Super to split. After an error the Splitter is empty (Count() == 0).
func (p *Splitter) Load(s *Super) error {
	*p = Splitter{}
	h, err := ParseHeader(s.Packet)
	if err != nil {
		return err
	}
	packet := s.Packet[:h.end]
	if s.SegmentSize == 0 {
		err = p.loadSingle(packet, s)
	} else {
		err = p.loadRun(packet, h, s)
	}
	p.packet, p.header = packet, h
	return err
}

func (p *Splitter) loadSingle(packet []byte, s *Super) error {
	if s.ChecksumStart > 0 {
		at := s.ChecksumStart + s.ChecksumOffset
		if s.ChecksumStart > len(packet) || s.ChecksumOffset < 0 || s.ChecksumOffset > maxPacket || at+2 > len(packet) {
			return ErrSegment
		}
		// The field holds the pseudo-header's sum, which is a term like any other.
		putTransportChecksum(packet[at:], sum64(packet[s.ChecksumStart:], 0))
	}
	p.payload, p.size, p.count = packet, len(packet), 1
	return nil
}

func (p *Splitter) loadRun(packet []byte, h Header, s *Super) error {
	headLen, checksum, err := transportHeader(packet, h)
	if err != nil {
		return err
	}
	// A header length of the device is not looked at: on forwarded packets it
	// is that of the first segment. Its checksum place must be the true one.
	if s.ChecksumStart != 0 && s.ChecksumStart+s.ChecksumOffset != checksum || s.SegmentSize < 0 {
		return ErrSegment
	}
	p.head, p.payload, p.size = packet[:headLen], packet[headLen:], s.SegmentSize
	p.size = min(p.size, maxPacket)
	p.count = max(1, (len(p.payload)+p.size-1)/p.size)
	p.v6, p.udp, p.transport = h.v6(), h.protocol == protoUDP, h.transport
	p.sumHeaders()
	return nil
}

// transportHeader finds the end of an unfragmented TCP or UDP header and its
// checksum field, as offsets in the packet.
func transportHeader(packet []byte, h Header) (end, checksum int, err error) {
	rest := packet[h.transport:h.end]
	switch {
	case h.fragment():
		return 0, 0, ErrSegment
	case h.protocol == protoTCP:
		if len(rest) < tcpLen {
			return 0, 0, ErrTruncated
		}
		n := int(rest[tcpOffset]>>4) * 4
		if n < tcpLen {
			return 0, 0, ErrHeader
		}
		if n > len(rest) {
			return 0, 0, ErrTruncated
		}
		return h.transport + n, h.transport + tcpChecksum, nil
	case h.protocol == protoUDP:
		if len(rest) < udpLen {
			return 0, 0, ErrTruncated
		}
		return h.transport + udpLen, h.transport + udpChecksum, nil
	}
	return 0, 0, ErrSegment
}

// sumHeaders sums what is the same in every segment, once. The fields that
// Head writes are subtracted by adding their complement.
func (p *Splitter) sumHeaders() {
	ip, t := p.head[:p.transport], p.head[p.transport:]
	if !p.v6 {
		p.id = binary.BigEndian.Uint16(ip[4:])
		p.ipSum = sum64(ip, without(ip, 2)+without(ip, 4)+without(ip, 10))
	}
	protocol := uint8(protoTCP)
	var varying uint64
	if p.udp {
		protocol = protoUDP
		varying = without(t, udpLength) + without(t, udpChecksum)
	} else {
		p.seq = binary.BigEndian.Uint32(t[tcpSeq:])
		p.flags = t[tcpFlags]
		varying = without(t, tcpSeq) + without(t, tcpSeq+2) + without(t, tcpOffset) + without(t, tcpChecksum)
	}
	p.transportSum = add64(pseudoSum(ip, protocol, 0), sum64(t, varying))
}

// without is the term that takes the 16-bit field at b[i:] out of a sum.
func without(b []byte, i int) uint64 { return uint64(^binary.LittleEndian.Uint16(b[i:])) }

// Flow names the two ends of the packets.
func (p *Splitter) Flow() Flow { return p.header.Flow(p.packet) }

// Header is where things are in the packet that was loaded.
func (p *Splitter) Header() Header { return p.header }

// ClampMSS is Header.ClampMSS of a packet that is no run.
func (p *Splitter) ClampMSS(mtu int) bool {
	return len(p.head) == 0 && p.header.ClampMSS(p.packet, mtu)
}

// Count is the number of packets.
func (p *Splitter) Count() int { return p.count }

// HeadLen is the number of header bytes that Head writes, the same for every i.
func (p *Splitter) HeadLen() int { return len(p.head) }

// InnerLen is the length in bytes of the i-th packet, head and body. All but
// the last are equally long.
func (p *Splitter) InnerLen(i int) int { return len(p.head) + len(p.Body(i)) }

// Body is the rest of the i-th packet, inside the slab.
func (p *Splitter) Body(i int) []byte {
	start := i * p.size
	return p.payload[start:min(start+p.size, len(p.payload))]
}

// Head writes the IP and transport header of the i-th packet to dst, checksums
// final, and returns HeadLen().
func (p *Splitter) Head(i int, dst []byte) int {
	if len(p.head) == 0 {
		return 0
	}
	n := copy(dst[:len(p.head)], p.head)
	body := p.Body(i)
	p.patchIP(i, dst, n+len(body))
	t := dst[p.transport:n]
	length := uint16(len(t) + len(body))
	s := add64(p.transportSum, sum64(body, word(length)))
	if p.udp {
		binary.BigEndian.PutUint16(t[udpLength:], length)
		putTransportChecksum(t[udpChecksum:], add64(s, word(length)))
		return n
	}
	seq := p.seq + uint32(i*p.size)
	binary.BigEndian.PutUint32(t[tcpSeq:], seq)
	t[tcpFlags] = p.segmentFlags(i)
	s = add64(s, word(uint16(seq>>16))+word(uint16(seq))+word(binary.BigEndian.Uint16(t[tcpOffset:])))
	putTransportChecksum(t[tcpChecksum:], s)
	return n
}

func (p *Splitter) patchIP(i int, dst []byte, total int) {
	if p.v6 {
		binary.BigEndian.PutUint16(dst[4:], uint16(total-ipv6Len))
		return
	}
	id := p.id + uint16(i)
	binary.BigEndian.PutUint16(dst[2:], uint16(total))
	binary.BigEndian.PutUint16(dst[4:], id)
	putChecksum(dst[10:], add64(p.ipSum, word(uint16(total))+word(id)))
}

// segmentFlags: CWR belongs to the first segment alone (RFC 3168, section
// 6.1.2), FIN and PSH to the last.
func (p *Splitter) segmentFlags(i int) uint8 {
	f := p.flags
	if i > 0 {
		f &^= flagCWR
	}
	if i < p.count-1 {
		f &^= flagFIN | flagPSH
	}
	return f
}
