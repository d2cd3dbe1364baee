package nattest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"culvert/natt"
)

// station is a socket and all that it received.
type station struct {
	natt.Conn
	mu  sync.Mutex
	got []natt.Run
}

func listen(t *testing.T, h *Host, port uint16) *station {
	t.Helper()
	c, err := h.Listen(netip.AddrPortFrom(netip.Addr{}, port), natt.Options{NATT: port != 500})
	if err != nil {
		t.Fatal(err)
	}
	s := &station{Conn: c}
	go s.collect()
	return s
}

func (s *station) collect() {
	runs := make([]natt.Run, 8)
	for {
		n, err := s.Receive(runs)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.got = append(s.got, runs[:n]...)
		s.mu.Unlock()
	}
}

// take waits until the network is quiet and returns what came since the last time.
func (s *station) take() []natt.Run {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

func (s *station) send(t *testing.T, to netip.AddrPort, text string) {
	t.Helper()
	run := natt.Run{Bytes: []byte(text), Path: natt.Path{Remote: to}}
	if n, err := s.Send([]natt.Run{run}); n != 1 || err != nil {
		t.Fatalf("Send: %d, %v", n, err)
	}
}

// expect takes exactly one datagram and returns its path.
func (s *station) expect(t *testing.T, text string) natt.Path {
	t.Helper()
	got := s.take()
	if len(got) != 1 || string(got[0].Bytes) != text {
		t.Fatalf("%v received %v, want %q", s.LocalAddr(), got, text)
	}
	return got[0].Path
}

// inNetwork runs a test in a bubble with a network of each kind. The bubble itself fails a test that leaves a goroutine behind.
func inNetwork(t *testing.T, config Config, test func(t *testing.T, n *Network)) {
	for _, kind := range Kinds {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := config
				config.NAT = kind
				n, err := New(config)
				if err != nil {
					t.Fatal(err)
				}
				defer n.Close()
				test(t, n)
			})
		})
	}
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// TestKinds holds each NAT to RFC 4787's definition of its kind.
func TestKinds(t *testing.T) {
	inNetwork(t, Config{}, func(t *testing.T, n *Network) {
		kind := n.config.NAT
		a, a2, b, c := listen(t, n.A, 4500), listen(t, n.A, 500), listen(t, n.B, 4500), listen(t, n.C, 4500)

		b.send(t, at(PublicA, 4500), "hello")
		seen := a.expect(t, "hello")
		if seen.Local != at(PublicA, 4500) || seen.Remote.Addr() != PublicB || !seen.Encap {
			t.Errorf("A sees %+v", seen)
		}
		if kept := seen.Remote.Port() == 4500; kept != (kind == OneToOne) {
			t.Errorf("A sees port %d", seen.Remote.Port())
		}
		a.send(t, seen.Remote, "answer")
		if p := b.expect(t, "answer"); p != (natt.Path{Local: at(PrivateB, 4500), Remote: at(PublicA, 4500), Encap: true}) {
			t.Errorf("B sees %+v", p)
		}

		opened := func(s *station, want bool) {
			t.Helper()
			s.send(t, seen.Remote, "unasked")
			if got := b.take(); len(got) == 1 != want {
				t.Errorf("from %v through the mapping made for A: %d datagrams came, want them through: %v", s.LocalAddr(), len(got), want)
			}
		}
		opened(a2, kind <= AddressRestricted)
		opened(c, kind <= FullCone)

		b.send(t, at(PublicC, 4500), "hello")
		if same := c.expect(t, "hello").Remote == seen.Remote; same != (kind != Symmetric) {
			t.Errorf("C sees the mapping that A sees: %v", same)
		}
	})
}

func TestMappingLivesByItsTraffic(t *testing.T) {
	inNetwork(t, Config{MappingLifetime: 30 * time.Second}, func(t *testing.T, n *Network) {
		a, b := listen(t, n.A, 4500), listen(t, n.B, 4500)
		b.send(t, at(PublicA, 4500), "hello")
		seen := a.expect(t, "hello").Remote
		for range 5 {
			time.Sleep(20 * time.Second)
			b.send(t, at(PublicA, 4500), "keepalive")
			if p := a.expect(t, "keepalive"); p.Remote != seen {
				t.Errorf("the mapping moved from %v to %v", seen, p.Remote)
			}
		}
		time.Sleep(31 * time.Second)
		a.send(t, seen, "too late")
		if through := len(b.take()) == 1; through != (n.config.NAT == OneToOne) {
			t.Errorf("through a mapping 31 s old: %v", through)
		}
	})
}

func TestRebind(t *testing.T) {
	inNetwork(t, Config{}, func(t *testing.T, n *Network) {
		a, b, b500 := listen(t, n.A, 4500), listen(t, n.B, 4500), listen(t, n.B, 500)
		seenBefore := map[netip.AddrPort]bool{}
		for i, public := range []netip.Addr{PublicB, PublicB, PublicB2, PublicB} {
			if i > 0 {
				if err := n.Rebind(public); err != nil {
					t.Fatal(err)
				}
			}
			b.send(t, at(PublicA, 4500), "hello")
			seen := a.expect(t, "hello").Remote
			if seen.Addr() != public {
				t.Errorf("A sees %v, want address %v", seen, public)
			}
			if seenBefore[seen] && n.config.NAT != OneToOne {
				t.Errorf("A sees %v again: the NAT did not forget", seen)
			}
			for old := range seenBefore {
				if old != seen {
					a.send(t, old, "to the old mapping")
				}
			}
			if old := b.take(); len(old) != 0 {
				t.Errorf("old mappings still lead to B: %d datagrams", len(old))
			}
			seenBefore[seen] = true
			a.send(t, seen, "answer")
			if p := b.expect(t, "answer"); p.Local != at(PrivateB, 4500) {
				t.Errorf("B sees its own address change: %+v", p)
			}
			b500.send(t, at(PublicA, 4500), "from port 500")
			if p := a.expect(t, "from port 500"); p.Remote.Addr() != public || p.Remote == seen {
				t.Errorf("A sees B's other socket at %v, the first at %v", p.Remote, seen)
			}
		}
		if err := n.Rebind(PublicA); err == nil {
			t.Error("B took A's address")
		}
	})
}

// TestFilter drops, duplicates and delays by number, and checks what arrives when.
func TestFilter(t *testing.T) {
	filter := func(d Datagram) Verdict {
		if d.From.Port() != 4500 || d.TOS != uint8(d.Number) {
			panic(fmt.Sprintf("filter got %+v", d))
		}
		return []Verdict{{}, {Drop: true}, {Copies: 2}, {Delay: time.Second}, {}}[d.Number]
	}
	inNetwork(t, Config{Filter: filter, Latency: 10 * time.Millisecond}, func(t *testing.T, n *Network) {
		start := time.Now()
		a, b := listen(t, n.A, 4500), listen(t, n.B, 4500)
		for i := range 5 {
			run := natt.Run{Bytes: fmt.Append(nil, i), TOS: uint8(i), Path: natt.Path{Remote: at(PublicA, 4500)}}
			if n, err := b.Send([]natt.Run{run}); n != 1 || err != nil {
				t.Fatalf("Send: %d, %v", n, err)
			}
		}
		expect := func(after time.Duration, want string) {
			t.Helper()
			time.Sleep(time.Until(start.Add(after)))
			var got []byte
			for _, r := range a.take() {
				got = append(got, r.Bytes...)
				if fmt.Sprint(r.TOS) != string(r.Bytes) {
					t.Errorf("datagram %s came with TOS %d", r.Bytes, r.TOS)
				}
			}
			if string(got) != want {
				t.Errorf("after %v: datagrams %q, want %q", after, got, want)
			}
		}
		expect(19*time.Millisecond, "")
		expect(20*time.Millisecond, "02224") // two routers
		expect(1019*time.Millisecond, "")
		expect(1020*time.Millisecond, "3")
	})
}

func TestRunsAndErrors(t *testing.T) {
	inNetwork(t, Config{}, func(t *testing.T, n *Network) {
		a, b := listen(t, n.A, 4500), listen(t, n.B, 4500)
		run := natt.Run{Bytes: []byte("aaabbbcc"), SegmentSize: 3, Path: natt.Path{Local: at(PrivateB, 4500), Remote: at(PublicA, 4500)}}
		stray, nowhere := run, run
		stray.Path.Local, nowhere.Path.Remote = at(PublicB, 4500), at(netip.IPv6Loopback(), 4500)
		if n, err := b.Send([]natt.Run{stray, run, nowhere}); n != 1 || err != nil {
			t.Errorf("Send: %d, %v; want 1 of 3 runs", n, err)
		}
		if c := b.Counters(); c["send_bad_address"] != 1 || c["send_unreachable"] != 1 {
			t.Errorf("counters %v", c)
		}
		var got [][]byte
		for _, r := range a.take() {
			got = append(got, r.Bytes)
		}
		if string(bytes.Join(got, []byte("|"))) != "aaa|bbb|cc" {
			t.Errorf("a run arrived as %q", got)
		}

		if _, err := n.B.Listen(at(netip.Addr{}, 4500), natt.Options{}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a port twice: %v", err)
		}
		if _, err := n.B.Listen(at(PublicB, 4501), natt.Options{}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("somebody else's address: %v", err)
		}
		b.Close()
		if _, err := b.Send([]natt.Run{run}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Send after Close: %v", err)
		}
		if _, err := b.Receive(make([]natt.Run, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Receive after Close: %v", err)
		}
		again := listen(t, n.B, 4500) // the port is free again
		again.send(t, at(PublicA, 4500), "again")
		a.expect(t, "again")
	})
}
