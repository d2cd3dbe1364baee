package wire

import (
	"fmt"
	"math/bits"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
)

// The types of traffic selectors (RFC 7296 section 3.13.1).
const (
	tsIPv4AddrRange = 7
	tsIPv6AddrRange = 8
)

// addrLens are the bytes of one address by the type of its selector.
var addrLens = map[uint8]int{tsIPv4AddrRange: 4, tsIPv6AddrRange: 16}

// TS is a Traffic Selector payload (RFC 7296 section 3.13), TSr if Responder,
// else TSi. It has 1 to 255 selectors.
type TS struct {
	Responder bool
	Selectors []Selector
}

func (p *TS) Type() PayloadType {
	if p.Responder {
		return PayloadTSr
	}
	return PayloadTSi
}

// Selector is a range of addresses and ports. Protocol 0 is any. For ICMP and
// ICMPv6 a "port" is the message's type in the high octet and its code in the
// low one. StartPort 65535 with EndPort 0 is OPAQUE: packets whose ports cannot
// be seen (RFC 4301 section 4.4.1.1). Selectors are compared with ==.
type Selector struct {
	Protocol           uint8
	StartPort, EndPort uint16
	Start, End         netip.Addr
}

// SelectorFromPrefix is everything to or from the addresses in p.
func SelectorFromPrefix(p netip.Prefix) Selector {
	p = p.Masked()
	return Selector{EndPort: 65535, Start: p.Addr(), End: lastAddr(p)}
}

func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Addr().AsSlice()
	for i := range a {
		hostBits := min(max(8*(i+1)-p.Bits(), 0), 8)
		a[i] |= 0xff >> (8 - hostBits)
	}
	last, _ := netip.AddrFromSlice(a)
	return last
}

// String is "10.103.0.0/24", or "10.0.0.1-10.0.0.9" where no prefix says it,
// and in brackets what it is narrowed to: "[tcp/80]", "[udp]", "[any/53-54]".
func (s Selector) String() string {
	return s.addrs() + s.narrowing()
}

func (s Selector) addrs() string {
	if p := s.prefix(); p.IsValid() && lastAddr(p) == s.End {
		return p.String()
	}
	return fmt.Sprintf("%v-%v", s.Start, s.End)
}

// prefix is the longest prefix that holds Start and End, if Start is its first
// address.
func (s Selector) prefix() netip.Prefix {
	common := 0
	end := s.End.AsSlice()
	for i, a := range s.Start.AsSlice() {
		if len(end) <= i {
			return netip.Prefix{}
		}
		n := bits.LeadingZeros8(a ^ end[i])
		common += n
		if n < 8 {
			break
		}
	}
	p := netip.PrefixFrom(s.Start, common)
	if p.Masked() != p {
		return netip.Prefix{}
	}
	return p
}

var ipProtocolNames = map[uint8]string{0: "any", 1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}

func (s Selector) narrowing() string {
	protocol, ok := ipProtocolNames[s.Protocol]
	if !ok {
		protocol = fmt.Sprint(s.Protocol)
	}
	ports := s.ports()
	switch {
	case ports != "":
		return "[" + protocol + "/" + ports + "]"
	case s.Protocol != 0:
		return "[" + protocol + "]"
	}
	return ""
}

func (s Selector) ports() string {
	switch {
	case s.StartPort == 0 && s.EndPort == 65535:
		return ""
	case s.isOpaque():
		return "OPAQUE"
	case s.StartPort == s.EndPort:
		return s.port(s.StartPort)
	}
	return s.port(s.StartPort) + "-" + s.port(s.EndPort)
}

func (s Selector) port(p uint16) string {
	if s.Protocol == 1 || s.Protocol == 58 {
		return fmt.Sprintf("%d(%d)", p>>8, p&0xff)
	}
	return fmt.Sprint(p)
}

func (s Selector) isOpaque() bool { return s.StartPort == 65535 && s.EndPort == 0 }

func parseTS(responder bool) func(cryptobyte.String) (Payload, error) {
	return func(s cryptobyte.String) (Payload, error) {
		p := &TS{Responder: responder}
		var count uint8
		if !s.ReadUint8(&count) || !s.Skip(3) || count == 0 {
			return nil, malformed("%v payload: no selector", p.Type())
		}
		for range count {
			selector, err := parseSelector(&s)
			if err != nil {
				return nil, err
			}
			p.Selectors = append(p.Selectors, selector)
		}
		if !s.Empty() {
			return nil, malformed("%v payload: more than the %d selectors it says", p.Type(), count)
		}
		return p, nil
	}
}

func parseSelector(s *cryptobyte.String) (Selector, error) {
	var x Selector
	kind, protocol, body, ok := readBlock(s)
	n, known := addrLens[kind]
	if ok && !known {
		return x, malformed("TS payload: selector of unknown type %d", kind)
	}
	x.Protocol = protocol
	if !ok || !body.ReadUint16(&x.StartPort) || !body.ReadUint16(&x.EndPort) ||
		!readAddr(&body, &x.Start, n) || !readAddr(&body, &x.End, n) || !body.Empty() {
		return x, malformed("TS payload: selector length does not fit")
	}
	if x.End.Less(x.Start) || x.EndPort < x.StartPort && !x.isOpaque() {
		return x, malformed("TS payload: selector %v ends before it starts", x)
	}
	return x, nil
}

func readAddr(s *cryptobyte.String, a *netip.Addr, n int) bool {
	var b []byte
	if !s.ReadBytes(&b, n) {
		return false
	}
	addr, ok := netip.AddrFromSlice(b)
	*a = addr
	return ok
}

func (p *TS) add(b *cryptobyte.Builder) {
	b.AddUint8(uint8(len(p.Selectors)))
	addReserved(b, 3)
	for _, s := range p.Selectors {
		kind := uint8(tsIPv6AddrRange)
		if s.Start.Is4() {
			kind = tsIPv4AddrRange
		}
		addBlock(b, kind, s.Protocol, build(s.add))
	}
}

func (s Selector) add(b *cryptobyte.Builder) {
	b.AddUint16(s.StartPort)
	b.AddUint16(s.EndPort)
	b.AddBytes(s.Start.AsSlice())
	b.AddBytes(s.End.AsSlice())
}
