//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/lab"
)

// Second networks of the sites.
var (
	hostA2 = netip.MustParseAddr("10.105.0.10")
	hostB2 = netip.MustParseAddr("10.106.0.10")
)

// secondLANs gives each site a second network.
func (n *peerNet) secondLANs() {
	n.t.Helper()
	n.addAddr(n.GatewayA, "lan", "10.105.0.1/24")
	n.addAddr(n.HostA, "eth0", "10.105.0.10/24")
	n.addAddr(n.GatewayB, "lan", "10.106.0.1/24")
	n.addAddr(n.HostB, "eth0", "10.106.0.10/24")
}

// secondWays are those to the second networks. The hosts ping from their first
// ones.
func (n *peerNet) secondWays() []route {
	return []route{{n.HostB, n.HostA, hostA2}, {n.HostA, n.HostB, hostB2}}
}

const (
	bothA = `["10.103.0.0/24", "10.105.0.0/24"]`
	bothB = `["10.104.0.0/24", "10.106.0.0/24"]`
)

func twoNetworksA(t *testing.T) string {
	return edit(t, sideA(plainSuite), `local = "10.103.0.0/24"`, "local = "+bothA, `remote = "10.104.0.0/24"`, "remote = "+bothB)
}

func twoNetworksB(t *testing.T) string {
	return edit(t, sideB(plainSuite), `local = "10.104.0.0/24"`, "local = "+bothB, `remote = "10.103.0.0/24"`, "remote = "+bothA)
}

func swanTwoNetworks(c lab.StrongSwanConfig) lab.StrongSwanConfig {
	two := strings.NewReplacer("10.103.0.0/24", "10.103.0.0/24,10.105.0.0/24", "10.104.0.0/24", "10.104.0.0/24,10.106.0.0/24")
	c.Children[0].LocalTS, c.Children[0].RemoteTS = two.Replace(c.Children[0].LocalTS), two.Replace(c.Children[0].RemoteTS)
	return c
}

// scopes are what the gateway's child SAs protect.
func scopes(p *culvertProcess) (out []string) {
	for _, c := range p.status().Peers[0].Children {
		slices.Sort(c.Local)
		slices.Sort(c.Remote)
		out = append(out, fmt.Sprint(c.Local, c.Remote))
	}
	slices.Sort(out)
	return out
}

func wantScopes(t *testing.T, p *culvertProcess, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := scopes(p); !slices.Equal(got, want) {
		t.Errorf("child SAs %q, want %q", got, want)
	}
}

// TestStrongSwanSelectors has one child SA for two networks on either side.
func TestStrongSwanSelectors(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	net.secondLANs()
	t.Run("responds", func(t *testing.T) {
		scenario(t, "children", "several selectors in one child SA", initiates)
		n := net.in(t)
		_, b := n.swanResponds(swanTwoNetworks(swanA(plainSuite)), twoNetworksB(t))
		n.pings(append(n.ways(), n.secondWays()...)...)
		wantScopes(t, b, "[10.104.0.0/24 10.106.0.0/24] [10.103.0.0/24 10.105.0.0/24]")
	})
	t.Run("initiates", func(t *testing.T) {
		scenario(t, "children", "several selectors in one child SA", responds)
		n := net.in(t)
		a, _ := n.swanInitiates(twoNetworksA(t), swanTwoNetworks(swanB(plainSuite)))
		n.pings(append(n.ways(), n.secondWays()...)...)
		wantScopes(t, a, "[10.103.0.0/24 10.105.0.0/24] [10.104.0.0/24 10.106.0.0/24]")
	})
}

// TestStrongSwanNarrows has either side want more than the other, in both roles.
func TestStrongSwanNarrows(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	const fromA, fromB = "[10.103.0.0/24] [10.104.0.0/24]", "[10.104.0.0/24] [10.103.0.0/24]"
	wide := func(c lab.StrongSwanConfig) lab.StrongSwanConfig {
		c.Children[0].LocalTS, c.Children[0].RemoteTS = "10.96.0.0/12", "10.96.0.0/12"
		return c
	}
	ours := []string{`local = "10.103.0.0/24"`, `local = "10.103.0.0/16"`, `remote = "10.104.0.0/24"`, `remote = "10.104.0.0/16"`}
	oursB := []string{`local = "10.104.0.0/24"`, `local = "10.104.0.0/16"`, `remote = "10.103.0.0/24"`, `remote = "10.103.0.0/16"`}
	t.Run("culvert, to strongSwan that wants more", func(t *testing.T) {
		scenario(t, "children", "narrowing: the responder allows less", responds)
		n := net.in(t)
		a, _ := n.swanInitiates(sideA(plainSuite), wide(swanB(plainSuite)))
		n.pings(n.ways()...)
		wantScopes(t, a, fromA)
	})
	t.Run("culvert, by strongSwan that allows less", func(t *testing.T) {
		scenario(t, "children", "narrowing: the responder allows less", initiates)
		n := net.in(t)
		_, b := n.swanResponds(swanA(plainSuite), edit(t, sideB(plainSuite), oursB...))
		n.pings(n.ways()...)
		wantScopes(t, b, fromB)
	})
	t.Run("strongSwan, by culvert that wants less", func(t *testing.T) {
		scenario(t, "children", "narrowing: the initiator wants less", initiates)
		n := net.in(t)
		_, b := n.swanResponds(wide(swanA(plainSuite)), sideB(plainSuite))
		n.pings(n.ways()...)
		wantScopes(t, b, fromB)
	})
	t.Run("strongSwan, to culvert that allows more", func(t *testing.T) {
		scenario(t, "children", "narrowing: the initiator wants less", responds)
		n := net.in(t)
		a, _ := n.swanInitiates(edit(t, sideA(plainSuite), ours...), swanB(plainSuite))
		n.pings(n.ways()...)
		wantScopes(t, a, fromA)
	})
}

var fourPairs = []string{
	"[10.104.0.0/24] [10.103.0.0/24]", "[10.104.0.0/24] [10.105.0.0/24]", "[10.106.0.0/24] [10.103.0.0/24]", "[10.106.0.0/24] [10.105.0.0/24]",
}

// TestStrongSwanSinglePair makes a child SA of each pair of networks, as some
// clouds demand: culvert asks for them one by one; and refuses a peer that wants
// several pairs in one, but not its connection.
func TestStrongSwanSinglePair(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	net.secondLANs()
	t.Run("responds", func(t *testing.T) {
		scenario(t, "children", "one child SA a pair of selectors (SINGLE_PAIR_REQUIRED)", initiates)
		n := net.in(t)
		_, b := n.swanResponds(swanTwoNetworks(swanA(plainSuite)), edit(t, twoNetworksB(t), "esp = [", "single_pair = true\nesp = ["))
		b.waitNth(4, "event", "child_up")
		n.pings(append(n.ways(), n.secondWays()...)...)
		wantScopes(t, b, fourPairs...)
	})
	t.Run("initiates", func(t *testing.T) {
		scenario(t, "children", "one child SA a pair of selectors (SINGLE_PAIR_REQUIRED)", responds)
		n := net.in(t)
		a := n.culvert(n.GatewayA, "a.toml", edit(t, twoNetworksA(t), "esp = [", "single_pair = true\nesp = ["))
		a.wait("event", "device_up")
		c := swanTwoNetworks(swanB(plainSuite))
		c.Children = append(c.Children, lab.StrongSwanChild{Name: "t2", LocalTS: "10.104.0.0/24", RemoteTS: "10.105.0.0/24"},
			lab.StrongSwanChild{Name: "t3", LocalTS: "10.106.0.0/24", RemoteTS: "10.103.0.0/24"})
		swan := n.strongSwan(n.GatewayB, c)
		if text, err := swan.Initiate(t.Context(), "t1"); err == nil {
			t.Errorf("several pairs in one child SA are granted:\n%s", text)
		}
		a.wait("event", "refused", "reason", "single_pair_required")
		for _, child := range []string{"t2", "t3"} {
			if text, err := swan.Initiate(t.Context(), child); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
		}
		if !strings.Contains(swan.Log(), "SINGLE_PAIR") {
			t.Error("strongSwan was not told why")
		}
		wantScopes(t, a, "[10.103.0.0/24] [10.106.0.0/24]", "[10.105.0.0/24] [10.104.0.0/24]")
	})
}

// trap starts a side's tunnel with its first packet.
func trap(t *testing.T, text string) string {
	t.Helper()
	return edit(t, text, "esp = [", "start = \"traffic\"\nesp = [")
}

// springs pings until the tunnel that the first echo brought up answers, and
// wants no more than a second's echoes lost.
func (n *peerNet) springs(w route) {
	n.t.Helper()
	lost, err := ping(w, 200, 56)
	if err != nil || lost == 0 || lost > 150 {
		n.t.Fatalf("%d of 200 echoes lost while the tunnel comes up: %v", lost, err)
	}
}

// TestPairTrap brings a tunnel up by its first packet, between two culverts: on
// a device of the kernel's, when the peer is gone, and when it is back.
func TestPairTrap(t *testing.T) {
	n := newPeerNet(t)
	a := n.culvert(n.GatewayA, "a.toml", sideA(plainSuite))
	a.wait("event", "device_up")
	b := n.culvert(n.GatewayB, "b.toml", trap(t, sideB(plainSuite)))
	b.wait("event", "device_up")
	fromB := n.ways()[0]
	if len(b.log.records("event", "connecting")) > 0 {
		t.Error("it connects without a packet")
	}
	n.springs(fromB)
	n.reaches()
	if drops := b.status().Drops["no_outbound_sa"]; drops == 0 {
		t.Error("what was lost is not counted")
	}
	n.pings(n.ways()...) // behind the ends of TCP, which would be sent again
	a.end()
	b.wait("event", "down", "reason", "deleted_by_peer")
	time.Sleep(time.Second)
	if tries := len(b.log.records("event", "connecting")); tries != 1 {
		t.Errorf("%d attempts, want no other without a packet", tries)
	}
	a = n.culvert(n.GatewayA, "a.toml", sideA(plainSuite))
	a.wait("event", "device_up")
	n.springs(fromB)
	n.reaches()
	a.alive()
}

// TestStrongSwanTrap is the same with strongSwan as the peer, which says that it
// takes an IKE SA without a child, and deletes the child SA.
func TestStrongSwanTrap(t *testing.T) {
	scenario(t, "children", "a tunnel brought up by its first packet", initiates)
	needStrongSwan(t)
	n := newPeerNet(t)
	swan := n.strongSwan(n.GatewayA, swanA(plainSuite))
	b := n.culvert(n.GatewayB, "b.toml", trap(t, sideB(plainSuite)))
	b.wait("event", "device_up")
	n.springs(n.ways()[0])
	n.reaches()
	n.wantSame(b, swan)
	n.swanctl(swan, "--terminate", "--child", "t1")
	b.wait("event", "child_down", "reason", "deleted_by_peer")
	time.Sleep(2 * time.Second)
	if up := len(b.log.records("event", "child_up")); up != 1 {
		t.Errorf("%d child SAs without a packet", up)
	}
	n.springs(n.ways()[0])
	if n := len(b.log.records("event", "established")); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestStrongSwanRestarts ends either side without a word: INITIAL_CONTACT has
// the other let go of what is lost, under "keep" too.
func TestStrongSwanRestarts(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	t.Run("strongSwan", func(t *testing.T) {
		scenario(t, "life and death", "strongSwan restarts without a word (INITIAL_CONTACT)", responds)
		for _, policy := range []string{"replace", "keep"} {
			n := net.in(t)
			a, swan := n.swanInitiates(edit(t, sideA(plainSuite), "ike = [", "duplicates = \""+policy+"\"\nike = ["), swanB(plainSuite))
			n.pings(n.ways()...)
			swan.Kill()
			swan = n.strongSwan(n.GatewayB, swanB(plainSuite))
			if text, err := swan.Initiate(t.Context(), "t1"); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			a.wait("event", "down", "reason", "replaced")
			n.reaches()
			n.wantSame(a, swan)
			_ = swan.Stop()
			a.end()
		}
	})
	t.Run("culvert", func(t *testing.T) {
		scenario(t, "life and death", "culvert restarts without a word (INITIAL_CONTACT)", initiates)
		n := net.in(t)
		c := swanA(plainSuite)
		c.ConnectionExtra = "unique = keep" // strongSwan's own name for our policy
		swan, b := n.swanResponds(c, sideB(plainSuite))
		n.pings(n.ways()...)
		b.kill()
		b = n.culvert(n.GatewayB, "b.toml", sideB(plainSuite))
		b.wait("event", "child_up")
		n.reaches()
		n.wantSame(b, swan)
	})
}

// TestStrongSwanKeptOut has a second client with the same identity meet
// duplicates = "never".
func TestStrongSwanKeptOut(t *testing.T) {
	scenario(t, "life and death", "a second client of one identity is kept out until the first is dead", responds)
	needStrongSwan(t)
	n := newPeerNet(t)
	a, swan := n.swanInitiates(edit(t, sideA(plainSuite), "ike = [", "duplicates = \"never\"\nike = ["), swanB(plainSuite))
	swan.Kill()
	swan = n.strongSwan(n.GatewayB, swanB(plainSuite))
	if text, err := swan.Initiate(t.Context(), "t1"); err == nil {
		t.Errorf("it is let in while the old one may live:\n%s", text)
	}
	wantReport(t, a.wait("event", "refused", "reason", "duplicate"), "duplicate", "connection foo")
	if !strings.Contains(swan.Log(), "TEMP_FAIL") && !strings.Contains(swan.Log(), "TEMPORARY_FAILURE") {
		t.Error("strongSwan was not told why")
	}
	a.wait("event", "down", "reason", "dead_peer")
	if text, err := swan.Initiate(t.Context(), "t1"); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	n.pings(n.ways()...)
}
