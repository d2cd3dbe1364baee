//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"culvert/api"
	"culvert/gateway"
	"culvert/lab"
)

// secret is the key of the tests' configurations. Wherever it is seen beside
// them, it leaked.
const secret = "vermilion-aqueduct-7421"

// lack skips a test that cannot run here, and says what to install. In CI
// nothing may be lacking.
func lack(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// peerNet is the situation with nothing running on its gateways yet.
type peerNet struct {
	*lab.SiteToSite
	t   *testing.T
	dir string
}

func newPeerNet(t *testing.T) *peerNet {
	t.Helper()
	needLab(t)
	net, err := lab.Situation(labPrefix, 0)
	return wrapNet(t, net, err)
}

const labPrefix = "culvert-test-"

func needLab(t *testing.T) {
	t.Helper()
	r := lab.CheckRights()
	if r.Kind != lab.Direct {
		lack(t, "run this as root on Linux: "+r.Reason)
	}
	if r.Device != nil {
		lack(t, "run this where /dev/net/tun is: "+r.Device.Error())
	}
}

func wrapNet(t *testing.T, net *lab.SiteToSite, err error) *peerNet {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := net.Close(); err != nil {
			t.Errorf("closing the lab: %v", err)
		}
	})
	return &peerNet{SiteToSite: net, t: t, dir: t.TempDir()}
}

// in is the same network for a subtest, with files of its own.
func (n *peerNet) in(t *testing.T) *peerNet { return &peerNet{n.SiteToSite, t, t.TempDir()} }

// wan is the part of the situation between the gateways.
type wan struct{ a, routerA, routerB, b string }

var (
	wan4 = wan{"203.0.113.1/24", "203.0.113.254/24", "172.16.0.254/24", "172.16.0.1/24"}
	wan6 = wan{"2001:db8:a::1/64", "2001:db8:a::fe/64", "2001:db8:b::fe/64", "2001:db8:b::1/64"}
)

// newNetOver is the situation over another wan, with no NAT as yet.
func newNetOver(t *testing.T, w wan) *peerNet {
	t.Helper()
	needLab(t)
	l, err := lab.New(labPrefix)
	if err != nil {
		t.Fatal(err)
	}
	n := wrapNet(t, &lab.SiteToSite{Lab: l}, nil)
	for name, host := range map[string]**lab.Host{"hosta": &n.HostA, "gwa": &n.GatewayA, "nat": &n.NAT, "gwb": &n.GatewayB, "hostb": &n.HostB} {
		if *host, err = l.Host(name); err != nil {
			t.Fatal(err)
		}
	}
	n.link(n.HostA, "eth0", "10.103.0.10/24", n.GatewayA, "lan", "10.103.0.1/24")
	n.link(n.GatewayA, "wan", w.a, n.NAT, "out", w.routerA)
	n.link(n.NAT, "in", w.routerB, n.GatewayB, "wan", w.b)
	n.link(n.GatewayB, "lan", "10.104.0.1/24", n.HostB, "eth0", "10.104.0.10/24")
	n.defaultRoute(n.HostA, "10.103.0.1/24")
	n.defaultRoute(n.GatewayA, w.routerA)
	n.defaultRoute(n.GatewayB, w.routerB)
	n.defaultRoute(n.HostB, "10.104.0.1/24")
	return n
}

func (n *peerNet) link(a *lab.Host, ifA, addrA string, b *lab.Host, ifB, addrB string) {
	n.t.Helper()
	err := n.Link(lab.End{Host: a, Interface: ifA, Address: netip.MustParsePrefix(addrA)},
		lab.End{Host: b, Interface: ifB, Address: netip.MustParsePrefix(addrB)}, 0)
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *peerNet) defaultRoute(h *lab.Host, via string) {
	n.t.Helper()
	gw := netip.MustParsePrefix(via).Addr()
	everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if gw.Is6() {
		everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if err := h.Route(everything, gw); err != nil {
		n.t.Fatal(err)
	}
}

// Addresses of the hosts in LANs that lan6 gave IPv6 too.
var (
	hostA6 = netip.MustParseAddr("fd00:103::10")
	hostB6 = netip.MustParseAddr("fd00:104::10")
)

// lan6 adds IPv6 to both LANs.
func (n *peerNet) lan6() {
	n.t.Helper()
	for _, a := range []struct {
		host        *lab.Host
		iface, addr string
	}{
		{n.HostA, "eth0", "fd00:103::10/64"}, {n.GatewayA, "lan", "fd00:103::1/64"},
		{n.GatewayB, "lan", "fd00:104::1/64"}, {n.HostB, "eth0", "fd00:104::10/64"},
	} {
		n.addAddr(a.host, a.iface, a.addr)
	}
	n.defaultRoute(n.HostA, "fd00:103::1/64")
	n.defaultRoute(n.HostB, "fd00:104::1/64")
}

func (n *peerNet) addAddr(h *lab.Host, iface, addr string) {
	n.t.Helper()
	err := h.Do(func() error {
		link, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD // usable at once
		return netlink.AddrAdd(link, a)
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// culvertProcess is a running `culvert up`.
type culvertProcess struct {
	*lab.Process
	t            *testing.T
	file, socket string
	log          logBuffer
	killed       bool // on purpose, so that its exit code says nothing
}

// culvert starts the command on a host with a configuration in any form.
func (n *peerNet) culvert(h *lab.Host, name, text string, args ...string) *culvertProcess {
	n.t.Helper()
	p := &culvertProcess{t: n.t, file: filepath.Join(n.dir, name), socket: filepath.Join(n.dir, name+".sock")}
	if err := os.WriteFile(p.file, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	p.Process = h.Command(context.Background(), os.Args[0], append([]string{"up", p.file, "--log", "json", "--socket", p.socket}, args...)...)
	p.Env = []string{asCulvert + "=1"}
	p.Stderr = &p.log
	if err := p.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		var s gateway.Status
		if n.t.Failed() && api.Get(context.Background(), p.socket, "/v1/status", &s) == nil {
			maps.DeleteFunc(s.Drops, func(_ string, n uint64) bool { return n == 0 })
			n.t.Logf("status of %s: %+v", name, s)
		}
		p.end()
		if n.t.Failed() {
			n.t.Logf("log of %s:\n%s", name, p.log.String())
		}
	})
	return p
}

// end stops the gateway and holds what it did and said against what none may.
func (p *culvertProcess) end() {
	p.t.Helper()
	if err := p.Stop(); err != nil && !p.killed {
		p.t.Errorf("%s: %v", filepath.Base(p.file), err)
	}
	wantNoSecret(p.t, "the log", p.log.String())
	for _, bad := range []string{"panic: ", "fatal error: ", "DATA RACE"} {
		if strings.Contains(p.log.String(), bad) {
			p.t.Errorf("%s: %q in the log", filepath.Base(p.file), bad)
		}
	}
}

// kill ends the gateway without a word to anybody.
func (p *culvertProcess) kill() {
	p.t.Helper()
	p.killed = true
	p.Signal(syscall.SIGKILL)
	<-p.Done()
}

// wantNoSecret looks for the tests' key in every form in which text has bytes.
func wantNoSecret(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)), fmt.Sprint([]byte(secret))} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
			t.Errorf("the secret is in %s", where)
		}
	}
}

// logBuffer is a gateway's JSON log.
type logBuffer struct{ lab.Log }

// records are the log's records so far, latest last, that have these keys and
// values.
func (b *logBuffer) records(keyValues ...string) (found []map[string]any) {
	for line := range strings.Lines(b.String()) {
		r := map[string]any{}
		if json.Unmarshal([]byte(line), &r) == nil && hasAll(r, keyValues) {
			found = append(found, r)
		}
	}
	return found
}

func hasAll(record map[string]any, keyValues []string) bool {
	for kv := range slices.Chunk(keyValues, 2) {
		if fmt.Sprint(record[kv[0]]) != kv[1] {
			return false
		}
	}
	return true
}

// waitTime bounds every wait for something that has to happen.
const waitTime = 30 * time.Second

// eventually polls until done, and fails the test when it is not in time.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	eventuallyIn(t, waitTime, what, done)
}

func eventuallyIn(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("in %v there was no %s", limit, what)
}

// wait returns the first log record with these keys and values ("event",
// "child_up", ...).
func (p *culvertProcess) wait(keyValues ...string) map[string]any {
	p.t.Helper()
	return p.waitNth(1, keyValues...)
}

// waitNth returns the nth such record.
func (p *culvertProcess) waitNth(nth int, keyValues ...string) map[string]any {
	p.t.Helper()
	return p.waitIn(waitTime, nth, keyValues...)
}

func (p *culvertProcess) waitIn(limit time.Duration, nth int, keyValues ...string) (record map[string]any) {
	p.t.Helper()
	what := fmt.Sprintf("log record %v (%d) of %s", keyValues, nth, filepath.Base(p.file))
	eventuallyIn(p.t, limit, what, func() bool {
		ended := p.ended()
		found := p.log.records(keyValues...)
		if len(found) >= nth {
			record = found[nth-1]
		} else if ended {
			p.t.Fatalf("no %s, which ended: %v", what, p.Wait())
		}
		return record != nil
	})
	return record
}

func (p *culvertProcess) ended() bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

func (p *culvertProcess) status() gateway.Status {
	p.t.Helper()
	var s gateway.Status
	if err := api.Get(context.Background(), p.socket, "/v1/status", &s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// alive wants the gateway to run still, and to answer.
func (p *culvertProcess) alive() {
	p.t.Helper()
	if p.ended() {
		p.t.Fatalf("%s ended: %v", filepath.Base(p.file), p.Wait())
	}
	p.status()
}

// route is a way through the tunnel: from a host to another, by an address of
// the other.
type route struct {
	from, to *lab.Host
	addr     netip.Addr
}

func (n *peerNet) ways() []route {
	return []route{{n.HostB, n.HostA, lab.HostAAddr}, {n.HostA, n.HostB, lab.HostBAddr}}
}

func (n *peerNet) ways6() []route {
	return []route{{n.HostB, n.HostA, hostA6}, {n.HostA, n.HostB, hostB6}}
}

// reaches pings and moves data by TCP, both ways, and wants all of it to
// arrive.
func (n *peerNet) reaches(ways ...route) {
	n.t.Helper()
	if len(ways) == 0 {
		ways = n.ways()
	}
	n.pings(ways...)
	for _, w := range ways {
		n.transfers(w, 2<<20)
	}
}

// transfers sends so many random bytes over TCP and wants the same ones to
// come out.
func (n *peerNet) transfers(w route, size int) {
	n.t.Helper()
	sent := make([]byte, size)
	rand.Read(sent)
	received, err := carry(w, sent)
	if err != nil || !bytes.Equal(received, sent) {
		n.t.Fatalf("TCP %s -> %s (%v): %d of %d bytes arrived, equal: %v: %v",
			w.from.Name, w.to.Name, w.addr, len(received), len(sent), bytes.Equal(received, sent), err)
	}
}

func carry(w route, data []byte) (received []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitTime)
	defer cancel()
	end, _ := ctx.Deadline()
	var ln net.Listener
	if err = w.to.Do(func() error {
		ln, err = net.Listen("tcp", netip.AddrPortFrom(w.addr, 0).String())
		return err
	}); err != nil {
		return nil, err
	}
	defer ln.Close()
	written := make(chan error, 1)
	go func() {
		written <- w.from.Do(func() error { // the thread is in the namespace, and so is what it dials
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
			if err != nil {
				ln.Close()
				return err
			}
			_ = conn.SetDeadline(end)
			_, err = conn.Write(data)
			return errors.Join(err, conn.Close())
		})
	}()
	conn, err := ln.Accept()
	if err != nil {
		return nil, errors.Join(err, <-written)
	}
	defer conn.Close()
	_ = conn.SetDeadline(end)
	received, err = io.ReadAll(conn)
	return received, errors.Join(err, <-written)
}

// pings wants every echo answered, small and large.
func (n *peerNet) pings(ways ...route) {
	n.t.Helper()
	for _, w := range ways {
		for _, size := range []int{56, 1300} {
			if lost, err := ping(w, 3, size); err != nil || lost > 0 {
				n.t.Fatalf("ping %s -> %s (%v, %d bytes): lost %d: %v", w.from.Name, w.to.Name, w.addr, size, lost, err)
			}
		}
	}
}

func ping(w route, count, size int) (lost int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitTime)
	defer cancel()
	stats, err := w.from.Ping(ctx, w.addr, lab.PingOptions{Count: count, Interval: 10 * time.Millisecond, Size: size, Timeout: time.Second})
	return stats.Lost(), err
}

// comesBack waits until the ways carry again what they did.
func (n *peerNet) comesBack(limit time.Duration) {
	n.t.Helper()
	for _, w := range n.ways() {
		eventuallyIn(n.t, limit, "way from "+w.from.Name+" to "+w.to.Name, func() bool {
			lost, err := ping(w, 1, 56)
			return err == nil && lost == 0
		})
	}
}

// hasDevice says whether a host has culvert's device, and a route into it.
func hasDevice(t *testing.T, h *lab.Host, name string, prefix netip.Prefix) (device, routed bool) {
	t.Helper()
	err := h.Do(func() error {
		_, err := netlink.LinkByName(name)
		var gone netlink.LinkNotFoundError
		if device = err == nil; err != nil && !errors.As(err, &gone) {
			return err
		}
		routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
		for _, r := range routes {
			routed = routed || r.Dst != nil && r.Dst.String() == prefix.String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return device, routed
}

// suite is a pair of proposals in strongSwan's words, which are ours too.
type suite struct{ ike, esp string }

var plainSuite = suite{"aes128gcm16-prfsha256-x25519", "aes128gcm16"}

// sideA and sideB are the two sides of the situation. Their lines are counted
// on: remote 2, local_id 3, remote_id 4, psk 5, ike 6, local 9, remote 10,
// esp 11.
func sideA(s suite) string {
	return fmt.Sprintf(`[peer.foo]
remote = "any"
local_id = "203.0.113.1"
remote_id = "@foo"
psk = %q
ike = [%q]

[peer.foo.tunnel.lan]
local = "10.103.0.0/24"
remote = "10.104.0.0/24"
esp = [%q]
`, secret, s.ike, s.esp)
}

func sideB(s suite) string {
	return fmt.Sprintf(`[peer.office]
remote = "203.0.113.1"
local_id = "@foo"
remote_id = "203.0.113.1"
psk = %q
ike = [%q]

[peer.office.tunnel.lan]
local = "10.104.0.0/24"
remote = "10.103.0.0/24"
esp = [%q]
`, secret, s.ike, s.esp)
}

// edit replaces pieces of a text, each of which has to be there.
func edit(t *testing.T, text string, oldNew ...string) string {
	t.Helper()
	for on := range slices.Chunk(oldNew, 2) {
		if !strings.Contains(text, on[0]) {
			t.Fatalf("no %q in:\n%s", on[0], text)
		}
		text = strings.Replace(text, on[0], on[1], 1)
	}
	return text
}
