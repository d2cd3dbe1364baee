package ikev2

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"culvert/ikev2/wire"
)

func selectors(ss ...string) (out []wire.Selector) {
	for _, s := range ss {
		out = append(out, wire.SelectorFromPrefix(netip.MustParsePrefix(s)))
	}
	return out
}

func TestNarrow(t *testing.T) {
	tcp := func(s wire.Selector, from, to uint16) wire.Selector {
		s.Protocol, s.StartPort, s.EndPort = 6, from, to
		return s
	}
	lan := selectors("10.1.0.0/16")[0]
	opaque := tcp(lan, 65535, 0)
	span := wire.Selector{EndPort: 65535, Start: netip.MustParseAddr("10.0.255.0"), End: netip.MustParseAddr("10.1.0.255")}
	one := func(s wire.Selector) []wire.Selector { return []wire.Selector{s} }
	for _, tt := range []struct {
		name                  string
		policy, request, want []wire.Selector
	}{
		{"the same", selectors("10.1.0.0/16"), selectors("10.1.0.0/16"), selectors("10.1.0.0/16")},
		{"subset", selectors("10.1.0.0/16"), selectors("10.1.2.0/24"), selectors("10.1.2.0/24")},
		{"superset", selectors("10.1.0.0/16"), selectors("0.0.0.0/0"), selectors("10.1.0.0/16")},
		{"overlap", selectors("10.1.0.0/16"), one(span), selectors("10.1.0.0/24")},
		{"disjoint", selectors("10.1.0.0/16"), selectors("10.2.0.0/16"), nil},
		{"no policy", nil, selectors("0.0.0.0/0"), nil},
		{"two in one", selectors("10.1.0.0/16"), selectors("10.1.1.0/24", "10.1.2.0/24"), selectors("10.1.1.0/24", "10.1.2.0/24")},
		{"one in two", selectors("10.1.1.0/24", "10.1.2.0/24"), selectors("10.0.0.0/8"), selectors("10.1.1.0/24", "10.1.2.0/24")},
		{"first a single packet, then its network", selectors("10.1.0.0/16"), selectors("10.1.2.3/32", "10.1.2.0/24"), selectors("10.1.2.0/24")},
		{"families", selectors("10.1.0.0/16", "2001:db8::/32"), selectors("::/0"), selectors("2001:db8::/32")},
		{"IPv4 is not IPv6", selectors("0.0.0.0/0"), selectors("::/0"), nil},
		{"port within any", one(lan), one(tcp(lan, 80, 80)), one(tcp(lan, 80, 80))},
		{"any to a port", one(tcp(lan, 80, 80)), one(lan), one(tcp(lan, 80, 80))},
		{"ports overlap", one(tcp(lan, 80, 443)), one(tcp(lan, 100, 999)), one(tcp(lan, 100, 443))},
		{"ports apart", one(tcp(lan, 80, 80)), one(tcp(lan, 81, 81)), nil},
		{"another protocol", one(tcp(lan, 0, 65535)), one(wire.Selector{Protocol: 17, EndPort: 65535, Start: lan.Start, End: lan.End}), nil},
		{"opaque within any", one(lan), one(opaque), one(opaque)},
		{"opaque is no port", one(tcp(lan, 1, 65535)), one(opaque), nil},
		{"opaque alone", one(opaque), one(lan), one(opaque)},
	} {
		if got := narrow(tt.policy, tt.request); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// What is granted lies within policy and within the request, whatever they are;
// and no traffic that both name is left out.
func TestNarrowIsWithinBoth(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	granted := 0
	for range 20000 {
		policy, request := randomSelectors(rng, 1+rng.IntN(5)), randomSelectors(rng, 1+rng.IntN(8))
		got := narrow(policy, request)
		granted += len(got)
		if !within(got, policy) || !within(got, request) {
			t.Fatalf("policy %v, request %v: granted %v", policy, request, got)
		}
		for range 20 {
			packet := randomSelectors(rng, 1)[0]
			packet.End, packet.EndPort = packet.Start, packet.StartPort
			packet.Protocol = 6
			one := []wire.Selector{packet}
			if want := within(one, policy) && within(one, request); within(one, got) != want {
				t.Fatalf("policy %v, request %v, granted %v: packet %v, want %v", policy, request, got, packet, want)
			}
		}
	}
	if granted == 0 {
		t.Error("nothing was ever granted")
	}
}

func randomSelectors(rng *rand.Rand, n int) (out []wire.Selector) {
	for range n {
		a, b, p, q := byte(rng.IntN(16)), byte(rng.IntN(16)), uint16(rng.IntN(8)), uint16(rng.IntN(8))
		s := wire.Selector{Protocol: []uint8{0, 6, 17}[rng.IntN(3)], StartPort: min(p, q), EndPort: max(p, q),
			Start: netip.AddrFrom4([4]byte{10, 0, 0, min(a, b)}), End: netip.AddrFrom4([4]byte{10, 0, 0, max(a, b)})}
		if rng.IntN(3) == 0 {
			s.StartPort, s.EndPort = 0, 65535
		}
		if rng.IntN(4) == 0 {
			s.Start, s.End = netip.AddrFrom16(s.Start.As16()), netip.AddrFrom16(s.End.As16())
		}
		out = append(out, s)
	}
	return out
}

// A payload holds at most 255 selectors, however many the two sides' ranges
// could be cut into.
func TestNarrowFitsItsPayload(t *testing.T) {
	var ports, hosts []wire.Selector
	for i := range 30 {
		ports = append(ports, wire.Selector{Protocol: 6, StartPort: uint16(i), EndPort: uint16(i), Start: netip.MustParseAddr("10.0.0.0"), End: netip.MustParseAddr("10.255.255.255")})
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		hosts = append(hosts, wire.Selector{EndPort: 65535, Start: a, End: a})
	}
	if n := len(narrow(ports, hosts)); n != 255 {
		t.Errorf("%d selectors", n)
	}
}
