package gateway

import (
	"net/netip"
	"testing"
)

// TestAround: the parts have every address of the network but one, each once.
func TestAround(t *testing.T) {
	for network, but := range map[string]string{
		"0.0.0.0/0": "203.0.113.1", "203.0.113.0/24": "203.0.113.255", "203.0.113.1/32": "203.0.113.1", "::/0": "2001:db8::1",
	} {
		whole, addr := netip.MustParsePrefix(network), netip.MustParseAddr(but)
		parts := around(whole, addr)
		if want := addr.BitLen() - whole.Bits(); len(parts) != want {
			t.Errorf("%s but for %s: %d parts, want %d", network, but, len(parts), want)
		}
		for i, p := range parts {
			// 2^-1 + 2^-2 ... of the network, none within another: all but 1.
			if p.Bits() != whole.Bits()+i+1 || p != p.Masked() || p.Contains(addr) || !whole.Overlaps(p) {
				t.Errorf("%s but for %s: part %v", network, but, p)
			}
			for _, q := range parts[:i] {
				if p.Overlaps(q) {
					t.Errorf("%v and %v overlap", p, q)
				}
			}
		}
	}
}
