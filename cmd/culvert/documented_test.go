//go:build linux

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"culvert/lab"
)

// documented is a block of a how-to, in a form.
func documented(t *testing.T, howto, form string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "howto", howto+".md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```" + form + "[^\n]*\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no %s", howto, form)
	}
	return string(m[1])
}

// branch is the culvert that docs/howto/strongswan.md puts behind the NAT, with
// the key of the other blocks.
func (n *peerNet) branch() *culvertProcess {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, "office.key"), []byte("a random one goes here\n"), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return n.culvert(n.GatewayB, "branch.toml", documented(n.t, "strongswan", "toml"))
}

// TestDocumentedPeers runs what the how-tos tell people to write.
func TestDocumentedPeers(t *testing.T) {
	t.Run("strongSwan", func(t *testing.T) {
		needStrongSwan(t)
		scenario(t, "configuration", "both sides as docs/howto/strongswan.md has them", initiates)
		n := newPeerNet(t)
		swan := n.strongSwan(n.GatewayA, lab.StrongSwanConfig{Swanctl: documented(t, "strongswan", "swanctl")})
		b := n.branch()
		b.wait("event", "child_up", "tunnel", "lan")
		n.reaches()
		n.wantSame(b, swan)
	})
	t.Run("VyOS", func(t *testing.T) {
		n := newPeerNet(t)
		n.culvert(n.GatewayA, "office.vyos", documented(t, "vyos", "vyos")).wait("event", "device_up")
		n.branch().wait("event", "child_up", "tunnel", "lan")
		n.reaches()
	})
}
