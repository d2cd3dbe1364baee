//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/api"
	"culvert/examples"
	"culvert/gateway"
	"culvert/lab"
)

// pair starts both gateways, the public one first, and waits for the tunnel
// on both.
func (n *peerNet) pair(textA, textB string) (a, b *culvertProcess) {
	n.t.Helper()
	a = n.culvert(n.GatewayA, "a.toml", textA)
	a.wait("event", "device_up")
	b = n.culvert(n.GatewayB, "b.toml", textB)
	b.wait("event", "child_up")
	a.wait("event", "child_up")
	return a, b
}

// TestExamples runs the example files as they are shipped, each once on its
// side.
func TestExamples(t *testing.T) {
	for _, form := range []string{"toml", "vyos", "set", "swanctl.conf"} {
		t.Run(form, func(t *testing.T) {
			n := newPeerNet(t)
			a := n.culvert(n.GatewayA, "side-a."+form, example(t, "side-a."+form))
			a.wait("event", "device_up")
			b := n.culvert(n.GatewayB, "side-b."+form, example(t, "side-b."+form))
			b.wait("event", "child_up")
			n.reaches()
			for _, p := range []*culvertProcess{a, b} {
				if len(p.log.records("event", "config_warning")) == 0 {
					t.Errorf("%s: no warning about its short key", p.file)
				}
				if strings.Contains(p.log.String(), "qwerty") {
					t.Errorf("%s: its key is in the log", p.file)
				}
			}
		})
	}
}

func example(t *testing.T, name string) string {
	t.Helper()
	text, err := examples.Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPairSuites(t *testing.T) {
	net := newPeerNet(t)
	for _, s := range []struct {
		suite
		want string
	}{
		{suite{"aes128gcm16-prfsha256-x25519", "aes128gcm16-esn"}, "AES_GCM_16_128/ESN"},
		{suite{"aes256gcm16-prfsha512-ecp256", "aes256gcm16-noesn"}, "AES_GCM_16_256/NO_ESN"},
		{suite{"aes128-sha256-modp2048", "aes128-sha256-noesn"}, "AES_CBC_128/HMAC_SHA2_256_128/NO_ESN"},
		{suite{"aes256-sha384-ecp384", "aes256-sha384-esn"}, "AES_CBC_256/HMAC_SHA2_384_192/ESN"},
		{suite{"aes256-sha512-modp4096", "aes256-sha512-esn"}, "AES_CBC_256/HMAC_SHA2_512_256/ESN"},
	} {
		t.Run(s.esp, func(t *testing.T) {
			n := net.in(t)
			a, b := n.pair(sideA(s.suite), sideB(s.suite))
			for _, p := range []*culvertProcess{a, b} {
				if got := p.wait("event", "child_up")["esp"]; got != s.want {
					t.Errorf("ESP %v, want %v", got, s.want)
				}
			}
			n.reaches()
		})
	}
}

// TestPairStatus asserts what both ends say of the same tunnel after traffic.
func TestPairStatus(t *testing.T) {
	n := newPeerNet(t)
	a, b := n.pair(sideA(plainSuite), sideB(plainSuite))
	n.reaches()

	var pa, pb gateway.PeerStatus
	eventually(t, "agreement on what went through", func() bool { // what is on its way still arrives
		pa, pb = a.status().Peers[0], b.status().Peers[0]
		ca, cb := pa.Children[0], pb.Children[0]
		return ca.PacketsOut == cb.PacketsIn && cb.PacketsOut == ca.PacketsIn && ca.BytesOut == cb.BytesIn && cb.BytesOut == ca.BytesIn
	})
	ca, cb := pa.Children[0], pb.Children[0]
	if pa.State != "up" || pb.State != "up" || pa.Initiator || !pb.Initiator {
		t.Errorf("states %q (started here: %v) and %q (%v)", pa.State, pa.Initiator, pb.State, pb.Initiator)
	}
	if pa.InitiatorSPI != pb.InitiatorSPI || pa.ResponderSPI != pb.ResponderSPI || len(pa.InitiatorSPI) != 16 || pa.InitiatorSPI == pa.ResponderSPI {
		t.Errorf("IKE SPIs %s %s and %s %s", pa.InitiatorSPI, pa.ResponderSPI, pb.InitiatorSPI, pb.ResponderSPI)
	}
	if ca.InboundSPI != cb.OutboundSPI || ca.OutboundSPI != cb.InboundSPI || len(ca.InboundSPI) != 8 || ca.InboundSPI == ca.OutboundSPI {
		t.Errorf("ESP SPIs %s %s and %s %s", ca.InboundSPI, ca.OutboundSPI, cb.InboundSPI, cb.OutboundSPI)
	}
	if !slices.Equal(ca.Local, []string{"10.103.0.0/24"}) || !slices.Equal(ca.Remote, []string{"10.104.0.0/24"}) ||
		!slices.Equal(ca.Local, cb.Remote) || !slices.Equal(ca.Remote, cb.Local) {
		t.Errorf("selectors %v <-> %v and %v <-> %v", ca.Local, ca.Remote, cb.Local, cb.Remote)
	}
	if pa.NAT != "peer side" || pb.NAT != "this side" {
		t.Errorf("NAT %q and %q", pa.NAT, pb.NAT)
	}
	if pa.RemoteAddress.String() != "192.0.2.10:4500" || pb.LocalAddress.String() != "172.16.0.1:4500" || pb.RemoteAddress.String() != "203.0.113.1:4500" {
		t.Errorf("A sees %v; B is %v and sees %v", pa.RemoteAddress, pb.LocalAddress, pb.RemoteAddress)
	}
	for _, c := range []gateway.ChildStatus{ca, cb} {
		if c.PacketsIn == 0 || c.PacketsOut == 0 || c.BytesIn < 50_000 || c.BytesOut < 50_000 {
			t.Errorf("%d packets and %d bytes in, %d and %d out", c.PacketsIn, c.BytesIn, c.PacketsOut, c.BytesOut)
		}
		if c.LastIn.Before(c.Since) || c.LastOut.Before(c.Since) {
			t.Errorf("up since %v, last traffic at %v in, %v out", c.Since, c.LastIn, c.LastOut)
		}
	}
	for _, p := range []*culvertProcess{a, b} {
		p.wantNoDrops("unknown_spi", "authentication_failed", "replayed", "runt", "selector_violation", "inbound_malformed", "tun_write_error", "ike_integrity", "ike_malformed")
		p.wantCommandAgrees()
	}
}

// wantNoDrops wants counters that exist, and are zero.
func (p *culvertProcess) wantNoDrops(names ...string) {
	p.t.Helper()
	drops := p.status().Drops
	for _, name := range names {
		if n, ok := drops[name]; !ok || n > 0 {
			p.t.Errorf("counter %s: %d (there: %v)", name, n, ok)
		}
	}
}

// wantCommandAgrees asks by `culvert status`, for people and for scripts.
func (p *culvertProcess) wantCommandAgrees() {
	p.t.Helper()
	out := map[string]string{}
	for _, form := range []string{"--json", "--details"} {
		cmd := exec.Command(os.Args[0], "status", "--socket", p.socket, form)
		cmd.Env = append(os.Environ(), asCulvert+"=1")
		text, err := cmd.Output()
		if err != nil {
			p.t.Fatal(err)
		}
		out[form] = string(text)
		wantNoSecret(p.t, "the status", string(text))
	}
	var s gateway.Status
	if err := json.Unmarshal([]byte(out["--json"]), &s); err != nil {
		p.t.Fatal(err)
	}
	peer := s.Peers[0]
	child := peer.Children[0]
	for _, want := range []string{"peer " + peer.Name + ": up", peer.InitiatorSPI, child.InboundSPI, child.OutboundSPI, child.Local[0], child.Remote[0], peer.NAT} {
		if !strings.Contains(out["--details"], want) {
			p.t.Errorf("no %q in:\n%s", want, out["--details"])
		}
	}
}

// TestForgedDatagrams sends what anybody on the way can, and finds each under
// its own name among the counters, with the tunnel none the worse.
func TestForgedDatagrams(t *testing.T) {
	n := newPeerNet(t)
	a, _ := n.pair(sideA(plainSuite), sideB(plainSuite))
	spi, err := strconv.ParseUint(a.status().Peers[0].Children[0].InboundSPI, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	esp := func(spi uint32) []byte {
		packet := make([]byte, 92) // sequence number 0x00000100, an IV, 10 blocks and an ICV of nothing
		packet[0], packet[1], packet[2], packet[3], packet[6] = byte(spi>>24), byte(spi>>16), byte(spi>>8), byte(spi), 1
		return packet
	}
	for _, forged := range []struct {
		counter string
		packet  []byte
	}{
		{"unknown_spi", esp(uint32(spi) ^ 0x00f00000)},
		{"reserved_spi", esp(7)},
		{"authentication_failed", esp(uint32(spi))},
		{"runt", []byte{1, 2, 3}},
		{"runt", make([]byte, 12)}, // behind the non-ESP marker there is no header of IKE
		{"ike_bad_header", append(make([]byte, 4), "initiat.respond.abcdefghijklmnop"...)},
		{"ike_unknown_sa", append(append(make([]byte, 4), "initiat.respond."...), 46, 0x20, 37, 0x08, 0, 0, 0, 2, 0, 0, 0, 28)},
	} {
		t.Run(forged.counter, func(t *testing.T) {
			before, ok := a.status().Drops[forged.counter]
			if !ok {
				t.Fatalf("no counter %s among %v", forged.counter, a.status().Drops)
			}
			n.send(n.NAT, netip.MustParseAddrPort("203.0.113.1:4500"), forged.packet)
			eventually(t, "drop counted as "+forged.counter, func() bool { return a.status().Drops[forged.counter] == before+1 })
		})
	}
	n.reaches()
}

// send sends one UDP datagram from a host.
func (n *peerNet) send(h *lab.Host, to netip.AddrPort, packet []byte) {
	n.t.Helper()
	err := h.Do(func() error {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(packet)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

const tunnel6A = `
[peer.foo.tunnel.lan6]
local = "fd00:103::/64"
remote = "fd00:104::/64"
`

const tunnel6B = `
[peer.office.tunnel.lan6]
local = "fd00:104::/64"
remote = "fd00:103::/64"
`

// TestPairIPv6Inside carries IPv4 and IPv6 in two tunnels of one connection.
func TestPairIPv6Inside(t *testing.T) {
	n := newPeerNet(t)
	n.lan6()
	a, b := n.pair(sideA(plainSuite)+tunnel6A, sideB(plainSuite)+tunnel6B)
	for _, p := range []*culvertProcess{a, b} {
		p.wait("event", "child_up", "tunnel", "lan6")
	}
	n.reaches(n.ways6()...)
	n.reaches(n.ways()...)
	if children := a.status().Peers[0].Children; len(children) != 2 {
		t.Errorf("%d children, want 2: %+v", len(children), children)
	}
}

// TestPairIPv6Outside has no NAT, and both families inside.
func TestPairIPv6Outside(t *testing.T) {
	for _, s := range []suite{plainSuite, {"aes256-sha256-ecp256", "aes256-sha256"}} {
		t.Run(s.esp, func(t *testing.T) {
			n := newNetOver(t, wan6)
			n.lan6()
			textA := edit(t, sideA(s), `local_id = "203.0.113.1"`, `local_id = "2001:db8:a::1"`)
			textB := edit(t, sideB(s), `remote = "203.0.113.1"`, `remote = "2001:db8:a::1"`, `remote_id = "203.0.113.1"`, `remote_id = "2001:db8:a::1"`)
			a, b := n.pair(textA+tunnel6A, textB+tunnel6B)
			a.wait("event", "child_up", "tunnel", "lan6")
			n.reaches(n.ways()...)
			n.reaches(n.ways6()...)
			for _, p := range []*culvertProcess{a, b} {
				if s := p.status().Peers[0]; s.NAT != "none" || !s.RemoteAddress.Addr().Is6() {
					t.Errorf("NAT %q, peer at %v", s.NAT, s.RemoteAddress)
				}
			}
		})
	}
}

// TestStop ends each side by each signal: exit code 0, the other side told, and
// nothing left on the host.
func TestStop(t *testing.T) {
	for _, c := range []struct {
		side   string
		signal syscall.Signal
	}{{"a", syscall.SIGTERM}, {"b", syscall.SIGINT}} {
		t.Run(c.side, func(t *testing.T) {
			n := newPeerNet(t)
			a, b := n.pair(sideA(plainSuite), sideB(plainSuite))
			ends, stays, host, prefix := a, b, n.GatewayA, lab.LANB
			if c.side == "b" {
				ends, stays, host, prefix = b, a, n.GatewayB, lab.LANA
			}
			device := ends.status().Device.Name
			if device, routed := hasDevice(t, host, device, prefix); !device || !routed {
				t.Fatalf("device %v, route %v", device, routed)
			}
			ends.Signal(c.signal)
			if err := ends.Wait(); err != nil {
				t.Errorf("%v: %v, want exit code 0", c.signal, err)
			}
			stays.wait("event", "down", "reason", "deleted_by_peer")
			if device, routed := hasDevice(t, host, device, prefix); device || routed {
				t.Errorf("afterwards: device %v, route %v", device, routed)
			}
			if _, err := os.Stat(ends.socket); err == nil {
				t.Error("the control socket is still there")
			}
			stays.alive()
		})
	}
}

// TestRestart ends and starts each side in turn: the tunnel comes back by
// itself.
func TestRestart(t *testing.T) {
	n := newPeerNet(t)
	a, b := n.pair(sideA(plainSuite), sideB(plainSuite))

	a.end()
	b.wait("event", "down", "reason", "deleted_by_peer")
	a = n.culvert(n.GatewayA, "a.toml", sideA(plainSuite))
	b.waitNth(2, "event", "child_up")
	n.reaches()

	b.end()
	b = n.culvert(n.GatewayB, "b.toml", sideB(plainSuite))
	b.wait("event", "child_up") // the initiator has it last
	n.reaches()

	// Without a Delete: INITIAL_CONTACT has A let go of the old SA (RFC 7296
	// section 2.4).
	b.kill()
	n.culvert(n.GatewayB, "b.toml", sideB(plainSuite)).wait("event", "child_up")
	a.wait("event", "down", "reason", "replaced")
	if c := a.status().Peers[0].Children; len(c) != 1 {
		t.Errorf("A has %d children, want 1", len(c))
	}
	n.reaches()
}

// TestPeerDies takes the responder away without a word: the initiator asks
// whether it lives, gives it up, and finds the one that comes after.
func TestPeerDies(t *testing.T) {
	t.Parallel() // nearly all of it is waiting
	n := newPeerNet(t)
	a, b := n.pair(sideA(plainSuite), edit(t, sideB(plainSuite), "[peer.office]\n", "[peer.office]\ndpd = \"1s\"\n"))
	a.kill()
	const patience = 2 * time.Minute // 21 tries with back-off are 79 s
	b.waitIn(patience, 1, "event", "down", "reason", "dead_peer")
	n.culvert(n.GatewayA, "a.toml", sideA(plainSuite))
	b.waitIn(patience, 2, "event", "child_up")
	n.reaches()
}

// TestPeerAppears starts the initiator alone: it says that nobody answers,
// keeps trying, and connects when somebody does.
func TestPeerAppears(t *testing.T) {
	t.Parallel() // nearly all of it is waiting
	n := newPeerNet(t)
	b := n.culvert(n.GatewayB, "b.toml", sideB(plainSuite))
	const patience = time.Minute // 9 tries with back-off are 31 s
	gaveUp := b.waitIn(patience, 1, "event", "gave_up")
	wantReport(t, gaveUp, "no_answer", "203.0.113.1:500", "IKE_SA_INIT", "9 times", "line 2 of "+b.file)
	b.wait("event", "retrying")
	if s := b.status().Peers[0]; s.State == "up" || !strings.Contains(s.Problem, "203.0.113.1:500") {
		t.Errorf("state %q, problem %q", s.State, s.Problem)
	}
	n.culvert(n.GatewayA, "a.toml", sideA(plainSuite))
	b.waitIn(patience, 1, "event", "child_up")
	n.reaches()
	if s := b.status().Peers[0]; s.Problem != "" {
		t.Errorf("problem %q while up", s.Problem)
	}
}

// wantReport wants a record with this diagnosis, whose paragraph has all of
// the words.
func wantReport(t *testing.T, record map[string]any, code string, words ...string) {
	t.Helper()
	if record["diagnosis"] != code {
		t.Errorf("diagnosis %v, want %s: %v", record["diagnosis"], code, record["msg"])
	}
	for _, w := range words {
		if !strings.Contains(fmt.Sprint(record["msg"]), w) {
			t.Errorf("no %q in the paragraph: %v", w, record["msg"])
		}
	}
	if strings.Contains(fmt.Sprint(record["msg"]), "\n") {
		t.Errorf("more than one paragraph: %q", record["msg"])
	}
}

// TestNATForgets restarts the NAT under traffic. The 1:1 NAT maps as before;
// the masquerading one shows another port, which A follows.
func TestNATForgets(t *testing.T) {
	t.Run("1:1", func(t *testing.T) {
		n := newPeerNet(t)
		a, _ := n.pair(sideA(plainSuite), sideB(plainSuite))
		n.reaches()
		n.forgetNAT()
		n.comesBack(waitTime)
		n.reaches()
		if len(a.log.records("event", "child_up")) != 1 {
			t.Error("the tunnel was made anew")
		}
	})
	t.Run("masquerade", func(t *testing.T) {
		n := newNetOver(t, wan4)
		if err := n.NAT.Masquerade("out", lab.RandomPort); err != nil {
			t.Fatal(err)
		}
		a, _ := n.pair(sideA(plainSuite), sideB(plainSuite))
		n.reaches()
		was := a.status().Peers[0].RemoteAddress
		eventually(t, "other port of the NAT", func() bool { // that it draws the same again is possible
			n.forgetNAT()
			n.comesBack(waitTime)
			return a.status().Peers[0].RemoteAddress != was
		})
		a.wait("event", "moved")
		n.reaches()
		if now := a.status().Peers[0].RemoteAddress; now.Addr() != was.Addr() {
			t.Errorf("the peer moved from %v to %v", was, now)
		}
		if len(a.log.records("event", "child_up")) != 1 {
			t.Error("the tunnel was made anew")
		}
	})
}

func (n *peerNet) forgetNAT() {
	n.t.Helper()
	if err := n.NAT.ForgetNAT(); err != nil {
		n.t.Fatal(err)
	}
}

// TestBothInitiate has both sides call at once: one IKE SA is left, with one
// child SA, and it carries.
func TestBothInitiate(t *testing.T) {
	n := newNetOver(t, wan4)
	textA := edit(t, sideA(plainSuite), `remote = "any"`, `remote = "172.16.0.1"`)
	a := n.culvert(n.GatewayA, "a.toml", textA)
	b := n.culvert(n.GatewayB, "b.toml", sideB(plainSuite))
	eventually(t, "same single child SA on both sides", func() bool {
		ca, cb := children(a), children(b)
		return len(ca) == 1 && len(cb) == 1 && ca[0].InboundSPI == cb[0].OutboundSPI && ca[0].OutboundSPI == cb[0].InboundSPI
	})
	n.reaches()
}

// children is empty as long as the gateway does not answer.
func children(p *culvertProcess) []gateway.ChildStatus {
	var s gateway.Status
	if err := api.Get(context.Background(), p.socket, "/v1/status", &s); err != nil || len(s.Peers) == 0 {
		return nil
	}
	return s.Peers[0].Children
}
