package gateway

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"culvert/config"
	"culvert/diagnose"
	"culvert/natt"
	"culvert/natt/nattest"
)

// explains wants exactly these findings, by their codes, and words of them.
func (s *site) explains(wrong bool, codes []string, words ...string) {
	s.w.Helper()
	x, err := s.Explain("")
	noError(s.w, err)
	var got []string
	text := ""
	for _, f := range x.Findings {
		got = append(got, f.Code)
		text += f.Text + "\n"
	}
	if !slices.Equal(got, codes) || x.Wrong != wrong {
		s.w.Errorf("%s explains %v, wrong %v; want %v, %v:\n%s", s.name, got, x.Wrong, codes, wrong, text)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			s.w.Errorf("%s does not say %q:\n%s", s.name, word, text)
		}
	}
}

// speak has a site's host send a packet a second.
func (s *site) speak(seconds int, packet func(uint64, int) []byte) {
	for i := range seconds {
		s.device.InjectPacket(packet(uint64(i), 100))
		time.Sleep(time.Second)
	}
}

func (s *site) logged(code string) (n int) {
	for _, r := range s.log.of("trouble") {
		if r.attrs["diagnosis"] == code {
			n++
		}
	}
	return n
}

// onlyESP drops the ESP that one address sends.
func onlyESP(from netip.Addr) nattest.Filter {
	return func(d nattest.Datagram) nattest.Verdict {
		return nattest.Verdict{Drop: d.From.Addr() == from && natt.Classify(d.Bytes) == natt.ESP}
	}
}

// TestExplainOneWay: ESP leaves and none returns, told from both sides; each
// says it once in its log, and nothing when it has passed.
func TestExplainOneWay(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		a, b := w.pair(with(textA, either...), with(textB, either...))
		a.explains(false, nil)
		w.bothWays(a, b)
		w.treat(onlyESP(nattest.PrivateB))
		for range 30 {
			b.device.InjectPacket(fromB(1, 100))
			a.device.InjectPacket(fromA(1, 100))
			time.Sleep(time.Second)
		}
		a.explains(true, []string{"esp_one_way"}, "Packets did come in before", "Tunnel lan of connection remote", "host in 10.104.0.0/24", "The peer is behind NAT")
		b.explains(false, nil)
		if n := a.logged("esp_one_way"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		if s := a.status(); len(s.Findings) != 1 || s.Findings[0].Code != "esp_one_way" {
			t.Errorf("status: %+v", s.Findings)
		}
		w.treat(nil)
		w.crosses(b, a, fromB(2, 100))
		a.explains(false, nil)
	})
}

// TestExplainNeverAnswered: a tunnel that never carried a packet back, and the
// side that gets packets and has none to send.
func TestExplainNeverAnswered(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		a, b := w.pair(textA, textB)
		b.speak(20, fromB)
		b.explains(true, []string{"esp_one_way"}, "Not one has come in since the tunnel is up")
		a.explains(true, []string{"nothing_sent"}, "lead 10.104.0.0/24 to this machine")
		time.Sleep(time.Minute)
		a.explains(false, nil) // nobody asks for anything any more
		b.explains(false, nil)
	})
}

// TestExplainDropped: what comes back is dropped, by a reason that has a
// sentence.
func TestExplainDropped(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.FullCone}, func(w *world) {
		a, b := w.pair(with(textA, either...), with(textB, either...))
		w.crosses(b, a, fromB(1, 100))
		esp := w.sent(func(d nattest.Datagram) bool {
			return d.To.Port() == 4500 && d.From.Addr() == nattest.PrivateB && natt.Classify(d.Bytes) == natt.ESP
		})[0]
		stranger, err := w.net.C.Listen(netip.AddrPortFrom(netip.Addr{}, 4500), natt.Options{NATT: true})
		noError(w, err)
		defer stranger.Close()
		for i := range 30 {
			damaged := slices.Clone(esp.Bytes)
			damaged[7] += byte(i) + 100
			_, err := stranger.Send([]natt.Run{{Bytes: damaged, Path: natt.Path{Remote: esp.To}}})
			noError(w, err)
			a.device.InjectPacket(fromA(1, 100))
			time.Sleep(time.Second)
		}
		a.explains(true, []string{"esp_dropped", "dropped_authentication_failed"}, "authentication_failed", "checksum is wrong")
		b.explains(true, []string{"nothing_sent"})
		time.Sleep(2 * time.Minute)
		a.explains(false, nil)
	})
}

// TestExplainNoTunnel: packets for which no tunnel is there, up or not.
func TestExplainNoTunnel(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		a, b := w.pair(textA, textB)
		other := netip.MustParseAddrPort("10.77.0.1:9")
		for range 10 {
			b.device.InjectPacket(udp(other, netip.AddrPortFrom(netip.MustParseAddr("10.103.0.9"), 9), []byte("x")))
		}
		w.settle()
		b.explains(true, []string{"dropped_no_outbound_sa"}, "ping -I")
		a.explains(false, nil)
		a.kill()
		w.until("dead peer", 3*time.Minute, func() bool { return len(b.log.of("down")) == 1 })
		b.speak(1, fromB)
		b.explains(true, []string{"dead_peer", "dropped_no_outbound_sa"}, "does not answer any more", "Down now: remote")
	})
}

// TestExplainRefusals: the side that waits explains a stranger that may be its
// peer, the other one its refusal, and the operator's will is nothing wrong.
func TestExplainRefusals(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		a := w.start(w.net.A, "a", textA)
		w.settle()
		a.explains(false, []string{"waiting"}, "identify itself as @foo")
		b := w.start(w.net.B, "b", with(textB, "local_id", `"172.16.0.1"`))
		w.until("refusal", time.Second, func() bool { return len(b.log.of("refused_by_peer")) > 0 })
		a.explains(true, []string{"waiting", "identity_private_address"}, "presented 172.16.0.1")
		b.explains(true, []string{"refused_private_address"}, "line 3 of b.toml")
		if _, err := b.Explain("nobody"); err == nil || !strings.Contains(err.Error(), "there is remote") {
			t.Errorf("of nobody: %v", err)
		}
		_, err := b.Disconnect("remote")
		noError(t, err)
		b.explains(false, []string{"disconnected"}, "culvert connect remote")
		time.Sleep(11 * time.Minute)
		a.explains(false, []string{"waiting"})
	})
}

// TestExplainRestless: two devices with one identity, and keys that are replaced
// all the time.
func TestExplainRestless(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		a, b := w.pair(textA, textB)
		for range 4 {
			b.kill()
			b = w.start(w.net.B, "b", textB)
			w.until("new tunnel", 5*time.Second, b.isUp)
		}
		a.explains(true, []string{"flapping"}, "made anew 5 times")
		time.Sleep(15 * time.Minute)
		a.explains(false, nil)
		for range 12 {
			_, err := b.Rekey("remote", "")
			noError(t, err)
			time.Sleep(time.Second)
		}
		a.explains(true, []string{"rekey_storm"})
		b.explains(true, []string{"rekey_storm"}, "`lifetime`")
	})
}

// TestExplainNarrowed: a tunnel that is up for less than one side has configured,
// told by that side, whoever asked; the other side has what it wants.
func TestExplainNarrowed(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		a, b := w.pair(textA, with(textB, "local", `["10.104.0.0/24", "10.105.0.0/24"]`))
		a.explains(false, nil)
		b.explains(false, []string{"narrowed"}, "It is up for 10.104.0.0/24 to 10.103.0.0/24", "Packets of 10.105.0.0/24 have no tunnel", "among its remote selectors")
		w.crosses(b, a, fromB(1, 100))
		time.Sleep(time.Minute)
		if n := b.logged("narrowed"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		a, b := w.pair(with(textA, "local", `"10.103.0.0/16"`, "esp", either[1]), with(strings.Replace(textB, `"10.103.0.0/24"`, `["10.103.0.0/24", "10.7.0.0/24"]`, 1), "esp", either[1]))
		a.explains(false, []string{"narrowed"}, "the peer asked for its 10.104.0.0/24 to our 10.103.0.0/24, 10.7.0.0/24", "10.103.1.0-10.103.255.255")
		b.explains(false, []string{"narrowed"}, "Packets for 10.7.0.0/24 have no tunnel")
		for _, s := range []*site{a, b} {
			_, err := s.Rekey("remote", "")
			noError(t, err)
			time.Sleep(10 * time.Second)
		}
		a.explains(false, []string{"narrowed"}, "10.103.1.0-10.103.255.255")
	})
}

// TestExplainSinglePair: a side that has one pair of networks to a child SA says so
// of a peer that asks for two in one, which divides them: nothing is wrong then.
func TestExplainSinglePair(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		two := func(text string) string {
			return strings.Replace(text, `"10.103.0.0/24"`, `["10.103.0.0/24", "10.7.0.0/24"]`, 1)
		}
		a := w.start(w.net.A, "a", two(textA)+"single_pair = true\n")
		b := w.start(w.net.B, "b", two(textB))
		w.until("two child SAs", time.Minute, func() bool { return len(b.status().Peers[0].Children) == 2 })
		all := a.log.of("refused")
		if len(all) != 1 || all[0].attrs["diagnosis"] != "single_pair" || !strings.Contains(all[0].text, "asked for several pairs of networks in one child SA") || !strings.Contains(all[0].text, "line 12 of a.toml (`single_pair`)") {
			t.Errorf("A logs %+v", all)
		}
		a.explains(false, []string{"single_pair"}, "tunnel lan of connection remote takes one pair") // which it remembers for a while
		b.explains(false, nil)
	})
}

// TestExplainPFS: a difference that a tunnel does not have to fear before its
// first rekey is told within two minutes, by both sides, and the tunnel carries
// packets.
func TestExplainPFS(t *testing.T) {
	for _, c := range []struct{ name, esp, a, b string }{
		{"B makes none", `"aes128gcm16"`, "The nearest two differ in key exchange (there nothing, here ECP_384)", "so the peer wants one: add the group"},
		{"other groups", `"aes128gcm16-x25519"`, "(there CURVE_25519, here ECP_384)", "Or it makes one with another group"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
				a, b := w.pair(with(textA, "esp", `"aes128gcm16-ecp384"`), with(textB, "esp", c.esp))
				a.explains(false, nil)
				b.explains(false, nil)
				w.until("refusal of both", 3*time.Minute, func() bool { return len(a.log.of("refused_by_peer"))+len(b.log.of("refused_by_peer")) == 2 })
				for s, says := range map[*site]string{a: c.a, b: c.b} {
					s.w.Helper()
					all := s.log.of("refused")
					text := all[0].text + s.log.of("refused_by_peer")[0].text
					if !strings.Contains(text, says) || !strings.Contains(text, "perfect forward secrecy") {
						t.Errorf("%s says %s", s.name, text)
					}
					s.explains(true, []string{"pfs"}, "line 11 of "+s.name+".toml")
				}
				w.crosses(b, a, fromB(1, 100))
				time.Sleep(30 * time.Minute)
				if n := len(a.log.of("refused")) + len(b.log.of("refused")); n != 2 {
					t.Errorf("refused %d times in half an hour", n)
				}
				w.crosses(a, b, fromA(2, 100))
			})
		})
	}
}

// TestExplainSharedNetwork: an interface here has the network of the other side,
// from the start or since it came up.
func TestExplainSharedNetwork(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		net, watch := watched()
		var address atomic.Value
		address.Store("10.104.0.9/24")
		a := w.start(w.net.A, "a", textA, func(s *starting) {
			watch(s)
			s.Doors.Host = func() (config.Host, error) {
				return config.Host{Networks: []config.Interface{{Name: "eth1", Address: netip.MustParsePrefix(address.Load().(string))}}}, nil
			}
		})
		a.explains(true, []string{"waiting", "shared_network"}, "10.104.0.0/24 is connected to this machine, at eth1", "line 10 of a.toml")
		address.Store("192.168.7.9/24")
		net.tell()
		time.Sleep(2 * time.Second)
		a.explains(false, []string{"waiting"})
	})
}

// TestEveryCounterHasASentence: whatever is counted anywhere can be explained.
func TestEveryCounterHasASentence(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		a, _ := w.pair(textA, textB)
		for name := range a.status().Drops {
			if !diagnose.Known(name) {
				t.Errorf("%s has no sentence", name)
			}
		}
	})
}
