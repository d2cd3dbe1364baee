package natt

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// implementation is one of the two Conns; both must pass every test that is not about offload.
type implementation struct {
	name   string
	listen func(netip.AddrPort, Options) (Conn, error)
}

var implementations = append(batchImplementations, implementation{"portable", func(a netip.AddrPort, o Options) (Conn, error) {
	c, err := listenPortable(a, o)
	if err != nil {
		return nil, err
	}
	return c, nil
}})

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.MustParseAddr("::1")
	wildcard  = netip.Addr{}
)

// everywhere runs a test with each implementation over each family of loopback address.
func everywhere(t *testing.T, test func(t *testing.T, listen func(netip.Addr) Conn, loopback netip.Addr)) {
	for _, impl := range implementations {
		for _, loopback := range []netip.Addr{loopback4, loopback6} {
			t.Run(fmt.Sprintf("%s/%v", impl.name, loopback), func(t *testing.T) {
				requireAddr(t, loopback)
				test(t, func(a netip.Addr) Conn { return mustListen(t, impl, a, Options{NATT: true}) }, loopback)
			})
		}
	}
}

func requireAddr(t *testing.T, a netip.Addr) {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		t.Skipf("no %v on this machine (%v): give the loopback interface that address", a, err)
	}
	c.Close()
}

func mustListen(t testing.TB, impl implementation, a netip.Addr, o Options) Conn {
	t.Helper()
	c, err := impl.listen(netip.AddrPortFrom(a, 0), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// to is the path to c at one of this machine's addresses.
func to(c Conn, a netip.Addr) Path {
	return Path{Remote: netip.AddrPortFrom(a, c.LocalAddr().Port())}
}

// received is a copy of a datagram that Receive delivered.
type received struct {
	bytes []byte
	tos   uint8
	path  Path
}

// receive collects n datagrams. A watchdog closes the Conn when they do not come, so that a failure is a failure and not a hang.
func receive(t *testing.T, c Conn, n int) (got []received) {
	t.Helper()
	watchdog := time.AfterFunc(20*time.Second, func() { c.Close() })
	defer watchdog.Stop()
	runs := make([]Run, 8)
	for len(got) < n {
		k, err := c.Receive(runs)
		if err != nil {
			t.Fatalf("%d of %d datagrams, then %v; counters %v", len(got), n, err, c.Counters())
		}
		for _, r := range runs[:k] {
			for i := range r.Segments() {
				got = append(got, received{bytes.Clone(r.Segment(i)), r.TOS, r.Path})
			}
		}
	}
	return got
}

func mustSend(t *testing.T, c Conn, runs ...Run) {
	t.Helper()
	if n, err := c.Send(runs); n != len(runs) || err != nil {
		t.Fatalf("sent %d of %d runs: %v; counters %v", n, len(runs), err, c.Counters())
	}
}

// espRun makes a run of datagrams that look like ESP and are all different; the last is lastLen long.
func espRun(rng *rand.Rand, n, size, lastLen int) Run {
	b := make([]byte, (n-1)*size+lastLen)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	for i := 0; i < len(b); i += size {
		copy(b[i:], []byte{1, 2, 3, 4})
	}
	return Run{Bytes: b, SegmentSize: size}
}

// expectRuns receives what runs hold and compares.
func expectRuns(t *testing.T, c Conn, runs ...Run) {
	t.Helper()
	var want [][]byte
	for _, r := range runs {
		for i := range r.Segments() {
			want = append(want, r.Segment(i))
		}
	}
	for i, got := range receive(t, c, len(want)) {
		if !bytes.Equal(got.bytes, want[i]) {
			t.Fatalf("datagram %d of %d: %d bytes, want %d, or their content differs", i, len(want), len(got.bytes), len(want[i]))
		}
	}
}

func TestRunsArriveAsTheyWereSent(t *testing.T) {
	everywhere(t, func(t *testing.T, listen func(netip.Addr) Conn, loopback netip.Addr) {
		a, b := listen(loopback), listen(loopback)
		rng := rand.New(rand.NewPCG(1, 2))
		for _, shape := range []struct{ n, size, last int }{
			{1, 100, 100}, {2, 100, 100}, {2, 100, 1}, {44, 1456, 1456}, {44, 1456, 37},
			{47, 1456, 1000},                                                       // a full TUN read after ESP: over 65507 bytes
			{64, 80, 80}, {65, 80, 80}, {128, 80, 9}, {129, 80, 80}, {200, 33, 20}, // around the kernel's limits of segments
			{3, 40000, 100}, // a segment so long that no two fit
		} {
			run := espRun(rng, shape.n, shape.size, shape.last)
			run.Path = to(b, loopback)
			mustSend(t, a, run)
			expectRuns(t, b, run)
		}
	})
}

// TestMixedBatch sends one batch of runs of all sorts: they must arrive in order, whole.
func TestMixedBatch(t *testing.T) {
	everywhere(t, func(t *testing.T, listen func(netip.Addr) Conn, loopback netip.Addr) {
		a, b := listen(loopback), listen(loopback)
		rng := rand.New(rand.NewPCG(3, 4))
		for range 20 {
			var runs []Run
			for range 1 + rng.IntN(8) { // what an ordinary user's receive buffer holds

				size := 32 + rng.IntN(1400)
				run := espRun(rng, 1+rng.IntN(10), size, 8+rng.IntN(size-7))
				switch rng.IntN(4) {
				case 0:
					run.Bytes, run.SegmentSize = AppendMarker(nil), 0
					run.Bytes = append(run.Bytes, make([]byte, 200)...) // IKE: sent apart, so that it may be fragmented
				case 1:
					run.Bytes, run.SegmentSize = []byte{KeepaliveByte}, 0
				}
				run.TOS = uint8(rng.IntN(3)) * 40
				run.Path = to(b, loopback)
				runs = append(runs, run)
			}
			mustSend(t, a, runs...)
			expectRuns(t, b, runs...)
		}
	})
}

// TestAnswerFromTheAddressAsked: on a wildcard socket each datagram says where it was sent to, and an answer leaves from there.
func TestAnswerFromTheAddressAsked(t *testing.T) {
	other := map[netip.Addr]netip.Addr{loopback4: netip.MustParseAddr("127.0.0.2"), loopback6: loopback6}
	everywhere(t, func(t *testing.T, listen func(netip.Addr) Conn, loopback netip.Addr) {
		asked := other[loopback]
		requireAddr(t, asked)
		client, server := listen(loopback), listen(wildcard)
		if !server.LocalAddr().Addr().IsUnspecified() {
			t.Fatalf("a wildcard socket is bound to %v", server.LocalAddr())
		}
		mustSend(t, client, Run{Bytes: []byte("question"), Path: to(server, asked)})
		got := receive(t, server, 1)[0]
		want := Path{Local: netip.AddrPortFrom(asked, server.LocalAddr().Port()), Remote: client.LocalAddr(), Encap: true}
		if got.path != want {
			t.Fatalf("path %+v, want %+v", got.path, want)
		}
		mustSend(t, server, Run{Bytes: []byte("answer"), Path: got.path})
		if answer := receive(t, client, 1)[0]; answer.path.Remote != want.Local {
			t.Fatalf("answer came from %v, want %v", answer.path.Remote, want.Local)
		}
	})
}

func TestTOS(t *testing.T) {
	everywhere(t, func(t *testing.T, listen func(netip.Addr) Conn, loopback netip.Addr) {
		a, b := listen(loopback), listen(wildcard)
		rng := rand.New(rand.NewPCG(5, 6))
		for _, tos := range []uint8{0, 0xb8 | 2, 3, 0, 0xff} { // EF with ECT(0), CE, and none after some
			run := espRun(rng, 3, 100, 50)
			run.TOS, run.Path = tos, to(b, loopback)
			mustSend(t, a, run)
			for i, got := range receive(t, b, 3) {
				if got.tos != tos {
					t.Errorf("datagram %d came with TOS %#x, want %#x", i, got.tos, tos)
				}
			}
		}
	})
}

func TestCloseWakesReceive(t *testing.T) {
	everywhere(t, func(t *testing.T, listen func(netip.Addr) Conn, loopback netip.Addr) {
		c := listen(loopback)
		done := make(chan error)
		go func() {
			_, err := c.Receive(make([]Run, 4))
			done <- err
		}()
		c.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Receive: %v, want net.ErrClosed", err)
		}
		if _, err := c.Receive(make([]Run, 4)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Receive after Close: %v", err)
		}
		if _, err := c.Send([]Run{{Bytes: []byte("late"), Path: to(c, loopback)}}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Send after Close: %v", err)
		}
	})
}

// TestRefusedRunsAreCountedAndTheRestGoesOn sends, between two good runs, one that no socket can carry and one that has nowhere to go.
func TestRefusedRunsAreCountedAndTheRestGoesOn(t *testing.T) {
	everywhere(t, func(t *testing.T, listen func(netip.Addr) Conn, loopback netip.Addr) {
		a, b := listen(loopback), listen(loopback)
		good := Run{Bytes: []byte("a datagram"), Path: to(b, loopback)}
		huge := Run{Bytes: bytes.Repeat([]byte{9}, 70000), Path: to(b, loopback)}
		stray := good
		stray.Path.Local = netip.AddrPortFrom(netip.MustParseAddr(map[bool]string{true: "203.0.113.77", false: "2001:db8::77"}[loopback.Is4()]), 0)
		n, err := a.Send([]Run{good, huge, stray, good})
		if n != 2 || err != nil {
			t.Errorf("Send: %d, %v; want 2 of 4 runs and no error", n, err)
		}
		expectRuns(t, b, good, good)
		counters := a.Counters()
		if counters["send_too_big"] != 1 {
			t.Errorf("send_too_big = %d, want 1: %v", counters["send_too_big"], counters)
		}
		var refused uint64 // systems differ in the name of the second
		for name, n := range counters {
			if strings.HasPrefix(name, "send_") {
				refused += n
			}
		}
		if refused != 2 {
			t.Errorf("%d refusals counted, want 2: %v", refused, counters)
		}
	})
}

// TestConcurrentSend has goroutines send at once; no batch may lose or mix bytes.
func TestConcurrentSend(t *testing.T) {
	everywhere(t, func(t *testing.T, listen func(netip.Addr) Conn, loopback netip.Addr) {
		const senders, rounds, segments = 3, 10, 7
		a, b := listen(loopback), listen(loopback)
		var wg sync.WaitGroup
		for id := range senders {
			wg.Go(func() {
				for range rounds {
					run := Run{Bytes: bytes.Repeat([]byte{byte(id + 1)}, segments*100), SegmentSize: 100, Path: to(b, loopback)}
					if n, err := a.Send([]Run{run}); n != 1 || err != nil {
						t.Errorf("Send: %d, %v", n, err)
					}
				}
			})
		}
		counts := map[byte]int{}
		for _, got := range receive(t, b, senders*rounds*segments) {
			if !bytes.Equal(got.bytes, bytes.Repeat(got.bytes[:1], 100)) {
				t.Fatalf("a datagram of %d bytes has bytes of several senders", len(got.bytes))
			}
			counts[got.bytes[0]]++
		}
		wg.Wait()
		for id := range senders {
			if counts[byte(id+1)] != rounds*segments {
				t.Errorf("%d datagrams of sender %d, want %d", counts[byte(id+1)], id, rounds*segments)
			}
		}
	})
}

func TestPortInUse(t *testing.T) {
	taken, err := Listen(netip.AddrPortFrom(loopback4, 0), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = Listen(taken.LocalAddr(), Options{})
	if err == nil {
		t.Fatal("two sockets on one port")
	}
	for _, want := range []string{fmt.Sprint("port ", taken.LocalAddr().Port()), "127.0.0.1", "in use"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not mention %q", err, want)
		}
	}
	if _, err = Listen(netip.MustParseAddrPort("203.0.113.77:4500"), Options{}); err == nil || !strings.Contains(err.Error(), "no interface") {
		t.Errorf("an address that is not ours: %v", err)
	}
}

func TestPathMTU(t *testing.T) {
	requireAddr(t, loopback6)
	loopback, err := net.InterfaceByName(loopbackName(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{loopback4, loopback6} {
		for _, local := range []netip.Addr{{}, a} {
			// An IP packet has no more than 65535 bytes, whatever the interface says.
			if mtu, err := PathMTU(local, a); err != nil || min(mtu, 65535) != min(loopback.MTU, 65535) {
				t.Errorf("PathMTU(%v, %v) = %d, %v; the loopback interface has %d", local, a, mtu, err, loopback.MTU)
			}
		}
	}
	if _, err := PathMTU(netip.MustParseAddr("203.0.113.77"), loopback4); err == nil {
		t.Error("a path from an address that is not ours")
	}
}

func loopbackName(t *testing.T) string {
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 {
			return i.Name
		}
	}
	t.Skip("no loopback interface: bring one up")
	return ""
}
