//go:build linux

package main

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/lab"
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

// under pings both ways every 10 ms for d and returns what was lost.
func (n *peerNet) under(d time.Duration) (lost int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d+waitTime)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, w := range n.ways() {
		wg.Go(func() {
			const every = 10 * time.Millisecond
			stats, err := w.from.Ping(ctx, w.addr, lab.PingOptions{Count: int(d / every), Interval: every, Timeout: 3 * time.Second})
			mu.Lock()
			defer mu.Unlock()
			lost += stats.Lost()
			if err != nil || stats.Lost() > 0 {
				n.t.Errorf("ping %s -> %s: %d of %d lost: %v", w.from.Name, w.to.Name, stats.Lost(), stats.Sent, err)
			}
		})
	}
	wg.Wait()
	return lost
}

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

// TestStrongSwanRekeys has either side replace child SAs every 3 s and IKE SAs
// every 7 s, or both, with and without perfect forward secrecy, under traffic:
// nothing is lost.
func TestStrongSwanRekeys(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	pfs := suite{plainSuite.ike, "aes128gcm16-x25519"}
	for _, c := range []struct {
		name              string
		suite             suite
		culvert, swan     bool // who replaces
		culvertInitiates  bool
		children, minIKEs int
	}{
		{"culvert responds and rekeys", plainSuite, true, false, false, 4, 1},
		{"culvert initiates and rekeys with PFS", pfs, true, false, true, 4, 1},
		{"strongSwan responds and rekeys", plainSuite, false, true, true, 4, 1},
		{"strongSwan initiates and rekeys with PFS", pfs, false, true, false, 4, 1},
		{"both rekey", plainSuite, true, true, true, 4, 1},
		{"both rekey with PFS", pfs, true, true, false, 4, 1},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			n := net.in(t)
			lives, ike, child := theirLives, swanIKENever, swanNever
			if c.culvert {
				lives = ourLives
			}
			if c.swan {
				ike, child = swanIKELife, swanChildLife
			}
			with := func(s lab.StrongSwanConfig) lab.StrongSwanConfig {
				s.ConnectionExtra, s.Children[0].Extra = ike, child
				return s
			}
			var p *culvertProcess
			var swan *lab.StrongSwan
			if c.culvertInitiates {
				swan, p = n.swanResponds(with(swanA(c.suite)), edit(t, sideB(c.suite), lives...))
			} else {
				p, swan = n.swanInitiates(edit(t, sideA(c.suite), lives...), with(swanB(c.suite)))
			}
			n.under(15 * time.Second)
			p.wantRekeys(c.children, c.minIKEs)
			p.alive()
			if strings.Contains(c.suite.esp, "x25519") && !strings.Contains(swan.Log(), "selected proposal: ESP:AES_GCM_16_128/CURVE_25519/NO_EXT_SEQ") {
				t.Error("no child SA has a key exchange of its own")
			}
		})
	}
}

// TestStrongSwanRekeysDefaults leaves the choice of algorithms to both: culvert
// offers a key exchange and goes without where strongSwan's default has none.
func TestStrongSwanRekeysDefaults(t *testing.T) {
	needStrongSwan(t)
	n := newPeerNet(t)
	config := swanA(suite{"default", "default"})
	config.Children[0].Extra = swanChildLife
	_, b := n.swanResponds(config, edit(t, sideB(plainSuite), `ike = ["aes128gcm16-prfsha256-x25519"]`, `ike_lifetime = "3s"`, `esp = ["aes128gcm16"]`, `lifetime = "2s"`))
	n.under(8 * time.Second)
	b.wantRekeys(2, 1)
	b.alive()
}

// TestStrongSwanCollides has strongSwan take in late what we say of rekeying, so
// that both sides begin while the other's request is on its way, time and again.
func TestStrongSwanCollides(t *testing.T) {
	needStrongSwan(t)
	n := newPeerNet(t)
	s := suite{plainSuite.ike, "aes128gcm16-x25519"}
	config := swanA(s)
	config.CharonExtra = "receive_delay = 800\nreceive_delay_type = 36" // CREATE_CHILD_SA
	config.ConnectionExtra = strings.Replace(swanIKELife, "rand_time = 1s", "rand_time = 0s", 1)
	config.Children[0].Extra = strings.Replace(swanChildLife, "rand_time = 1s", "rand_time = 0s", 1)
	swan, b := n.swanResponds(config, edit(t, sideB(s), ourLives...))
	n.under(15 * time.Second)
	b.wantRekeys(1, 0) // many are put off, because the peer is at something else
	b.alive()
	if !strings.Contains(swan.Log(), "detected CHILD_REKEY collision") {
		t.Error("no collision of rekeys")
	}
	t.Logf("%d collisions of child SAs, %d of IKE SAs", strings.Count(swan.Log(), "detected CHILD_REKEY collision"), strings.Count(swan.Log(), "detected IKE_REKEY collision"))
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
