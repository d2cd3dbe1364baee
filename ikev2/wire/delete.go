package wire

import "golang.org/x/crypto/cryptobyte"

// Delete is a Delete payload (RFC 7296 section 3.11). SPIs is empty for the IKE
// SA itself; those of AH and ESP have 4 bytes. The same SPI may be there twice.
type Delete struct {
	Protocol Protocol
	SPIs     [][]byte
}

func (*Delete) Type() PayloadType { return PayloadDelete }

func (p *Delete) add(b *cryptobyte.Builder) {
	size := 0
	if len(p.SPIs) > 0 {
		size = len(p.SPIs[0])
	} else if p.Protocol.isChild() {
		size = 4
	}
	b.AddUint8(uint8(p.Protocol))
	b.AddUint8(uint8(size))
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
	if p.Protocol <= ProtocolIKE && size != 0 || p.Protocol.isChild() && size != 4 {
		return nil, malformed("D payload: %v SPIs of %d bytes", p.Protocol, size)
	}
	if len(s) != int(size)*int(count) {
		return nil, malformed("D payload: %d SPIs of %d bytes in %d", count, size, len(s))
	}
	for !s.Empty() {
		var spi []byte
		if !s.ReadBytes(&spi, int(size)) {
			return nil, malformed("D payload: SPI cut short")
		}
		p.SPIs = append(p.SPIs, spi)
	}
	return &p, nil
}
