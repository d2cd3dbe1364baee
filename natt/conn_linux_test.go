package natt

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"culvert/patience/patiencetest"
)

var batchImplementations = []implementation{{"batch", listen}}

func mustListenBatch(t testing.TB, a netip.Addr, o Options) *conn {
	t.Helper()
	return mustListen(t, batchImplementations[0], a, o).(*conn)
}

// shape is what one message of a sendmmsg was.
type shape struct{ bytes, segmentSize int }

// shapes reads messages as the kernel gets them.
func shapes(messages []mmsghdr) (out []shape) {
	for i := range messages {
		s := shape{bytes: int(messages[i].header.Iov.Len)}
		control := bytes.Clone(sliceOf(messages[i].header.Control, int(messages[i].header.Controllen)))
		for len(control) > 0 {
			h, data, rest, err := unix.ParseOneSocketControlMessage(control)
			if err != nil {
				panic(err)
			}
			if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_SEGMENT {
				s.segmentSize = int(data[0]) | int(data[1])<<8
			}
			control = rest
		}
		out = append(out, s)
	}
	return out
}

func TestRunsAreSplitAtTheKernelsLimits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		segments, n, size, last int
		want                    []shape
	}{
		{128, 47, 1456, 1456, []shape{{44 * 1456, 1456}, {3 * 1456, 1456}}},
		{128, 45, 1456, 1456, []shape{{44 * 1456, 1456}, {1456, 0}}},
		{128, 44, 1456, 7, []shape{{43*1456 + 7, 1456}}},
		{128, 129, 80, 80, []shape{{128 * 80, 80}, {80, 0}}},
		{64, 129, 80, 80, []shape{{64 * 80, 80}, {64 * 80, 80}, {80, 0}}},
		{128, 2, 32753, 32753, []shape{{65506, 32753}}},
		{128, 2, 32754, 32754, []shape{{32754, 0}, {32754, 0}}},
		{1, 3, 80, 10, []shape{{80, 0}, {80, 0}, {10, 0}}},
	} {
		conn := mustListenBatch(t, loopback4, Options{NATT: true})
		conn.sender.segments = c.segments
		var got []shape
		conn.sendmmsg = func(fd uintptr, m []mmsghdr) (int, syscall.Errno) {
			got = append(got, shapes(m)...)
			return len(m), 0
		}
		run := espRun(rng, c.n, c.size, c.last)
		run.Path = to(conn, loopback4)
		mustSend(t, conn, run)
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%d segments of %d, limit %d: sent as %v, want %v", c.n, c.size, c.segments, got, c.want)
		}
	}
}

// TestOldKernels: without UDP_GRO, UDP_SEGMENT or the right to big buffers a socket works, and says what it has.
func TestOldKernels(t *testing.T) {
	for _, c := range []struct {
		version string
		lacks   []int // socket options that the kernel does not know, or not for us
		offload string
	}{
		{"6.18.0", nil, "recvmmsg, sendmmsg, UDP_GRO, UDP_SEGMENT (128)"},
		{"5.15.0", nil, "recvmmsg, sendmmsg, UDP_GRO, UDP_SEGMENT (64)"},
		{"5.11.0", nil, "recvmmsg, sendmmsg, UDP_SEGMENT (64)"}, // UDP_GRO is there, but is not to be trusted
		{"4.18.0", []int{unix.UDP_GRO}, "recvmmsg, sendmmsg, UDP_SEGMENT (64)"},
		{"4.15.0", []int{unix.UDP_GRO, unix.UDP_SEGMENT, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE}, "recvmmsg, sendmmsg"},
	} {
		on, asked := machine(), map[int]int{}
		lacks := func(option int) error {
			if slices.Contains(c.lacks, option) {
				return unix.ENOPROTOOPT
			}
			return nil
		}
		on.version = parseVersion(c.version)
		on.setInt = func(fd, level, option, value int) error {
			asked[option] = value
			return cmp.Or(lacks(option), unix.SetsockoptInt(fd, level, option, value))
		}
		on.getInt = func(fd, level, option int) (int, error) {
			if err := lacks(option); err != nil {
				return 0, err
			}
			return unix.GetsockoptInt(fd, level, option)
		}
		conn, err := listenBatch(netip.AddrPortFrom(loopback4, 0), Options{NATT: true}, on)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if got := conn.Offload(); got != c.offload {
			t.Errorf("%s: Offload() = %q, want %q", c.version, got, c.offload)
		}
		plain := slices.Contains(c.lacks, unix.SO_RCVBUFFORCE)
		if asked[unix.SO_RCVBUFFORCE] != socketBuffer || plain && (asked[unix.SO_RCVBUF] != socketBuffer || asked[unix.SO_SNDBUF] != socketBuffer) {
			t.Errorf("%s: asked for buffers of %v", c.version, asked)
		}
		run := espRun(rand.New(rand.NewPCG(4, 4)), 100, 1200, 77)
		run.Path = to(conn, loopback4)
		mustSend(t, conn, run)
		expectRuns(t, conn, run)
	}
}

// failing returns a sendmmsg that behaves like the kernel, and meets every message with segments, or every message, with errno.
func failing(errno syscall.Errno, segmentedOnly bool, calls *int) func(uintptr, []mmsghdr) (int, syscall.Errno) {
	return func(fd uintptr, m []mmsghdr) (int, syscall.Errno) {
		*calls++
		n := 0
		for _, s := range shapes(m) {
			if s.segmentSize > 0 || !segmentedOnly {
				break
			}
			n++
		}
		if n == 0 {
			return -1, errno
		}
		return sendmmsg(fd, m[:n])
	}
}

func TestRefusedSegmentation(t *testing.T) {
	for _, c := range []struct {
		errno             syscall.Errno
		refused, disabled uint64
		segments          string
	}{
		{unix.EIO, 0, 1, ""}, // for good, so once
		{unix.EMSGSIZE, 2, 0, "UDP_SEGMENT"},
		{unix.EINVAL, 2, 0, "UDP_SEGMENT"},
	} {
		t.Run(c.errno.Error(), func(t *testing.T) {
			a, b := mustListenBatch(t, loopback4, Options{NATT: true}), mustListenBatch(t, loopback4, Options{NATT: true})
			calls := 0
			a.sendmmsg = failing(c.errno, true, &calls)
			rng := rand.New(rand.NewPCG(7, 7))
			first, single, second := espRun(rng, 70, 200, 100), espRun(rng, 1, 50, 50), espRun(rng, 5, 300, 300)
			first.Path, single.Path, second.Path = to(b, loopback4), to(b, loopback4), to(b, loopback4)
			mustSend(t, a, first, single, second)
			expectRuns(t, b, first, single, second)
			counters := a.Counters()
			if counters["segmentation_refused"] != c.refused || counters["segmentation_disabled"] != c.disabled {
				t.Errorf("counters %v; want %d refused, %d disabled", counters, c.refused, c.disabled)
			}
			if got := a.Offload(); strings.Contains(got, "UDP_SEGMENT") != (c.segments != "") {
				t.Errorf("Offload() = %q", got)
			}
		})
	}
}

func TestErrorsThatDropARun(t *testing.T) {
	for errno, name := range map[syscall.Errno]string{
		unix.ENETUNREACH: "send_unreachable", unix.EHOSTUNREACH: "send_unreachable", unix.EPERM: "send_denied",
		unix.EAGAIN: "send_would_block", unix.ENOBUFS: "send_no_buffer", unix.ECONNREFUSED: "send_error",
	} {
		c := mustListenBatch(t, loopback4, Options{NATT: true})
		calls := 0
		c.sendmmsg = failing(errno, false, &calls)
		run := espRun(rand.New(rand.NewPCG(9, 9)), 50, 1400, 1400) // two messages
		run.Path = to(c, loopback4)
		if n, err := c.Send([]Run{run, run}); n != 0 || err != nil {
			t.Errorf("%v: Send = %d, %v; want 0, nil", errno, n, err)
		}
		if got := c.Counters()[name]; got != 4 || calls != 4 {
			t.Errorf("%v: %s = %d after %d calls, want 4 and 4", errno, name, got, calls)
		}
	}
}

func TestReceiveErrors(t *testing.T) {
	c := mustListenBatch(t, loopback4, Options{})
	passing := []syscall.Errno{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENOBUFS}
	c.recvmmsg = func(fd uintptr, m []mmsghdr) (int, syscall.Errno) {
		if len(passing) == 0 {
			return recvmmsg(fd, m)
		}
		errno := passing[0]
		passing = passing[1:]
		return -1, errno
	}
	mustSend(t, c, Run{Bytes: []byte("after the errors"), Path: to(c, loopback4)})
	receive(t, c, 1)
	if got := c.Counters()["receive_error"]; got != 3 {
		t.Errorf("receive_error = %d, want 3", got)
	}

	flags := []int32{unix.MSG_TRUNC, unix.MSG_CTRUNC, 0}
	c.recvmmsg = func(fd uintptr, m []mmsghdr) (int, syscall.Errno) {
		n, errno := recvmmsg(fd, m[:1])
		if errno == 0 {
			m[0].header.Flags |= flags[0]
			flags = flags[1:]
		}
		return n, errno
	}
	for _, text := range []string{"cut", "cut", "whole"} {
		mustSend(t, c, Run{Bytes: []byte(text), Path: to(c, loopback4)})
	}
	if got := receive(t, c, 1)[0]; string(got.bytes) != "whole" || c.Counters()["receive_truncated"] != 2 {
		t.Errorf("received %q; counters %v", got.bytes, c.Counters())
	}

	c.recvmmsg = func(uintptr, []mmsghdr) (int, syscall.Errno) { return -1, unix.EBADF }
	if _, err := c.Receive(make([]Run, 1)); err != unix.EBADF {
		t.Errorf("a broken socket: %v", err)
	}
}

// TestOffloadCarriesARunWhole: on loopback the kernel neither cuts a run nor joins one, so that a run is one message on both ends.
func TestOffloadCarriesARunWhole(t *testing.T) {
	a, b := mustListenBatch(t, loopback4, Options{NATT: true}), mustListenBatch(t, loopback4, Options{NATT: true})
	if !b.gro || a.sender.segments == 1 {
		t.Skip("needs a kernel with UDP_GRO and UDP_SEGMENT: Linux 5.12 or later; this one has: " + a.Offload())
	}
	run := espRun(rand.New(rand.NewPCG(2, 2)), 44, 1456, 99)
	run.Path = to(b, loopback4)
	mustSend(t, a, run)
	runs := make([]Run, 4)
	n, err := b.Receive(runs)
	if err != nil || n != 1 {
		t.Fatalf("Receive: %d, %v", n, err)
	}
	if runs[0].SegmentSize != 1456 || !bytes.Equal(runs[0].Bytes, run.Bytes) {
		t.Errorf("a run of %d bytes in segments of %d, want %d in 1456", len(runs[0].Bytes), runs[0].SegmentSize, len(run.Bytes))
	}
}

// TestFragmentation has a network whose MTU is 1500 for itself: IKE passes in fragments, ESP is refused and never fragmented.
func TestFragmentation(t *testing.T) {
	inNamespace(t, func() {
		loopbackUp(t, 1500)
		for _, impl := range implementations {
			for _, loopback := range []netip.Addr{loopback4, loopback6} {
				testFragmentation(t, impl, loopback)
			}
		}
	})
}

func testFragmentation(t *testing.T, impl implementation, loopback netip.Addr) {
	a, b := mustListen(t, impl, loopback, Options{NATT: true}), mustListen(t, impl, wildcard, Options{NATT: true})
	path := to(b, loopback)
	ike := Run{Bytes: append(AppendMarker(nil), make([]byte, 3000)...), Path: path}
	esp := Run{Bytes: bytes.Repeat([]byte{9}, 1600), Path: path}
	fits := Run{Bytes: bytes.Repeat([]byte{9}, 1400), Path: path}
	long := Run{Bytes: bytes.Repeat([]byte{9}, 4800), SegmentSize: 1600, Path: path}
	probe := ike
	probe.Whole = true
	passes := Run{Bytes: ike.Bytes[:1400], Path: path, Whole: true}
	if n, err := a.Send([]Run{esp, ike, probe, long, fits, passes, ike, esp}); n != 4 || err != nil {
		t.Errorf("%s, %v: Send = %d, %v; want 4: two of IKE, the ESP and the probe that fit", impl.name, loopback, n, err)
	}
	expectRuns(t, b, ike, fits, Run{Bytes: passes.Bytes, Path: path}, ike)
	if got := a.Counters(); got["send_too_big"] != 6 {
		t.Errorf("%s, %v: counters %v; want 6 datagrams too big", impl.name, loopback, got)
	}
	onlyIKE := mustListen(t, impl, wildcard, Options{})
	ike.Bytes = StripMarker(ike.Bytes)
	mustSend(t, onlyIKE, ike)
	expectRuns(t, b, ike)
	if mtu, err := PathMTU(netip.Addr{}, loopback); mtu != 1500 || err != nil {
		t.Errorf("PathMTU = %d, %v", mtu, err)
	}
}

// TestBothFamiliesWithLoopbackDown: a fresh namespace has its loopback interface down, which must not cost the socket its IPv6.
func TestBothFamiliesWithLoopbackDown(t *testing.T) {
	requireAddr(t, loopback6)
	inNamespace(t, func() {
		c := mustListenBatch(t, wildcard, Options{NATT: true})
		if !c.six {
			t.Fatalf("a socket for IPv4 alone: %v", c.LocalAddr())
		}
		loopbackUp(t, 65536)
		for _, loopback := range []netip.Addr{loopback4, loopback6} {
			mustSend(t, c, Run{Bytes: []byte("to myself"), Path: to(c, loopback)})
			if got := receive(t, c, 1)[0]; got.path.Local.Addr() != loopback {
				t.Errorf("sent to %v, received at %v", loopback, got.path.Local)
			}
		}
	})
}

// inNamespace runs f in a network namespace of its own, on a thread that ends with it.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	skip := make(chan string, 1)
	done := make(chan struct{})
	go func() { // not unlocked, so that the thread, which is in the namespace, is thrown away
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			skip <- fmt.Sprintf("cannot make a network namespace (%v): run as root", err)
			return
		}
		f()
	}()
	<-done
	select {
	case why := <-skip:
		t.Skip(why)
	default:
	}
}

func loopbackUp(t *testing.T, mtu uint32) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	request, _ := unix.NewIfreq("lo")
	request.SetUint32(mtu)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFMTU, request); err != nil {
		t.Error(err)
	}
	request, _ = unix.NewIfreq("lo")
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		t.Error(err)
	}
}

// TestNobodyIsWokenInVain: the socket is watched for who sleeps at it, once each time,
// and by nobody who would be woken for all that comes and goes.
func TestNobodyIsWokenInVain(t *testing.T) {
	c := mustListenBatch(t, loopback4, Options{NATT: true})
	polls, err := patiencetest.Polls(c.fd)
	if err != nil || len(polls) != 1 || polls[0]&unix.EPOLLONESHOT == 0 || polls[0]&unix.EPOLLOUT != 0 {
		t.Errorf("watched for %#x, %v", polls, err)
	}
}

// TestReceiveCalls: of single datagrams one Receive takes what several calls bring, of
// much what one does, and of neither more than it was given room for.
func TestReceiveCalls(t *testing.T) {
	for _, test := range []struct {
		size, room int
		want       []int // what each Receive brings
		calls      int
	}{
		{100, bulkRuns, []int{70 - 6, 6}, 4 + 1},
		{100, 20, []int{20, 20, 20, 10}, 2 + 2 + 2 + 1},
		{5000, bulkRuns, []int{16, 16, 16, 16, 6}, 5},
	} {
		c := mustListenBatch(t, loopback4, Options{NATT: true})
		calls := 0
		c.recvmmsg = func(fd uintptr, m []mmsghdr) (int, syscall.Errno) {
			calls++
			return recvmmsg(fd, m)
		}
		for i := range 70 {
			datagram := make([]byte, test.size)
			datagram[0] = byte(i + 1)
			mustSend(t, c, Run{Bytes: datagram, Path: to(c, loopback4)})
		}
		next := byte(1)
		for _, want := range test.want {
			runs := make([]Run, test.room)
			n, err := c.Receive(runs)
			if n != want || err != nil {
				t.Fatalf("%d bytes, room for %d: %d, %v, want %d", test.size, test.room, n, err, want)
			}
			for _, r := range runs[:n] {
				if len(r.Bytes) != test.size || r.Bytes[0] != next {
					t.Fatalf("%d bytes, number %d; want %d, %d", len(r.Bytes), r.Bytes[0], test.size, next)
				}
				next++
			}
		}
		if calls != test.calls {
			t.Errorf("%d bytes, room for %d: %d calls, want %d", test.size, test.room, calls, test.calls)
		}
	}
}

// TestReceiveGoesOn behind errors that pass, and ends with the socket.
func TestReceiveGoesOn(t *testing.T) {
	c := mustListenBatch(t, loopback4, Options{NATT: true})
	runs := make([]Run, 4)
	errors := []syscall.Errno{unix.EINTR, unix.ECONNREFUSED}
	c.recvmmsg = func(fd uintptr, m []mmsghdr) (int, syscall.Errno) {
		if len(errors) == 0 {
			return recvmmsg(fd, m)
		}
		errno := errors[0]
		errors = errors[1:]
		return -1, errno
	}
	mustSend(t, c, Run{Bytes: []byte("there"), Path: to(c, loopback4)})
	if n, err := c.Receive(runs); n != 1 || err != nil || string(runs[0].Bytes) != "there" || len(errors) != 0 {
		t.Errorf("behind an error that passes: %d, %v, %q", n, err, runs[0].Bytes)
	}
	c.Close()
	if n, err := c.Receive(runs); n != 0 || err != net.ErrClosed {
		t.Errorf("after Close: %d, %v", n, err)
	}
	if err := c.Close(); err != net.ErrClosed {
		t.Errorf("Close once more: %v", err)
	}
}

func TestNoAllocation(t *testing.T) {
	for _, loopback := range []netip.Addr{loopback4, loopback6} {
		requireAddr(t, loopback)
		a, b := mustListenBatch(t, loopback, Options{NATT: true}), mustListenBatch(t, wildcard, Options{NATT: true})
		run := espRun(rand.New(rand.NewPCG(3, 3)), 47, 1456, 99)
		run.TOS, run.Path = 0xb8, to(b, loopback)
		run.Path.Local = a.LocalAddr()
		runs, in := []Run{run, run}, make([]Run, 16)
		allocs := testing.AllocsPerRun(100, func() {
			mustSend(t, a, runs...)
			for want := 2 * len(run.Bytes); want > 0; {
				n, err := b.Receive(in)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range in[:n] {
					want -= len(r.Bytes)
				}
			}
		})
		if allocs != 0 {
			t.Errorf("%v: %v allocations for two runs of 47 datagrams", loopback, allocs)
		}
	}
}

func TestVersion(t *testing.T) {
	for release, want := range map[string]int{
		"6.18.44-cloud": 128, "6.9.0": 128, "6.8.12": 64, "5.15.0-100-generic": 64, "10.0": 128, "7": 128, "": 64, "odd": 64, "99999999999999999999": 128,
	} {
		if got := parseVersion(release).maxSegments(); got != want {
			t.Errorf("%q: %d segments, want %d", release, got, want)
		}
	}
}

func TestParseControlTruncated(t *testing.T) {
	var buf controlBuffer
	used := appendSource(buf.bytes[:], 0, loopback6)
	data, used := appendControl(buf.bytes[:], used, unix.IPPROTO_UDP, unix.UDP_GRO, 4)
	data[0] = 100
	want := parseControl(buf.bytes[:used])
	if want.local != loopback6 || want.segmentSize != 100 {
		t.Fatalf("parsed %+v", want)
	}
	for n := range used - 4 { // the last 4 bytes are padding
		if parseControl(buf.bytes[:n]) == want {
			t.Errorf("%d of %d bytes gave all of it", n, used)
		}
	}
}

func sliceOf(p *byte, n int) []byte { return unsafe.Slice(p, n) }

// BenchmarkLoopback moves full ESP runs from one socket to another in one goroutine: the cost of both system calls and the kernel's path.
func BenchmarkLoopback(b *testing.B) {
	for _, c := range []struct{ runs, segments, size int }{{1, 44, 1456}, {2, 44, 1456}, {1, 1, 1456}, {16, 1, 120}, {1, 64, 120}} {
		b.Run(fmt.Sprintf("%dx%dx%d", c.runs, c.segments, c.size), func(b *testing.B) {
			from, into := mustListenBatch(b, loopback4, Options{NATT: true}), mustListenBatch(b, loopback4, Options{NATT: true})
			run := espRun(rand.New(rand.NewPCG(1, 1)), c.segments, c.size, c.size)
			run.Path = to(into, loopback4)
			out, in := make([]Run, c.runs), make([]Run, 16)
			for i := range out {
				out[i] = run
			}
			total := c.runs * len(run.Bytes)
			b.SetBytes(int64(total))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := from.Send(out); err != nil {
					b.Fatal(err)
				}
				for want := total; want > 0; {
					n, err := into.Receive(in)
					if err != nil {
						b.Fatal(err)
					}
					for _, r := range in[:n] {
						want -= len(r.Bytes)
					}
				}
			}
		})
	}
}
