package config

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"culvert/ikev2/wire"
)

// TestOverlapsAgainstPackets: tunnels of two peers are said to overlap exactly
// when there is a packet that both take, found by trying all packets of a small
// world, unless it is for a network within the other's.
func TestOverlapsAgainstPackets(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	overlapping := 0
	for range 2000 {
		cfg := &Config{}
		for range 3 {
			tunnel := Tunnel{Local: randomSelectors(rng, 1), Remote: randomSelectors(rng, 2), Where: Places{}}
			cfg.Peers = append(cfg.Peers, Peer{Tunnels: []Tunnel{tunnel}})
		}
		r := &reader{cfg: cfg}
		validateOverlaps(r)
		want := shared(cfg.Peers[0].Tunnels[0], cfg.Peers[1].Tunnels[0]) || shared(cfg.Peers[0].Tunnels[0], cfg.Peers[2].Tunnels[0]) ||
			shared(cfg.Peers[1].Tunnels[0], cfg.Peers[2].Tunnels[0])
		if got := r.errors > 0; got != want {
			t.Fatalf("overlap found: %v, want %v: %v", got, want, cfg.Peers)
		}
		if want {
			overlapping++
		}
	}
	if overlapping < 200 || overlapping > 1800 {
		t.Errorf("%d of 2000 overlap: the world is not a fair one", overlapping)
	}
}

func worldAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }

func randomSelectors(rng *rand.Rand, n int) []wire.Selector {
	var all []wire.Selector
	for range n {
		first := rng.IntN(8)
		s := wire.Selector{EndPort: 65535, Start: worldAddr(first), End: worldAddr(min(7, first+rng.IntN(3)))}
		if rng.IntN(2) == 0 {
			port := uint16(rng.IntN(3))
			s.Protocol, s.StartPort, s.EndPort = []uint8{6, 17}[rng.IntN(2)], port, port+uint16(rng.IntN(2))
		}
		all = append(all, s)
	}
	return all
}

func shared(a, b Tunnel) bool {
	for _, x := range a.Remote {
		for _, y := range b.Remote {
			if !nested(x, y) && takesSame(a.Local, b.Local) && takesSame([]wire.Selector{x}, []wire.Selector{y}) {
				return true
			}
		}
	}
	return false
}

// takesSame tries all ends of packets: address, protocol, port.
func takesSame(a, b []wire.Selector) bool {
	for i := range 8 {
		for _, protocol := range []uint8{6, 17, 47} {
			for port := range uint16(5) {
				if takes(a, worldAddr(i), protocol, port) && takes(b, worldAddr(i), protocol, port) {
					return true
				}
			}
		}
	}
	return false
}

func takes(ss []wire.Selector, a netip.Addr, protocol uint8, port uint16) bool {
	for _, s := range ss {
		if s.Start.Compare(a) <= 0 && a.Compare(s.End) <= 0 && (s.Protocol == 0 || s.Protocol == protocol) && s.StartPort <= port && port <= s.EndPort {
			return true
		}
	}
	return false
}
