//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/config"
	"culvert/gateway"
	"culvert/lab"
)

const chachaIKE, chachaESP = "chacha20poly1305-prfsha256-x25519", "chacha20poly1305"

// TestStrongSwanChaChaDefault: a peer that has nothing else finds ChaCha20 among
// the defaults.
func TestStrongSwanChaChaDefault(t *testing.T) {
	scenario(t, "suites", "strongSwan has nothing but ChaCha20-Poly1305, culvert its defaults", initiates)
	needStrongSwan(t)
	n := newPeerNet(t)
	text := edit(t, sideB(plainSuite), `ike = ["`+plainSuite.ike+`"]`, "", `esp = ["`+plainSuite.esp+`"]`, "")
	swan, b := n.swanResponds(swanA(suite{chachaIKE, chachaESP}), text)
	n.pings(n.ways()...)
	n.wantSame(b, swan)
}

// TestStrongSwanChildless has strongSwan make the IKE SA without a child, which
// it does only where culvert says that it may, and ask for the child after.
func TestStrongSwanChildless(t *testing.T) {
	scenario(t, "extensions", "childless initiation", responds)
	needStrongSwan(t)
	n := newPeerNet(t)
	c := swanB(plainSuite)
	c.ConnectionExtra = "childless = force"
	a, swan := n.swanInitiates(sideA(plainSuite), c)
	n.reaches()
	n.wantSame(a, swan)
	if log := swan.Log(); !strings.Contains(log, "N(CHDLESS_SUP)") || !strings.Contains(log, "generating CREATE_CHILD_SA request") {
		t.Error("strongSwan did not make the IKE SA without a child")
	}
}

// withTicketKey is a side with a key for tickets of its own.
func withTicketKey(text string) string {
	return "[gateway]\nresumption_key_file = \"tickets.key\"\n\n" + text
}

// resumedIn wants the gateway's nth connection to come of a ticket, or not.
func (p *culvertProcess) wantResumed(nth int, want bool) {
	p.t.Helper()
	if got := p.waitNth(nth, "event", "established")["resumed"]; got != want {
		p.t.Errorf("%s: connection %d is resumed: %v, want %v", filepath.Base(p.file), nth, got, want)
	}
}

// outage pings every 10 ms for five seconds, in which do takes place, and returns
// the time that the lost ones stand for.
func (n *peerNet) outage(w route, do func()) time.Duration {
	n.t.Helper()
	const every, count = 10 * time.Millisecond, 500
	var stats lab.PingStats
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitTime)
		defer cancel()
		stats, err = w.from.Ping(ctx, w.addr, lab.PingOptions{Count: count, Interval: every, Timeout: time.Second})
	})
	do()
	wg.Wait()
	if err != nil {
		n.t.Error(err)
	}
	return every * time.Duration(stats.Lost())
}

// TestPairResumes kills the responder under traffic and starts it again: its
// peer learns of it by the packets that it sends, and resumes. The key that
// makes this possible is its owner's alone.
func TestPairResumes(t *testing.T) {
	n := newPeerNet(t)
	a, b := n.pair(withTicketKey(sideA(plainSuite)), sideB(plainSuite))
	b.wantResumed(1, false)
	for i := range 3 {
		outage := n.outage(n.ways()[0], func() {
			a.kill()
			a = n.culvert(n.GatewayA, "a.toml", withTicketKey(sideA(plainSuite)))
			a.wait("event", "child_up")
			n.comesBack(waitTime)
		})
		a.wantResumed(1, true)
		b.wantResumed(i+2, true)
		t.Logf("no answer for %v", outage.Round(time.Millisecond))
	}
	if down := b.log.records("event", "down", "reason", "restarted"); len(down) != 3 {
		t.Errorf("%d proofs of a restart", len(down))
	}
	for _, p := range []*culvertProcess{a, b} {
		if s := p.status().Peers[0]; !s.Resumed || s.State != "up" {
			t.Errorf("status %+v", s)
		}
	}
	n.reaches()
	info, err := os.Stat(filepath.Join(n.dir, "tickets.key"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the key: %v, %v", info.Mode(), err)
	}
	key, err := os.ReadFile(filepath.Join(n.dir, "tickets.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*culvertProcess{a, b} {
		if log := p.log.String(); strings.Contains(log, string(key)) || strings.Contains(log, fmt.Sprintf("%x", key)) {
			t.Error("the key of tickets is in the log")
		}
	}
}

// TestPairResumesNot: without the key of before, or where tickets are switched
// off, the peer connects anew; without a file the restart takes until the peer is
// given up to notice, which nobody waits for here.
func TestPairResumesNot(t *testing.T) {
	net := newPeerNet(t)
	dpd := "[peer.office]\ndpd = \"1s\"\nretransmit = \"100ms\"\nretransmit_max = \"200ms\"\nretransmit_tries = 4\n"
	textB := func(t *testing.T) string { return edit(t, sideB(plainSuite), "[peer.office]\n", dpd) }
	t.Run("no file", func(t *testing.T) {
		n := net.in(t)
		a, b := n.pair(sideA(plainSuite), textB(t))
		a.kill()
		a = n.culvert(n.GatewayA, "a.toml", sideA(plainSuite))
		a.wantResumed(1, false)
		b.wantResumed(2, false)
		n.comesBack(waitTime)
	})
	t.Run("switched off", func(t *testing.T) {
		n := net.in(t)
		off := withTicketKey(edit(t, sideA(plainSuite), "[peer.foo]\n", "[peer.foo]\nresumption = false\n"))
		a, b := n.pair(off, textB(t))
		a.kill()
		a = n.culvert(n.GatewayA, "a.toml", off)
		a.wantResumed(1, false)
		b.wantResumed(2, false)
		n.comesBack(waitTime)
	})
}

// TestUnreadableTicketKey: a key that others may read stops the gateway at its
// start, in words.
func TestUnreadableTicketKey(t *testing.T) {
	n := newPeerNet(t)
	if err := os.WriteFile(filepath.Join(n.dir, "tickets.key"), make([]byte, 32), 0o644); err != nil {
		t.Fatal(err)
	}
	a := n.culvert(n.GatewayA, "a.toml", withTicketKey(sideA(plainSuite)))
	a.killed = true // it ends by itself, with an error
	eventually(t, "end of the gateway", a.ended)
	if log := a.log.String(); !strings.Contains(log, "chmod 600") || !strings.Contains(log, "tickets.key") {
		t.Errorf("it says %s", log)
	}
}

// inProcess runs a gateway of this process on a host, for what no command says
// to it.
func (n *peerNet) inProcess(h *lab.Host, text string) *gateway.Gateway {
	n.t.Helper()
	cfg, err := config.Parse("site.toml", []byte(text), config.Lookups{})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	opened, ended := make(chan *gateway.Gateway, 1), make(chan error, 1)
	go func() {
		ended <- h.Do(func() error {
			g, err := gateway.New(cfg, gateway.Options{})
			if err != nil {
				close(opened)
				return err
			}
			opened <- g
			return g.Run(ctx)
		})
	}()
	n.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			n.t.Error(err)
		}
	})
	g := <-opened
	if g == nil {
		n.t.Fatal("no gateway")
	}
	return g
}

func isUp(g *gateway.Gateway) bool {
	s, ok := g.Status()
	return ok && s.Peers[0].State == "up" && len(s.Peers[0].Children) == 1
}

// TestStrongSwanFollowsRedirect has a draining gateway send strongSwan to
// another: when it is up, and when it comes anew.
func TestStrongSwanFollowsRedirect(t *testing.T) {
	scenario(t, "extensions", "REDIRECT of strongSwan, when up and when it comes", responds)
	needStrongSwan(t)
	n := newPeerNet(t)
	other, err := n.Host("gwc")
	if err != nil {
		t.Fatal(err)
	}
	n.link(other, "wan", "198.51.100.1/24", n.NAT, "out2", "198.51.100.254/24")
	n.defaultRoute(other, "198.51.100.254/24")
	a, c := n.inProcess(n.GatewayA, sideA(plainSuite)), n.inProcess(other, sideA(plainSuite))
	swan := n.strongSwan(n.GatewayB, swanB(plainSuite))
	initiate := func() {
		if text, err := swan.Initiate(context.Background(), "t1"); err != nil {
			t.Logf("%v\n%s", err, text)
		}
	}
	initiate()
	eventually(t, "tunnel", func() bool { return isUp(a) })
	if err := a.Drain("198.51.100.1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "tunnel with the other gateway", func() bool { return isUp(c) && !isUp(a) })

	n.swanctl(swan, "--terminate", "--ike", "foo")
	eventually(t, "end of the tunnel", func() bool { return !isUp(c) })
	initiate()
	eventually(t, "tunnel of one sent away at once", func() bool { return isUp(c) })
	if isUp(a) {
		t.Error("a draining gateway takes a new peer")
	}
}
