package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/config"
	"culvert/ikev2"
	"culvert/natt"
	"culvert/natt/nattest"
	"culvert/tun"
)

// TestRunEnds: whatever breaks, Run says what, tells the peer, and leaves
// nothing behind.
func TestRunEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*site)
		want string
	}{
		{"device", func(s *site) { s.device.Close() }, "device tun-b: "},
		{"UDP 500", func(s *site) { s.Gateway.doors.IKE.Close() }, "UDP port 500: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, nattest.Config{}, func(w *world) {
				a, b := w.pair(textA, textB)
				c.do(b)
				w.until("end of the tunnel at A", time.Second, a.isDown)
				if r := a.log.of("down"); len(r) != 1 || r[0].attrs["reason"] != "deleted_by_peer" {
					w.Errorf("A's log of it: %v", r)
				}
				b.wantEnd(c.want)
			})
		})
	}
	t.Run("UDP 4500", func(t *testing.T) {
		inWorld(t, nattest.Config{}, func(w *world) {
			_, b := w.pair(textA, textB)
			noError(w, b.Gateway.doors.NATT.Close())
			b.wantEnd("UDP port 4500: ")
		})
	})
	t.Run("key log", func(t *testing.T) {
		inWorld(t, nattest.Config{}, func(w *world) {
			file := filepath.Join(w.TempDir(), "file")
			noError(w, os.WriteFile(file, nil, 0o600))
			b := w.start(w.net.B, "b", textB, func(s *starting) { s.KeyLog = file })
			b.wantEnd("key log: ")
		})
	})
}

// wantEnd: the gateway has ended by itself, with an error that starts so, and
// has taken everything down.
func (s *site) wantEnd(want string) {
	s.w.Helper()
	time.Sleep(shutdownTime)
	synctest.Wait()
	if len(s.done) == 0 {
		s.w.Error("it still runs")
	}
	s.end()
	if s.err == nil || !strings.HasPrefix(s.err.Error(), want) {
		s.w.Errorf("ended with %v, want %s...", s.err, want)
	}
	s.err = nil
	s.w.leavesNothing(s)
}

// TestStatusAnyTime: nobody who asks has to wait for a gateway that does not
// run.
func TestStatusAnyTime(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		s := w.open(w.net.A, "a", textA)
		if now, ok := s.Status(); ok || now.Device.Name != "tun-a" {
			w.Errorf("before Run: %v, %+v", ok, now)
		}
		s.run()
		w.until("status", time.Second, func() bool { _, ok := s.Status(); return ok })
		asked := make(chan bool)
		for range 8 { // some of them while it stops
			go func() {
				for ok := true; ok; _, ok = s.Status() {
					time.Sleep(time.Millisecond)
				}
				asked <- true
			}()
		}
		time.Sleep(10 * time.Millisecond)
		s.end()
		for range 8 {
			<-asked
		}
		if _, ok := s.Status(); ok {
			w.Error("it says that it runs")
		}
	})
}

// TestStatusDown: a peer that was never there has a status too, in which every
// list is a list.
func TestStatusDown(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		p := w.start(w.net.A, "a", textA).peer()
		if p.State != "down" || p.Children == nil || p.NAT != "unknown" || p.Problem != "" || p.RemoteAddress.IsValid() || !p.Since.IsZero() {
			w.Errorf("%+v", p)
		}
	})
}

// TestNoName: a peer whose name does not resolve is looked for again and again,
// by one goroutine, which the log says once; its tunnel comes up when it does.
func TestNoName(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		var known atomic.Bool
		var asked atomic.Int32
		named := func(s *starting) {
			s.Options.Doors.Resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
				if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > dialRetry || name != "vpn.example" {
					w.Errorf("asked for %s until %v", name, deadline)
				}
				asked.Add(1)
				if !known.Load() {
					return nil, errors.New("no such host")
				}
				return []netip.Addr{netip.MustParseAddr("2001:db8::1"), nattest.PublicA}, nil
			}
		}
		a := w.start(w.net.A, "a", textA)
		b := w.start(w.net.B, "b", with(textB, "remote", `"vpn.example"`), named)
		time.Sleep(10*dialRetry + time.Second)
		if n := asked.Load(); n != 11 {
			w.Errorf("asked for the name %d times", n)
		}
		if r := b.log.of("no_path"); len(r) != 1 || r[0].level != slog.LevelWarn || !strings.Contains(r[0].text, "vpn.example") || !strings.Contains(r[0].text, "no such host") ||
			!strings.Contains(r[0].text, "line 2 of b.toml") || r[0].attrs["diagnosis"] != "name_unresolved" {
			w.Errorf("said %d times: %v", len(r), r)
		}
		if p := b.peer(); !strings.Contains(p.Problem, "no such host") {
			w.Errorf("status: %+v", p)
		}
		known.Store(true)
		w.untilUp(a, b, 2*dialRetry)

		// The name is lost again, and so is the peer: attempts go on, at the
		// address known last, and look-ups do not pile up.
		known.Store(false)
		w.cut(w.net.A, true)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if n := goroutinesOf(); n > 9 { // 2 x (Run, three loops) and the one that looks the name up
			w.Errorf("%d goroutines", n)
		}
		w.cut(w.net.A, false)
		w.untilUp(a, b, 3*time.Minute)
	})
}

// TestNameMoves: after a peer is lost its name is looked up again, and leads to
// where the peer is now.
func TestNameMoves(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		var at atomic.Value
		at.Store(nattest.PublicA)
		b := w.start(w.net.B, "b", with(textB, "remote", `"vpn.example"`), func(s *starting) {
			s.Options.Doors.Resolve = func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{at.Load().(netip.Addr)}, nil
			}
		})
		a := w.start(w.net.A, "a", textA)
		w.untilUp(a, b, 5*time.Second)
		a.kill()
		at.Store(nattest.PublicC)
		c := w.start(w.net.C, "c", textA)
		w.untilUp(c, b, 5*time.Minute)
		if p := b.peer(); p.RemoteAddress.Addr() != nattest.PublicC {
			w.Errorf("B has its peer at %v", p.RemoteAddress)
		}
	})
}

// TestStopWhileLookingUp: a look-up under way does not hold up the end, wished
// for or not.
func TestStopWhileLookingUp(t *testing.T) {
	for name, breaks := range map[string]bool{"stopped": false, "broken": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nattest.Config{}, func(w *world) {
				b := w.start(w.net.B, "b", with(textB, "remote", `"vpn.example"`), func(s *starting) {
					s.Options.Doors.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
						<-ctx.Done()
						return nil, ctx.Err()
					}
				})
				time.Sleep(time.Second)
				if breaks {
					b.device.Close()
					b.wantEnd("device tun-b: ")
					return
				}
				if took := b.end(); took != 0 {
					w.Errorf("took %v", took)
				}
				w.leavesNothing(b)
			})
		})
	}
}

// TestFoundTooLate: a way to a peer that is found while the gateway stops is
// not taken.
func TestFoundTooLate(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		_, b := w.pair(textA, textB)
		w.cut(w.net.A, true) // so that B waits for an answer to its Delete
		b.stop()
		synctest.Wait()
		path := ikev2.Path{Local: netip.AddrPortFrom(nattest.PrivateB, 500), Remote: netip.AddrPortFrom(nattest.PublicA, 500)}
		if !b.ask(func(c *control) {
			s := &search{peer: &b.cfg.Peers[0], end: func() {}}
			c.dialing[s.peer.Name] = s
			c.found(s, path, nil)
		}) {
			w.Fatal("B is gone already")
		}
		b.end()
		if n := len(b.log.of("connecting")); n != 1 {
			w.Errorf("B began to connect %d times", n)
		}
	})
}

// TestStopWithoutPeer: a peer that does not answer the Delete holds up the end
// for a bounded time.
func TestStopWithoutPeer(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		_, b := w.pair(textA, textB)
		w.cut(w.net.A, true)
		if took := b.end(); took < time.Second || took > shutdownTime {
			w.Errorf("took %v", took)
		}
		w.leavesNothing(b)
	})
}

// stranger is a socket that belongs to no peer.
func (w *world) stranger(port uint16) natt.Conn {
	w.Helper()
	c, err := w.net.C.Listen(netip.AddrPortFrom(netip.Addr{}, port), natt.Options{NATT: port == 4500})
	noError(w, err)
	w.Cleanup(func() { c.Close() })
	return c
}

// TestIKEFlood: while control is busy, more IKE than it can keep is dropped and
// counted, and the tunnel does not notice.
func TestIKEFlood(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		a, b := w.pair(textA, textB)
		busy := make(chan struct{})
		go a.ask(func(*control) { <-busy })
		synctest.Wait()
		c := w.stranger(500)
		const flood = inboxLen + 300
		for i := range flood {
			junk := append(noise(uint64(i), 17), 0x20, 34, 8, 0, 0, 0, 0, 0, 0, 0, 28)
			_, err := c.Send([]natt.Run{{Bytes: junk[:28], Path: natt.Path{Remote: netip.AddrPortFrom(nattest.PublicA, 500)}}})
			noError(w, err)
			if i%32 == 0 {
				synctest.Wait()
			}
		}
		w.crosses(b, a, fromB(1, 100))
		w.crosses(a, b, fromA(1, 100))
		if n := a.counters.Snapshot()["ike_inbox_full"]; n != 300 {
			w.Errorf("%d dropped of %d, %d can wait", n, flood, inboxLen)
		}
		close(busy)
		synctest.Wait()
		if d := a.status().Drops; d["ike_malformed"]+d["ike_unknown_sa"]+d["ike_bad_header"]+d["ike_version"]+d["ike_init_refused"] != inboxLen {
			w.Errorf("of %d that waited: %v", inboxLen, d)
		}
		time.Sleep(5 * time.Minute) // liveness checks among others still work
		w.crosses(b, a, fromB(2, 100))
		w.crosses(a, b, fromA(2, 100))
		if len(a.log.of("down")) != 0 || len(b.log.of("down")) != 0 {
			w.Error("the tunnel was down")
		}
	})
}

// TestStrangersLog: peers that nobody knows cause few records a second, and
// hide nobody's refusal by other records.
func TestStrangersLog(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		a := w.start(w.net.A, "a", "gateway = { cookie_threshold = \"off\", half_open_per_source = \"off\" }\n"+textA)
		// What a real initiator sends first, over and over with other SPIs.
		b := w.start(w.net.B, "b", with(textB, "local_id", `"@unknown"`))
		w.until("refusal", time.Second, func() bool { return len(a.log.of("refused")) == 1 })
		b.end()
		init := w.sent(func(d nattest.Datagram) bool { return d.To.Port() == 500 })[0].Bytes
		before, left := len(a.log.of("init")), a.status().Drops["log_records_left_out"]
		c := w.stranger(500)
		const flood, seconds = 1000, 10
		for i := range flood {
			binary.BigEndian.PutUint64(init, uint64(i+1))
			_, err := c.Send([]natt.Run{{Bytes: init, Path: natt.Path{Remote: netip.AddrPortFrom(nattest.PublicA, 500)}}})
			noError(w, err)
			time.Sleep(seconds * time.Second / flood)
			synctest.Wait()
			if i == flood/2 { // in the middle of it somebody else comes
				b2 := w.start(w.net.B, "b2", with(textB, "local_id", `"@unknown"`))
				w.until("refusal", time.Second, func() bool { return len(a.log.of("refused")) == 2 })
				b2.end()
			}
		}
		logged := len(a.log.of("init")) - before
		if least, most := strangersPerSecond*(seconds-1), strangersPerSecond*(seconds+2); logged < least || logged > most {
			w.Errorf("%d records of %d in %d s, want %d to %d", logged, flood, seconds, least, most)
		}
		if n := a.status().Drops["log_records_left_out"] - left; int(n)+logged != flood+1 {
			w.Errorf("%d logged, %d left out, of %d", logged, n, flood+1)
		}
		time.Sleep(2 * trafficInterval)
		var told int
		lines := a.log.of("left_out")
		for _, r := range lines {
			n, err := strconv.Atoi(r.attrs["count"])
			noError(w, err)
			told += n
		}
		if total := a.status().Drops["log_records_left_out"]; uint64(told) != total || len(lines) > 2*seconds {
			w.Errorf("%d lines tell of %v left out, want all %d", len(lines), told, total)
		}
		if kept := len(recent(a.Journal(), time.Time{})); kept > journalLen {
			w.Errorf("%d records kept", kept)
		}
	})
}

// TestImpostor: who fails to be a peer changes nothing of what is said about
// the peer while that is up.
func TestImpostor(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		a, b := w.pair(textA, textB)
		before := a.peer()
		impostor := w.start(w.net.C, "c", with(textB, "psk", `"an-impostor-does-not-have-that-key"`))
		w.until("refusal", time.Second, func() bool { return len(a.log.of("refused")) > 0 })
		after := a.peer()
		if after.State != "up" || after.RemoteAddress != before.RemoteAddress || after.Problem != "" || after.ResponderSPI != before.ResponderSPI {
			w.Errorf("A says %+v", after)
		}
		if r := a.log.of("refused")[0]; r.attrs["diagnosis"] != "wrong_key" || !strings.Contains(r.text, nattest.PublicC.String()) {
			w.Errorf("A's record: %v", r)
		}
		impostor.end()
		w.crosses(b, a, fromB(1, 100))
	})
}

// TestRefusalIsAlone: what one peer is refused does not touch another, and an
// IKE SA without its child says what is wrong with it.
func TestRefusalIsAlone(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		two := textA + `
[peer.other]
remote = "any"
local_id = "203.0.113.1"
remote_id = "@bar"
psk = "` + secretKey + `"
initiate = false
[peer.other.tunnel.lan]
local = "10.103.0.0/24"
remote = "10.105.0.0/24"
`
		a, b := w.start(w.net.A, "a", two), w.start(w.net.B, "b", textB)
		c := w.start(w.net.C, "c", with(textB, "local_id", `"@bar"`, "local", `"10.106.0.0/24"`))
		w.until("tunnel of the one", time.Second, func() bool { return b.isUp() })
		w.until("refusal of the other", time.Second, func() bool { return len(a.log.of("refused")) == 1 })
		w.crosses(b, a, fromB(1, 100))
		w.crosses(a, b, fromA(1, 100))
		for _, p := range a.status().Peers {
			if refused := p.Name == "other"; p.State != "up" || refused == (p.Problem == "") || refused == (len(p.Children) == 1) {
				w.Errorf("A says %+v", p)
			}
		}
		if r := a.log.of("refused")[0]; r.attrs["peer"] != "other" || r.attrs["diagnosis"] != "selectors" {
			w.Errorf("A's record: %v", r)
		}
		c.end()
	})
}

// TestRouteRefused: what the system refuses is said, and the rest goes on.
func TestRouteRefused(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		a := w.start(w.net.A, "a", textA, func(s *starting) {
			s.Options.Doors.AddRoute = func(netip.Prefix, tun.RouteOptions) error { return errors.New("network is unreachable") }
			s.Options.Doors.DelRoute = func(p netip.Prefix) error { w.Errorf("removed %v, which it had not added", p); return nil }
		})
		b := w.start(w.net.B, "b", textB)
		w.untilUp(a, b, time.Second)
		if r := a.log.of("route_failed"); len(r) != 1 || r[0].level != slog.LevelWarn || !strings.Contains(r[0].text, "10.104.0.0/24") {
			w.Errorf("A says %v", r)
		}
	})
}

// TestFindPath: names and addresses, in either family, to where IKE goes.
func TestFindPath(t *testing.T) {
	g := &Gateway{cfg: &config.Config{}, doors: &Doors{
		LocalAddr: func(remote netip.Addr) (netip.Addr, error) {
			if remote.Is6() {
				return netip.Addr{}, fmt.Errorf("no route to %v", remote)
			}
			return nattest.PrivateB, nil
		},
		Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
			return map[string][]netip.Addr{
				"both": {netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:203.0.113.1")},
				"six":  {netip.MustParseAddr("2001:db8::1")},
			}[name], nil
		},
	}}
	for remote, want := range map[string]string{
		"203.0.113.1": "203.0.113.1:500", "::ffff:203.0.113.1": "203.0.113.1:500", "both": "203.0.113.1:500",
		"six": "no route to 2001:db8::1", "none": "it has no address",
	} {
		path, err := g.findPath(t.Context(), &config.Gateway{}, &config.Peer{Remote: remote, RemoteIKEPort: 500})
		got := path.Remote.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}

// TestDeliverCopies: the socket takes its buffers back while control has not
// looked at the message yet.
func TestDeliverCopies(t *testing.T) {
	g := &Gateway{inbox: make(chan ikev2.Datagram, 1)}
	buffer := []byte("an IKE message")
	g.deliver(natt.Path{Encap: true}, buffer)
	clear(buffer)
	if d := <-g.inbox; string(d.Payload) != "an IKE message" || !d.Path.Encap {
		t.Errorf("%+v", d)
	}
}
