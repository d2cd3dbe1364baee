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

func (s *site) logged(code string) (n int) {
	for _, r := range s.log.of("trouble") {
		if r.attrs["diagnosis"] == code {
			n++
		}
	}
	return n
}

// TestExplainOneWay: what is wrong is in the log once and in the status, and in
// neither when it has passed.
func TestExplainOneWay(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		a, b := w.pair(with(textA, either...), with(textB, either...))
		a.explains(false, nil)
		w.bothWays(a, b)
		loses(esp(nattest.PrivateB), 0)(w, a, b)
		speaks(30, fromA, fromB)(w, a, b)
		a.explains(true, []string{"esp_one_way"})
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
		time.Sleep(5 * time.Minute)
		for _, all := range [][]record{a.log.of("refused"), b.log.of("refused_by_peer")} {
			if len(all) < 3 {
				t.Errorf("%d refusals are in the log", len(all))
			}
			for i, r := range all {
				if said := strings.HasSuffix(r.text, ", as before"); said != (i > 0) || r.attrs["diagnosis"] == "" {
					t.Errorf("refusal %d: %s", i, r.text)
				}
			}
		}
		_, err := b.Disconnect("remote")
		noError(t, err)
		b.explains(false, []string{"disconnected"}, "culvert connect remote")
		time.Sleep(11 * time.Minute)
		a.explains(false, []string{"waiting"})
	})
}

// TestStaysNarrowed: what a tunnel is up for is told after a rekey too, and once.
func TestStaysNarrowed(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		a, b := w.pair(with(textA, "local", `"10.103.0.0/16"`, "esp", either[1]), with(strings.Replace(textB, `"10.103.0.0/24"`, `["10.103.0.0/24", "10.7.0.0/24"]`, 1), "esp", either[1]))
		for _, s := range []*site{a, b} {
			_, err := s.Rekey("remote", "")
			noError(t, err)
			time.Sleep(10 * time.Second)
		}
		a.explains(false, []string{"narrowed"}, "10.103.1.0-10.103.255.255")
		if n := a.logged("narrowed"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}

// TestExplainPFS: a difference that a tunnel does not have to fear before its
// first rekey is told within two minutes, by both sides, and the tunnel carries
// packets.
func TestExplainPFS(t *testing.T) {
	for _, c := range []struct{ name, esp string }{{"B makes none", `"aes128gcm16"`}, {"other groups", `"aes128gcm16-x25519"`}} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
				a, b := w.pair(with(textA, "esp", `"aes128gcm16-ecp384"`), with(textB, "esp", c.esp))
				a.explains(false, nil)
				b.explains(false, nil)
				w.until("refusal of both", 3*time.Minute, func() bool { return len(a.log.of("refused_by_peer"))+len(b.log.of("refused_by_peer")) == 2 })
				a.explains(true, []string{"pfs"})
				b.explains(true, []string{"pfs"})
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
