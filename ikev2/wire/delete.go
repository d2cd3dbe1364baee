package wire

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Delete is a Delete payload (RFC 7296 section 3.11). SPIs is empty for the IKE
// SA itself; those of AH and ESP have 4 bytes. The same SPI may be there twice.
type Delete struct {
	Protocol Protocol
	SPIs     [][]byte
}

// deleteSPISizes are the protocols that have SAs to delete. An IKE SA's SPIs are
// in the message's header.
var deleteSPISizes = map[Protocol]uint8{ProtocolIKE: 0, ProtocolAH: 4, ProtocolESP: 4}

func (*Delete) Type() PayloadType { return PayloadDelete }

func (p *Delete) add(b *cryptobyte.Builder) {
	b.AddUint8(uint8(p.Protocol))
	b.AddUint8(deleteSPISizes[p.Protocol])
	b.AddUint16(uint16(len(p.SPIs)))
	for _, spi := range p.SPIs {
		b.AddBytes(spi)
	}
}

func parseDelete(s cryptobyte.String) (Payload, error) {
	var p Delete
	var size uint8
	var count uint16
	if !s.ReadUint8((*uint8)(&p.Protocol)) || !s.ReadUint8(&size) || !s.ReadUint16(&count) {
		return nil, malformed("D payload: too short")
	}
	if want, ok := deleteSPISizes[p.Protocol]; !ok || size != want {
		return nil, malformed("D payload: %v SPIs of %d bytes", p.Protocol, size)
	}
	if len(s) != int(size)*int(count) {
		return nil, malformed("D payload: %d SPIs of %d bytes in %d", count, size, len(s))
	}
	p.SPIs = slices.Grow(p.SPIs, len(s)/4)
	for !s.Empty() {
		var spi []byte
		if !readBytes(&s, &spi, int(size)) {
			return nil, malformed("D payload: SPI cut short")
		}
		p.SPIs = append(p.SPIs, spi)
	}
	return &p, nil
}
