//go:build linux

package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"culvert/lab"
)

// TestSwanctlResponds has strongSwan read the example of side A as it is
// shipped, and culvert that of side B.
func TestSwanctlResponds(t *testing.T) {
	scenario(t, "configuration", "examples in swanctl.conf, as they are, read by both", initiates)
	needStrongSwan(t)
	n := newPeerNet(t)
	swan := n.strongSwan(n.GatewayA, lab.StrongSwanConfig{Swanctl: example(t, "side-a.swanctl.conf")})
	b := n.culvert(n.GatewayB, "side-b.swanctl.conf", example(t, "side-b.swanctl.conf"))
	b.wait("event", "child_up", "tunnel", "lan")
	n.reaches()
	n.wantSame(b, swan)
}

// TestSwanctlInitiates is the other way round: strongSwan starts by itself what
// its file says.
func TestSwanctlInitiates(t *testing.T) {
	scenario(t, "configuration", "examples in swanctl.conf, as they are, read by both", responds)
	needStrongSwan(t)
	n := newPeerNet(t)
	a := n.culvert(n.GatewayA, "side-a.swanctl.conf", example(t, "side-a.swanctl.conf"))
	a.wait("event", "device_up")
	swan := n.strongSwan(n.GatewayB, lab.StrongSwanConfig{Swanctl: example(t, "side-b.swanctl.conf")})
	eventually(t, "tunnel at both ends", func() bool { return n.converged(a, swan) }) // the initiator has it last
	n.reaches()
	n.wantSame(a, swan)
}

// TestSwanctlConverted gives strongSwan what `culvert convert --to swanctl`
// makes of the examples in the other forms.
func TestSwanctlConverted(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	for _, form := range []string{"toml", "vyos", "set"} {
		t.Run(form, func(t *testing.T) {
			scenario(t, "configuration", "strongSwan runs what culvert converts from "+form, initiates)
			n := net.in(t)
			n.strongSwan(n.GatewayA, lab.StrongSwanConfig{Swanctl: n.converted("side-a." + form)})
			b := n.culvert(n.GatewayB, "side-b."+form, example(t, "side-b."+form))
			b.wait("event", "child_up")
			n.pings(n.ways()...)
		})
	}
}

// converted is the swanctl.conf that the command makes of an example.
func (n *peerNet) converted(name string) string {
	n.t.Helper()
	file := n.dir + "/" + name
	if err := os.WriteFile(file, []byte(example(n.t, name)), 0o600); err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "convert", "--to", "swanctl", file)
	cmd.Env = append(os.Environ(), asCulvert+"=1")
	text, err := cmd.Output()
	if err != nil {
		n.t.Fatal(err)
	}
	return string(text)
}

// swanTricks is side A in all that strongSwan's syntax allows: sections that
// take from others, several words for a thing, a secret in hexadecimal, children
// of several networks.
const swanTricks = `
conn-defaults {
	version = 2
	proposals = aes256-sha256-modp2048, aes128gcm16-prfsha256-x25519
	local-first { auth = psk }   # a brace behind a value ends the section
	remote-first { auth = "psk" }
}
child-defaults
{
	esp_proposals = aes128gcm16
	rekey_time = 1 h
}
connections {
	foo : conn-defaults {
		local_addrs = 203.0.113.1
		unique = no
		unique = replace
		local-first {
			id = "ipv4:#cb007101"
		}
		remote-first {
			id = "fqdn:#666f6f"
		}
		children {
			lan : child-defaults, conn-defaults.children.none {
				local_ts = 10.103.0.0/24[tcp], 10.103.0.0/24[icmp]
				remote_ts = 10.104.0.0/24[tcp],10.104.0.0/24[icmp]
			}
		}
	}
}
conn-defaults { children { none { } } }
secrets {
	ike-other {
		id = somebody.else
		secret = "not this one"
	}
	ike-foo {
		id-peer = @foo
		secret = 0x717765727479
	}
}
`

// TestSwanctlTricks: both read the same of a file with all that its syntax
// allows.
func TestSwanctlTricks(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	t.Run("strongSwan reads it", func(t *testing.T) {
		scenario(t, "configuration", "all of swanctl.conf's syntax", initiates)
		n := net.in(t)
		n.strongSwan(n.GatewayA, lab.StrongSwanConfig{Swanctl: swanTricks})
		b := n.culvert(n.GatewayB, "side-b.swanctl.conf", example(t, "side-b.swanctl.conf"))
		b.wait("event", "child_up")
		n.pings(n.ways()...)
	})
	t.Run("culvert reads it", func(t *testing.T) {
		scenario(t, "configuration", "all of swanctl.conf's syntax", responds)
		n := net.in(t)
		a := n.culvert(n.GatewayA, "side-a.swanctl.conf", swanTricks)
		a.wait("event", "device_up")
		swan := n.strongSwan(n.GatewayB, lab.StrongSwanConfig{Swanctl: strings.ReplaceAll(example(t, "side-b.swanctl.conf"), "start_action = start", "")})
		if text, err := swan.Initiate(context.Background(), "lan"); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		a.wait("event", "child_up", "tunnel", "lan")
		n.pings(n.ways()...)
	})
}
