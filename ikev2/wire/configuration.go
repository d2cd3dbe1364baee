package wire

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
)

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

// AttributeType says what a configuration attribute is; it has 15 bits.
type AttributeType uint16

// The types of RFC 7296 section 3.15.1 and RFC 8598 section 4.
const (
	AttributeIP4Address AttributeType = 1
	AttributeIP4Netmask AttributeType = 2
	AttributeIP4DNS     AttributeType = 3
	AttributeIP6Address AttributeType = 8
	AttributeIP6DNS     AttributeType = 10
	AttributeIP4Subnet  AttributeType = 13
	AttributeIP6Subnet  AttributeType = 15
	AttributeDNSDomain  AttributeType = 25
	AttributeDNSSECTA   AttributeType = 26
)

var attributeNames = map[AttributeType]string{
	AttributeIP4Address: "INTERNAL_IP4_ADDRESS",
	AttributeIP4Netmask: "INTERNAL_IP4_NETMASK",
	AttributeIP4DNS:     "INTERNAL_IP4_DNS",
	AttributeIP6Address: "INTERNAL_IP6_ADDRESS",
	AttributeIP6DNS:     "INTERNAL_IP6_DNS",
	AttributeIP4Subnet:  "INTERNAL_IP4_SUBNET",
	AttributeIP6Subnet:  "INTERNAL_IP6_SUBNET",
	AttributeDNSDomain:  "INTERNAL_DNS_DOMAIN",
	AttributeDNSSECTA:   "INTERNAL_DNSSEC_TA",
}

func (t AttributeType) String() string { return nameOf(attributeNames, t, "ATTRIBUTE") }

// ConfigAttribute is one attribute. In a request, Value may be empty: any will
// do.
type ConfigAttribute struct {
	Type  AttributeType
	Value []byte
}

// AddrAttribute holds one address: 4 or 16 bytes, and for INTERNAL_IP6_ADDRESS
// a prefix length, which is that of a host.
func AddrAttribute(t AttributeType, a netip.Addr) ConfigAttribute {
	b := a.AsSlice()
	if t == AttributeIP6Address {
		b = append(b, 128)
	}
	return ConfigAttribute{t, b}
}

// Addr is the address that AddrAttribute writes.
func (a ConfigAttribute) Addr() (netip.Addr, bool) {
	want, value := 4, a.Value
	switch a.Type {
	case AttributeIP6Address:
		want = 17
	case AttributeIP6DNS:
		want = 16
	}
	if len(value) != want {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(value[:min(want, 16)])
}

// SubnetAttribute is INTERNAL_IP4_SUBNET, an address and a mask, or
// INTERNAL_IP6_SUBNET, an address and a prefix length.
func SubnetAttribute(p netip.Prefix) ConfigAttribute {
	b := p.Masked().Addr().AsSlice()
	if p.Addr().Is4() {
		return ConfigAttribute{AttributeIP4Subnet, binary.BigEndian.AppendUint32(b, ^uint32(0)<<(32-p.Bits()))}
	}
	return ConfigAttribute{AttributeIP6Subnet, append(b, uint8(p.Bits()))}
}

// Subnet is the prefix that SubnetAttribute writes.
func (a ConfigAttribute) Subnet() (netip.Prefix, bool) {
	switch {
	case a.Type == AttributeIP4Subnet && len(a.Value) == 8:
		mask := binary.BigEndian.Uint32(a.Value[4:])
		n := bits.LeadingZeros32(^mask)
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(a.Value)), n).Masked(), bits.OnesCount32(mask) == n
	case a.Type == AttributeIP6Subnet && len(a.Value) == 17 && a.Value[16] <= 128:
		return netip.PrefixFrom(netip.AddrFrom16([16]byte(a.Value)), int(a.Value[16])).Masked(), true
	}
	return netip.Prefix{}, false
}

func (*Config) Type() PayloadType { return PayloadCP }

func (p *Config) add(b *cryptobyte.Builder) {
	b.AddUint8(uint8(p.CFGType))
	addReserved(b, 3)
	for _, a := range p.Attributes {
		b.AddUint16(uint16(a.Type))
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
		if !s.ReadUint16((*uint16)(&a.Type)) || !s.ReadUint16(&n) || !readBytes(&s, &a.Value, int(n)) {
			return nil, malformed("CP payload: attribute length does not fit")
		}
		a.Type &^= 0x8000 // a reserved bit
		p.Attributes = append(p.Attributes, a)
	}
	return &p, nil
}
