package wire

import "golang.org/x/crypto/cryptobyte"

// CFGType says what a Configuration payload is for.
type CFGType uint8

// The types of RFC 7296 section 3.15.
const (
	CFGRequest CFGType = 1
	CFGReply   CFGType = 2
	CFGSet     CFGType = 3
	CFGAck     CFGType = 4
)

var cfgNames = map[CFGType]string{
	CFGRequest: "CFG_REQUEST",
	CFGReply:   "CFG_REPLY",
	CFGSet:     "CFG_SET",
	CFGAck:     "CFG_ACK",
}

func (t CFGType) String() string { return nameOf(cfgNames, t, "CFG") }

// maxAttributes bounds one Configuration payload.
const maxAttributes = 255

// Config is a Configuration payload (RFC 7296 section 3.15).
type Config struct {
	CFGType    CFGType
	Attributes []ConfigAttribute
}

// ConfigAttribute is one attribute; Type has 15 bits.
type ConfigAttribute struct {
	Type  uint16
	Value []byte
}

func (*Config) Type() PayloadType { return PayloadCP }

func (p *Config) add(b *cryptobyte.Builder) {
	b.AddUint8(uint8(p.CFGType))
	addReserved(b, 3)
	for _, a := range p.Attributes {
		b.AddUint16(a.Type)
		b.AddUint16(uint16(len(a.Value)))
		b.AddBytes(a.Value)
	}
}

func parseConfig(s cryptobyte.String) (Payload, error) {
	var p Config
	if !s.ReadUint8((*uint8)(&p.CFGType)) || !s.Skip(3) {
		return nil, malformed("CP payload: too short")
	}
	for !s.Empty() {
		if len(p.Attributes) == maxAttributes {
			return nil, malformed("CP payload: more than %d attributes", maxAttributes)
		}
		var a ConfigAttribute
		var n uint16
		if !s.ReadUint16(&a.Type) || !s.ReadUint16(&n) || !readBytes(&s, &a.Value, int(n)) {
			return nil, malformed("CP payload: attribute length does not fit")
		}
		a.Type &^= 0x8000 // a reserved bit
		p.Attributes = append(p.Attributes, a)
	}
	return &p, nil
}
