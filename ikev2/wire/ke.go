package wire

import "golang.org/x/crypto/cryptobyte"

// KE is a Key Exchange payload (RFC 7296 section 3.4). The length that Data
// must have depends on the group and is not checked here.
type KE struct {
	Group uint16
	Data  []byte
}

func (*KE) Type() PayloadType { return PayloadKE }

func (p *KE) add(b *cryptobyte.Builder) {
	b.AddUint16(p.Group)
	addReserved(b, 2)
	b.AddBytes(p.Data)
}

func parseKE(s cryptobyte.String) (Payload, error) {
	var p KE
	if !s.ReadUint16(&p.Group) || !s.Skip(2) || s.Empty() {
		return nil, malformed("KE payload: no key exchange data")
	}
	p.Data = s
	return &p, nil
}
