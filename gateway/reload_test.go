package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/config"
	"culvert/natt/nattest"
	"culvert/tun"
)

// branch is a second peer of A, at C.
const branch = `
[peer.branch]
remote = "any"
local_id = "203.0.113.1"
remote_id = "@branch"
psk = "` + secretKey + `"
[peer.branch.tunnel.lab]
local = "10.103.0.0/24"
remote = "10.106.0.0/24"
`

var textBranch = sideText(`
remote = "203.0.113.1"
local_id = "@branch"
remote_id = "203.0.113.1"
psk = "` + secretKey + `"
[peer.remote.tunnel.lab]
local = "10.106.0.0/24"
remote = "10.103.0.0/24"`)

// reload gives a site another text, as a file of that name would have it.
func (s *site) reload(text string) (Reloaded, error) {
	s.w.Helper()
	cfg, err := config.Parse(s.name+".toml", []byte(text), config.Lookups{})
	noError(s.w, err)
	return s.Reload(cfg)
}

func (s *site) reloads(text, want string) {
	s.w.Helper()
	r, err := s.reload(text)
	if noError(s.w, err); r.String() != want {
		s.w.Errorf("%s: %v, want %s", s.name, r, want)
	}
}

// changes counts what happens to the routes of a site.
type changes struct {
	sync.Mutex
	seen []string
}

func (c *changes) watch(s *starting) {
	doors := *s.Options.Doors
	note := func(what string, p netip.Prefix) {
		c.Lock()
		defer c.Unlock()
		c.seen = append(c.seen, fmt.Sprintf("%s %v", what, p))
	}
	s.Options.Doors.AddRoute = func(p netip.Prefix, o tun.RouteOptions) error { note("add", p); return doors.AddRoute(p, o) }
	s.Options.Doors.DelRoute = func(p netip.Prefix) error { note("del", p); return doors.DelRoute(p) }
}

func (c *changes) take() []string {
	c.Lock()
	defer c.Unlock()
	seen := c.seen
	c.seen = nil
	return seen
}

// TestReload changes one peer in every way while packets of another flow: none
// of them is lost, its SAs stay, and so do its routes.
func TestReload(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.PortRestricted, Latency: 5 * time.Millisecond}, func(w *world) {
		var routes changes
		a := w.start(w.net.A, "a", textA+branch, routes.watch)
		b, c := w.start(w.net.B, "b", textB), w.start(w.net.C, "c", textBranch)
		bothUp := func() bool { return b.isUp() && c.isUp() }
		w.until("tunnels", time.Second, bothUp)
		was := b.peer()
		routes.take()

		branches := []struct {
			text, says string
			routes     []string
		}{
			{branch, "nothing has changed for 2 peers", nil},
			{strings.Replace(branch, "psk", "dpd = \"7s\"\npsk", 1), "1 peer unchanged, adjusted branch", nil},
			{branch + "[peer.branch.tunnel.more]\nlocal = \"10.103.0.0/24\"\nremote = \"10.107.0.0/24\"\n", "1 peer unchanged, adjusted branch", []string{"add 10.107.0.0/24"}},
			{strings.Replace(branch, "10.106", "10.105", 1), "1 peer unchanged, adjusted branch", []string{"add 10.105.0.0/24", "del 10.106.0.0/24", "del 10.107.0.0/24"}},
			{strings.Replace(branch, secretKey, "quite-another-key-altogether", 1), "1 peer unchanged, re-established branch", []string{"add 10.106.0.0/24", "del 10.105.0.0/24"}},
			{branch, "1 peer unchanged, re-established branch", nil},
			{"", "1 peer unchanged, removed branch", []string{"del 10.106.0.0/24"}},
			{branch, "1 peer unchanged, added branch", []string{"add 10.106.0.0/24"}},
		}
		var lost []int
		for i, turn := 0, 0; turn < len(branches); i++ {
			if i%50 == 25 {
				next := branches[turn]
				a.reloads(textA+next.text, next.says)
				if got := routes.take(); !slices.Equal(got, next.routes) {
					w.Errorf("reload %d: routes %q, want %q", turn, got, next.routes)
				}
				turn++
			}
			for _, way := range []struct {
				from, to *site
				packet   []byte
			}{{a, b, fromA(uint64(i), 100)}, {b, a, fromB(uint64(i), 100)}} {
				way.from.device.InjectPacket(way.packet)
			}
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			if len(b.device.Drain()) != 1 || len(a.device.Drain()) != 1 {
				lost = append(lost, i)
			}
		}
		if len(lost) > 0 {
			w.Errorf("lost packets %v", lost)
		}
		if is := b.peer(); is.ResponderSPI != was.ResponderSPI || is.Children[0].InboundSPI != was.Children[0].InboundSPI || len(b.log.of("established")) != 1 {
			w.Errorf("B had %+v, and has %+v", was, is)
		}
		w.until("both tunnels again", time.Minute, bothUp)
		if n := len(a.log.of("reloaded")); n != len(branches) {
			w.Errorf("%d reloads in the log", n)
		}
	})
}

// TestReloadNeedsRestart: settings of the doors are refused by name and place
// before anything has changed.
func TestReloadNeedsRestart(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		gateway := "[gateway]\nlocal = \"any\"\nmtu = 1400\n"
		a := w.start(w.net.A, "a", gateway+textA)
		b := w.start(w.net.B, "b", textB)
		w.untilUp(a, b, time.Second)
		other := with(textA, "psk", `"quite-another-key-altogether"`) + branch
		for _, tt := range []struct {
			gateway string
			want    []string
		}{
			{"[gateway]\nlocal = \"203.0.113.1\"\nmtu = 1400\n", []string{"a.toml:2:10: error: local cannot change"}},
			{"[gateway]\nmtu = 1300\ndevice = \"tun9\"\n", []string{"a.toml:2:7: error: mtu", "put back what it was started with: 1400", "a.toml:3:11: error: device", "culvert0"}},
			{"[gateway]\nmtu = 1400\nike_port = 501\nnatt_port = 4501\n", []string{"a.toml:3:12: error: ike_port", "a.toml:4:13: error: natt_port"}},
			{"", []string{"a.toml: error: mtu", "1400"}},
		} {
			r, err := a.reload(tt.gateway + other)
			var wrong *config.Error
			if !errors.As(err, &wrong) || len(r.Unchanged)+len(r.Added) > 0 {
				w.Fatalf("%v, %v", r, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					w.Errorf("no %q in:\n%v", want, err)
				}
			}
		}
		if s := a.status(); len(s.Peers) != 1 || s.Peers[0].State != "up" || len(b.log.of("down")) > 0 {
			w.Errorf("%+v", s)
		}
		w.crosses(a, b, fromA(1, 100))
		a.end()
		if _, err := a.reload(gateway + textA); !errors.Is(err, ErrNotRunning) {
			w.Errorf("after the end: %v", err)
		}
	})
}

// TestReloadElsewhere: a peer that is to be reached at another address is
// connected there before it is left here, and the old address is not called any
// more.
func TestReloadElsewhere(t *testing.T) {
	inWorld(t, nattest.Config{Latency: 5 * time.Millisecond}, func(w *world) {
		a, b := w.pair(textA, textB)
		c := w.start(w.net.C, "c", textA)
		b.reloads(with(textB, "remote", `"`+nattest.PublicC.String()+`"`), "0 peers unchanged, re-established remote")
		w.until("tunnel to C", 2*time.Second, func() bool { return c.isUp() && b.isUp() })
		w.crosses(b, c, fromB(1, 100))
		w.until("end of the tunnel to A", time.Second, a.isDown)
		if down := b.log.of("down"); len(down) != 1 || down[0].attrs["reason"] != "replaced" {
			w.Errorf("%v", down)
		}
		up, left := b.log.of("established")[1], b.log.of("down")[0]
		if left.at.Before(up.at) {
			w.Errorf("left at %v, connected at %v", left.at, up.at)
		}
	})
}

// TestReloadWhileLooking: a peer is removed, or gets an address, while its name
// is being looked up.
func TestReloadWhileLooking(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		a := w.start(w.net.A, "a", textA)
		b := w.start(w.net.B, "b", with(textB, "remote", `"vpn.example"`), func(s *starting) {
			s.Options.Doors.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		time.Sleep(time.Second)
		other := strings.ReplaceAll(with(textB, "remote", `"any"`, "initiate", "false"), "peer.remote", "peer.other")
		b.reloads(other, "0 peers unchanged, added other, removed remote")
		time.Sleep(time.Minute)
		if n := len(b.log.of("no_path")); n != 0 || b.peer().Name != "other" {
			w.Errorf("looked on for %d times", n)
		}
		b.reloads(with(textB, "remote", `"vpn.example"`), "0 peers unchanged, added remote, removed other")
		time.Sleep(time.Second)
		b.reloads(textB, "0 peers unchanged, re-established remote")
		w.untilUp(a, b, time.Second)
		time.Sleep(time.Minute)
		if n := len(b.log.of("established")); n != 1 {
			w.Errorf("established %d times", n)
		}
	})
}

// TestReloadInitiate turns on and off who connects.
func TestReloadInitiate(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		a, b := w.start(w.net.A, "a", textA), w.start(w.net.B, "b", with(textB, "initiate", "false"))
		time.Sleep(time.Minute)
		if a.isUp() || b.isUp() {
			w.Error("somebody connected")
		}
		b.reloads(textB, "0 peers unchanged, adjusted remote")
		w.untilUp(a, b, time.Second)
		b.reloads(with(textB, "initiate", "false"), "0 peers unchanged, re-established remote")
		w.until("end of the tunnel", time.Second, func() bool { return a.isDown() && b.isDown() })
		time.Sleep(10 * time.Minute)
		if a.isUp() || b.isUp() {
			w.Error("somebody connected")
		}
	})
}

// TestOperator takes a peer down and brings it up, and renews keys, by word of
// the operator.
func TestOperator(t *testing.T) {
	inWorld(t, nattest.Config{Latency: 5 * time.Millisecond}, func(w *world) {
		a, b := w.pair(textA, textB)
		says := func(want string) func(string, error) {
			return func(got string, err error) {
				w.Helper()
				if err != nil {
					got = err.Error()
				}
				if !strings.Contains(got, want) {
					w.Errorf("%q, want %q", got, want)
				}
			}
		}
		was := b.peer()
		says("tunnel lan of peer remote gets new keys")(b.Rekey("remote", "lan"))
		w.settle()
		says("tunnel lan of peer remote gets new keys")(b.Rekey("remote", ""))
		w.settle()
		says("the connection with peer remote gets new keys")(b.RekeyIKE("remote"))
		w.until("new keys", time.Second, func() bool {
			is := b.peer()
			return is.ResponderSPI != was.ResponderSPI && is.Children[0].InboundSPI != was.Children[0].InboundSPI && a.peer().ResponderSPI == is.ResponderSPI
		})
		if n := len(b.log.of("child_up")); n != 3 {
			w.Errorf("%d child SAs", n)
		}
		w.crosses(a, b, fromA(1, 100))

		says(`no peer is named "nobody" in b.toml; there is remote`)(b.Connect("nobody"))
		says(`no peer is named "nobody"`)(b.Disconnect("nobody"))
		says(`no peer is named "nobody"`)(b.RekeyIKE("nobody"))
		says(`peer remote has no tunnel named "wan"; there is lan`)(b.Rekey("remote", "wan"))
		says("connected already")(b.Connect("remote"))
		says(`remote is "any"`)(a.Connect("remote"))

		says("peer remote is taken down")(b.Disconnect("remote"))
		w.until("end of the tunnel", time.Second, func() bool { return a.isDown() && b.isDown() })
		says("down already")(b.Disconnect("remote"))
		says("is not up")(b.Rekey("remote", "lan"))
		says("no tunnel that is up")(b.Rekey("remote", ""))
		says("is not connected")(b.RekeyIKE("remote"))
		if p := b.peer(); p.State != "down" || p.Problem != "taken down by the operator" {
			w.Errorf("%+v", p)
		}
		b.reloads(with(textB, "dpd", `"7s"`), "0 peers unchanged, adjusted remote")
		b.reloads(with(textB, "psk", `"`+secretKey+`"`, "mobike", "false"), "0 peers unchanged, re-established remote")
		b.device.InjectPacket(fromB(1, 100))
		time.Sleep(10 * time.Minute)
		if a.isUp() || b.isUp() || len(b.log.of("connecting")) != 1 {
			w.Error("B connected, though it was told not to")
		}
		says("connecting to peer remote at 203.0.113.1")(b.Connect("remote"))
		w.untilUp(a, b, time.Second)

		w.cut(w.net.A, true)
		w.until("B's back-off", 20*time.Minute, func() bool { return b.peer().Attempt > 6 })
		w.cut(w.net.A, false)
		says("connecting")(b.Connect("remote"))
		w.untilUp(a, b, time.Second)

		b.end()
		says(ErrNotRunning.Error())(b.Connect("remote"))
		says(ErrNotRunning.Error())(b.Rekey("remote", ""))
	})
}

// TestTunnelByHand: one tunnel is taken down, carries nothing and stays down, and is
// brought up again, with its connection if need be.
func TestTunnelByHand(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		says := func(want string) func(string, error) {
			return func(got string, err error) {
				w.Helper()
				if err != nil {
					got = err.Error()
				}
				if got != want {
					w.Errorf("%q, want %q", got, want)
				}
			}
		}
		for _, start := range []string{`"now"`, `"traffic"`} {
			a, b := w.start(w.net.A, "a", textA), w.start(w.net.B, "b", textB+"start = "+start+"\n")
			connected := func() bool { return b.peer().State == "up" }
			b.device.InjectPacket(fromB(0, 100))
			w.untilUp(a, b, time.Second)
			says("tunnel lan of peer remote is taken down")(b.DisconnectTunnel("remote", "lan"))
			w.until("end of the tunnel", time.Second, func() bool { return len(a.peer().Children)+len(b.peer().Children) == 0 })
			a.device.Drain()
			speaks(600, nil, fromB)(w, a, b)
			if len(b.peer().Children) > 0 || !connected() || len(a.device.Drain()) > 0 {
				w.Errorf("after ten minutes: %+v", b.peer())
			}
			x, err := b.Explain("remote")
			noError(w, err)
			if i := slices.IndexFunc(x.Findings, func(f Finding) bool { return f.Code == "disconnected" }); i < 0 || x.Findings[i].Tunnel != "lan" || x.Findings[i].Wrong {
				w.Errorf("explained by %+v", x.Findings)
			}
			says("tunnel lan of peer remote is down already, and stays down")(b.DisconnectTunnel("remote", "lan"))
			says("tunnel lan of peer remote is brought up")(b.ConnectTunnel("remote", "lan"))
			w.untilUp(a, b, time.Second)
			says("tunnel lan of peer remote is up already")(b.ConnectTunnel("remote", "lan"))
			says(`peer remote has no tunnel named "wan"; there is lan`)(b.ConnectTunnel("remote", "wan"))

			says("peer remote is taken down")(b.Disconnect("remote"))
			w.until("end of the connection", time.Second, func() bool { return a.isDown() && b.isDown() })
			says(`peer remote is not connected, and has no address to connect to: remote is "any", so it has to connect to us`)(a.ConnectTunnel("remote", "lan"))
			says("tunnel lan of peer remote is brought up")(b.ConnectTunnel("remote", "lan"))
			w.untilUp(a, b, time.Second)
			w.crosses(a, b, fromA(1, 100))
			a.end()
			b.end()
		}
	})
}

// TestDisconnectedPeerMayConnect: to take a peer down is not to lock it out.
func TestDisconnectedPeerMayConnect(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		a, b := w.pair(textA, textB)
		_, err := a.Disconnect("remote")
		noError(w, err)
		w.untilUp(a, b, 5*time.Second)
		if n := len(a.log.of("established")); n != 2 {
			w.Errorf("established %d times", n)
		}
	})
}
