package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// extended puts extension headers, given as their type and bytes without the
// next-header byte, in front of an IPv6 packet's transport header.
func extended(packet []byte, extensions ...[]byte) []byte {
	var chain []byte
	next := &packet[6]
	last := *next
	for _, e := range extensions {
		*next = e[0]
		body := slices.Clone(e)
		body[0] = last
		chain = append(chain, body...)
		next = &chain[len(chain)-len(body)]
	}
	b := slices.Concat(packet[:ipv6Len], chain, packet[ipv6Len:])
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6Len))
	return b
}

// ext is an extension header of the given type with n bytes.
func ext(kind byte, n int) []byte {
	e := make([]byte, n)
	e[0], e[1] = kind, byte(n/8-1)
	if kind == extAuth {
		e[1] = byte(n/4 - 2)
	}
	return e
}

func fragmentHeader(offset uint16) []byte {
	e := []byte{extFragment, 0, 0, 0, 1, 2, 3, 4}
	binary.BigEndian.PutUint16(e[2:], offset)
	return e
}

func TestParseFlow(t *testing.T) {
	tcp4 := pkt{proto: protoTCP, src: 1, dst: 2, sport: 1234, payload: []byte("x")}
	tcp6 := pkt{v6: true, proto: protoTCP, src: 1, dst: 2, sport: 1234, payload: []byte("x")}
	later, first, icmp, options := tcp4, tcp4, tcp4, tcp4
	later.fragment, first.fragment, icmp.proto, options.ipOptions = 0x2001, 0x2000, protoICMP, make([]byte, 40)
	tiny := pkt{proto: protoUDP, fragment: 0x2000}.bytes()[:ipv4Len+2]
	tiny[3] = byte(len(tiny))
	chain := [][]byte{ext(extHopByHop, 16), ext(extRouting, 24), ext(extAuth, 24), ext(extDestination, 8)}
	for _, c := range []struct {
		name   string
		packet []byte
		want   string
	}{
		{"tcp4", tcp4.bytes(), "10.103.0.1:1234 10.104.0.2:443 6 true"},
		{"padded", append(tcp4.bytes(), 1, 2, 3), "10.103.0.1:1234 10.104.0.2:443 6 true"},
		{"options", options.bytes(), "10.103.0.1:1234 10.104.0.2:443 6 true"},
		{"icmp", icmp.bytes(), "10.103.0.1:0 10.104.0.2:0 1 false"},
		{"first fragment", first.bytes(), "10.103.0.1:1234 10.104.0.2:443 6 true"},
		{"later fragment", later.bytes(), "10.103.0.1:0 10.104.0.2:0 6 false"},
		{"tiny fragment", tiny, "10.103.0.0:0 10.104.0.0:0 17 false"},
		{"tcp6", tcp6.bytes(), "[fd00::1]:1234 [fd00::2]:443 6 true"},
		{"extensions", extended(tcp6.bytes(), chain...), "[fd00::1]:1234 [fd00::2]:443 6 true"},
		{"first fragment 6", extended(tcp6.bytes(), fragmentHeader(1)), "[fd00::1]:1234 [fd00::2]:443 6 true"},
		{"later fragment 6", extended(tcp6.bytes(), fragmentHeader(8)), "[fd00::1]:0 [fd00::2]:0 6 false"},
	} {
		f, err := ParseFlow(c.packet)
		got := fmt.Sprint(netip.AddrPortFrom(f.Src, f.SrcPort), netip.AddrPortFrom(f.Dst, f.DstPort), f.Protocol, f.HasPorts)
		if err != nil || got != c.want {
			t.Errorf("%s: %s, %v, want %s", c.name, got, err, c.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	tcp6 := pkt{v6: true, proto: protoTCP}.bytes()
	deep := slices.Repeat([][]byte{ext(extDestination, 8)}, 20)
	long := ext(extDestination, 8)
	long[1] = 200
	badIHL, badTotal := pkt{proto: protoTCP}.bytes(), pkt{proto: protoTCP}.bytes()
	badIHL[0], badTotal[3] = 0x44, 19
	for name, c := range map[string]struct {
		packet []byte
		want   error
	}{
		"nothing":                    {nil, ErrTruncated},
		"version 0":                  {make([]byte, 40), ErrVersion},
		"header of 16 bytes":         {badIHL, ErrHeader},
		"total less than header":     {badTotal, ErrHeader},
		"20 extension headers":       {extended(slices.Clone(tcp6), deep...), ErrExtensions},
		"extension beyond the end":   {extended(slices.Clone(tcp6), long), ErrTruncated},
		"8 extension headers, legal": {extended(slices.Clone(tcp6), deep[:maxExtensions-1]...), nil},
	} {
		if _, err := ParseFlow(c.packet); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestParseEveryPrefixFails(t *testing.T) {
	for _, b := range [][]byte{
		pkt{proto: protoTCP, payload: []byte("payload")}.bytes(),
		pkt{proto: protoTCP, ipOptions: make([]byte, 12)}.bytes(),
		extended(pkt{v6: true, proto: protoUDP}.bytes(), ext(extHopByHop, 8), ext(extAuth, 24), fragmentHeader(1)),
	} {
		for n := range b {
			if _, err := ParseFlow(b[:n]); !errors.Is(err, ErrTruncated) {
				t.Errorf("%d of %d bytes: %v", n, len(b), err)
			}
			if _, err := innerLen(b[:n]); !errors.Is(err, ErrTruncated) {
				t.Errorf("length of %d of %d bytes: %v", n, len(b), err)
			}
		}
		if n, err := innerLen(append(slices.Clone(b), make([]byte, 300)...)); err != nil || n != len(b) {
			t.Errorf("with padding: %d, %v, want %d", n, err, len(b))
		}
	}
}

// FuzzInnerIP gives a decrypted packet to everything that looks into it.
func FuzzInnerIP(f *testing.F) {
	for _, p := range []pkt{
		{proto: protoTCP, flags: flagSYN, options: []byte{2, 4, 5, 0xb4, 1, 3, 3, 7}},
		{v6: true, proto: protoTCP, flags: flagSYN, options: []byte{1, 2, 4, 5, 0xb4, 0, 0, 0}},
		{proto: protoUDP, fragment: 0x4000, payload: []byte("x")},
		{proto: protoICMP, payload: []byte("x")},
	} {
		f.Add(p.bytes(), uint8(3))
		f.Add(p.bytes()[:len(p.bytes())-1], uint8(1))
	}
	f.Add(extended(pkt{v6: true, proto: protoTCP}.bytes(), slices.Repeat([][]byte{ext(extDestination, 8)}, 20)...), uint8(3))
	f.Add(extended(pkt{v6: true, proto: protoICMPv6}.bytes(), ext(extAuth, 24), fragmentHeader(8)), uint8(3))
	f.Fuzz(func(t *testing.T, packet []byte, tos uint8) {
		flow, err := ParseFlow(packet)
		if n, lenErr := innerLen(packet); err == nil && (lenErr != nil || n > len(packet)) {
			t.Fatalf("flow parsed, length %d of %d, %v", n, len(packet), lenErr)
		}
		if answer := TooBig(packet, 1280, netip.Addr{}, nil); answer != nil {
			back, backErr := ParseFlow(answer)
			if err != nil || backErr != nil || back.Dst != flow.Src {
				t.Fatalf("error sent to %v (%v) for a packet of %v (%v)", back, backErr, flow, err)
			}
		}
		clampMSS(packet, 1400)
		if !Decapsulate(tos, packet) && err == nil && tos&ecnMask == ecnCE && TOS(packet)&ecnMask != ecnCE {
			t.Fatal("congestion mark lost")
		}
	})
}

// TestKeyTellsFlowsApart: a Key matches a packet if and only if the Flows are equal.
func TestKeyTellsFlowsApart(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	equal := 0
	for range 50000 {
		p, _ := randomRun(r)
		p.payload = p.payload[:min(len(p.payload), 8)]
		p.proto = []uint8{protoTCP, protoUDP, protoICMP, protoSCTP, 99}[r.IntN(5)]
		if !p.v6 && r.IntN(4) == 0 {
			p.fragment = []uint16{0x2000, 1, 185}[r.IntN(3)]
		}
		a := p.bytes()
		b := slices.Clone(a)
		for range r.IntN(3) {
			b[r.IntN(min(len(b), 44))] ^= 1 << r.IntN(8)
		}
		ha, errA := ParseHeader(a)
		hb, errB := ParseHeader(b)
		if errA != nil || errB != nil {
			continue
		}
		var k Key
		if k.Matches(ha, a) {
			t.Fatalf("the zero Key matches %x", a)
		}
		k.Set(Header{marks: markV6}, bytes.Repeat([]byte{0xff}, 40)) // what was there before is of no matter
		k.Set(ha, a)
		want := ha.Flow(a) == hb.Flow(b)
		if got := k.Matches(hb, b); got != want {
			t.Fatalf("matches %v, want %v: %x and %x", got, want, a, b)
		}
		if want {
			equal++
		}
	}
	if equal < 10000 {
		t.Errorf("only %d were equal", equal)
	}
}
