// Package pcapng writes captures for Wireshark, and takes them apart again
// (draft-ietf-opsawg-pcapng): what the lab records on an interface, and a gateway
// of itself.
//
// A file is a section, its interfaces by number from 0, then packets and in the
// end statistics. Each is a block, little-endian:
//
//	type u32 | length u32 | body, options, padded to 4 | length u32
package pcapng

import (
	"encoding/binary"
	"errors"
	"io"
)

const (
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6
	blockSection    = 0x0A0D0D0A

	byteOrder = 0x1A2B3C4D

	optEnd        = 0
	optComment    = 1
	optName       = 2 // of an interface
	optResolution = 9
	optFlags      = 2 // of a packet
	optReceived   = 4 // of statistics
	optDropped    = 5
)

// LinkType is what the packets of an interface begin with.
type LinkType uint16

// The link types in use here.
const (
	Ethernet LinkType = 1
	Raw      LinkType = 101 // an IP header
)

// Direction is which way a packet went.
type Direction uint8

// The zero value does not tell.
const (
	Inbound Direction = iota + 1
	Outbound
)

var le = binary.LittleEndian

// AppendSection appends the beginning of a file.
func AppendSection(b []byte, comments ...string) []byte {
	b, start := begin(b, blockSection)
	b = le.AppendUint32(b, byteOrder)
	b = le.AppendUint16(le.AppendUint16(b, 1), 0)
	b = le.AppendUint64(b, ^uint64(0)) // its length is not known
	return end(appendComments(b, comments), start)
}

// AppendInterface appends the next interface, with times in nanoseconds.
func AppendInterface(b []byte, link LinkType, name string) []byte {
	b, start := begin(b, blockInterface)
	b = le.AppendUint16(le.AppendUint16(b, uint16(link)), 0)
	b = le.AppendUint32(b, 0) // no limit to a packet's length
	b = option(b, optName, []byte(name)...)
	return end(option(b, optResolution, 9), start)
}

// Packet is one packet's circumstances.
type Packet struct {
	Interface int
	Time      int64 // nanoseconds of the Unix epoch
	Direction Direction
	Comments  []string
}

// Append appends the packet, whose bytes are those of the pieces one after the
// other.
func (p *Packet) Append(b []byte, pieces ...[]byte) []byte {
	b, start := begin(b, blockPacket)
	b = appendTime(le.AppendUint32(b, uint32(p.Interface)), p.Time)
	n := 0
	for _, piece := range pieces {
		n += len(piece)
	}
	b = le.AppendUint32(le.AppendUint32(b, uint32(n)), uint32(n))
	for _, piece := range pieces {
		b = append(b, piece...)
	}
	b = pad(b, n)
	if p.Direction != 0 {
		b = option(b, optFlags, byte(p.Direction), 0, 0, 0)
	}
	return end(appendComments(b, p.Comments), start)
}

// AppendStatistics appends how many packets an interface had until then, and how
// many of them are left out.
func AppendStatistics(b []byte, iface int, at int64, received, dropped uint64) []byte {
	b, start := begin(b, blockStatistics)
	b = appendTime(le.AppendUint32(b, uint32(iface)), at)
	b = option(b, optReceived, le.AppendUint64(nil, received)...)
	return end(option(b, optDropped, le.AppendUint64(nil, dropped)...), start)
}

func begin(b []byte, kind uint32) (_ []byte, start int) {
	return le.AppendUint32(le.AppendUint32(b, kind), 0), len(b)
}

// end closes the block that began at start, with its last option.
func end(b []byte, start int) []byte {
	b = option(b, optEnd)
	n := uint32(len(b) - start + 4)
	le.PutUint32(b[start+4:], n)
	return le.AppendUint32(b, n)
}

func appendComments(b []byte, comments []string) []byte {
	for _, c := range comments {
		b = option(b, optComment, []byte(c)...)
	}
	return b
}

func appendTime(b []byte, ns int64) []byte {
	return le.AppendUint32(le.AppendUint32(b, uint32(uint64(ns)>>32)), uint32(ns))
}

func option(b []byte, code uint16, value ...byte) []byte {
	b = le.AppendUint16(le.AppendUint16(b, code), uint16(len(value)))
	return pad(append(b, value...), len(value))
}

// pad fills up what is n bytes long.
func pad(b []byte, n int) []byte { return append(b, make([]byte, -n&3)...) }

// Block is one block of a file as it stands there.
type Block []byte

// ErrFormat says that what is read is no such file.
var ErrFormat = errors.New("this is no capture in pcapng")

// maxBlock bounds a block, as Wireshark does.
const maxBlock = 16 << 20

// Read gives the next block; io.EOF after the last one, ErrFormat where it makes no
// sense.
func Read(r io.Reader) (Block, error) {
	head := make([]byte, 8, 256)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := le.Uint32(head[4:])
	if n < 12 || n > maxBlock || n%4 != 0 {
		return nil, ErrFormat
	}
	b := append(head, make([]byte, n-8)...)
	if _, err := io.ReadFull(r, b[8:]); errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	} else if err != nil {
		return nil, err
	}
	if le.Uint32(b[n-4:]) != n || Block(b).options() > int(n)-4 {
		return nil, ErrFormat
	}
	return b, nil
}

func (b Block) kind() uint32 { return le.Uint32(b) }

// options is where the block's begin: behind its end where it is malformed.
func (b Block) options() int {
	switch {
	case b.kind() == blockSection:
		return 24
	case b.kind() == blockInterface:
		return 16
	case b.kind() == blockStatistics:
		return 20
	case b.kind() == blockPacket && len(b) >= 32 && le.Uint32(b[20:]) <= uint32(len(b)):
		return 28 + int(le.Uint32(b[20:])+3)&^3
	case b.kind() == blockPacket:
		return len(b)
	}
	return len(b) - 4
}

// Packet gives the bytes of a packet, and when it was; false for other blocks.
func (b Block) Packet() (packet []byte, ns int64, ok bool) {
	if b.kind() != blockPacket {
		return nil, 0, false
	}
	return b[28 : 28+le.Uint32(b[20:])], int64(uint64(le.Uint32(b[12:]))<<32 | uint64(le.Uint32(b[16:]))), true
}

// Comments are those of the block. Options that make no sense end them.
func (b Block) Comments() (all []string) {
	for rest := b[b.options() : len(b)-4]; len(rest) >= 4; {
		code, n := le.Uint16(rest), int(le.Uint16(rest[2:]))
		if rest = rest[4:]; n > len(rest) {
			return all
		}
		if code == optComment {
			all = append(all, string(rest[:n]))
		}
		rest = rest[min((n+3)&^3, len(rest)):]
	}
	return all
}
