package tun

import (
	"encoding/binary"
	"math/bits"
)

// The Internet checksum (RFC 1071) over little-endian words: the one's
// complement sum is the same in either byte order as long as it is stored the
// way it was loaded, and 64 bits at a time are as good as 16.

// sum64 adds b to a running sum. All pieces but the last of a sum have an even
// number of bytes.
func sum64(b []byte, s uint64) uint64 {
	if !wide(b) {
		return sumNarrow(b, s)
	}
	n := len(b) &^ 1
	return addWide(s, sumAVX2(&b[0], n), b, n)
}

// wide says whether 256-bit registers sum b: of fewer bytes the call costs more
// than it saves, and more are too many for them.
func wide(b []byte) bool { return hasAVX2 && len(b) >= 128 && len(b) <= 1<<16 }

// addWide adds to s what sumAVX2 made of the first n bytes of b, and the last byte, if that is
// one more.
func addWide(s uint64, words int32, b []byte, n int) uint64 {
	s = add64(s, uint64(int64(words)+int64(n)<<14))
	if n < len(b) {
		s = add64(s, uint64(b[n]))
	}
	return s
}

// sumNarrow is sum64 in eight chained additions a turn.
func sumNarrow(b []byte, s uint64) uint64 {
	var carry uint64
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(p[0:]), 0)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(p[8:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(p[16:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(p[24:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(p[32:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(p[40:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(p[48:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(p[56:]), carry)
		s += carry // cannot overflow: a sum that carried is at most 2^64-2
		b = b[64:]
	}
	for len(b) >= 8 {
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b), 0)
		s += carry
		b = b[8:]
	}
	var last uint64
	if len(b) >= 4 {
		last = uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		last += uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		last += uint64(b[0])
	}
	return add64(s, last)
}

// add64 adds two sums.
func add64(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	return s + carry
}

// word is a 16-bit field of the packet, given as a number, as a term of a sum.
func word(v uint16) uint64 { return uint64(bits.ReverseBytes16(v)) }

// fold is the sum in 16 bits, to be stored by putSum.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

func putSum(b []byte, s uint16) { binary.LittleEndian.PutUint16(b, s) }

// PutHeaderChecksum writes the checksum of an IPv4 header, options included
// (RFC 791 section 3.1).
func PutHeaderChecksum(header []byte) {
	putSum(header[10:], 0)
	putChecksum(header[10:], sum64(header, 0))
}

// putChecksum stores the complement of s.
func putChecksum(b []byte, s uint64) { putSum(b, ^fold(s)) }

// putTransportChecksum is putChecksum where 0 would mean "none": UDP's rule (RFC 768), and to
// TCP both forms of zero are the same.
func putTransportChecksum(b []byte, s uint64) {
	c := ^fold(s)
	if c == 0 {
		c = 0xffff
	}
	putSum(b, c)
}

// pseudoSum is the sum of the pseudo-header (RFC 9293 3.1, RFC 8200 8.1) of a
// transport packet of n bytes under the given IP header.
func pseudoSum(ip []byte, protocol uint8, n int) uint64 {
	return sum64(addresses(ip), word(uint16(protocol))+word(uint16(n>>16))+word(uint16(n)))
}

// addresses is the source and destination address of an IP packet.
func addresses(ip []byte) []byte {
	if ip[0]>>4 == 4 {
		return ip[12:20]
	}
	return ip[8:40]
}

// replaceSum updates a checksum field in place for one 16-bit field of the
// packet that changes from old to new (RFC 1624, equation 3).
func replaceSum(checksum []byte, old, new uint16) {
	s := uint64(^binary.LittleEndian.Uint16(checksum)) + word(^old) + word(new)
	putChecksum(checksum, s)
}
