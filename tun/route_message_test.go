package tun

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

func TestRouteMessage(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("00", n) }
	for _, c := range []struct {
		kind   uint8
		prefix string
		source string
		want   string
	}{
		{rtAdd, "10.104.0.7/24", "", "" +
			"9000" + "05" + "01" + "0300" + "0000" + "01080000" + "07000000" + zeros(4) + "09000000" + zeros(68) +
			"10020000" + "0a680000" + zeros(8) +
			"14120300" + zeros(16) +
			"10020000" + "ffffff00" + zeros(8)},
		{rtDelete, "fd00:104::/33", "fd00:103::1", "" +
			"c400" + "05" + "02" + "0300" + "0000" + "01080000" + "27000000" + zeros(4) + "09000000" + zeros(68) +
			"1c1e0000" + zeros(4) + "fd000104" + zeros(12) + zeros(4) +
			"14120300" + zeros(16) +
			"1c1e0000" + zeros(4) + "ffffffff80" + zeros(11) + zeros(4) +
			"1c1e0000" + zeros(4) + "fd000103" + zeros(11) + "01" + zeros(4)},
	} {
		var source netip.Addr
		if c.source != "" {
			source = netip.MustParseAddr(c.source)
		}
		got, err := routeMessage(c.kind, 9, 3, netip.MustParsePrefix(c.prefix), source)
		want, _ := hex.DecodeString(c.want)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\n%x, want\n%x", c.prefix, err, got, want)
		}
	}
	if _, err := routeMessage(rtAdd, 1, 1, netip.Prefix{}, netip.Addr{}); err == nil {
		t.Error("no prefix: no error")
	}
	if _, err := routeMessage(rtAdd, 1, 1, netip.MustParsePrefix("::/0"), netip.MustParseAddr("10.0.0.1")); err == nil {
		t.Error("source of the other family: no error")
	}
}

func TestUtun(t *testing.T) {
	for name, want := range map[string]string{
		"culvert0": "utun", "utun": "utun", "utun0": "utun0", "utun17": "utun17", "utun07": "utun", "utunx": "utun", "utun3x": "utun",
	} {
		if got := utunName(name); got != want {
			t.Errorf("%s becomes %s, want %s", name, got, want)
		}
	}
	for first, want := range map[byte]string{0x45: "00000002", 0x60: "0000001e", 0x10: ""} {
		got, err := appendFamily(nil, []byte{first})
		if hex.EncodeToString(got) != want || (err == nil) != (want != "") {
			t.Errorf("%#x: %x, %v", first, got, err)
		}
	}
	if _, err := appendFamily(nil, nil); err == nil {
		t.Error("an empty packet has a family")
	}
}
