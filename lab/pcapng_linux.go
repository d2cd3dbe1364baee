package lab

import (
	"encoding/binary"
	"io"
	"time"
)

// pcapng blocks, as draft-ietf-opsawg-pcapng lays them out, little-endian:
//
//	type u32 | total length u32 | body, padded to 4 | total length u32
const (
	blockSectionHeader  = 0x0A0D0D0A
	blockInterface      = 1
	blockEnhancedPacket = 6

	byteOrderMagic   = 0x1A2B3C4D
	linkTypeEthernet = 1
	optionTSResol    = 9
)

// pcapng writes a capture of one Ethernet interface, times in nanoseconds.
type pcapng struct {
	w   io.Writer
	buf []byte
}

func newPcapng(w io.Writer) (*pcapng, error) {
	p := &pcapng{w: w}
	le := binary.LittleEndian
	section := le.AppendUint32(nil, byteOrderMagic)
	section = append(section, 1, 0, 0, 0)          // version 1.0
	section = le.AppendUint64(section, ^uint64(0)) // length not given
	if err := p.block(blockSectionHeader, section, nil); err != nil {
		return nil, err
	}
	iface := le.AppendUint16(nil, linkTypeEthernet)
	iface = append(iface, 0, 0)       // reserved
	iface = le.AppendUint32(iface, 0) // no limit to a packet's length
	iface = append(iface, optionTSResol, 0, 1, 0, 9, 0, 0, 0)
	iface = append(iface, 0, 0, 0, 0) // end of options
	return p, p.block(blockInterface, iface, nil)
}

func (p *pcapng) packet(at time.Time, frame []byte, length int) error {
	le := binary.LittleEndian
	ns := uint64(at.UnixNano())
	var head [20]byte // the first u32 is the interface, 0
	le.PutUint32(head[4:], uint32(ns>>32))
	le.PutUint32(head[8:], uint32(ns))
	le.PutUint32(head[12:], uint32(len(frame)))
	le.PutUint32(head[16:], uint32(length))
	return p.block(blockEnhancedPacket, head[:], frame)
}

func (p *pcapng) block(kind uint32, head, body []byte) error {
	le := binary.LittleEndian
	padding := -(len(head) + len(body)) & 3
	total := uint32(12 + len(head) + len(body) + padding)
	b := le.AppendUint32(p.buf[:0], kind)
	b = le.AppendUint32(b, total)
	b = append(b, head...)
	b = append(b, body...)
	b = append(b, make([]byte, padding)...)
	b = le.AppendUint32(b, total)
	p.buf = b
	_, err := p.w.Write(b)
	return err
}
