package tun

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// The requests' numbers say how long their arguments are.
func TestAddressRequests(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("00", n) }
	name := hex.EncodeToString([]byte("utun7")) + zeros(11)
	four := "10020000" + "0a090001" + zeros(8)
	six := "1c1e0000" + zeros(4) + "fd000009" + zeros(11) + "01" + zeros(4)
	for _, c := range []struct {
		make func(string, netip.Addr) (uintptr, []byte)
		addr string
		want string
	}{
		{addAddrRequest, "10.9.0.1", name + four + four + "10020000" + "ffffffff" + zeros(8)},
		{addAddrRequest, "fd00:9::1", name + six + zeros(28) + "1c1e0000" + zeros(4) + strings.Repeat("ff", 16) + zeros(4) + "20000000" + zeros(16) + strings.Repeat("ff", 8)},
		{delAddrRequest, "10.9.0.1", name + four},
		{delAddrRequest, "fd00:9::1", name + six + zeros(288-44)},
	} {
		request, arg := c.make("utun7", netip.MustParseAddr(c.addr))
		if got := hex.EncodeToString(arg); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.addr, got, c.want)
		}
		if int(request>>16)&0x1fff != len(arg) {
			t.Errorf("%s: %#x takes %d bytes, has %d", c.addr, request, request>>16&0x1fff, len(arg))
		}
	}
}
