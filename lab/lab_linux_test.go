package lab

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleVariable makes the test program, started again by a test, do something else
// than run tests; prefixVariable tells it the prefix of the one that started it.
const (
	roleVariable   = "LAB_TEST_ROLE"
	prefixVariable = "LAB_TEST_PREFIX"
)

// testPrefix is this process's own, since a neighbour may run the same tests.
var testPrefix = cmp.Or(os.Getenv(prefixVariable), fmt.Sprintf("labtest-%d-", os.Getpid()))

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(roles[role]())
	}
	os.Exit(m.Run())
}

// asRole prepares to start this program in a role.
func asRole(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role, prefixVariable+"="+testPrefix)
	return cmd
}

func needDirect(t *testing.T) {
	t.Helper()
	if r := CheckRights(); r.Kind != Direct {
		t.Skipf("needs root: %s", r.Reason)
	}
}

func situation(t *testing.T) *SiteToSite {
	t.Helper()
	needDirect(t)
	s, err := Situation(testPrefix, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// quick is a ping that takes a few milliseconds when nothing is lost.
func quick(count int) PingOptions { return PingOptions{Count: count, Interval: 5 * time.Millisecond} }

func TestSituationReaches(t *testing.T) {
	s := situation(t)
	for _, c := range []struct {
		from    *Host
		dst     string
		reached bool
	}{
		{s.HostA, "10.103.0.1", true},
		{s.HostB, "10.104.0.1", true},
		{s.GatewayB, "203.0.113.1", true},
		{s.GatewayA, "192.0.2.10", true},
		{s.HostA, "10.104.0.10", false}, // what the tunnel is for
		{s.HostB, "10.103.0.10", false},
		{s.GatewayA, "10.104.0.1", false},
		{s.HostA, "203.0.113.254", false}, // the NAT hides no LAN but gwb
	} {
		stats, err := c.from.Ping(t.Context(), netip.MustParseAddr(c.dst), PingOptions{Count: 3, Interval: 5 * time.Millisecond, Timeout: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		if c.reached {
			want = 3
		}
		if stats.Sent != 3 || stats.Received != want {
			t.Errorf("%s pings %s: %+v, want %d of 3 answered", c.from.Name, c.dst, stats, want)
		}
		if c.reached && !(0 < stats.Min && stats.Min <= stats.Avg && stats.Avg <= stats.Max) {
			t.Errorf("%s pings %s: times %+v are out of order", c.from.Name, c.dst, stats)
		}
	}
}

// udp opens a socket on a host.
func udp(t *testing.T, h *Host, address string) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

// passes sends a datagram and returns the source that the receiver sees.
func passes(t *testing.T, from *net.UDPConn, dst string, to *net.UDPConn) netip.AddrPort {
	t.Helper()
	if _, err := from.WriteToUDPAddrPort([]byte(dst), netip.MustParseAddrPort(dst)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, src, err := to.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatalf("datagram to %s: %v", dst, err)
	}
	if string(buf[:n]) != dst {
		t.Fatalf("datagram to %s arrived as %q", dst, buf[:n])
	}
	return netip.AddrPortFrom(src.Addr().Unmap(), src.Port())
}

func TestNAT1to1TranslatesBothWays(t *testing.T) {
	s := situation(t)
	a, b := udp(t, s.GatewayA, "203.0.113.1:4500"), udp(t, s.GatewayB, "172.16.0.1:4500")
	// Unsolicited first: a 1:1 NAT lets A begin.
	if src := passes(t, a, "192.0.2.10:4500", b); src.String() != "203.0.113.1:4500" {
		t.Errorf("B sees A as %s", src)
	}
	other := udp(t, s.GatewayB, "172.16.0.1:500")
	if src := passes(t, other, "203.0.113.1:4500", a); src.String() != "192.0.2.10:500" {
		t.Errorf("A sees B as %s", src)
	}
}

func TestMasquerade(t *testing.T) {
	for name, ports := range map[string]PortMapping{"keeps port": KeepPort, "random port": RandomPort} {
		t.Run(name, func(t *testing.T) {
			l, inside, outside := masquerading(t, ports)
			server := udp(t, outside, "198.51.100.1:4500")
			var seen []uint16
			for port := 10000; port < 10008; port++ {
				client := udp(t, inside, fmt.Sprintf("192.168.0.2:%d", port))
				src := passes(t, client, "198.51.100.1:4500", server)
				if src.Addr().String() != "198.51.100.254" {
					t.Fatalf("seen as %s", src)
				}
				if src.Port() == uint16(port) {
					seen = append(seen, src.Port())
				}
			}
			if kept := len(seen); (ports == KeepPort) != (kept == 8) {
				t.Errorf("%d of 8 ports kept", kept)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func masquerading(t *testing.T, ports PortMapping) (l *Lab, inside, outside *Host) {
	t.Helper()
	needDirect(t)
	l = must[*Lab](t)(New(testPrefix))
	t.Cleanup(func() { l.Close() })
	inside, router, outside := must[*Host](t)(l.Host("inside")), must[*Host](t)(l.Host("router")), must[*Host](t)(l.Host("outside"))
	for _, err := range []error{
		l.Link(End{inside, "eth0", netip.MustParsePrefix("192.168.0.2/24")}, End{router, "lan", netip.MustParsePrefix("192.168.0.1/24")}, 0),
		l.Link(End{router, "wan", netip.MustParsePrefix("198.51.100.254/24")}, End{outside, "eth0", netip.MustParsePrefix("198.51.100.1/24")}, 0),
		inside.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.168.0.1")),
		router.Masquerade("wan", ports),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return l, inside, outside
}

func TestForgetNATMakesNewMappings(t *testing.T) {
	l, inside, outside := masquerading(t, RandomPort)
	router := must[*Host](t)(l.Host("router"))
	server, client := udp(t, outside, "198.51.100.1:4500"), udp(t, inside, "192.168.0.2:4500")
	before := passes(t, client, "198.51.100.1:4500", server)
	if again := passes(t, client, "198.51.100.1:4500", server); again != before {
		t.Fatalf("mapping moved by itself from %s to %s", before, again)
	}
	for range 10 { // a new random port may be the old one
		if err := router.ForgetNAT(); err != nil {
			t.Fatal(err)
		}
		if passes(t, client, "198.51.100.1:4500", server) != before {
			return
		}
	}
	t.Errorf("mapping %s survives ten restarts of the NAT", before)
}

func TestDropUDP(t *testing.T) {
	s := situation(t)
	if err := s.NAT.DropUDP(4500); err != nil {
		t.Fatal(err)
	}
	a500, a4500 := udp(t, s.GatewayA, "203.0.113.1:500"), udp(t, s.GatewayA, "203.0.113.1:4500")
	b := udp(t, s.GatewayB, "172.16.0.1:500")
	if _, err := b.WriteToUDPAddrPort([]byte("lost"), netip.MustParseAddrPort("203.0.113.1:4500")); err != nil {
		t.Fatal(err)
	}
	passes(t, b, "203.0.113.1:500", a500)                        // sent later on the same way, so the other is not coming
	a4500.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // what is there is read at once
	if n, err := a4500.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("dropped datagram arrives: %d bytes, %v", n, err)
	}
}

func TestIPv6(t *testing.T) {
	needDirect(t)
	l := must[*Lab](t)(New(testPrefix))
	defer l.Close()
	a, r, b := must[*Host](t)(l.Host("a")), must[*Host](t)(l.Host("r")), must[*Host](t)(l.Host("b"))
	everything := netip.MustParsePrefix("::/0")
	for _, err := range []error{
		l.Link(End{a, "eth0", netip.MustParsePrefix("2001:db8:1::2/64")}, End{r, "a", netip.MustParsePrefix("2001:db8:1::1/64")}, 0),
		l.Link(End{r, "b", netip.MustParsePrefix("2001:db8:2::1/64")}, End{b, "eth0", netip.MustParsePrefix("2001:db8:2::2/64")}, 1280),
		a.Route(everything, netip.MustParseAddr("2001:db8:1::1")),
		b.Route(everything, netip.MustParseAddr("2001:db8:2::1")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	dst := netip.MustParseAddr("2001:db8:2::2")
	if s, err := a.Ping(t.Context(), dst, quick(3)); err != nil || s.Received != 3 {
		t.Errorf("ping: %+v, %v", s, err)
	}
	if err := r.NAT1to1(netip.MustParseAddr("2001:db8:99::1"), dst); err != nil {
		t.Fatal(err)
	}
	if s, err := a.Ping(t.Context(), netip.MustParseAddr("2001:db8:99::1"), quick(3)); err != nil || s.Received != 3 {
		t.Errorf("ping through NAT: %+v, %v", s, err)
	}
	if err := r.DropForward(netip.MustParsePrefix("2001:db8:2::/64")); err != nil {
		t.Fatal(err)
	}
	if s, err := a.Ping(t.Context(), dst, PingOptions{Timeout: 100 * time.Millisecond}); err != nil || s.Received != 0 {
		t.Errorf("ping of a dropped prefix: %+v, %v", s, err)
	}
}

func TestPingLearnsPathMTU(t *testing.T) {
	s := situation(t)
	for h, iface := range map[*Host]string{s.NAT: "in", s.GatewayB: "wan"} {
		if err := h.SetMTU(iface, 1400); err != nil {
			t.Fatal(err)
		}
	}
	o := PingOptions{Count: 4, Interval: 20 * time.Millisecond, Timeout: 200 * time.Millisecond, DF: true, Size: 1400 - 28}
	if fits := must[PingStats](t)(s.GatewayA.Ping(t.Context(), GatewayBSeen, o)); fits.Received != 4 {
		t.Errorf("1400 bytes over a path of 1400: %+v", fits)
	}
	o.Size++
	over := must[PingStats](t)(s.GatewayA.Ping(t.Context(), GatewayBSeen, o))
	if over.Received != 0 || over.TooBig == 0 || over.TooBig == 4 {
		t.Errorf("1401 bytes over a path of 1400: %+v, want the first lost and a later one refused", over)
	}
	o.DF = false
	if cut := must[PingStats](t)(s.GatewayA.Ping(t.Context(), GatewayBSeen, o)); cut.Received != 4 {
		t.Errorf("1401 bytes in fragments: %+v", cut)
	}
}

func TestPingFails(t *testing.T) {
	s := situation(t)
	nowhere := must[*Host](t)(s.Host("nowhere"))
	if stats, err := nowhere.Ping(t.Context(), GatewayAAddr, quick(3)); err == nil {
		t.Errorf("ping without a route: %+v and no error", stats)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	stats, err := s.HostA.Ping(ctx, HostBAddr, PingOptions{Count: 1 << 20, Interval: time.Millisecond})
	if !errors.Is(err, context.Canceled) || stats.Sent == 0 || stats.Sent == 1<<20 {
		t.Errorf("cancelled ping: %+v, %v", stats, err)
	}
}

func TestTCP(t *testing.T) {
	s := situation(t)
	var told Throughput
	o := TCPOptions{Duration: 500 * time.Millisecond, Interval: 100 * time.Millisecond, Streams: 3, Packet: 576, Progress: func(i Throughput) {
		told.Bytes += i.Bytes
		told.Duration += i.Duration
	}}
	got, err := TCP(t.Context(), s.GatewayB, s.GatewayA, GatewayAAddr, o)
	if err != nil {
		t.Fatal(err)
	}
	if got.Duration < o.Duration || got.Bytes < 1<<20 || got.BitsPerSecond() <= 0 {
		t.Errorf("moved %+v", got)
	}
	if told.Bytes == 0 || told.Bytes > got.Bytes || told.Duration > got.Duration {
		t.Errorf("intervals add up to %+v of %+v", told, got)
	}
}

func TestTCPFails(t *testing.T) {
	s := situation(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err := TCP(ctx, s.HostB, s.HostA, HostAAddr, TCPOptions{}); err == nil {
		t.Errorf("TCP without a path moved %+v", got)
	}
	ctx, cancel = context.WithCancel(t.Context())
	stop := TCPOptions{Duration: time.Hour, Interval: time.Millisecond, Progress: func(Throughput) { cancel() }}
	if got, err := TCP(ctx, s.GatewayB, s.GatewayA, GatewayAAddr, stop); !errors.Is(err, context.Canceled) || got.Duration == 0 {
		t.Errorf("cancelled TCP: %+v, %v", got, err)
	}
}

func TestTwoLabsSideBySide(t *testing.T) {
	one, two := situation(t), situation(t)
	if one.GatewayA.Namespace() == two.GatewayA.Namespace() {
		t.Fatal("two labs share a name")
	}
	a, b := udp(t, one.GatewayA, "203.0.113.1:4500"), udp(t, one.GatewayB, "172.16.0.1:4500")
	udp(t, two.GatewayA, "203.0.113.1:4500") // the same address and port, in the other lab
	passes(t, b, "203.0.113.1:4500", a)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := two.GatewayB.Ping(t.Context(), GatewayAAddr, quick(3)); err != nil || s.Received != 3 {
		t.Errorf("after the neighbour closed: %+v, %v", s, err)
	}
}

// inode identifies the host's namespace.
func inode(t *testing.T, h *Host) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := h.Do(func() error { return syscall.Stat("/proc/thread-self/ns/net", &st) }); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// inhabitants counts the threads of this machine that are in one of the namespaces.
func inhabitants(t *testing.T, namespaces []uint64) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		var st syscall.Stat_t
		if syscall.Stat(link, &st) == nil && slices.Contains(namespaces, st.Ino) {
			n++
		}
	}
	return n
}

// eventually polls for something that the kernel does in its own time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	s := situation(t)
	var namespaces []uint64
	var names []string
	for _, h := range []*Host{s.HostA, s.GatewayA, s.NAT, s.GatewayB, s.HostB} {
		namespaces = append(namespaces, inode(t, h))
		names = append(names, h.Namespace())
	}
	deaf := s.HostA.Command(t.Context(), "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 100; done")
	var out synced
	deaf.Stdout = &out
	if err := deaf.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program runs", func() bool { return out.String() == "ready\n" })
	if _, err := s.NAT.Capture("out", &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if inhabitants(t, namespaces) == 0 {
		t.Fatal("nobody to find: the test cannot fail")
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "threads and processes are gone", func() bool { return inhabitants(t, namespaces) == 0 })
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(namespaceDir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	if mounts := string(must[[]byte](t)(os.ReadFile("/proc/self/mountinfo"))); strings.Contains(mounts, s.Lab.name) {
		t.Error("a mount is left")
	}
	if _, err := s.Host("late"); !errors.Is(err, errClosed) {
		t.Errorf("a host after Close: %v", err)
	}
	if err := s.HostA.Do(func() error { return nil }); !errors.Is(err, errClosed) {
		t.Errorf("Do after Close: %v", err)
	}
	if err := s.HostA.Command(t.Context(), "true").Run(); !errors.Is(err, errClosed) {
		t.Errorf("a program after Close: %v", err)
	}
}

func TestCloseRemovesLinksOfAnOccupiedHost(t *testing.T) {
	s := situation(t)
	release, left := make(chan struct{}), make(chan []net.Interface)
	inside := make(chan struct{})
	go s.HostA.Do(func() error { // as a shell that a user forgot
		close(inside)
		<-release
		nics, err := net.Interfaces()
		left <- nics
		return err
	})
	<-inside
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	close(release)
	if nics := <-left; len(nics) != 1 || nics[0].Name != "lo" {
		t.Errorf("left: %v", nics)
	}
}

func TestLinkReportsItsEnds(t *testing.T) {
	s := situation(t)
	err := s.Link(End{s.HostA, "eth0", LANA}, End{s.HostB, "eth1", LANB}, 0)
	if err == nil || !strings.Contains(err.Error(), "hosta") {
		t.Errorf("a second eth0: %v", err)
	}
}

func TestDoLeavesThreadsClean(t *testing.T) {
	s := situation(t)
	here := must[string](t)(os.Readlink("/proc/self/ns/net"))
	for range 50 {
		if err := s.HostA.Do(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all threads are back", func() bool {
		return inhabitants(t, []uint64{inode(t, s.HostA)}) == 0
	})
	if now := must[string](t)(os.Readlink("/proc/self/ns/net")); now != here {
		t.Errorf("the main thread is in %s, was in %s", now, here)
	}
	if err := s.HostA.Do(func() error { return s.HostB.Do(func() error { return os.ErrInvalid }) }); err != os.ErrInvalid {
		t.Errorf("nested: %v", err)
	}
}

func TestWithoutBindMounts(t *testing.T) {
	needDirect(t)
	saved := namespaceDir
	namespaceDir = "/proc/nowhere"
	defer func() { namespaceDir = saved }()
	s := situation(t)
	if stats, err := s.GatewayB.Ping(t.Context(), GatewayAAddr, quick(3)); err != nil || stats.Received != 3 {
		t.Errorf("ping: %+v, %v", stats, err)
	}
	if enter := s.HostA.Enter(); !strings.HasPrefix(enter, "nsenter --net=/proc/"+strconv.Itoa(os.Getpid())+"/fd/") {
		t.Errorf("enter by %q", enter)
	}
	enters(t, s.HostA)
}

func TestEnter(t *testing.T) {
	s := situation(t)
	if enter := s.HostA.Enter(); enter != "ip netns exec "+s.HostA.Namespace()+" sh" {
		t.Errorf("enter by %q", enter)
	}
	enters(t, s.HostA)
}

// enters runs what Enter says, where its program is installed.
func enters(t *testing.T, h *Host) {
	t.Helper()
	args := strings.Fields(h.Enter())
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Logf("not tried: %v (apt-get install iproute2 util-linux)", err)
		return
	}
	cmd := exec.Command(args[0], append(args[1:], "-c", "stat -Lc %i /proc/self/ns/net")...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", h.Enter(), err)
	}
	if got := strings.TrimSpace(string(out)); got != strconv.FormatUint(inode(t, h), 10) {
		t.Errorf("%s leads to namespace %s, want %d", h.Enter(), got, inode(t, h))
	}
}

func TestSweepTakesOnlyTheDead(t *testing.T) {
	needDirect(t)
	alive := situation(t)
	out, err := asRole("crash").Output()
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(out))
	if len(fields) < 2 {
		t.Fatalf("the crashing lab says %q", out)
	}
	name, pid := fields[0], must[int](t)(strconv.Atoi(fields[1]))
	eventually(t, "its program dies with it", gone(pid))
	if !slices.Contains(namespacesNamed(t, testPrefix), name) {
		t.Fatalf("%s is not left behind: the test cannot fail", name)
	}
	if removed, err := Sweep("other" + testPrefix); err != nil || len(removed) != 0 {
		t.Errorf("another prefix sweeps %v, %v", removed, err)
	}
	removed, err := Sweep(testPrefix)
	if err != nil || !slices.Contains(removed, name) {
		t.Errorf("swept %v, %v; want %s", removed, err, name)
	}
	for _, dir := range fields[2:] {
		if _, err := os.Lstat(dir); !os.IsNotExist(err) || !slices.Contains(removed, filepath.Base(dir)) {
			t.Errorf("%s is left: %v; swept %v", dir, err, removed)
		}
	}
	left := namespacesNamed(t, testPrefix)
	if slices.Contains(left, name) || !slices.Contains(left, alive.HostA.Namespace()) {
		t.Errorf("left: %v", left)
	}
	if s, err := alive.GatewayB.Ping(t.Context(), GatewayAAddr, quick(1)); err != nil || s.Received != 1 {
		t.Errorf("the neighbour after a sweep: %+v, %v", s, err)
	}
}

func namespacesNamed(t *testing.T, prefix string) (names []string) {
	t.Helper()
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(namespaceDir)) {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names
}
