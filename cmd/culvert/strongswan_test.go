//go:build linux

package main

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"culvert/lab"
)

// swanA and swanB are strongSwan in place of the two sides.
func swanA(s suite) lab.StrongSwanConfig {
	return lab.StrongSwanConfig{LocalAddrs: "203.0.113.1", LocalID: "203.0.113.1", RemoteID: "foo", Secret: secret,
		IKE: s.ike, Children: []lab.StrongSwanChild{{LocalTS: "10.103.0.0/24", RemoteTS: "10.104.0.0/24", ESP: s.esp}}}
}

func swanB(s suite) lab.StrongSwanConfig {
	return lab.StrongSwanConfig{RemoteAddrs: "203.0.113.1", LocalID: "foo", RemoteID: "203.0.113.1", Secret: secret,
		IKE: s.ike, Children: []lab.StrongSwanChild{{LocalTS: "10.104.0.0/24", RemoteTS: "10.103.0.0/24", ESP: s.esp}}}
}

func needStrongSwan(t *testing.T) {
	t.Helper()
	if err := lab.StrongSwanAvailable(); err != nil {
		lack(t, err.Error())
	}
}

func (n *peerNet) strongSwan(h *lab.Host, c lab.StrongSwanConfig) *lab.StrongSwan {
	n.t.Helper()
	if !isScenario(n.t) {
		n.t.Fatal("a test with strongSwan begins with scenario")
	}
	s, err := h.StrongSwan(context.Background(), c)
	if err != nil {
		n.t.Fatal(err)
	}
	metPeer(s.Log())
	n.t.Cleanup(func() {
		if n.t.Failed() {
			n.t.Logf("log of strongSwan:\n%s", s.Log())
		}
		_ = s.Stop()
	})
	return s
}

// swanResponds starts strongSwan as side A and culvert as side B.
func (n *peerNet) swanResponds(c lab.StrongSwanConfig, textB string) (*lab.StrongSwan, *culvertProcess) {
	n.t.Helper()
	swan := n.strongSwan(n.GatewayA, c)
	b := n.culvert(n.GatewayB, "b.toml", textB)
	b.wait("event", "child_up")
	return swan, b
}

// swanInitiates starts culvert as side A and strongSwan as side B.
func (n *peerNet) swanInitiates(textA string, c lab.StrongSwanConfig) (*culvertProcess, *lab.StrongSwan) {
	n.t.Helper()
	a := n.culvert(n.GatewayA, "a.toml", textA)
	a.wait("event", "device_up")
	swan := n.strongSwan(n.GatewayB, c)
	if text, err := swan.Initiate(context.Background(), "t1"); err != nil {
		n.t.Fatalf("%v\n%s", err, text)
	}
	a.wait("event", "child_up")
	return a, swan
}

// swanSA is strongSwan's only IKE SA.
func (n *peerNet) swanSA(s *lab.StrongSwan) lab.StrongSwanSA {
	n.t.Helper()
	sas, err := s.SAs(context.Background())
	if err != nil || len(sas) != 1 {
		n.t.Fatalf("%d IKE SAs, want 1: %+v, %v", len(sas), sas, err)
	}
	return sas[0]
}

// wantSame compares what the two ends say of one tunnel.
func (n *peerNet) wantSame(p *culvertProcess, s *lab.StrongSwan) {
	n.t.Helper()
	theirs, ours := n.swanSA(s), p.status().Peers[0]
	if theirs.State != "ESTABLISHED" || theirs.InitiatorSPI != ours.InitiatorSPI || theirs.ResponderSPI != ours.ResponderSPI {
		n.t.Errorf("strongSwan has %+v, culvert %+v", theirs, ours)
	}
	if len(theirs.Children) != 1 || len(ours.Children) != 1 {
		n.t.Fatalf("strongSwan has %+v, culvert %+v", theirs.Children, ours.Children)
	}
	their, our := theirs.Children[0], ours.Children[0]
	if their.InSPI != our.OutboundSPI || their.OutSPI != our.InboundSPI || !their.Encap || their.State != "INSTALLED" {
		n.t.Errorf("strongSwan has %+v, culvert %+v", their, our)
	}
	if our.PacketsIn == 0 || our.PacketsOut == 0 || our.BytesIn == 0 || our.BytesOut == 0 {
		n.t.Errorf("no traffic counted: %+v", our)
	}
}

// TestStrongSwanDefaults leaves all proposals to culvert and all but the IKE
// proposal to strongSwan, whose first group is not culvert's: INVALID_KE_PAYLOAD
// brings them together.
func TestStrongSwanDefaults(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	bare := func(text string) string {
		return edit(t, text, `ike = ["`+plainSuite.ike+`"]`, "", `esp = ["`+plainSuite.esp+`"]`, "")
	}
	s := suite{"aes256-sha512-modp3072", "aes256-sha512,aes256gcm16"}
	t.Run("responds", func(t *testing.T) {
		scenario(t, "suites", "culvert's defaults, and another group first", initiates)
		n := net.in(t)
		_, b := n.swanResponds(swanA(s), bare(sideB(plainSuite)))
		b.wait("event", "retry_group")
		n.reaches()
	})
	t.Run("initiates", func(t *testing.T) {
		scenario(t, "suites", "culvert's defaults, and another group first", responds)
		n := net.in(t)
		s.ike = "aes256-sha512-modp8192-modp3072"
		_, swan := n.swanInitiates(bare(sideA(plainSuite)), swanB(s))
		if !strings.Contains(swan.Log(), "INVAL_KE") {
			t.Error("strongSwan was not sent back for another group")
		}
		n.reaches()
	})
}

// TestStrongSwanAsks has each side ask the silent other whether it lives.
func TestStrongSwanAsks(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	for _, asks := range []string{"strongSwan", "culvert"} {
		t.Run(asks, func(t *testing.T) {
			scenario(t, "life and death", asks+" asks the silent other whether it lives", initiates)
			n := net.in(t)
			c, textB, wants := swanA(plainSuite), sideB(plainSuite), "parsed INFORMATIONAL response"
			if asks == "strongSwan" {
				c.ConnectionExtra = "dpd_delay = 1s"
			} else {
				textB, wants = edit(t, textB, "[peer.office]\n", "[peer.office]\ndpd = \"1s\"\n"), "parsed INFORMATIONAL request"
			}
			swan, b := n.swanResponds(c, textB)
			eventually(t, "second "+wants, func() bool { return strings.Count(swan.Log(), wants) >= 2 })
			if down := b.log.records("event", "down"); len(down) > 0 {
				t.Errorf("the connection went down: %v", down)
			}
			n.reaches()
		})
	}
}

// TestStrongSwanDeletes: culvert as the initiator brings back what its peer
// deletes.
func TestStrongSwanDeletes(t *testing.T) {
	scenario(t, "life and death", "strongSwan deletes the child SA, the IKE SA: culvert brings them back", initiates)
	needStrongSwan(t)
	n := newPeerNet(t)
	swan, b := n.swanResponds(swanA(plainSuite), sideB(plainSuite))
	n.swanctl(swan, "--terminate", "--child", "t1")
	b.wait("event", "child_down", "reason", "deleted_by_peer")
	b.waitNth(2, "event", "child_up")
	n.reaches()
	if len(b.log.records("event", "established")) != 1 {
		t.Error("the IKE SA was made anew")
	}
	n.swanctl(swan, "--terminate", "--ike", "foo")
	b.wait("event", "down", "reason", "deleted_by_peer")
	b.waitNth(3, "event", "child_up")
	n.reaches()
	n.wantSame(b, swan)
}

func (n *peerNet) swanctl(s *lab.StrongSwan, args ...string) {
	n.t.Helper()
	if out, err := s.Swanctl(context.Background(), append(args, "--timeout", "10")...); err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
}

const (
	secondA = "\n[peer.foo.tunnel.lab]\nlocal = \"10.105.0.0/24\"\nremote = \"10.104.0.0/24\"\nesp = [\"aes256-sha256\"]\n"
	secondB = "\n[peer.office.tunnel.lab]\nlocal = \"10.104.0.0/24\"\nremote = \"10.105.0.0/24\"\nesp = [\"aes256-sha256\"]\n"
)

// TestStrongSwanTwoTunnels has two child SAs below one IKE SA, each with its
// selectors and its suite.
func TestStrongSwanTwoTunnels(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	net.addAddr(net.GatewayA, "lan", "10.105.0.1/24")
	net.addAddr(net.HostA, "eth0", "10.105.0.10/24")
	check := func(n *peerNet, p *culvertProcess) {
		n.t.Helper()
		p.wait("event", "child_up", "tunnel", "lab")
		n.pings(route{n.HostB, n.HostA, netip.MustParseAddr("10.105.0.10")})
		n.reaches()
		if c := p.status().Peers[0].Children; len(c) != 2 || c[0].PacketsIn == 0 || c[1].PacketsIn == 0 || c[0].Suite == c[1].Suite {
			n.t.Errorf("children %+v", c)
		}
	}
	t.Run("responds", func(t *testing.T) {
		scenario(t, "children", "two child SAs of one IKE SA, each with its suite", initiates)
		n := net.in(t)
		c := swanA(plainSuite)
		c.Children = append(c.Children, lab.StrongSwanChild{Name: "t2", LocalTS: "10.105.0.0/24", RemoteTS: "10.104.0.0/24", ESP: "aes256-sha256"})
		_, b := n.swanResponds(c, sideB(plainSuite)+secondB)
		check(n, b)
	})
	t.Run("initiates", func(t *testing.T) {
		scenario(t, "children", "two child SAs of one IKE SA, each with its suite", responds)
		n := net.in(t)
		c := swanB(plainSuite)
		c.Children = append(c.Children, lab.StrongSwanChild{Name: "t2", LocalTS: "10.104.0.0/24", RemoteTS: "10.105.0.0/24", ESP: "aes256-sha256"})
		a, swan := n.swanInitiates(sideA(plainSuite)+secondA, c)
		if text, err := swan.Initiate(context.Background(), "t2"); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		check(n, a)
	})
}

// TestStrongSwanExpires lets strongSwan delete a child SA at the end of its life,
// without having replaced it: there is a tunnel again.
func TestStrongSwanExpires(t *testing.T) {
	scenario(t, "life and death", "a child SA expires at strongSwan, not replaced", initiates)
	needStrongSwan(t)
	n := newPeerNet(t)
	config := swanA(plainSuite)
	config.Children[0].Extra = "rekey_time = 0s\nlife_time = 2s\nrand_time = 0s"
	_, b := n.swanResponds(config, sideB(plainSuite))
	b.waitNth(2, "event", "child_down", "reason", "deleted_by_peer")
	b.waitNth(3, "event", "child_up")
	n.comesBack(waitTime)
}
