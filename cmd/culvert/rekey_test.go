//go:build linux

package main

import (
	"testing"
	"time"
)

// Short lives: strongSwan's need margins of their own.
const (
	swanChildLife = "rekey_time = 3s\nlife_time = 60s\nrand_time = 1s"
	swanIKELife   = "rekey_time = 7s\nover_time = 60s\nrand_time = 1s"
	swanNever     = "rekey_time = 0s\nlife_time = 0s"
	swanIKENever  = "rekey_time = 0s\nreauth_time = 0s"
)

var (
	ourLives   = []string{"ike = [", "ike_lifetime = \"7s\"\nike = [", "esp = [", "lifetime = \"3s\"\nesp = ["}
	theirLives = []string{"ike = [", "ike_lifetime = \"8h\"\nike = [", "esp = [", "lifetime = \"8h\"\nesp = ["}
)

// wantRekeys holds a gateway to having replaced so many SAs without having lost
// the tunnel.
func (p *culvertProcess) wantRekeys(children, ikes int) {
	p.t.Helper()
	child, ike := len(p.log.records("event", "child_up", "reason", "rekeyed")), len(p.log.records("event", "rekeyed"))
	p.t.Logf("%d child SAs and %d IKE SAs replaced", child, ike)
	if child < children || ike < ikes {
		p.t.Errorf("%d child SAs and %d IKE SAs were replaced, want %d and %d", child, ike, children, ikes)
	}
	if down := p.log.records("event", "down"); len(down) > 0 {
		p.t.Errorf("the connection went down: %v", down)
	}
}

// TestStrongSwanRekeysDefaults leaves the choice of algorithms to both: culvert
// offers a key exchange and goes without where strongSwan's default has none.
func TestStrongSwanRekeysDefaults(t *testing.T) {
	scenario(t, "rekeys", "both choose the algorithms", initiates)
	needStrongSwan(t)
	n := newPeerNet(t)
	config := swanA(suite{"default", "default"})
	config.Children[0].Extra = swanChildLife
	_, b := n.swanResponds(config, edit(t, sideB(plainSuite), `ike = ["aes128gcm16-prfsha256-x25519"]`, `ike_lifetime = "3s"`, `esp = ["aes128gcm16"]`, `lifetime = "2s"`))
	n.under(8 * time.Second)
	b.wantRekeys(2, 1)
	b.alive()
}

// TestPairRekeys has both gateways replace everything every second.
func TestPairRekeys(t *testing.T) {
	n := newPeerNet(t)
	lives := []string{"ike = [", "ike_lifetime = \"2s\"\nike = [", "esp = [", "lifetime = \"1s\"\nesp = ["}
	s := suite{plainSuite.ike, "aes128gcm16-x25519"}
	a, b := n.pair(edit(t, sideA(s), lives...), edit(t, sideB(s), lives...))
	n.under(15 * time.Second)
	for _, p := range []*culvertProcess{a, b} {
		p.wantRekeys(5, 3)
		p.alive()
	}
}
