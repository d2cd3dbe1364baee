package tun

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
)

// TestDecapsulateECN is figure 4 of RFC 6040, all 16 combinations.
func TestDecapsulateECN(t *testing.T) {
	const not, ect0, ect1, ce, drop = 0, 2, 1, 3, 0xff
	figure4 := map[uint8]map[uint8]uint8{ // inner -> outer -> result
		not:  {not: not, ect0: not, ect1: not, ce: drop},
		ect0: {not: ect0, ect0: ect0, ect1: ect1, ce: ce},
		ect1: {not: ect1, ect0: ect1, ect1: ect1, ce: ce},
		ce:   {not: ce, ect0: ce, ect1: ce, ce: ce},
	}
	const dscp, outerDSCP = 46 << 2, 10 << 2
	for inner, row := range figure4 {
		for outer, want := range row {
			for _, v6 := range []bool{false, true} {
				p := pkt{v6: v6, proto: protoUDP, tos: dscp | inner, ttl: 64, payload: []byte("x")}
				b := p.bytes()
				if Decapsulate(outerDSCP|outer, b) != (want == drop) {
					t.Fatalf("inner %d, outer %d: dropped %v", inner, outer, want != drop)
				}
				if want == drop {
					want = inner // and untouched
				}
				p.tos = dscp | want
				if !bytes.Equal(b, p.bytes()) {
					t.Errorf("inner %d, outer %d, v6 %v: %x, want %x", inner, outer, v6, b, p.bytes())
				}
				want = row[outer]
			}
		}
	}
	for tos := range 256 {
		if got := Encapsulate(TOS(pkt{proto: protoUDP, tos: uint8(tos)}.bytes())); got != uint8(tos) {
			t.Errorf("outer TOS %#x of inner %#x", got, tos)
		}
		if got := TOS(pkt{v6: true, proto: protoUDP, tos: uint8(tos)}.bytes()); got != uint8(tos) {
			t.Errorf("traffic class %#x, want %#x", got, tos)
		}
	}
}

func TestClampMSS(t *testing.T) {
	mss := func(v uint16, before ...byte) []byte {
		o := append(before, 2, 4, byte(v>>8), byte(v))
		return append(o, make([]byte, -len(o)&3)...)
	}
	for _, c := range []struct {
		name       string
		p          pkt
		mtu        int
		want       []byte // options afterwards
		wantChange bool
	}{
		{"v4", pkt{flags: flagSYN, options: mss(1460)}, 1400, mss(1360), true},
		{"v6", pkt{v6: true, flags: flagSYN | flagACK, options: mss(1440)}, 1400, mss(1340), true},
		{"odd offset", pkt{flags: flagSYN, options: mss(1460, 1)}, 1400, mss(1360, 1), true},
		{"behind others", pkt{flags: flagSYN, options: mss(1460, 3, 3, 7, 4, 2)}, 1400, mss(1360, 3, 3, 7, 4, 2), true},
		{"small enough", pkt{flags: flagSYN, options: mss(536)}, 1400, mss(536), false},
		{"no SYN", pkt{flags: flagACK, options: mss(1460)}, 1400, mss(1460), false},
		{"no option", pkt{flags: flagSYN}, 1400, nil, false},
		{"behind the end of options", pkt{flags: flagSYN, options: mss(1460, 0)}, 1400, mss(1460, 0), false},
		{"option of length 0", pkt{flags: flagSYN, options: mss(1460, 8, 0)}, 1400, mss(1460, 8, 0), false},
		{"option past the end", pkt{flags: flagSYN, options: []byte{1, 1, 2, 4}}, 1400, []byte{1, 1, 2, 4}, false},
		{"fragment", pkt{flags: flagSYN, fragment: 0x2000, options: mss(1460)}, 1400, mss(1460), false},
		{"MTU too small to be one", pkt{flags: flagSYN, options: mss(1460)}, 40, mss(1460), false},
	} {
		c.p.proto, c.p.payload = protoTCP, []byte("early data")
		b := c.p.bytes()
		changed := clampMSS(b, c.mtu)
		c.p.options = c.want
		if changed != c.wantChange || !bytes.Equal(b, c.p.bytes()) {
			t.Errorf("%s: changed %v, %x, want %x", c.name, changed, b, c.p.bytes())
		}
		for n := range b {
			clampMSS(slices.Clone(b[:n]), c.mtu)
		}
	}
}

func TestTooBig(t *testing.T) {
	from4, from6 := netip.MustParseAddr("10.103.0.254"), netip.MustParseAddr("fd00::fe")
	big4 := pkt{proto: protoTCP, src: 1, dst: 2, ttl: 9, fragment: 0x4000, payload: make([]byte, 1460)}
	big6 := pkt{v6: true, proto: protoTCP, src: 1, dst: 2, ttl: 9, payload: make([]byte, 1460)}

	b := TooBig(big4.bytes(), 1400, from4, nil)
	if len(b) != 576 || b[20] != 3 || b[21] != 4 || binary.BigEndian.Uint16(b[26:]) != 1400 {
		t.Fatalf("ICMPv4: %x", b)
	}
	if plainSum(b[:20]) != 0xffff || plainSum(b[20:]) != 0xffff || !bytes.Equal(b[28:], big4.bytes()[:548]) {
		t.Errorf("ICMPv4: checksums or quotation wrong: %x", b)
	}
	if f, err := ParseFlow(b); err != nil || f.Src != from4 || f.Dst != netip.MustParseAddr("10.103.0.1") {
		t.Errorf("ICMPv4: %v, %v", f, err)
	}

	b = TooBig(big6.bytes(), 1400, from6, make([]byte, 0, 1280))
	if len(b) != 1280 || b[40] != 2 || b[41] != 0 || binary.BigEndian.Uint32(b[44:]) != 1400 {
		t.Fatalf("ICMPv6: %x", b)
	}
	if plainSum(plainPseudo(b, protoICMPv6, len(b)-40), b[40:]) != 0xffff || !bytes.Equal(b[48:], big6.bytes()[:1232]) {
		t.Errorf("ICMPv6: checksum or quotation wrong: %x", b)
	}
	if b = TooBig(big6.bytes(), 1400, netip.Addr{}, nil); !bytes.Equal(b[8:24], big6.bytes()[24:40]) {
		t.Error("ICMPv6 without an address of our own is not from the destination")
	}
	for n := range 60 {
		if b := TooBig(big4.bytes()[:n], 1400, from4, nil); b != nil {
			t.Errorf("answer to %d bytes of a packet: %x", n, b)
		}
	}
}

func TestTooBigStaysSilent(t *testing.T) {
	from4, from6 := netip.MustParseAddr("10.103.0.254"), netip.MustParseAddr("fd00::fe")
	edit := func(p pkt, at int, to ...byte) []byte {
		b := p.bytes()
		copy(b[at:], to)
		return b
	}
	df := pkt{proto: protoTCP, fragment: 0x4000, payload: make([]byte, 9)}
	icmp4, icmp6, later := df, pkt{v6: true, proto: protoICMPv6}, df
	icmp4.proto, later.fragment = protoICMP, 0x4001
	for name, c := range map[string]struct {
		packet []byte
		from   netip.Addr
	}{
		"no DF":               {pkt{proto: protoTCP}.bytes(), from4},
		"later fragment":      {later.bytes(), from4},
		"ICMP unreachable":    {edit(icmp4, 20, 3), from4},
		"ICMPv6 error":        {edit(icmp6, 40, 1), from6},
		"ICMPv6 redirect":     {edit(icmp6, 40, 137), from6},
		"multicast source":    {edit(df, 12, 224, 0, 0, 1), from4},
		"broadcast source":    {edit(df, 12, 255, 255, 255, 255), from4},
		"no source":           {edit(df, 12, 0, 0, 0, 0), from4},
		"loopback source":     {edit(df, 12, 127), from4},
		"multicast source 6":  {edit(pkt{v6: true, proto: protoTCP}, 8, 0xff, 2), from6},
		"other family's from": {df.bytes(), from6},
		"from multicast":      {edit(df, 16, 224, 0, 0, 1), netip.Addr{}},
	} {
		if b := TooBig(c.packet, 1400, c.from, nil); b != nil {
			t.Errorf("%s: answered %x", name, b)
		}
	}
	if TooBig(edit(icmp4, 20, 8), 1400, from4, nil) == nil {
		t.Error("no answer to a ping")
	}
	if TooBig(edit(icmp6, 40, 128), 1400, from6, nil) == nil {
		t.Error("no answer to an ICMPv6 ping")
	}
}

func TestAddrInside(t *testing.T) {
	addrs := []net.Addr{
		&net.IPNet{IP: net.ParseIP("127.0.0.1"), Mask: net.CIDRMask(8, 32)},
		&net.IPNet{IP: net.ParseIP("10.103.0.7"), Mask: net.CIDRMask(24, 32)},
		&net.IPNet{IP: net.ParseIP("fe80::1"), Mask: net.CIDRMask(64, 128)},
		&net.IPNet{IP: net.ParseIP("fd00::7"), Mask: net.CIDRMask(64, 128)},
	}
	for prefix, want := range map[string]string{
		"10.103.0.0/24": "10.103.0.7", "0.0.0.0/0": "10.103.0.7", "fd00::/64": "fd00::7", "::/0": "fd00::7",
		"10.104.0.0/24": "invalid IP", "127.0.0.0/8": "invalid IP",
	} {
		got, ok := addrInside(netip.MustParsePrefix(prefix), addrs)
		if got.String() != want || ok != (want != "invalid IP") {
			t.Errorf("%s: %s, %v, want %s", prefix, got, ok, want)
		}
	}
}
