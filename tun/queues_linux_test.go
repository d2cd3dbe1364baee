package tun_test

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"culvert/patience/patiencetest"
	"culvert/tun"
)

// TestQueues: the kernel spreads flows over a device's queues and keeps each in
// one, in that by which its answers come as soon as there is one.
func TestQueues(t *testing.T) {
	const queues, flows = 3, 48
	n := newNamespace(t)
	var devs []tun.Device
	var conns []net.Conn
	n.do(func() (err error) {
		if devs, err = tun.OpenQueues("culvert0", 1400, queues); err != nil {
			return err
		}
		if err = setUp("culvert0", 103); err != nil {
			return err
		}
		for range flows {
			c, err := net.Dial("udp4", "10.104.0.1:7")
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = c.Close() })
			conns = append(conns, c)
		}
		return nil
	})
	t.Cleanup(func() {
		for _, d := range devs {
			_ = d.Close()
		}
	})
	for i, d := range devs {
		if d.Name() != "culvert0" || d.MTU() != 1400 || d.Offload() != devs[0].Offload() {
			t.Errorf("queue %d: %s, MTU %d, offload %v", i, d.Name(), d.MTU(), d.Offload())
		}
	}
	queueOf := func(c net.Conn) int {
		t.Helper()
		if _, err := c.Write([]byte("to be found")); err != nil {
			t.Fatal(err)
		}
		return findPacket(t, devs, port(c))
	}
	used := map[int]int{}
	for _, c := range conns {
		first := queueOf(c)
		used[first]++
		if again := queueOf(c); again != first {
			t.Fatalf("a flow goes by queue %d, then by %d", first, again)
		}
		other := (first + 1) % queues
		if err := devs[other].Write(tun.Super{Packet: udpTo(port(c))}); err != nil {
			t.Fatal(err)
		}
		if now := queueOf(c); now != other {
			t.Errorf("a flow whose answers come by queue %d goes by %d", other, now)
		}
	}
	if len(used) != queues {
		t.Errorf("flows by queue: %v", used)
	}
	wantNobodyWokenInVain(t, queues)
	// What is closed leaves the others waiting for nothing.
	var readers sync.WaitGroup
	for _, d := range devs {
		readers.Go(func() {
			for {
				if _, err := d.Read(make([]byte, tun.SlabLen)); errors.Is(err, os.ErrClosed) {
					return
				}
			}
		})
	}
	for _, d := range devs {
		_ = d.Close()
	}
	readers.Wait()
}

// wantNobodyWokenInVain: each device's file is watched for who sleeps at it, once each
// time, and by nobody who would be woken for every packet.
func wantNobodyWokenInVain(t *testing.T, devices int) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, _ := os.Readlink("/proc/self/fd/" + f.Name()); to != "/dev/net/tun" {
			continue
		}
		devices--
		fd, _ := strconv.Atoi(f.Name())
		polls, err := patiencetest.Polls(fd)
		if err != nil || len(polls) != 1 || polls[0]&unix.EPOLLONESHOT == 0 {
			t.Errorf("descriptor %d is watched for %#x, %v", fd, polls, err)
		}
	}
	if devices != 0 {
		t.Errorf("%d descriptors fewer than devices", devices)
	}
}

func port(c net.Conn) uint16 { return uint16(c.LocalAddr().(*net.UDPAddr).Port) }

// findPacket looks for the packet from a port in all queues, where the kernel has
// put it before the write of it returned.
func findPacket(t *testing.T, devs []tun.Device, from uint16) int {
	t.Helper()
	slab := make([]byte, tun.SlabLen)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		for i, d := range devs {
			s, err := d.TryRead(slab)
			if err != nil && !errors.Is(err, tun.ErrWouldBlock) {
				t.Fatal(err)
			}
			if err == nil && len(s.Packet) > 28 && s.Packet[0] == 0x45 && s.Packet[9] == 17 && binary.BigEndian.Uint16(s.Packet[20:]) == from {
				return i
			}
		}
	}
	t.Fatalf("no packet from port %d in any queue", from)
	return -1
}

// udpTo is an answer of 10.104.0.1 port 7 without a UDP checksum.
func udpTo(port uint16) []byte {
	p := []byte{0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 104, 0, 1, 10, 103, 0, 1, 0, 7, 0, 0, 0, 9, 0, 0, 'x'}
	binary.BigEndian.PutUint16(p[22:], port)
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum))
	return p
}

// TestPreparedQueues: a device that somebody else has made has as many queues as
// are wanted, if it was made for several.
func TestPreparedQueues(t *testing.T) {
	n := newNamespace(t)
	n.do(func() error {
		for name, flags := range map[string]netlink.TuntapFlag{"several": netlink.TUNTAP_MULTI_QUEUE_DEFAULTS, "one": netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_ONE_QUEUE} {
			link := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TUN, Flags: flags | netlink.TUNTAP_VNET_HDR}
			if err := netlink.LinkAdd(link); err != nil {
				return err
			}
			for _, f := range link.Fds {
				_ = f.Close()
			}
		}
		devs, err := tun.OpenPreparedQueues("several", 2)
		if err != nil || len(devs) != 2 || devs[1].Offload() != devs[0].Offload() || !devs[0].Offload().TCP {
			t.Errorf("%v: %v", devs, err)
		}
		for _, d := range devs {
			_ = d.Close()
		}
		if _, err := tun.OpenPreparedQueues("one", 2); err == nil || !strings.Contains(err.Error(), "multi_queue") {
			t.Errorf("a device for one: %v", err)
		}
		if _, err := tun.OpenPreparedQueues("none", 2); err == nil || !strings.Contains(err.Error(), "make it beforehand") {
			t.Errorf("no device: %v", err)
		}
		return nil
	})
}
