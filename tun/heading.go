package tun

import "encoding/binary"

// maxHeading is more than the longest of IPv6 and TCP: 40 + 60 bytes.
const maxHeading = 128

// heading is what the header of a run's next packet has to be, but for lengths and
// checksums: these bytes, where the bits of same are set.
type heading struct {
	next [maxHeading]byte
	same [maxHeading]byte
}

// regular has the bits set that are the same in the headers of all packets of a
// run, or count up from one to the next: all but those of lengths, checksums, the
// push flag, and the identification of packets that may not be fragmented. By IP
// version and transport protocol.
var regular = [2][2][maxHeading]byte{{newRegular(false, false), newRegular(false, true)}, {newRegular(true, false), newRegular(true, true)}}

func newRegular(v6, udp bool) (m [maxHeading]byte) {
	differ := func(at, n int) { clear(m[at : at+n]) }
	for i := range m {
		m[i] = 0xff
	}
	transport := ipv4Len
	if v6 {
		transport = ipv6Len
		differ(4, 2) // length
	} else {
		differ(2, 2)  // length
		differ(10, 2) // checksum
	}
	if udp {
		differ(transport+udpLength, 4) // and checksum
		return m
	}
	m[transport+tcpFlags] = ^uint8(flagPSH)
	differ(transport+tcpChecksum, 2)
	return m
}

// start expects the packet behind the first one of a run.
func (e *heading) start(r *run) {
	n := copy(e.next[:], r.first[:r.headLen])
	copy(e.same[:n], regular[bit(r.v6)][bit(r.udp)][:])
	clear(e.same[n:])
	const dontFragment = 0x40
	if !r.v6 && r.first[6]&dontFragment != 0 {
		clear(e.same[4:6])
	}
	e.advance(r, r.segment)
}

// advance expects the packet behind one with so many bytes of payload.
func (e *heading) advance(r *run, payload int) {
	if !r.v6 {
		binary.BigEndian.PutUint16(e.next[4:], binary.BigEndian.Uint16(e.next[4:])+1)
	}
	if !r.udp {
		seq := e.next[r.transport+tcpSeq:]
		binary.BigEndian.PutUint32(seq, binary.BigEndian.Uint32(seq)+uint32(payload))
	}
}

// sum is sum64(packet[from:], s), if the packet, which is longer than its
// header, begins as it has to.
func (e *heading) sum(packet []byte, from, headLen int, s uint64) (sum uint64, same bool) {
	covered := packet[from:]
	if !wide(covered) {
		return sumNarrow(covered, s), e.begins(packet[:headLen])
	}
	n := len(covered) &^ 1
	words, same := sumIfAVX2(&e.next[0], &packet[0], from, n)
	return addWide(s, words, covered, n), same
}

// begins compares a header, a multiple of 4 bytes.
func (e *heading) begins(header []byte) bool {
	var differ uint64
	i := 0
	for ; i+8 <= len(header); i += 8 {
		differ |= (binary.LittleEndian.Uint64(header[i:]) ^ binary.LittleEndian.Uint64(e.next[i:])) & binary.LittleEndian.Uint64(e.same[i:])
	}
	if i < len(header) {
		differ |= uint64((binary.LittleEndian.Uint32(header[i:]) ^ binary.LittleEndian.Uint32(e.next[i:])) & binary.LittleEndian.Uint32(e.same[i:]))
	}
	return differ == 0
}
