//go:build linux

package main

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// write gives a running gateway's file another text.
func (p *culvertProcess) write(text string) {
	p.t.Helper()
	if err := os.WriteFile(p.file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// operate runs a command on the gateway's control socket, as its operator does.
func (p *culvertProcess) operate(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := exec.Command(os.Args[0], append(slices.Clone(args), "--socket", p.socket)...)
	cmd.Env = append(os.Environ(), asCulvert+"=1")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code, err = exit.ExitCode(), nil
	}
	if err != nil {
		p.t.Fatal(err)
	}
	wantNoSecret(p.t, strings.Join(args, " "), out.String()+errs.String())
	return out.String(), errs.String(), code
}

// says wants a command to succeed and say so.
func (p *culvertProcess) says(want string, args ...string) {
	p.t.Helper()
	if out, errs, code := p.operate(args...); code != 0 || !strings.Contains(out, want) {
		p.t.Errorf("culvert %q: exit code %d, want %q in:\n%s%s", args, code, want, out, errs)
	}
}

const (
	branchA = `
[peer.branch]
remote = "any"
local_id = "203.0.113.1"
remote_id = "@branch"
psk = "` + secret + `"
[peer.branch.tunnel.lab]
local = "10.103.0.0/24"
remote = "10.106.0.0/24"
`
	branchC = `
[peer.office]
remote = "203.0.113.1"
local_id = "@branch"
remote_id = "203.0.113.1"
psk = "` + secret + `"
[peer.office.tunnel.lab]
local = "10.106.0.0/24"
remote = "10.103.0.0/24"
`
)

// TestReloadUnderTraffic changes one peer of A, by signal and by command, in
// ways that are adjusted, connect anew, or are wrong, while the other one's
// pings flow every 10 ms: none is lost, and that peer's SAs stay.
func TestReloadUnderTraffic(t *testing.T) {
	n := newPeerNet(t)
	n.addAddr(n.NAT, "lo", "10.106.0.10/32")
	a := n.culvert(n.GatewayA, "a.toml", sideA(plainSuite)+branchA)
	a.wait("event", "device_up")
	b := n.culvert(n.GatewayB, "b.toml", sideB(plainSuite))
	c := n.culvert(n.NAT, "c.toml", branchC)
	a.waitNth(2, "event", "child_up")
	toBranch := route{n.HostA, n.NAT, netip.MustParseAddr("10.106.0.10")}
	n.pings(toBranch)
	was := b.status().Peers[0]

	traffic := make(chan struct{})
	go func() { defer close(traffic); n.under(12 * time.Second) }()

	a.write(edit(t, sideA(plainSuite)+branchA, "[peer.branch]\n", "[peer.branch]\ndpd = \"10s\"\n"))
	a.Signal(syscall.SIGHUP)
	a.wait("event", "reloaded", "unchanged", "1", "adjusted", "[branch]")

	a.write(edit(t, sideA(plainSuite)+branchA, "remote_id = \"@branch\"\npsk = \""+secret, "remote_id = \"@branch\"\npsk = \"another-"+secret))
	a.says("1 peer unchanged, re-established branch", "reload")
	c.wait("event", "refused_by_peer")

	a.write(edit(t, sideA(plainSuite)+branchA, "remote_id = \"@branch\"\n", "remot_id = \"@branch\"\n"))
	a.Signal(syscall.SIGHUP)
	record := a.wait("event", "reload_failed", "line", "16")
	if text := record["msg"].(string); !strings.Contains(text, a.file+":16:1: error: unknown setting") {
		t.Errorf("it says %q", text)
	}
	_, errs, code := a.operate("reload")
	if want := a.file + ":16:1: error: unknown setting \"remot_id\"\n    hint: did you mean \"remote_id\"?\n"; code != exitUsage || !strings.HasPrefix(errs, want) {
		t.Errorf("exit code %d, %s", code, errs)
	}

	a.write("[gateway]\nike_port = 501\n" + sideA(plainSuite) + branchA)
	if _, errs, code := a.operate("reload"); code != exitUsage || !strings.Contains(errs, a.file+":2:12: error: ike_port cannot change") {
		t.Errorf("exit code %d, %s", code, errs)
	}

	a.write(sideA(plainSuite))
	a.says("1 peer unchanged, removed branch", "reload")
	if _, routed := hasDevice(t, n.GatewayA, "culvert0", netip.MustParsePrefix("10.106.0.0/24")); routed {
		t.Error("the route of the removed peer is still there")
	}
	c.says("peer office is", "disconnect", "office") // so that it does not come back by itself
	a.write(sideA(plainSuite) + branchA)
	a.says("1 peer unchanged, added branch", "reload")
	a.wait("event", "child_up", "peer", "branch", "tunnel", "lab")
	c.says("connecting to peer office at 203.0.113.1", "connect", "office")
	eventually(t, "way to the branch", func() bool { lost, err := ping(toBranch, 1, 56); return err == nil && lost == 0 })

	<-traffic
	is := b.status().Peers[0]
	if is.InitiatorSPI != was.InitiatorSPI || is.Children[0].InboundSPI != was.Children[0].InboundSPI || len(b.log.records("event", "established")) != 1 {
		t.Errorf("B had %+v, and has %+v", was, is)
	}
	n.reaches()
}

// TestReloadAnewUnderTraffic has the initiator make another IKE SA before the old
// one ends: no ping is lost.
func TestReloadAnewUnderTraffic(t *testing.T) {
	n := newPeerNet(t)
	a, b := n.pair(sideA(plainSuite), sideB(plainSuite))
	traffic := make(chan struct{})
	go func() { defer close(traffic); n.under(4 * time.Second) }()
	for i, setting := range []string{"fragmentation = false", "mobike = false", "post_quantum = \"off\""} {
		b.write(edit(t, sideB(plainSuite), "ike = [", setting+"\nike = ["))
		b.says("re-established office", "reload")
		b.waitNth(i+1, "event", "down", "reason", "replaced")
		a.waitNth(i+1, "event", "down", "reason", "replaced")
	}
	<-traffic
	n.reaches()
}

// TestOperatorCommands takes the tunnel down and up, and renews its keys under
// traffic.
func TestOperatorCommands(t *testing.T) {
	n := newPeerNet(t)
	a, b := n.pair(sideA(plainSuite), sideB(plainSuite))
	traffic := make(chan struct{})
	go func() { defer close(traffic); n.under(3 * time.Second) }()
	for range 5 {
		b.says("tunnel lan of peer office gets new keys", "rekey", "office", "lan")
		a.says("tunnel lan of peer foo gets new keys", "rekey", "foo")
		b.says("the connection with peer office gets new keys", "rekey", "office", "--ike")
		time.Sleep(200 * time.Millisecond) // a pace, not a wait: the pings are what is looked at
	}
	<-traffic
	b.wantRekeys(5, 3)

	b.says("peer office is taken down", "disconnect", "office")
	a.wait("event", "down", "reason", "deleted_by_peer")
	if lost, _ := ping(n.ways()[0], 3, 56); lost != 3 {
		t.Errorf("lost %d of 3 pings of a tunnel that is down", lost)
	}
	b.says("connecting to peer office", "connect", "office")
	n.comesBack(waitTime)
	n.reaches()
}

// TestStrongSwanReload changes what culvert says about strongSwan, in both
// roles: what is adjusted loses no packet; what connects anew comes back.
func TestStrongSwanReload(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	adjusted := func(text string) string {
		return edit(t, text, "ike = [", "ike_lifetime = \"2h\"\ndpd = \"15s\"\nike = [", "esp = [", "lifetime = \"40m\"\nesp = [")
	}
	anew := func(text string) string { return edit(t, text, "ike = [", "fragmentation = false\nike = [") }
	t.Run("culvert initiates", func(t *testing.T) {
		scenario(t, "configuration", "reload: adjusted without a loss, connected anew", initiates)
		n := net.in(t)
		swan, b := n.swanResponds(swanA(plainSuite), sideB(plainSuite))
		traffic := make(chan struct{})
		go func() { defer close(traffic); n.under(3 * time.Second) }()
		b.write(adjusted(sideB(plainSuite)))
		b.says("adjusted office", "reload")
		<-traffic

		// strongSwan sends on the new child SA at once. What overtakes its answer,
		// which has the key, finds none, and is counted.
		arrived := n.streamingBut(func() int { return min(20, int(b.status().Drops["unknown_spi"])) })
		b.write(anew(adjusted(sideB(plainSuite))))
		b.says("re-established office", "reload")
		b.wait("event", "down", "reason", "replaced")
		time.Sleep(time.Second)
		arrived()
		eventually(t, "one IKE SA", func() bool { s := b.status().Peers[0]; return s.State == "up" && len(s.Children) == 1 })
		n.comesBack(waitTime)
		n.reaches()
		eventually(t, "one IKE SA at strongSwan", func() bool { sas, err := swan.SAs(t.Context()); return err == nil && len(sas) == 1 })
		n.wantSame(b, swan)
	})
	t.Run("another key", func(t *testing.T) {
		scenario(t, "configuration", "reload: another key, and back", initiates)
		n := net.in(t)
		swan, b := n.swanResponds(swanA(plainSuite), sideB(plainSuite))
		b.write(strings.ReplaceAll(sideB(plainSuite), secret, "wrong-"+secret))
		b.says("re-established office", "reload")
		b.wait("event", "refused_by_peer")
		if s := b.status().Peers[0]; s.State == "up" {
			t.Error("the tunnel outlived its key")
		}
		b.write(sideB(plainSuite))
		b.Signal(syscall.SIGHUP)
		b.waitNth(2, "event", "child_up")
		n.reaches()
		n.wantSame(b, swan)
	})
	t.Run("strongSwan initiates", func(t *testing.T) {
		scenario(t, "configuration", "reload: adjusted without a loss, connected anew", responds)
		n := net.in(t)
		c := swanB(plainSuite)
		c.Children[0].Extra = "close_action = start"
		a, swan := n.swanInitiates(sideA(plainSuite), c)
		traffic := make(chan struct{})
		go func() { defer close(traffic); n.under(3 * time.Second) }()
		a.write(adjusted(sideA(plainSuite)))
		a.Signal(syscall.SIGHUP)
		a.wait("event", "reloaded", "adjusted", "[foo]")
		<-traffic

		a.write(anew(adjusted(sideA(plainSuite))))
		a.says("re-established foo", "reload")
		a.wait("event", "down", "reason", "reconfigured")
		a.waitNth(2, "event", "child_up")
		n.comesBack(waitTime)
		n.reaches()
		n.wantSame(a, swan)
	})
}
