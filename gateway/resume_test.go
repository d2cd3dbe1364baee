package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"culvert/natt/nattest"
)

// keyIn is a gateway's section with the key of tickets in dir.
func keyIn(dir string) string {
	return fmt.Sprintf("[gateway]\nresumption_key_file = %q\n", filepath.Join(dir, "tickets.key"))
}

func (s *site) resumedLast() bool {
	all := s.log.of("established")
	return len(all) > 0 && all[len(all)-1].attrs["resumed"] == "true"
}

// carries wants a packet each way to arrive, after those that were on their way.
func (w *world) carries(a, b *site) {
	w.Helper()
	w.settle()
	w.crosses(a, b, fromA(1, 100))
	w.crosses(b, a, fromB(2, 100))
}

// A gateway that was killed takes its peer back with the first packets that the
// peer sends, whichever NAT is between them.
func TestResumesUnderTraffic(t *testing.T) {
	eachNAT(t, nattest.Config{Latency: 5 * time.Millisecond}, func(w *world, _ nattest.Kind) {
		text := textA + "\n" + keyIn(w.TempDir())
		a, b := w.pair(text, textB)
		a.kill()
		a = w.start(w.net.A, "a", text)
		start := time.Now()
		w.until("tunnel", time.Second, func() bool {
			b.device.InjectPacket(fromB(1, 100))
			return a.isUp() && b.isUp()
		})
		if !a.resumedLast() || !b.resumedLast() || !a.peer().Resumed {
			w.Error("there was a full exchange")
		}
		if down := b.log.of("down"); len(down) != 1 || down[0].attrs["reason"] != "restarted" {
			w.Errorf("down: %v", down)
		}
		w.Logf("%s: the tunnel was back after %v", a.peer().RemoteAddress, time.Since(start))
		w.carries(a, b)
	})
}

// A gateway that drains and ends says nothing to whom it has given a ticket;
// one that just ends deletes, and then there is nothing to resume.
func TestDrainedGatewayReturns(t *testing.T) {
	for name, drain := range map[string]bool{"drained": true, "not": false} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nattest.Config{Latency: 5 * time.Millisecond}, func(w *world) {
				text := textA + "\n" + keyIn(w.TempDir())
				a, b := w.pair(text, textB)
				if drain {
					noError(w, a.Drain(""))
				}
				if took := a.end(); a.err != nil || took > time.Second {
					w.Errorf("A ended after %v with %v", took, a.err)
				}
				a = w.start(w.net.A, "a", text)
				w.until("tunnel", 5*time.Second, func() bool {
					b.device.InjectPacket(fromB(1, 100))
					return a.isUp() && b.isUp()
				})
				if a.resumedLast() != drain {
					w.Errorf("resumed %v, want %v", a.resumedLast(), drain)
				}
				w.carries(a, b)
			})
		})
	}
}

// A peer goes where a draining gateway sends it: by address, or by a name that
// its own resolver knows; where that leads nowhere it stays.
func TestDrainSendsElsewhere(t *testing.T) {
	for _, c := range []struct {
		to    string
		there bool
	}{
		{nattest.PublicC.String(), true},
		{"vpn2.example", true},
		{"nowhere.example", false},
	} {
		t.Run(c.to, func(t *testing.T) {
			inWorld(t, nattest.Config{Latency: 5 * time.Millisecond}, func(w *world) {
				a := w.start(w.net.A, "a", textA)
				other := w.start(w.net.C, "c", textA)
				b := w.start(w.net.B, "b", with(textB, "redirect", "true"), func(s *starting) {
					s.Doors.Resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
						if name == "vpn2.example" {
							return []netip.Addr{nattest.PublicC}, nil
						}
						return nil, fmt.Errorf("nobody is called %s here", name)
					}
				})
				w.untilUp(a, b, time.Second)
				noError(w, a.Drain(c.to))
				if !c.there {
					time.Sleep(time.Minute)
					w.bothWays(a, b)
					if len(b.log.of("no_path")) != 1 {
						w.Error("B says nothing of the way that it did not find")
					}
					return
				}
				w.until("move", 2*time.Second, func() bool { return other.isUp() && b.isUp() && a.isDown() })
				w.bothWays(other, b)
				if sent := b.log.of("redirected"); len(sent) != 1 || sent[0].attrs["gateway"] != c.to {
					w.Errorf("redirected: %v", sent)
				}
			})
		})
	}
}

// Drain says what is wrong with it.
func TestDrainRefused(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		a := w.open(w.net.A, "a", textA)
		if err := a.Drain(""); err == nil {
			w.Error("a gateway that does not run drains")
		}
		a.run()
		if err := a.Drain("two words"); err == nil {
			w.Error("no error for what is no host")
		}
		noError(w, a.Drain(""))
	})
}
