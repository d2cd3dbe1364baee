//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"culvert/lab"
)

// Where hosts move to, and what the NAT shows of B there.
const (
	addrB2     = "172.16.0.2/24"
	addrB2Seen = "192.0.2.11"
	addrA2     = "203.0.113.2/24"
)

// moveB gives gateway B another address, as a laptop gets one that comes to
// another network; moveA the other.
func (n *peerNet) moveB() { n.readdress(n.GatewayB, "172.16.0.1/24", addrB2, "172.16.0.254/24") }
func (n *peerNet) moveA() { n.readdress(n.GatewayA, "203.0.113.1/24", addrA2, "203.0.113.254/24") }

func (n *peerNet) readdress(h *lab.Host, old, new, via string) {
	n.t.Helper()
	err := h.Do(func() error {
		link, err := netlink.LinkByName("wan")
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(old)
		if err != nil {
			return err
		}
		return netlink.AddrDel(link, a)
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.addAddr(h, "wan", new)
	n.defaultRoute(h, via)
}

// nets are networks with and without a NAT in front of B, wherever B is.
var nets = map[string]func(t *testing.T) *peerNet{
	"NAT": func(t *testing.T) *peerNet {
		n := newPeerNet(t)
		if err := n.NAT.NAT1to1(netip.MustParseAddr(addrB2Seen), netip.MustParsePrefix(addrB2).Addr()); err != nil {
			t.Fatal(err)
		}
		return n
	},
	"no_NAT": func(t *testing.T) *peerNet { return newNetOver(t, wan4) },
}

// busy sends echoes both ways until the returned function is called.
func (n *peerNet) busy() (rest func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	for _, w := range n.ways() {
		go func() {
			defer func() { done <- struct{}{} }()
			for ctx.Err() == nil {
				_, _ = w.from.Ping(ctx, w.addr, lab.PingOptions{Count: 20, Interval: 50 * time.Millisecond, Timeout: 10 * time.Millisecond})
			}
		}()
	}
	rest = sync.OnceFunc(func() {
		cancel()
		for range n.ways() {
			<-done
		}
	})
	n.t.Cleanup(rest)
	return rest
}

// throughout wants the tunnel to carry again after change, which happens under
// traffic.
func (n *peerNet) throughout(change func()) {
	n.t.Helper()
	n.reaches()
	rest := n.busy()
	change()
	n.carriesAgain()
	rest()
	n.reaches()
}

// carriesAgain waits for both ways, and logs for how long.
func (n *peerNet) carriesAgain() {
	n.t.Helper()
	start := time.Now()
	for _, w := range n.ways() {
		eventually(n.t, "way from "+w.from.Name+" to "+w.to.Name, func() bool {
			stats, err := w.from.Ping(context.Background(), w.addr, lab.PingOptions{Timeout: 100 * time.Millisecond})
			return err == nil && stats.Lost() == 0
		})
	}
	n.t.Logf("carries again after %v", time.Since(start).Round(10*time.Millisecond))
}

// made counts the IKE SAs that there have been.
func (p *culvertProcess) made() int { return len(p.log.records("event", "established")) }

func withMOBIKE(t *testing.T, text, word string) string {
	return edit(t, text, "ike = [", "mobike = "+word+"\nike = [")
}

// TestRoamInitiatorPair moves the side that called, under traffic. Without
// MOBIKE and without a NAT, in front of which addresses may change, it has to
// call again.
func TestRoamInitiatorPair(t *testing.T) {
	for place, newNet := range nets {
		for _, mobike := range []string{"true", "false"} {
			t.Run(place+"/mobike_"+mobike, func(t *testing.T) {
				n := newNet(t)
				a, b := n.pair(withMOBIKE(t, sideA(plainSuite), mobike), withMOBIKE(t, sideB(plainSuite), mobike))
				n.throughout(n.moveB)
				if kept := b.made() == 1; kept != (mobike == "true" || place == "NAT") {
					t.Errorf("%d IKE SAs", b.made())
				}
				want := netip.MustParsePrefix(addrB2).Addr()
				if got := b.status().Peers[0].LocalAddress.Addr(); got != want {
					t.Errorf("B is at %v, want %v", got, want)
				}
				if place == "NAT" {
					want = netip.MustParseAddr(addrB2Seen)
				}
				if got := a.status().Peers[0].RemoteAddress.Addr(); got != want {
					t.Errorf("A has B at %v, want %v", got, want)
				}
			})
		}
	}
}

// TestRoamResponderPair moves the side that was called: it tells where it is,
// and the other goes there.
func TestRoamResponderPair(t *testing.T) {
	for place, newNet := range nets {
		t.Run(place, func(t *testing.T) {
			n := newNet(t)
			_, b := n.pair(sideA(plainSuite), sideB(plainSuite))
			n.throughout(n.moveA)
			if b.made() != 1 {
				t.Errorf("%d IKE SAs", b.made())
			}
			if got := b.status().Peers[0].RemoteAddress.Addr(); got != netip.MustParsePrefix(addrA2).Addr() {
				t.Errorf("B has A at %v", got)
			}
		})
	}
}

// TestRoamOutagePair takes the link away for longer than the peer is asked, and
// gives it back: the tunnel is there again at once.
func TestRoamOutagePair(t *testing.T) {
	for _, name := range []string{"short", "given_up"} {
		t.Run(name, func(t *testing.T) {
			n := newNetOver(t, wan4)
			quick := []string{"ike = [", "dpd = \"1s\"\nretransmit_tries = 3\ninitial_tries = 2\nreconnect_max = \"1h\"\nreconnect = \"1h\"\nike = ["}
			a, b := n.pair(edit(t, sideA(plainSuite), quick...), edit(t, sideB(plainSuite), quick...))
			n.reaches()
			n.link1(n.GatewayB, false)
			b.wait("event", "path_gone")
			if name == "given_up" {
				b.wait("event", "retrying")
				a.wait("event", "down", "reason", "dead_peer")
			}
			n.link1(n.GatewayB, true)
			n.carriesAgain()
			n.reaches()
		})
	}
}

// link1 takes a gateway's link down, or brings it up with its route.
func (n *peerNet) link1(h *lab.Host, up bool) {
	n.t.Helper()
	err := h.Do(func() error {
		link, err := netlink.LinkByName("wan")
		switch {
		case err != nil:
			return err
		case up:
			return netlink.LinkSetUp(link)
		}
		return netlink.LinkSetDown(link)
	})
	if err != nil {
		n.t.Fatal(err)
	}
	if up {
		n.defaultRoute(h, "172.16.0.254/24")
	}
}

// TestRoamStrongSwanResponds moves culvert, which called strongSwan.
func TestRoamStrongSwanResponds(t *testing.T) {
	needStrongSwan(t)
	for place, newNet := range nets {
		for _, mobike := range []string{"yes", "no"} {
			t.Run(fmt.Sprintf("%s/mobike_%s", place, mobike), func(t *testing.T) {
				scenario(t, "roaming", fmt.Sprintf("the initiator moves under traffic: %s, mobike %s", place, mobike), initiates)
				n := newNet(t)
				c := swanA(plainSuite)
				c.ConnectionExtra = "mobike = " + mobike
				swan, b := n.swanResponds(c, sideB(plainSuite))
				n.throughout(n.moveB)
				told := strings.Contains(swan.Log(), "N(UPD_SA_ADDR)")
				if told != (mobike == "yes") {
					t.Errorf("strongSwan was told so: %v", told)
				}
				if kept := b.made() == 1; kept != (mobike == "yes" || place == "NAT") {
					t.Errorf("%d IKE SAs", b.made())
				}
				n.wantSameNow(b, swan)
				b.alive()
			})
		}
	}
}

// TestRoamStrongSwanInitiates moves strongSwan, which called culvert.
func TestRoamStrongSwanInitiates(t *testing.T) {
	needStrongSwan(t)
	for place, newNet := range nets {
		t.Run(place, func(t *testing.T) {
			scenario(t, "roaming", fmt.Sprintf("the initiator moves under traffic: %s, mobike yes", place), responds)
			n := newNet(t)
			a, swan := n.swanInitiates(sideA(plainSuite), swanB(plainSuite))
			n.throughout(n.moveB)
			if a.made() != 1 || !strings.Contains(swan.Log(), "N(UPD_SA_ADDR)") {
				t.Errorf("%d IKE SAs", a.made())
			}
			a.wait("event", "moved")
			if !strings.Contains(swan.Log(), "N(COOKIE2)") {
				t.Error("strongSwan was not asked whether it is there")
			}
			n.wantSameNow(a, swan)
			a.alive()
		})
	}
}

// TestRoamStrongSwanAnswersFromElsewhere moves culvert, which strongSwan called:
// strongSwan goes to where culvert tells its addresses from.
func TestRoamStrongSwanAnswersFromElsewhere(t *testing.T) {
	scenario(t, "roaming", "the responder moves under traffic", responds)
	needStrongSwan(t)
	n := newNetOver(t, wan4)
	a, swan := n.swanInitiates(sideA(plainSuite), swanB(plainSuite))
	n.throughout(n.moveA)
	if a.made() != 1 {
		t.Errorf("%d IKE SAs", a.made())
	}
	n.wantSameNow(a, swan)
}

// TestRebindStrongSwan restarts a masquerading NAT under traffic, with
// strongSwan on either side. Neither its responder nor its initiator has ESP
// follow by itself (kernel-libipsec), so it takes a liveness check.
func TestRebindStrongSwan(t *testing.T) {
	needStrongSwan(t)
	for _, mobike := range []string{"yes", "no"} {
		t.Run("culvert_behind_the_NAT/mobike_"+mobike, func(t *testing.T) {
			scenario(t, "roaming", "the NAT gives another port under traffic: mobike "+mobike, initiates)
			n := behindMasquerade(t)
			c := swanA(plainSuite)
			c.ConnectionExtra = "mobike = " + mobike
			swan, b := n.swanResponds(c, edit(t, sideB(plainSuite), "ike = [", "dpd = \"2s\"\nike = ["))
			n.throughout(n.forgetNAT)
			if b.made() != 1 {
				t.Errorf("%d IKE SAs", b.made())
			}
			n.wantSameNow(b, swan)
		})
		t.Run("strongSwan_behind_the_NAT/mobike_"+mobike, func(t *testing.T) {
			scenario(t, "roaming", "the NAT gives another port under traffic: mobike "+mobike, responds)
			n := behindMasquerade(t)
			c := swanB(plainSuite)
			c.ConnectionExtra = "mobike = " + mobike
			a, swan := n.swanInitiates(sideA(plainSuite), c)
			was := a.status().Peers[0].RemoteAddress
			n.throughout(n.forgetNAT)
			if a.made() != 1 {
				t.Errorf("%d IKE SAs", a.made())
			}
			t.Logf("from %v to %v", was, a.status().Peers[0].RemoteAddress)
			n.wantSameNow(a, swan)
		})
	}
}

// wantSameNow is wantSame after a move, which kernel-libipsec makes by replacing
// the child SA: it lists the old one for a while.
func (n *peerNet) wantSameNow(p *culvertProcess, s *lab.StrongSwan) {
	n.t.Helper()
	theirs, ours := n.swanSA(s), p.status().Peers[0]
	if theirs.State != "ESTABLISHED" || theirs.InitiatorSPI != ours.InitiatorSPI || len(ours.Children) != 1 {
		n.t.Fatalf("strongSwan has %+v, culvert %+v", theirs, ours)
	}
	for _, c := range theirs.Children {
		if c.State == "INSTALLED" && (c.InSPI != ours.Children[0].OutboundSPI || c.OutSPI != ours.Children[0].InboundSPI) {
			n.t.Errorf("strongSwan has %+v, culvert %+v", c, ours.Children[0])
		}
	}
}

func behindMasquerade(t *testing.T) *peerNet {
	t.Helper()
	n := newNetOver(t, wan4)
	if err := n.NAT.Masquerade("out", lab.RandomPort); err != nil {
		t.Fatal(err)
	}
	return n
}
