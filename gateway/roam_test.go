package gateway

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/natt/nattest"
)

// network is a host's view of its network, as a test makes it up.
type network struct {
	changed chan struct{}
	noWay   atomic.Bool
	slept   atomic.Int64 // since the machine was started
	set     atomic.Int64 // by how much the clock on the wall was
}

func (n *network) Changed() <-chan struct{} { return n.changed }
func (n *network) Close() error             { return nil }

func (n *network) tell() { n.changed <- struct{}{} }

// watched gives a site such a network.
func watched() (*network, func(*starting)) {
	n := &network{changed: make(chan struct{}, 1)}
	return n, func(s *starting) {
		d, local := s.Options.Doors, s.Options.Doors.LocalAddr
		d.Network = n
		d.Clock = func() (time.Time, time.Duration) {
			slept := time.Duration(n.slept.Load())
			return time.Now().Round(0).Add(slept + time.Duration(n.set.Load())), slept
		}
		d.LocalAddr = func(remote netip.Addr) (netip.Addr, error) {
			if n.noWay.Load() {
				return netip.Addr{}, errors.New("network is unreachable")
			}
			return local(remote)
		}
	}
}

// goesOn wants packets to cross both ways within 5 s.
func (w *world) goesOn(a, b *site) {
	w.Helper()
	w.until("packets both ways", 5*time.Second, func() bool { return w.arrives(b, a, fromB(1, 100)) && w.arrives(a, b, fromA(1, 100)) })
}

// TestWayComesBack: however long there was no way to the peer, given up by then
// or not, the tunnel is there 5 s after there is one again.
func TestWayComesBack(t *testing.T) {
	for _, away := range []time.Duration{time.Second, 20 * time.Second, time.Minute, 3 * time.Minute, time.Hour} {
		t.Run(away.String(), func(t *testing.T) {
			inWorld(t, nattest.Config{}, func(w *world) {
				net, change := watched()
				a := w.start(w.net.A, "a", textA)
				b := w.start(w.net.B, "b", textB, change)
				w.untilUp(a, b, 5*time.Second)
				w.cut(w.net.B, true)
				net.noWay.Store(true)
				net.tell()
				time.Sleep(away)
				w.cut(w.net.B, false)
				net.noWay.Store(false)
				net.tell()
				w.goesOn(a, b)
				if len(b.log.of("path_gone")) != 1 {
					w.Errorf("said %d times that there is no way", len(b.log.of("path_gone")))
				}
			})
		})
	}
}

// TestSleep: a machine that wakes up asks at once, and calls a peer that has
// forgotten it meanwhile.
func TestSleep(t *testing.T) {
	for name, forgotten := range map[string]bool{"nap": false, "forgotten": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nattest.Config{}, func(w *world) {
				net, change := watched()
				a := w.start(w.net.A, "a", textA)
				b := w.start(w.net.B, "b", textB, change)
				w.untilUp(a, b, 5*time.Second)
				if forgotten {
					a.kill()
					a = w.start(w.net.A, "a2", textA)
				}
				net.slept.Store(int64(time.Hour))
				time.Sleep(clockInterval)
				synctest.Wait()
				w.goesOn(a, b)
				if r := b.log.of("resumed"); len(r) != 1 {
					w.Errorf("said %d times that it slept", len(r))
				}
				if made := len(b.log.of("established")); (made == 2) != forgotten {
					w.Errorf("%d IKE SAs", made)
				}
				time.Sleep(time.Minute)
				w.goesOn(a, b)
			})
		})
	}
}

// TestIdleChanges: changes that have nothing to do with a peer cost no message,
// many of them few looks.
func TestIdleChanges(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		net, change := watched()
		var looks atomic.Int64
		a := w.start(w.net.A, "a", textA)
		b := w.start(w.net.B, "b", textB, change, func(s *starting) {
			d, ask := s.Options.Doors, s.Options.Doors.LocalAddr
			d.LocalAddr = func(r netip.Addr) (netip.Addr, error) { looks.Add(1); return ask(r) }
		})
		w.untilUp(a, b, 5*time.Second)
		w.goesOn(a, b)
		w.measured(a, b)
		before, looked := len(w.sent(func(nattest.Datagram) bool { return true })), looks.Load()
		for range 1000 {
			net.tell()
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(w.sent(func(nattest.Datagram) bool { return true })) - before; n != 0 {
			w.Errorf("%d datagrams", n)
		}
		if n := looks.Load() - looked; n < 8 || n > 12 {
			w.Errorf("looked %d times in 10 s", n)
		}
	})
}

// TestPathMTUMoves: a child SA that moves takes the MTU of its new path.
func TestPathMTUMoves(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		narrow := func(s *starting) {
			s.Options.Doors.PathMTU = func(_, remote netip.Addr) (int, error) {
				if remote == nattest.PublicB2 {
					return 1300, nil
				}
				return 1500, nil
			}
		}
		a, b := w.start(w.net.A, "a", textA, narrow), w.start(w.net.B, "b", textB)
		w.untilUp(a, b, 5*time.Second)
		mtu := func() (n int) {
			a.ask(func(c *control) {
				for _, ch := range c.children {
					n = ch.PathMTU()
				}
			})
			return n
		}
		if n := mtu(); n != 1500 {
			w.Fatalf("MTU %d", n)
		}
		noError(w, w.net.Rebind(nattest.PublicB2))
		w.goesOn(a, b)
		if n := mtu(); n != 1300 {
			w.Errorf("MTU %d", n)
		}
	})
}
