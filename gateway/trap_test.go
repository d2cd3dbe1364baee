package gateway

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ikev2/wire"
	"culvert/natt/nattest"
)

// trapText starts the tunnel of a configuration with traffic.
func trapText(text string) string {
	return strings.Replace(text, "local = \"10.", "start = \"traffic\"\nlocal = \"10.", 1)
}

// The first packet connects and brings the tunnel up; it is lost and counted,
// the next ones arrive. Without packets nothing is sent, and nothing is tried
// again.
func TestTrapSystem(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.PortRestricted, Latency: 5 * time.Millisecond}, func(w *world) {
		quiet := func(s string) string { return strings.Replace(s, "initiate = true\n", "", 1) }
		a, b := w.start(w.net.A, "a", textA), w.start(w.net.B, "b", trapText(quiet(textB)))
		time.Sleep(time.Minute)
		if n := len(w.sent(func(nattest.Datagram) bool { return true })); n != 0 {
			w.Fatalf("%d datagrams before the first packet", n)
		}
		if w.arrives(b, a, fromB(1, 100)) {
			w.Error("the first packet arrives, before there is a tunnel")
		}
		w.untilUp(a, b, time.Second)
		w.bothWays(a, b)
		if n := b.status().Drops["no_outbound_sa"]; n != 1 {
			w.Errorf("%d packets dropped", n)
		}
		a.end()
		w.until("end of the tunnel", time.Second, b.isDown)
		time.Sleep(10 * time.Minute)
		if n := len(b.log.of("connecting")); n != 1 {
			w.Errorf("B connects %d times", n)
		}
		w.arrives(b, b, fromB(2, 100))
		time.Sleep(5 * time.Minute)
		w.is(b, "down")
		again := w.start(w.net.A, "a2", textA)
		time.Sleep(time.Minute)
		w.arrives(b, again, fromB(3, 100))
		w.untilUp(again, b, time.Second)
		w.bothWays(again, b)
	})
}

func (w *world) is(s *site, want string) {
	w.Helper()
	if p := s.peer(); p.State != want {
		w.Errorf("%s is %q, want %q", s.name, p.State, want)
	}
}

// A network inside another of the same tunnel is not reserved for itself.
func TestOutermost(t *testing.T) {
	s := func(p string) wire.Selector { return wire.SelectorFromPrefix(netip.MustParsePrefix(p)) }
	ssh := s("10.1.0.0/24")
	ssh.Protocol, ssh.StartPort, ssh.EndPort = 6, 22, 22
	got := outermost([]wire.Selector{s("10.1.0.0/16"), s("10.1.2.0/24"), ssh, s("10.2.0.0/16"), s("fd00::/8")})
	if want := []wire.Selector{s("10.1.0.0/16"), s("10.2.0.0/16"), s("fd00::/8")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Under duplicates = "never" a second client with the identity of the first is
// refused in words, and let in when the first is found dead.
func TestDuplicatesNever(t *testing.T) {
	inWorld(t, nattest.Config{Latency: 5 * time.Millisecond}, func(w *world) {
		a, b := w.pair(with(textA, "duplicates", `"never"`), textB)
		c := w.start(w.net.C, "c", textB)
		w.until("refusal", time.Second, func() bool { return len(a.log.of("refused")) > 0 })
		if r := a.log.of("refused")[0]; r.attrs["diagnosis"] != "duplicate" || !strings.Contains(r.text, "(`duplicates`)") {
			w.Errorf("%v", r)
		}
		time.Sleep(time.Minute)
		w.bothWays(a, b)
		b.kill()
		w.until("place of the first", 3*time.Minute, c.isUp)
		w.crosses(c, a, fromB(1, 100))
	})
}
