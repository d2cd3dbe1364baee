package wire

import "golang.org/x/crypto/cryptobyte"

// Notify is a Notify payload (RFC 7296 section 3.10). SPI as parsed is empty,
// or 4 bytes of an AH or ESP SA.
type Notify struct {
	Protocol   Protocol
	SPI        []byte
	NotifyType NotifyType
	Data       []byte
}

func (*Notify) Type() PayloadType { return PayloadNotify }

func (p *Notify) add(b *cryptobyte.Builder) {
	b.AddUint8(uint8(p.Protocol))
	b.AddUint8(uint8(len(p.SPI)))
	b.AddUint16(uint16(p.NotifyType))
	b.AddBytes(p.SPI)
	b.AddBytes(p.Data)
}

// notifyDataLens are the shortest and longest data of the notifications whose
// data the RFCs bound.
var notifyDataLens = map[NotifyType][2]int{
	NotifyUnsupportedCriticalPayload: {1, 1},
	NotifyInvalidKEPayload:           {2, 2},   // RFC 7296 section 1.3: a group number
	NotifyNATDetectionSourceIP:       {20, 20}, // RFC 7296 section 2.23: SHA-1
	NotifyNATDetectionDestinationIP:  {20, 20},
	NotifyCookie:                     {1, 64}, // RFC 7296 section 2.6
	NotifyAdditionalIP4Address:       {4, 4},  // RFC 4555 section 4.2
	NotifyAdditionalIP6Address:       {16, 16},
	NotifyCookie2:                    {8, 64}, // RFC 4555 section 4.2.5
	NotifyAuthLifetime:               {4, 4},  // RFC 4478
}

func parseNotify(s cryptobyte.String) (Payload, error) {
	var p Notify
	var spiSize uint8
	if !s.ReadUint8((*uint8)(&p.Protocol)) || !s.ReadUint8(&spiSize) ||
		!s.ReadUint16((*uint16)(&p.NotifyType)) || !readBytes(&s, &p.SPI, int(spiSize)) {
		return nil, malformed("N payload: too short")
	}
	p.Data = s
	// An unknown protocol's SPI is as long as it says.
	if spiSize != 0 && (p.Protocol <= ProtocolIKE || p.Protocol.isChild() && spiSize != 4) {
		return nil, malformed("N payload %v: %v SPI of %d bytes", p.NotifyType, p.Protocol, spiSize)
	}
	if n, ok := notifyDataLens[p.NotifyType]; ok && (len(s) < n[0] || len(s) > n[1]) {
		return nil, malformed("N payload %v: %d bytes of data", p.NotifyType, len(s))
	}
	return &p, nil
}
