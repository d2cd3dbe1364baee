package sad

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
)

// Selector is one traffic selector (RFC 7296 section 3.13.1): inclusive
// ranges of addresses and ports, protocol 0 for any. Same fields as
// wire.Selector.
type Selector struct {
	Protocol           uint8
	StartPort, EndPort uint16
	Start, End         netip.Addr
}

// Flow is what the selectors look at in an inner packet: same fields as
// tun.Flow.
type Flow struct {
	Src, Dst         netip.Addr
	Protocol         uint8
	SrcPort, DstPort uint16
	// HasPorts is false where the packet shows no ports: fragments but the
	// first, and protocols without them.
	HasPorts bool
}

// Prefix is the selector of all traffic of a prefix.
func Prefix(p netip.Prefix) Selector {
	p = p.Masked()
	return Selector{EndPort: 65535, Start: p.Addr(), End: last(p)}
}

// String gives addresses, then protocol and ports where they are narrowed.
func (s Selector) String() string {
	text := fmt.Sprintf("%v-%v", s.Start, s.End)
	if p := s.Cover(); s.valid() && p.Addr() == s.Start && last(p) == s.End {
		text = p.String()
	}
	if s.Protocol == 0 && s.anyPort() {
		return text
	}
	return fmt.Sprintf("%s[%d/%d-%d]", text, s.Protocol, s.StartPort, s.EndPort)
}

// Carries reports whether f, seen as leaving from here, is within the child's
// selectors (RFC 4301 section 5.1).
func (c *Child) Carries(f *Flow) bool {
	return within(c.Local, f.Protocol, f.Src, f.SrcPort, f.HasPorts) &&
		within(c.Remote, f.Protocol, f.Dst, f.DstPort, f.HasPorts)
}

// Delivers reports whether f, seen as arriving here, is within the child's
// selectors (RFC 4301 section 5.2).
func (c *Child) Delivers(f *Flow) bool {
	return within(c.Remote, f.Protocol, f.Src, f.SrcPort, f.HasPorts) &&
		within(c.Local, f.Protocol, f.Dst, f.DstPort, f.HasPorts)
}

func within(list []Selector, protocol uint8, a netip.Addr, port uint16, hasPort bool) bool {
	for i := range list {
		if s := &list[i]; s.has(protocol, port, hasPort) && s.Start.Compare(a) <= 0 && a.Compare(s.End) <= 0 {
			return true
		}
	}
	return false
}

// has checks protocol and port. A packet that shows no port is within
// selectors of any port or of OPAQUE ports only (RFC 4301 section 7.1).
func (s *Selector) has(protocol uint8, port uint16, hasPort bool) bool {
	if s.Protocol != 0 && s.Protocol != protocol {
		return false
	}
	if !hasPort {
		return s.anyPort() || s.opaque()
	}
	return s.StartPort <= port && port <= s.EndPort
}

func (s *Selector) anyPort() bool { return s.StartPort == 0 && s.EndPort == 65535 }

func (s *Selector) opaque() bool { return s.StartPort == 65535 && s.EndPort == 0 }

// valid asks for one family on both ends, in order; Compare sorts IPv4 before
// IPv6, so that a range across the two would swallow both.
func (s *Selector) valid() bool {
	return s.Start.IsValid() && s.Start.BitLen() == s.End.BitLen() && s.Start.Compare(s.End) <= 0
}

// covers is the set of prefixes that the selectors' ranges lie in, one each.
func covers(list []Selector) []netip.Prefix {
	var set []netip.Prefix
	for _, s := range list {
		if p := s.Cover(); !slices.Contains(set, p) {
			set = append(set, p)
		}
	}
	return set
}

// Cover is the longest prefix that the selector's range lies in.
func (s Selector) Cover() netip.Prefix {
	a, b := s.Start.AsSlice(), s.End.AsSlice()
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if n == len(a) || n == len(b) {
		return netip.PrefixFrom(s.Start, 8*n)
	}
	return netip.PrefixFrom(s.Start, 8*n+bits.LeadingZeros8(a[n]^b[n])).Masked()
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	a := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(a); i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	addr, _ := netip.AddrFromSlice(a)
	return addr
}
