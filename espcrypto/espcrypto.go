// Package espcrypto seals IP packets into ESP and opens them again (RFC 4303),
// whole batches at a time, in place and without allocation.
//
//	 0                   1                   2                   3
//	+---------------------------------------------------------------+ ─┐
//	|              Security Parameters Index (SPI)                  |  │
//	+---------------------------------------------------------------+  │
//	|                  Sequence Number, low 32 bits                 |  │ authenticated,
//	+---------------------------------------------------------------+  │ with ESN also
//	|       IV: 8 bytes, the 64-bit sequence number (AEAD)          |  │ the high half of
//	|           16 random bytes                     (CBC)           |  │ the sequence number,
//	+---------------------------------------------------------------+ ─┤ which is not sent
//	|                  Inner IP packet                              |  │
//	+                               +-------------------------------+  │ ─┐
//	|                               | Padding 1, 2, 3, ...          |  │  │ trailer
//	+-------------------------------+---------------+---------------+  │  │
//	| ...                           | Pad Length    | Next Header   |  │  │
//	+---------------------------------------------------------------+ ─┘ ─┘
//	|                  Integrity Check Value (ICV)                  |
//	+---------------------------------------------------------------+
//
// An Outbound numbers and seals, an Inbound refuses replays and opens. Each
// belongs to one goroutine; only Stats may be called from others. Which SA a
// packet belongs to, which selectors it must obey and what lies behind the end
// of the inner packet (traffic flow confidentiality padding) are the data
// path's to say.
package espcrypto

import "errors"

// Errors of this package, for errors.Is. None carries a byte of a key.
var (
	ErrUnsupported       = errors.New("unsupported ESP suite")
	ErrKeyLength         = errors.New("wrong key length")
	ErrSPI               = errors.New("SPI below 256 is reserved (RFC 4303 section 2.1)")
	ErrSegment           = errors.New("ESP segment of the wrong size")
	ErrSequenceExhausted = errors.New("ESP sequence numbers are used up (RFC 4303 section 3.3.3)")
)

// Keys are the keys of one SA, one direction, as taken from the keying
// material: Encr with the salt of an AEAD behind it (RFC 4106 section 8.1),
// Integ empty for an AEAD.
type Keys struct{ Encr, Integ []byte }

// Stats is what an SA has done so far.
type Stats struct {
	Packets  uint64 // sealed, or opened without a Drop
	Bytes    uint64 // of the inner packets
	Sequence uint64 // highest number sent, or received and authentic
}

// Next header values that a tunnel carries (RFC 4303 section 2.6).
const (
	NextHeaderIPv4  = 4
	NextHeaderIPv6  = 41
	NextHeaderDummy = 59
)

// Segment is one inner packet to seal, in two pieces.
type Segment struct {
	// Packet is where the ESP packet goes: PacketLen(HeadLen+len(Body)) bytes.
	// The first HeadLen bytes of the inner packet stand in it already, at
	// InnerOffset.
	Packet  []byte
	HeadLen int
	// Body is the rest of the inner packet. It lies elsewhere and is only read.
	Body       []byte
	NextHeader uint8
}

// Opened is what became of one received packet.
type Opened struct {
	// Inner is the inner packet and what lies between its end and the padding.
	// It aliases the ESP packet. It is nil where Drop is not 0.
	Inner      []byte
	NextHeader uint8
	Drop       Drop
}

// Drop is why a received packet goes no further; 0 is for one that does.
type Drop uint8

const (
	DropTruncated            Drop = iota + 1 // too short, or not of whole blocks
	DropReplayed                             // number seen before
	DropStale                                // number left of the replay window
	DropAuthenticationFailed                 // ICV does not match
	DropBadPadding                           // authentic, but padding is not 1, 2, 3, ... or longer than the packet
	DropBadNextHeader                        // authentic, but not the IP version that next header announces, or no IP packet
	DropDummy                                // next header 59, meant to be dropped: not an error

	NumDrops = iota + 1 // for arrays indexed by Drop
)

var dropNames = [NumDrops]string{
	"none", "truncated", "replayed", "stale", "authentication_failed", "bad_padding", "bad_next_header", "dummy",
}

// String is the name of the drop's counter.
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}
