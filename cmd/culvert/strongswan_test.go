//go:build linux

package main

import (
	"context"
	"fmt"
	"testing"

	"culvert/lab"
)

// peerSuite is a pair of proposals in strongSwan's words, which are ours too.
// Its kernel-libipsec has no extended sequence numbers.
type peerSuite struct{ name, ike, esp string }

var peerSuites = []peerSuite{
	{"gcm128", "aes128gcm16-prfsha256-x25519", "aes128gcm16"},
	{"gcm256", "aes256gcm16-prfsha384-ecp384", "aes256gcm16"},
	{"cbc128-sha256", "aes128-sha256-modp2048", "aes128-sha256"},
	{"cbc256-sha512", "aes256-sha512-ecp521", "aes256-sha512"},
}

func sideA(suite peerSuite) string {
	return fmt.Sprintf(`[peer.foo]
remote = "any"
local_id = "203.0.113.1"
remote_id = "@foo"
psk = "qwerty"
ike = [%q]

[peer.foo.tunnel.lan]
local = "10.103.0.0/24"
remote = "10.104.0.0/24"
esp = [%q]
`, suite.ike, suite.esp)
}

func sideB(suite peerSuite) string {
	return fmt.Sprintf(`[peer.office]
remote = "203.0.113.1"
local_id = "@foo"
remote_id = "203.0.113.1"
psk = "qwerty"
ike = [%q]

[peer.office.tunnel.lan]
local = "10.104.0.0/24"
remote = "10.103.0.0/24"
esp = [%q]
`, suite.ike, suite.esp)
}

func (n *peerNet) strongSwan(h *lab.Host, c lab.StrongSwanConfig) *lab.StrongSwan {
	n.t.Helper()
	s, err := h.StrongSwan(context.Background(), c)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if n.t.Failed() {
			n.t.Logf("log of strongSwan:\n%s", s.Log())
		}
		_ = s.Stop()
	})
	return s
}

func needStrongSwan(t *testing.T) {
	t.Helper()
	if err := lab.StrongSwanAvailable(); err != nil {
		t.Skip(err)
	}
}

func TestStrongSwanResponds(t *testing.T) {
	needStrongSwan(t)
	for _, suite := range peerSuites {
		t.Run(suite.name, func(t *testing.T) {
			n := newPeerNet(t)
			n.strongSwan(n.GatewayA, lab.StrongSwanConfig{LocalAddrs: "203.0.113.1", LocalID: "203.0.113.1", RemoteID: "foo", Secret: "qwerty",
				IKE: suite.ike, Children: []lab.StrongSwanChild{{LocalTS: "10.103.0.0/24", RemoteTS: "10.104.0.0/24", ESP: suite.esp}}})
			b := n.culvert(n.GatewayB, "b.toml", sideB(suite))
			b.wait("event", "child_up")
			n.reaches()
		})
	}
}

func TestStrongSwanInitiates(t *testing.T) {
	needStrongSwan(t)
	for _, suite := range peerSuites {
		t.Run(suite.name, func(t *testing.T) {
			n := newPeerNet(t)
			a := n.culvert(n.GatewayA, "a.toml", sideA(suite))
			a.wait("event", "device_up")
			b := n.strongSwan(n.GatewayB, lab.StrongSwanConfig{RemoteAddrs: "203.0.113.1", LocalID: "foo", RemoteID: "203.0.113.1", Secret: "qwerty",
				IKE: suite.ike, Children: []lab.StrongSwanChild{{LocalTS: "10.104.0.0/24", RemoteTS: "10.103.0.0/24", ESP: suite.esp}}})
			if text, err := b.Initiate(context.Background(), "t1"); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			a.wait("event", "child_up")
			n.reaches()
		})
	}
}
