package natt

import "encoding/binary"

// Kind is what a datagram on the NAT traversal port is.
type Kind uint8

const (
	Runt      Kind = iota // too short to be anything
	IKE                   // non-ESP marker, then IKE
	ESP                   // SPI and the rest of ESP
	Keepalive             // one byte 0xFF
	Reserved              // an SPI of 1 to 255, which RFC 4303 section 2.1 reserves
)

var kindNames = [...]string{"runt", "ike", "esp", "keepalive", "reserved_spi"}

// String returns the kind's name as counters use it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

const (
	// KeepaliveByte is the whole of a NAT keepalive (RFC 3948 section 2.3).
	KeepaliveByte = 0xFF

	// MarkerLen is the length of the non-ESP marker (RFC 3948 section 2.2).
	MarkerLen = 4

	ikeHeaderLen = 28  // RFC 7296 section 3.1
	espHeaderLen = 8   // SPI and sequence number, RFC 4303 section 2
	firstSPI     = 256 // RFC 4303 section 2.1
)

// Classify tells what a datagram of port 4500 is by its first bytes. Only IKE, ESP and Keepalive are of use; the rest is dropped.
func Classify(b []byte) Kind {
	if len(b) < espHeaderLen {
		if len(b) == 1 && b[0] == KeepaliveByte {
			return Keepalive
		}
		return Runt
	}
	switch spi := binary.BigEndian.Uint32(b); {
	case spi >= firstSPI:
		return ESP
	case spi != 0:
		return Reserved
	case len(b) < MarkerLen+ikeHeaderLen:
		return Runt
	}
	return IKE
}

// AppendMarker appends the non-ESP marker to b.
func AppendMarker(b []byte) []byte {
	return append(b, 0, 0, 0, 0)
}

// StripMarker returns the IKE message in a datagram that Classify calls IKE.
func StripMarker(b []byte) []byte {
	return b[MarkerLen:]
}
