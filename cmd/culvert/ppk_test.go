//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"culvert/gateway"
	"culvert/lab"
)

const quantumSecret = "post-quantum-periwinkle-dirigible-0192837465"

// swanPPK gives strongSwan a post-quantum pre-shared key.
func swanPPK(c lab.StrongSwanConfig, name, key string, required bool) lab.StrongSwanConfig {
	if name != "" {
		c.SecretsExtra = fmt.Sprintf("ppk-branch {\nid = %s\nsecret = \"%s\"\n}", name, key)
		c.ConnectionExtra = "ppk_id = " + name
	}
	if required {
		c.ConnectionExtra += "\nppk_required = yes"
	}
	return c
}

// withPPK gives the one peer of a text a post-quantum pre-shared key.
func withPPK(t *testing.T, text, name, key string, required bool) string {
	t.Helper()
	lines := fmt.Sprintf("ppk_id = %q\nppk = %q\nppk_required = %v\n", name, key, required)
	return edit(t, text, "ike = [", lines+"ike = [")
}

// ppkCase is what the two sides have, and whether they come together.
type ppkCase struct {
	name                           string
	swanName, swanKey              string
	swanRequires, weRequire        bool
	up, used                       bool
	swanInsists                    bool   // on the name that it is configured with, as a responder
	oursAsInitiator, oursAsAnswers string // the diagnosis here, where they do not
}

var ppkCases = []ppkCase{
	{name: "same", swanName: "branch", swanKey: quantumSecret, up: true, used: true},
	{name: "same, required by both", swanName: "branch", swanKey: quantumSecret, swanRequires: true, weRequire: true, up: true, used: true},
	{name: "strongSwan has none", up: true},
	{name: "strongSwan has another", swanName: "trunk", swanKey: quantumSecret, up: true, swanInsists: true},
	{name: "strongSwan has none, required here", weRequire: true, oursAsAnswers: "no_ppk"},
	{name: "strongSwan has another, required there", swanName: "trunk", swanKey: quantumSecret, swanRequires: true, oursAsInitiator: "refused", oursAsAnswers: "no_ppk"},
}

// TestStrongSwanPPKResponds and TestStrongSwanPPKInitiates mix a post-quantum
// pre-shared key into the keys where both have it, and do without, or not, where
// one has not (RFC 8784).
func TestStrongSwanPPKResponds(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	for _, c := range ppkCases {
		t.Run(c.name, func(t *testing.T) {
			scenario(t, "extensions", "PPK: "+c.name, initiates)
			n := net.in(t)
			swan := n.strongSwan(n.GatewayA, swanPPK(swanA(plainSuite), c.swanName, c.swanKey, c.swanRequires))
			b := n.culvert(n.GatewayB, "b.toml", withPPK(t, sideB(plainSuite), "branch", quantumSecret, c.weRequire))
			switch {
			case c.swanInsists:
				b.wait("diagnosis", "refused")
				return
			case !c.up:
				n.refusedPPK(b, c.oursAsInitiator)
				return
			}
			b.wait("event", "child_up")
			n.reaches()
			n.wantPPK(b, swan, c.used)
		})
	}
}

func TestStrongSwanPPKInitiates(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	for _, c := range ppkCases {
		t.Run(c.name, func(t *testing.T) {
			scenario(t, "extensions", "PPK: "+c.name, responds)
			n := net.in(t)
			a := n.culvert(n.GatewayA, "a.toml", withPPK(t, sideA(plainSuite), "branch", quantumSecret, c.weRequire))
			a.wait("event", "device_up")
			swan := n.strongSwan(n.GatewayB, swanPPK(swanB(plainSuite), c.swanName, c.swanKey, c.swanRequires))
			text, err := swan.Initiate(context.Background(), "t1")
			if !c.up {
				if err == nil {
					t.Errorf("strongSwan connects:\n%s", text)
				}
				n.refusedPPK(a, c.oursAsAnswers)
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			a.wait("event", "child_up")
			n.reaches()
			n.wantPPK(a, swan, c.used)
		})
	}
}

// refusedPPK waits for the diagnosis, if there is one here.
func (n *peerNet) refusedPPK(p *culvertProcess, code string) {
	n.t.Helper()
	if code == "" {
		p.wait("event", "refused", "reason", "no_ppk")
	} else {
		p.wait("diagnosis", code)
	}
	if up := p.log.records("event", "established"); len(up) > 0 {
		n.t.Errorf("connected: %v", up)
	}
}

// wantPPK also replaces the IKE SA and the child SA, from whose keys those of the
// new ones come.
func (n *peerNet) wantPPK(p *culvertProcess, swan *lab.StrongSwan, used bool) {
	n.t.Helper()
	status := p.status().Peers[0]
	if status.PostQuantum != used || strings.HasSuffix(status.Suite, "/PPK") != used {
		n.t.Errorf("status: %s, post-quantum %v, want %v", status.Suite, status.PostQuantum, used)
	}
	if used {
		n.rekeys(swan, "--ike", "foo")
		p.wait("event", "rekeyed")
		n.rekeys(swan, "--child", "t1")
		p.waitNth(2, "event", "child_up")
		n.reaches()
		if status = p.status().Peers[0]; !status.PostQuantum {
			n.t.Errorf("status after the rekey: %s", status.Suite)
		}
	}
}

func (n *peerNet) rekeys(s *lab.StrongSwan, what, name string) {
	n.t.Helper()
	if out, err := s.Swanctl(context.Background(), "--rekey", what, name); err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
}

// TestPairPostQuantum: two gateways with nothing said of it have ML-KEM-768
// beside X25519, also after a rekey; one that has it switched off has none; where
// it is required, a peer without is told so.
func TestPairPostQuantum(t *testing.T) {
	net := newPeerNet(t)
	bare := func(text string) string { return edit(t, text, `ike = ["`+plainSuite.ike+`"]`, "") }
	for _, c := range []struct {
		name, inA, inB string
		suite          string
	}{
		{"default", "", "", "/CURVE_25519/ADDKE1_ML_KEM_768"},
		{"ML-KEM-1024", "", `post_quantum_methods = ["mlkem1024"]`, "/CURVE_25519/ADDKE1_ML_KEM_1024"},
		{"required", `post_quantum = "require"`, `post_quantum = "require"`, "/CURVE_25519/ADDKE1_ML_KEM_768"},
		{"off", "", `post_quantum = "off"`, "/CURVE_25519"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := net.in(t)
			a, b := n.pair(edit(t, bare(sideA(plainSuite)), "psk =", c.inA+"\npsk ="), edit(t, bare(sideB(plainSuite)), "psk =", c.inB+"\npsk ="))
			n.reaches()
			for _, p := range []gateway.PeerStatus{a.status().Peers[0], b.status().Peers[0]} {
				if !strings.HasSuffix(p.Suite, c.suite) || p.PostQuantum != strings.Contains(c.suite, "ADDKE") {
					t.Errorf("%s: %s, post-quantum %v", p.Name, p.Suite, p.PostQuantum)
				}
			}
			b.wantNoDrops("ike_integrity", "ike_malformed", "ike_state")
		})
	}
	t.Run("required, and not to be had", func(t *testing.T) {
		n := net.in(t)
		a := n.culvert(n.GatewayA, "a.toml", edit(t, bare(sideA(plainSuite)), "psk =", "post_quantum = \"require\"\npsk ="))
		a.wait("event", "device_up")
		n.culvert(n.GatewayB, "b.toml", edit(t, bare(sideB(plainSuite)), "psk =", "post_quantum = \"off\"\npsk ="))
		wantReport(t, a.wait("diagnosis", "no_post_quantum"), "no_post_quantum", "ML-KEM-768")
	})
	t.Run("required of a peer that is off", func(t *testing.T) {
		n := net.in(t)
		a := n.culvert(n.GatewayA, "a.toml", edit(t, bare(sideA(plainSuite)), "psk =", "post_quantum = \"off\"\npsk ="))
		a.wait("event", "device_up")
		b := n.culvert(n.GatewayB, "b.toml", edit(t, bare(sideB(plainSuite)), "psk =", "post_quantum = \"require\"\npsk ="))
		wantReport(t, b.wait("diagnosis", "no_post_quantum"), "no_post_quantum", "post_quantum = \"prefer\"", "b.toml")
	})
}
