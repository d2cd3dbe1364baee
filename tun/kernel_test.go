//go:build linux

package tun_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/tun"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace of the test's own.
type namespace struct {
	t      testing.TB
	handle netns.NsHandle
}

func newNamespace(t testing.TB) namespace {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a network namespace and a TUN device in it")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("needs /dev/net/tun: modprobe tun, or give the container --device /dev/net/tun")
	}
	n := namespace{t: t}
	var err error
	onThread(func() {
		n.handle, err = netns.New()
		if lo, e := netlink.LinkByName("lo"); err == nil && e == nil {
			netlink.LinkSetUp(lo)
		}
	})
	if err != nil {
		t.Skipf("needs the right to make a network namespace (CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() { n.handle.Close() })
	return n
}

// onThread runs f on a thread that is thrown away afterwards.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		f()
	}()
	<-done
}

// do runs f inside the namespace; its error ends the test.
func (n namespace) do(f func() error) {
	n.t.Helper()
	var err error
	onThread(func() {
		if err = netns.Set(n.handle); err == nil {
			err = f()
		}
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// open makes a device that is up, with addresses host 1 of network 103 or 104.
func (n namespace) open(network int) tun.Device {
	n.t.Helper()
	var dev tun.Device
	n.do(func() (err error) {
		if dev, err = tun.Open("culvert0", 1400); err != nil {
			return err
		}
		return setUp(dev.Name(), network)
	})
	n.t.Cleanup(func() { dev.Close() })
	return dev
}

func setUp(name string, network int) error {
	if err := tun.SetUp(name, 1400); err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range []string{fmt.Sprintf("10.%d.0.1/24", network), fmt.Sprintf("fd00:%d::1/64", network)} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			return err
		}
	}
	other := 207 - network
	return errors.Join(
		tun.AddRoute(name, netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", other)), tun.RouteOptions{}),
		tun.AddRoute(name, netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", other)), tun.RouteOptions{}))
}

// traffic counts what a carrier saw.
type traffic struct {
	reads, runs, packets int
	writes               uint64
}

// carry takes what one device gives apart into packets, as they would cross a
// tunnel, and gives them to the other. It ends when from is closed.
func carry(t testing.TB, from, to tun.Device) (n traffic) {
	slab := make([]byte, tun.SlabLen)
	arena := make([]byte, 0, 1<<20)
	c := tun.NewCoalescer(to)
	var p tun.Splitter
	for read := from.Read; ; {
		s, err := read(slab)
		switch {
		case errors.Is(err, os.ErrClosed):
			n.writes = c.Writes()
			return n
		case err == nil:
			err = p.Load(&s)
		}
		if err != nil && !errors.Is(err, tun.ErrWouldBlock) {
			t.Errorf("read: %v", err)
		}
		if err == nil {
			n.reads++
			if p.Count() > 1 {
				n.runs++
			}
			for i := range p.Count() {
				at := len(arena)
				arena = arena[:at+p.HeadLen()]
				p.Head(i, arena[at:])
				arena = append(arena, p.Body(i)...)
				c.Add(arena[at:len(arena):len(arena)])
				n.packets++
			}
		}
		read = from.TryRead
		if err != nil || cap(arena)-len(arena) < tun.SlabLen+128*120 {
			if lost, err := c.Flush(); lost > 0 && !errors.Is(err, os.ErrClosed) {
				t.Errorf("%d packets lost in writes: %v", lost, err)
			}
			arena = arena[:0]
		}
		if errors.Is(err, tun.ErrWouldBlock) {
			read = from.Read
		}
	}
}

// join connects two devices until both are closed; the result is what crossed
// from a to b and back.
func join(t testing.TB, a, b tun.Device) (wait func() (traffic, traffic)) {
	var ab, ba traffic
	var wg sync.WaitGroup
	wg.Go(func() { ab = carry(t, a, b) })
	wg.Go(func() { ba = carry(t, b, a) })
	return func() (traffic, traffic) {
		a.Close()
		b.Close()
		wg.Wait()
		return ab, ba
	}
}

// TestKernelTCP sends TCP from one kernel to another, in runs on both sides.
func TestKernelTCP(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	devA, devB := a.open(103), b.open(104)
	if !devA.Offload().TCP {
		t.Error("no TCP offload on a TUN device")
	}
	wait := join(t, devA, devB)
	sent := make([]byte, 16<<20)
	rand.Read(sent)
	for _, host := range []string{"10.104.0.1", "fd00:104::1"} {
		var l net.Listener
		b.do(func() (err error) { l, err = net.Listen("tcp", net.JoinHostPort(host, "80")); return err })
		got := make(chan []byte, 1)
		go func() {
			defer close(got)
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Minute))
			received, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			got <- received
		}()
		var c net.Conn
		a.do(func() (err error) { c, err = net.DialTimeout("tcp", l.Addr().String(), time.Minute); return err })
		c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if received := <-got; !bytes.Equal(received, sent) {
			t.Errorf("%s: %d bytes arrived, want %d, or they differ", host, len(received), len(sent))
		}
		l.Close()
	}
	ab, ba := wait()
	if ab.runs == 0 || ab.packets < 4*ab.reads || uint64(ab.packets) < 4*ab.writes {
		t.Errorf("forth %+v, back %+v: want many packets a read and a write", ab, ba)
	}
	t.Logf("forth %+v, back %+v", ab, ba)
}

var hello = []byte("hello")

// untilHeard sends datagrams until the other side gets one: an IPv6 address is
// of use a little later than it is there, when the kernel's worker has been at it.
func untilHeard(t *testing.T, from, to net.Conn) {
	t.Helper()
	buf := make([]byte, 100)
	for range 200 {
		if _, err := from.Write(hello); err != nil {
			t.Fatal(err)
		}
		to.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := to.Read(buf); err == nil {
			return
		}
	}
	t.Fatalf("nothing from %s arrives at %s", from.LocalAddr(), to.LocalAddr())
}

// TestKernelUDP sends a run of datagrams, and small ones, with the kernel's segmentation.
func TestKernelUDP(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	devA, devB := a.open(103), b.open(104)
	wait := join(t, devA, devB)
	for _, host := range []string{"10.104.0.1", "fd00:104::1"} {
		var l, c net.Conn
		b.do(func() error {
			pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(net.JoinHostPort(host, "53"))))
			l = pc
			return err
		})
		defer l.Close()
		a.do(func() (err error) { c, err = net.Dial("udp", l.LocalAddr().String()); return err })
		defer c.Close()
		untilHeard(t, c, l)
		sizes := []int{0, 1, 333, 1300}
		for _, n := range sizes {
			if _, err := c.Write(make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1200) })
		if err != nil {
			t.Logf("no UDP_SEGMENT on this kernel: %v", err)
		} else if _, err := c.Write(make([]byte, 20*1200+7)); err != nil {
			t.Fatal(err)
		} else {
			for range 20 {
				sizes = append(sizes, 1200)
			}
			sizes = append(sizes, 7)
		}
		buf := make([]byte, 2000)
		l.SetDeadline(time.Now().Add(time.Minute))
		for i, want := range sizes {
			n, err := l.Read(buf)
			for err == nil && bytes.Equal(buf[:n], hello) { // a late one
				n, err = l.Read(buf)
			}
			if err != nil || n != want {
				t.Fatalf("%s, datagram %d: %d bytes, %v, want %d", host, i, n, err, want)
			}
		}
	}
	ab, ba := wait()
	if devA.Offload().UDP && (ab.runs == 0 || ab.writes >= uint64(ab.packets)) {
		t.Errorf("forth %+v, back %+v: want runs", ab, ba)
	}
	t.Logf("offload %v, forth %+v, back %+v", devA.Offload(), ab, ba)
}

// TestKernelTakesSmallPacketRuns: the longest runs that a Coalescer makes of
// small UDP packets are within what the kernel takes.
func TestKernelTakesSmallPacketRuns(t *testing.T) {
	dev := newNamespace(t).open(103)
	if !dev.Offload().UDP {
		t.Skip("needs a kernel with UDP runs at TUN devices: Linux 6.2 or later")
	}
	const count, size = 500, 64
	run := make([]byte, 20+8+count*size)
	copy(run, []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 104, 0, 1, 10, 103, 0, 1, 0x13, 0x88, 0x13, 0x89})
	binary.BigEndian.PutUint16(run[2:], uint16(len(run)))
	var sp tun.Splitter
	if err := sp.Load(&tun.Super{Packet: run, SegmentSize: size}); err != nil {
		t.Fatal(err)
	}
	c := tun.NewCoalescer(dev)
	for i := range sp.Count() {
		packet := make([]byte, sp.HeadLen())
		sp.Head(i, packet)
		c.Add(append(packet, sp.Body(i)...))
	}
	if lost, err := c.Flush(); sp.Count() != count || lost != 0 || err != nil || c.Refused() != 0 || c.Writes() > count/50 {
		t.Errorf("%d packets: %d lost, %v, in %d writes", sp.Count(), lost, err, c.Writes())
	}
}

// TestWithoutVirtioHeader: a TUN file made elsewhere, one packet at a time.
func TestWithoutVirtioHeader(t *testing.T) {
	n := newNamespace(t)
	var dev tun.Device
	n.do(func() (err error) {
		f, err := plainTUN("culvert1", unix.IFF_TUN)
		if err != nil {
			return err
		}
		if dev, err = tun.FromFile(f, 1400); err != nil {
			return err
		}
		return setUp(dev.Name(), 103)
	})
	if dev.Name() != "culvert1" || dev.MTU() != 1400 || dev.Offload() != (tun.Offload{}) {
		t.Errorf("%s, MTU %d, offload %v", dev.Name(), dev.MTU(), dev.Offload())
	}
	b := newNamespace(t)
	wait := join(t, dev, b.open(104)) // runs on one side alone
	defer wait()
	var l, c net.Conn
	b.do(func() error {
		pc, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 53})
		l = pc
		return err
	})
	defer l.Close()
	n.do(func() (err error) { c, err = net.Dial("udp4", "10.104.0.1:53"); return err })
	defer c.Close()
	c.Write([]byte("plain"))
	l.SetDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 100)
	if got, err := l.Read(buf); err != nil || string(buf[:got]) != "plain" {
		t.Errorf("%q, %v", buf[:got], err)
	}
	if err := dev.Write(tun.Super{Packet: make([]byte, 60), SegmentSize: 10, ChecksumStart: 20, ChecksumOffset: 16}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a run was taken: %v", err)
	}
	n.do(func() error {
		f, err := plainTUN("culvert2", unix.IFF_TAP)
		if err != nil {
			return err
		}
		if _, err := tun.FromFile(f, 1400); err == nil || !strings.Contains(err.Error(), "not a TUN device") {
			t.Errorf("a TAP device: %v", err)
		}
		return nil
	})
}

func plainTUN(name string, kind uint16) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	ifr.SetUint16(kind | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// next waits for the wanted event.
func next(t *testing.T, dev tun.Device, want tun.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		select {
		case e, ok := <-dev.Events():
			if !ok {
				t.Fatalf("events ended before %v", want)
			}
			if e == want {
				return
			}
		case <-ctx.Done():
			t.Fatalf("no event %v", want)
		}
	}
}

func TestKernelDevice(t *testing.T) {
	n := newNamespace(t)
	dev := n.open(103)
	next(t, dev, tun.EventUp)
	n.do(func() error {
		link, err := netlink.LinkByName("culvert0")
		if err != nil {
			return err
		}
		if q := link.Attrs().TxQLen; q != 5000 {
			t.Errorf("queue of %d packets", q)
		}
		if _, err := tun.Open("culvert0", 1400); err == nil || !strings.Contains(err.Error(), "another process") {
			t.Errorf("the same name again: %v", err)
		}
		return netlink.LinkSetMTU(link, 1300)
	})
	next(t, dev, tun.EventMTU)
	if dev.MTU() != 1300 {
		t.Errorf("MTU %d", dev.MTU())
	}
	if _, err := dev.Read(make([]byte, 100)); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("a short slab: %v", err)
	}
	slab := make([]byte, tun.SlabLen)
	packet := make([]byte, 60)
	packet[0], packet[3] = 0x45, 60
	allocs := testing.AllocsPerRun(200, func() {
		if _, err := dev.TryRead(slab); err != nil && !errors.Is(err, tun.ErrWouldBlock) {
			t.Error(err)
		}
		if err := dev.Write(tun.Super{Packet: packet}); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a packet", allocs)
	}

	failed := make(chan error)
	go func() {
		for {
			if _, err := dev.Read(slab); err != nil {
				failed <- err
				return
			}
		}
	}()
	dev.Close()
	if err := <-failed; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the reader got %v", err)
	}
	if err := dev.Write(tun.Super{Packet: packet}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	for range dev.Events() { // ends
	}
}

// TestKernelDeviceRemoved: somebody else deletes the interface.
func TestKernelDeviceRemoved(t *testing.T) {
	n := newNamespace(t)
	dev := n.open(103)
	n.do(func() error {
		link, err := netlink.LinkByName("culvert0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	slab := make([]byte, tun.SlabLen)
	var err error
	for err == nil {
		_, err = dev.Read(slab)
	}
	if !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestKernelRoutes(t *testing.T) {
	n := newNamespace(t)
	n.open(103)
	n.do(func() error {
		far, far6 := netip.MustParsePrefix("10.105.0.0/16"), netip.MustParsePrefix("fd00:105::/32")
		host, ok := tun.HostAddr(netip.MustParsePrefix("10.103.0.0/24"))
		if !ok || host.String() != "10.103.0.1" {
			t.Errorf("address inside the local prefix: %v, %v", host, ok)
		}
		if err := tun.AddRoute("culvert0", far, tun.RouteOptions{Source: host, MTU: 1380, AdvMSS: 1340}); err != nil {
			return err
		}
		if err := tun.AddRoute("culvert0", far6, tun.RouteOptions{}); err != nil {
			return err
		}
		routes, err := netlink.RouteGet(net.IPv4(10, 105, 7, 7))
		if err != nil || len(routes) != 1 || routes[0].Src.String() != "10.103.0.1" {
			t.Errorf("route %v, %v", routes, err)
		}
		for _, p := range []netip.Prefix{far, far6} {
			err := tun.AddRoute("culvert0", p, tun.RouteOptions{})
			if !errors.Is(err, tun.ErrRouteExists) || !strings.Contains(err.Error(), "over culvert0") {
				t.Errorf("route to %s again: %v", p, err)
			}
			for range 2 {
				if err := tun.DelRoute("culvert0", p); err != nil {
					t.Errorf("remove route to %s: %v", p, err)
				}
			}
		}
		for name, err := range map[string]error{
			"no device":     tun.AddRoute("culvert9", far, tun.RouteOptions{}),
			"no prefix":     tun.AddRoute("culvert0", netip.Prefix{}, tun.RouteOptions{}),
			"other family":  tun.AddRoute("culvert0", far, tun.RouteOptions{Source: netip.IPv6Loopback()}),
			"foreign hint":  tun.AddRoute("culvert0", far, tun.RouteOptions{Source: netip.MustParseAddr("192.0.2.1")}),
			"no device, up": tun.SetUp("culvert9", 0),
		} {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		if err := tun.DelRoute("culvert9", far); err != nil {
			t.Errorf("remove the route of a device that is gone: %v", err)
		}
		return nil
	})
}

// BenchmarkKernelTCP is one TCP stream from kernel to kernel through this
// package: split, one copy where a tunnel would encrypt, coalesced.
func BenchmarkKernelTCP(b *testing.B) {
	near, far := newNamespace(b), newNamespace(b)
	wait := join(b, near.open(103), far.open(104))
	defer wait()
	var l net.Listener
	far.do(func() (err error) { l, err = net.Listen("tcp", "10.104.0.1:80"); return err })
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	var c net.Conn
	near.do(func() (err error) { c, err = net.Dial("tcp", "10.104.0.1:80"); return err })
	defer c.Close()
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := c.Write(data); err != nil {
			b.Fatal(err)
		}
	}
}

// An address of the device comes and goes, and takes no route with it, not even
// with the last one.
func TestKernelAddresses(t *testing.T) {
	n := newNamespace(t)
	n.do(func() error {
		dev, err := tun.Open("culvert0", 1400)
		if err != nil {
			return err
		}
		defer dev.Close()
		if err := tun.SetUp("culvert0", 1400); err != nil {
			return err
		}
		far, far6 := netip.MustParsePrefix("10.105.0.0/16"), netip.MustParsePrefix("fd00:105::/32")
		own, own6 := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd00:9::1")
		for _, p := range []netip.Prefix{far, far6} {
			if err := tun.AddRoute("culvert0", p, tun.RouteOptions{}); err != nil {
				return err
			}
		}
		for _, a := range []netip.Addr{own, own6, own} { // the second time it is there
			if err := tun.AddAddr("culvert0", a); err != nil {
				return err
			}
		}
		if err := errors.Join(tun.ChangeRoute("culvert0", far, tun.RouteOptions{Source: own}), tun.ChangeRoute("culvert0", far6, tun.RouteOptions{Source: own6})); err != nil {
			return err
		}
		for to, source := range map[string]netip.Addr{"10.105.7.7": own, "fd00:105::7": own6} {
			routes, err := netlink.RouteGet(net.ParseIP(to))
			if err != nil || len(routes) != 1 || !routes[0].Src.Equal(source.AsSlice()) {
				t.Errorf("route to %s: %v, %v, want source %v", to, routes, err, source)
			}
		}
		if err := tun.AddAddr("culvert0", netip.MustParseAddr("127.0.0.1")); !errors.Is(err, tun.ErrAddrExists) || !strings.Contains(err.Error(), "on lo") {
			t.Errorf("an address of another interface: %v", err)
		}
		if err := errors.Join(tun.ChangeRoute("culvert0", far, tun.RouteOptions{}), tun.ChangeRoute("culvert0", far6, tun.RouteOptions{})); err != nil {
			return err
		}
		for _, a := range []netip.Addr{own, own6, own} {
			if err := tun.DelAddr("culvert0", a); err != nil {
				return err
			}
		}
		link, err := netlink.LinkByName("culvert0")
		if err != nil {
			return err
		}
		for _, p := range []netip.Prefix{far, far6} {
			if err := tun.AddRoute("culvert0", p, tun.RouteOptions{}); !errors.Is(err, tun.ErrRouteExists) {
				t.Errorf("the route to %v went with the address: %v", p, err)
			}
		}
		left, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
		return errors.Join(err, tun.DelAddr("culvert9", own))
	})
}
