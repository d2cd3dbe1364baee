//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"culvert/lab"
)

// serverA leases addresses to side B, and clientB takes one.
func serverA(t *testing.T) string {
	return edit(t, sideA(plainSuite), "psk =", "pools = [\"four\", \"six\"]\npsk =",
		`local = "10.103.0.0/24"`, `local = ["10.103.0.0/24", "fd00:103::/64"]`, `remote = "10.104.0.0/24"`, `remote = "dynamic"`) + `
[gateway]
lease_file = "leases.json"

[pool.four]
addresses = "10.9.0.0/24"
dns = "10.103.0.53"
domains = "corp.example"
subnets = "10.103.0.0/24"

[pool.six]
addresses = "fd00:9::10-fd00:9::20"
`
}

func clientB(t *testing.T) string {
	return edit(t, sideB(plainSuite), "psk =", "request_address = [\"ipv4\", \"ipv6\"]\npsk =",
		`local = "10.104.0.0/24"`, `local = "dynamic"`, `remote = "10.103.0.0/24"`, `remote = ["10.103.0.0/24", "fd00:103::/64"]`)
}

// addressNet is the situation with IPv6 in the LANs; gateway B is a single host.
func addressNet(t *testing.T) *peerNet {
	n := newPeerNet(t)
	n.lan6()
	return n
}

// client is gateway B by its virtual addresses, and back.
func (n *peerNet) client(addrs ...string) (ways []route) {
	for _, a := range addrs {
		addr, far := netip.MustParseAddr(a), lab.HostAAddr
		if addr.Is6() {
			far = hostA6
		}
		ways = append(ways, route{n.GatewayB, n.HostA, far}, route{n.HostA, n.GatewayB, addr})
	}
	return ways
}

// deviceAddrs are the addresses of a host's interface.
func deviceAddrs(t *testing.T, h *lab.Host, device string) (addrs []string) {
	t.Helper()
	err := h.Do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		all, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		for _, a := range all {
			addrs = append(addrs, a.IPNet.String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}

// TestVirtualAddress: a single host gets addresses out of the server's pools,
// has them on its device, reaches the network behind the server by them, and
// gets the same ones when it comes back, even to a server that was restarted
// meanwhile.
func TestVirtualAddress(t *testing.T) {
	n := addressNet(t)
	a, b := n.pair(serverA(t), clientB(t))
	n.reaches(n.client("10.9.0.1", "fd00:9::10")...)
	device := b.status().Device.Name
	if got := deviceAddrs(t, n.GatewayB, device); !slices.Equal(got, []string{"10.9.0.1/32", "fd00:9::10/128"}) {
		t.Errorf("%s has %v", device, got)
	}
	s := b.status().Peers[0].Assigned
	if s == nil || fmt.Sprint(*s) != "{[10.9.0.1/32 fd00:9::10/128] [10.103.0.53] [corp.example] [10.103.0.0/24]}" {
		t.Errorf("B's status says %+v", s)
	}
	if l := a.status().Leases; len(l) != 2 || l[0].Address.String() != "10.9.0.1" || l[0].Pool != "four" || l[0].RemoteID != "@foo" || !l[0].InUse {
		t.Errorf("A's status says %+v", l)
	}
	if c := a.status().Peers[0].Children[0]; !slices.Equal(c.Remote, []string{"10.9.0.1/32", "fd00:9::10/128"}) {
		t.Errorf("A lets %v through", c.Remote)
	}

	b.end()
	a.wait("event", "down", "reason", "deleted_by_peer")
	if l := a.status().Leases; len(l) != 2 || l[0].InUse || l[1].InUse {
		t.Errorf("A's status says %+v", l)
	}
	a.end()
	leases, err := os.ReadFile(filepath.Join(n.dir, "leases.json"))
	if err != nil || !strings.Contains(string(leases), "10.9.0.1") {
		t.Fatalf("lease file: %v\n%s", err, leases)
	}
	moved := edit(t, string(leases), "10.9.0.1", "10.9.0.42")
	if err := os.WriteFile(filepath.Join(n.dir, "leases.json"), []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	n.pair(serverA(t), clientB(t))
	n.reaches(n.client("10.9.0.42", "fd00:9::10")...)
}

// TestVirtualAddressReturns: the server goes away for a time. The client's
// device keeps its address and its routes, so that nothing leaves in the clear,
// until the server, which has forgotten all, assigns another.
func TestVirtualAddressReturns(t *testing.T) {
	n := addressNet(t)
	a, b := n.pair(serverA(t), clientB(t))
	device := b.status().Device.Name
	a.end()
	b.wait("event", "down", "reason", "deleted_by_peer")
	if got := deviceAddrs(t, n.GatewayB, device); len(got) != 2 {
		t.Errorf("%s has %v", device, got)
	}
	if b.status().Peers[0].Assigned != nil {
		t.Error("the status shows an address that nobody assigns")
	}
	elsewhere := edit(t, serverA(t), `lease_file = "leases.json"`, "", "10.9.0.0/24", "10.10.0.0/24")
	n.culvert(n.GatewayA, "a.toml", elsewhere)
	b.waitNth(2, "event", "child_up")
	n.reaches(n.client("10.10.0.1", "fd00:9::10")...)
	if got := deviceAddrs(t, n.GatewayB, device); !slices.Equal(got, []string{"10.10.0.1/32", "fd00:9::10/128"}) {
		t.Errorf("%s has %v", device, got)
	}
	if _, routed := hasDevice(t, n.GatewayB, device, lab.LANA); !routed {
		t.Error("the route is gone, so that packets leave in the clear")
	}
}

// TestStrongSwanGetsAddress has strongSwan ask culvert for an address of each
// family, twice.
func TestStrongSwanGetsAddress(t *testing.T) {
	scenario(t, "addresses", "strongSwan gets virtual addresses, the same when it returns", responds)
	needStrongSwan(t)
	n := addressNet(t)
	c := swanB(plainSuite)
	c.ConnectionExtra = "vips = 0.0.0.0, ::"
	c.Children[0].LocalTS, c.Children[0].RemoteTS = "dynamic", "10.103.0.0/24,fd00:103::/64"
	a, swan := n.swanInitiates(serverA(t), c)
	n.reaches(n.client("10.9.0.1", "fd00:9::10")...)
	if c := a.status().Peers[0].Children[0]; !slices.Equal(c.Remote, []string{"10.9.0.1/32", "fd00:9::10/128"}) {
		t.Errorf("culvert lets %v through", c.Remote)
	}
	n.swanctl(swan, "--terminate", "--ike", "foo")
	a.wait("event", "down", "reason", "deleted_by_peer")
	if text, err := swan.Initiate(context.Background(), "t1"); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	a.waitNth(2, "event", "child_up")
	n.pings(n.client("10.9.0.1", "fd00:9::10")...)
}

// TestStrongSwanAssignsAddress has culvert ask strongSwan, and again after
// strongSwan has taken the connection down.
func TestStrongSwanAssignsAddress(t *testing.T) {
	scenario(t, "addresses", "culvert gets virtual addresses, the same when it returns", initiates)
	needStrongSwan(t)
	n := addressNet(t)
	c := swanA(plainSuite)
	c.ConnectionExtra = "pools = four, six"
	c.Children[0].LocalTS, c.Children[0].RemoteTS = "10.103.0.0/24,fd00:103::/64", "dynamic"
	c.Sections = "pools {\n  four {\n    addrs = 10.9.0.0/24\n    dns = 10.103.0.53\n  }\n  six {\n    addrs = fd00:9::10-fd00:9::20\n  }\n}"
	swan, b := n.swanResponds(c, clientB(t))
	n.reaches(n.client("10.9.0.1", "fd00:9::10")...)
	n.wantSame(b, swan)
	if s := b.status().Peers[0].Assigned; s == nil || fmt.Sprint(s.DNS) != "[10.103.0.53]" {
		t.Errorf("culvert was told %+v", s)
	}
	n.swanctl(swan, "--terminate", "--ike", "foo")
	b.wait("event", "down", "reason", "deleted_by_peer")
	b.waitNth(2, "event", "child_up")
	n.pings(n.client("10.9.0.1", "fd00:9::10")...)
}

// TestStrongSwanAddressesRunOut: strongSwan's pool has one address, which
// somebody else has. culvert says so, and asks again.
func TestStrongSwanAddressesRunOut(t *testing.T) {
	scenario(t, "addresses", "strongSwan has no address left", initiates)
	needStrongSwan(t)
	n := addressNet(t)
	c := swanA(plainSuite)
	c.Children[0].RemoteTS = "dynamic"
	n.strongSwan(n.GatewayA, c)
	b := n.culvert(n.GatewayB, "b.toml", clientB(t))
	refused := b.wait("event", "refused_by_peer", "reason", "no_address")
	t.Log(refused["msg"])
	b.alive()
	if s := b.status().Peers[0]; s.Assigned != nil || len(s.Children) > 0 || s.Problem == "" {
		t.Errorf("status %+v", s)
	}
}

// leadsInto is the interface that a host's packets to an address take.
func leadsInto(t *testing.T, h *lab.Host, addr string) (device string) {
	t.Helper()
	err := h.Do(func() error {
		routes, err := netlink.RouteGet(net.ParseIP(addr))
		if err != nil {
			return err
		}
		link, err := netlink.LinkByIndex(routes[0].LinkIndex)
		if err == nil {
			device = link.Attrs().Name
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return device
}

// TestFullTunnel: a single host sends all that it has into the tunnel, but for
// what carries the tunnel.
func TestFullTunnel(t *testing.T) {
	n := addressNet(t)
	everything := edit(t, clientB(t), `remote = ["10.103.0.0/24", "fd00:103::/64"]`, `remote = ["0.0.0.0/0", "fd00:103::/64"]`)
	before := leadsInto(t, n.GatewayB, "198.51.100.1")
	_, b := n.pair(edit(t, serverA(t), `local = ["10.103.0.0/24", "fd00:103::/64"]`, `local = ["0.0.0.0/0", "fd00:103::/64"]`), everything)
	n.reaches(n.client("10.9.0.1", "fd00:9::10")...)
	device := b.status().Device.Name
	for addr, want := range map[string]string{"10.103.0.10": device, "198.51.100.1": device, "203.0.113.2": device, "203.0.113.1": before} {
		if got := leadsInto(t, n.GatewayB, addr); got != want {
			t.Errorf("%s leads into %s, want %s", addr, got, want)
		}
	}
	if added := b.log.records("event", "route_added", "prefix", "0.0.0.0/0"); len(added) != 1 {
		t.Errorf("%d lines of the route, want 1", len(added))
	}
	b.end()
	if got := leadsInto(t, n.GatewayB, "198.51.100.1"); got != before {
		t.Errorf("in the end 198.51.100.1 leads into %s, want %s", got, before)
	}
}
