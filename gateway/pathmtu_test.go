package gateway

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"culvert/natt/nattest"
)

// measured waits for sites to have measured their path, after which they leave it
// alone for an hour.
func (w *world) measured(sites ...*site) {
	w.Helper()
	w.until("measurement of the paths", time.Minute, func() bool {
		return !slices.ContainsFunc(sites, func(s *site) bool { return s.peer().PathMTU == 0 })
	})
}

// swallows drops what is longer than an outer path takes, and tells nobody.
func swallows(size int) nattest.Filter {
	return func(d nattest.Datagram) nattest.Verdict {
		return nattest.Verdict{Drop: len(d.Bytes)+ipv4HeaderLen+udpHeaderLen > size}
	}
}

// tooBig is the MTU that a site tells its host when that sends a packet of so
// many bytes; 0 when it lets it pass.
func (s *site) tooBig(size int) int {
	s.device.Drain()
	s.device.InjectPacket(fromB(1, size-28))
	s.w.settle()
	for _, p := range s.device.Drain() {
		if p[9] == 1 && p[20] == 3 && p[21] == 4 { // ICMP, unreachable, fragmentation needed
			return int(binary.BigEndian.Uint16(p[26:]))
		}
	}
	return 0
}

// TestBlackHole: a path that loses large packets and does not say so is told of
// on the side that sends into it, once, with the MTU that fits; the tunnel keeps
// to it, through new keys too, until the path is better.
func TestBlackHole(t *testing.T) {
	inWorld(t, nattest.Config{Latency: 5 * time.Millisecond}, func(w *world) {
		w.treat(swallows(1400))
		a, b := w.pair(with(textA, either...), with(textB, either...))
		w.measured(a, b)
		for _, s := range []*site{a, b} {
			if got := s.peer().PathMTU; got != 1400 {
				t.Errorf("%s found %d", s.name, got)
			}
			s.explains(false, []string{"mtu_black_hole"}, "Packets of more than 1400 bytes do not reach the peer", "add `mtu = 1338` to [gateway] in "+s.name+".toml", "segments of at most 1298 bytes")
		}
		held := func(want int) {
			t.Helper()
			if got := b.tooBig(1438); got != want {
				t.Errorf("a packet of 1438 bytes is told %d, want %d", got, want)
			}
			if got := b.tooBig(1338); got != 0 {
				t.Errorf("a packet of 1338 bytes is told %d", got)
			}
		}
		held(1338)
		_, err := b.Rekey("remote", "lan")
		noError(t, err)
		w.until("new keys", time.Minute, func() bool { return len(b.log.of("child_up")) > 1 && b.isUp() })
		held(1338)
		time.Sleep(time.Minute)
		if n := b.logged("mtu_black_hole"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		w.treat(nil)
		_, err = b.Explain("remote")
		noError(t, err)
		w.until("another measurement", 30*time.Second, func() bool { return b.peer().PathMTU == 1500 })
		held(0)
		b.explains(false, nil)
	})
}

// TestPathMTUBySystem: where routers say what they take there is no black hole,
// and the tunnel keeps to it as well.
func TestPathMTUBySystem(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		var system atomic.Int64
		system.Store(1500)
		a := w.start(w.net.A, "a", textA)
		b := w.start(w.net.B, "b", textB, func(s *starting) {
			s.Options.Doors.PathMTU = func(_, _ netip.Addr) (int, error) { return int(system.Load()), nil }
		})
		w.treat(func(d nattest.Datagram) nattest.Verdict {
			v := swallows(1401)(d)
			if v.Drop && d.From.Addr() == w.net.B.Addr() {
				system.Store(1401) // by ICMP
			}
			return v
		})
		w.untilUp(a, b, time.Second)
		w.measured(a, b)
		b.explains(false, nil)
		if got := b.tooBig(1438); got != 1338 {
			t.Errorf("a packet of 1438 bytes is told %d", got)
		}
		a.explains(false, []string{"mtu_black_hole"})
	})
}

// TestPathMTUAsSet: a path takes all that `mtu` lets in, or the finding says
// which line to change.
func TestPathMTUAsSet(t *testing.T) {
	for mtu, want := range map[string]string{"1338": "", "1342": "change line 2 of b.toml to `mtu = 1338`"} {
		inWorld(t, nattest.Config{}, func(w *world) {
			w.treat(swallows(1400))
			a, b := w.pair(textA, "[gateway]\nmtu = "+mtu+"\n"+textB)
			w.measured(a, b)
			if want == "" {
				b.explains(false, nil)
			} else {
				b.explains(false, []string{"mtu_black_hole"}, want)
			}
		})
	}
}
