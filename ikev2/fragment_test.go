package ikev2

import (
	"net/netip"
	"testing"
)

func TestOverhead(t *testing.T) {
	for addr, want := range map[string]int{"192.0.2.1:500": 28, "[2001:db8::1]:500": 48, "[::ffff:192.0.2.1]:500": 28} {
		p := Path{Remote: netip.MustParseAddrPort(addr)}
		if got := p.overhead(); got != want {
			t.Errorf("%s: %d bytes", addr, got)
		}
		if p.Encap = true; p.overhead() != want+4 {
			t.Errorf("%s: the non-ESP marker is forgotten", addr)
		}
	}
}

func TestForStrangers(t *testing.T) {
	of := func(fs ...Fragmentation) (peers []*peer) {
		for _, f := range fs {
			peers = append(peers, &peer{Peer: Peer{Fragmentation: f}})
		}
		return peers
	}
	off := Fragmentation{Mode: ModeOff, Size: 576}
	for _, c := range []struct {
		peers []*peer
		mode  Mode
		size  int
	}{
		{of(), ModeOff, 1280},
		{of(off, off), ModeOff, 1280},
		{of(Fragmentation{}), ModeDefault, 1280},
		{of(off, Fragmentation{Size: 1400}, off), ModeDefault, 1400},
		{of(Fragmentation{}, Fragmentation{Mode: ModePrefer, Size: 900}, Fragmentation{Size: 1000}), ModePrefer, 900},
		{of(Fragmentation{Size: 20}), ModeDefault, 576},
	} {
		if f := forStrangers(c.peers); f.Mode != c.mode || f.packet() != c.size {
			t.Errorf("%+v, want mode %d, %d bytes", f, c.mode, c.size)
		}
	}
}

func TestSourceOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:500": "192.0.2.1", "[::ffff:192.0.2.1]:4500": "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:500": "2001:db8:1:2::", "[fe80::1%eth0]:500": "fe80::",
	} {
		if got := sourceOf(netip.MustParseAddrPort(addr)); got != netip.MustParseAddr(want) {
			t.Errorf("%s counts for %v", addr, got)
		}
	}
}
