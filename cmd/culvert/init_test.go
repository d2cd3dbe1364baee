//go:build linux

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/lab"
)

// TestInitMeetsStrongSwan: the two files that `culvert init` writes are two sides
// of one tunnel, in strongSwan's own eyes too.
func TestInitMeetsStrongSwan(t *testing.T) {
	needStrongSwan(t)
	scenario(t, "configuration", "both sides as `culvert init` writes them", initiates)
	n := newPeerNet(t)
	p, err := newInterview(strings.NewReader("strongswan\n\n\nyes\n203.0.113.1\n10.104.0.0/24\n10.103.0.0/24\n"), io.Discard).hold()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.write(io.Discard, n.dir); err != nil {
		t.Fatal(err)
	}
	text := func(name string) string {
		b, err := os.ReadFile(filepath.Join(n.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	swan := n.strongSwan(n.GatewayA, lab.StrongSwanConfig{Swanctl: text("office.swanctl.conf")})
	b := n.culvert(n.GatewayB, "branch.toml", text("branch.toml"))
	b.wait("event", "child_up", "tunnel", "lan")
	n.reaches()
	n.wantSame(b, swan)
}
