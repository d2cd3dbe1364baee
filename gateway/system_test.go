package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/config"
	"culvert/natt"
	"culvert/natt/nattest"
	"culvert/tun"
	"culvert/tun/tuntest"
)

// The system tests run whole gateways in one process, over a network in memory
// with a NAT in it, on virtual time.
//
//	hostA - device - gateway A 203.0.113.1 ---- NAT ---- 172.16.0.1 gateway B - device - hostB

// secretKey is the key of all of them. No test may find it in what a gateway
// says.
const secretKey = "n0body-Shall-read_this.Key-anywhere"

// sideText is a configuration of one peer, a setting a line, so that tests can
// say which line is wrong.
func sideText(settings string) string {
	return "[peer.remote]\n" + strings.TrimSpace(settings) + "\n"
}

var (
	textA = sideText(`
remote = "any"
local_id = "203.0.113.1"
remote_id = "@foo"
psk = "` + secretKey + `"
ike = "aes128gcm16-prfsha256-x25519"
initiate = false
[peer.remote.tunnel.lan]
local = "10.103.0.0/24"
remote = "10.104.0.0/24"
esp = "aes128gcm16"`)
	textB = sideText(`
remote = "203.0.113.1"
local_id = "@foo"
remote_id = "203.0.113.1"
psk = "` + secretKey + `"
ike = "aes128gcm16-prfsha256-x25519"
initiate = true
[peer.remote.tunnel.lan]
local = "10.104.0.0/24"
remote = "10.103.0.0/24"
esp = "aes128gcm16"`)
)

// either makes a key exchange where the peer makes one, so that it is not found
// out early whether that is so.
var either = []string{"esp", `["aes128gcm16", "aes128gcm16-x25519"]`}

// with changes settings of a configuration: "key", "value" pairs, each of which
// replaces a line that is there or else follows remote_id.
func with(text string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		line := pairs[i] + " = " + pairs[i+1]
		lines := strings.Split(text, "\n")
		is := func(key string) func(string) bool {
			return func(l string) bool { return strings.HasPrefix(l, key+" = ") }
		}
		at := slices.IndexFunc(lines, is(pairs[i]))
		if at >= 0 {
			lines[at] = line
		} else {
			lines = slices.Insert(lines, slices.IndexFunc(lines, is("remote_id"))+1, line)
		}
		text = strings.Join(lines, "\n")
	}
	return text
}

// world is a network, its gateways, and what is done to its datagrams.
type world struct {
	*testing.T
	net     *nattest.Network
	latency time.Duration
	sites   []*site

	mu     sync.Mutex
	seen   []nattest.Datagram // what was sent, in order
	judge  nattest.Filter     // nil passes everything
	silent map[netip.Addr]bool
}

// inWorld runs a test in a bubble, which fails when a goroutine is left in it.
func inWorld(t *testing.T, c nattest.Config, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, silent: map[netip.Addr]bool{}}
		c.Filter = w.filter
		n, err := nattest.New(c)
		noError(t, err)
		w.net, w.latency = n, c.Latency
		defer func() {
			for _, s := range w.sites {
				s.end()
				s.keepsSecret()
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(w)
	})
}

// settle waits until all that was sent is where it belongs.
func (w *world) settle() {
	time.Sleep(4 * w.latency)
	synctest.Wait()
}

// eachNAT does it behind every kind of NAT.
func eachNAT(t *testing.T, c nattest.Config, test func(*world, nattest.Kind)) {
	for _, kind := range nattest.Kinds {
		t.Run(kind.String(), func(t *testing.T) {
			c := c
			c.NAT = kind
			inWorld(t, c, func(w *world) { test(w, kind) })
		})
	}
}

func (w *world) filter(d nattest.Datagram) nattest.Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, nattest.Datagram{Number: d.Number, From: d.From, To: d.To, TOS: d.TOS, Bytes: slices.Clone(d.Bytes)})
	switch {
	case w.silent[d.From.Addr()] || w.silent[d.To.Addr()]:
		return nattest.Verdict{Drop: true}
	case w.judge != nil:
		return w.judge(d)
	}
	return nattest.Verdict{}
}

// treat makes f decide the fate of datagrams from now on.
func (w *world) treat(f nattest.Filter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judge = f
}

// cut makes a host unreachable, and mends it again.
func (w *world) cut(h *nattest.Host, dead bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent[h.Addr()] = dead
}

// sent gives the datagrams so far that pass keep.
func (w *world) sent(keep func(nattest.Datagram) bool) (ds []nattest.Datagram) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.seen {
		if keep(d) {
			ds = append(ds, d)
		}
	}
	return ds
}

// until waits for something in virtual time; the test fails when it has not
// come after limit.
func (w *world) until(what string, limit time.Duration, ok func() bool) {
	w.Helper()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		synctest.Wait()
		if ok() {
			return
		}
		if time.Since(start) > limit {
			for _, s := range w.sites {
				w.Logf("log of %s:\n%s", s.name, s.log)
			}
			w.Fatalf("no %s after %v", what, limit)
		}
	}
}

// site is a gateway with its host, its device and its log.
type site struct {
	*Gateway
	w      *world
	name   string
	text   string // its configuration
	host   *nattest.Host
	device *tuntest.Device
	log    *journal
	stop   context.CancelFunc
	done   chan error
	err    error // of Run, after end
	ended  bool
	routes routes
}

// starting is what a test may change before a gateway runs.
type starting struct {
	Options
	*site
}

// start opens a gateway of that configuration on a host and runs it.
func (w *world) start(host *nattest.Host, name, text string, changes ...func(*starting)) *site {
	w.Helper()
	s := w.open(host, name, text, changes...)
	s.run()
	return s
}

func (w *world) open(host *nattest.Host, name, text string, changes ...func(*starting)) *site {
	w.Helper()
	cfg, err := config.Parse(fileOf(name, text), []byte(text), config.Lookups{})
	noError(w, err)
	s := &site{w: w, name: name, text: text, host: host, log: new(journal), done: make(chan error, 1)}
	s.device = tuntest.New(tuntest.Options{Name: "tun-" + name, MTU: 1438, Offload: tun.Offload{TCP: true, UDP: true}})
	st := &starting{Options{Log: slog.New(s.log), Doors: s.doors()}, s}
	for _, change := range changes {
		change(st)
	}
	s.Gateway, err = New(cfg, st.Options)
	noError(w, err)
	w.sites = append(w.sites, s)
	return s
}

// fileOf is the file that a configuration of this text is in.
func fileOf(name, text string) string {
	switch head, _, _ := strings.Cut(text, " "); head {
	case "vpn":
		return name + ".boot"
	case "connections":
		return name + ".conf"
	}
	return name + ".toml"
}

func (s *site) doors() *Doors {
	listen := func(port uint16, opts natt.Options) natt.Conn {
		c, err := s.host.Listen(netip.AddrPortFrom(netip.Addr{}, port), opts)
		noError(s.w, err)
		return c
	}
	return &Doors{
		Device: s.device, IKE: listen(500, natt.Options{}), NATT: listen(4500, natt.Options{NATT: true}),
		LocalAddr: func(netip.Addr) (netip.Addr, error) { return s.host.Addr(), nil },
		Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
			return nil, fmt.Errorf("nobody is called %s here", name)
		},
		AddRoute: s.routes.add, ChangeRoute: s.routes.add, DelRoute: s.routes.del,
		AddAddr: s.routes.addAddr, DelAddr: s.routes.delAddr,
	}
}

func (s *site) run() {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.done <- s.Run(ctx) }()
	synctest.Wait()
}

// end stops the gateway, if it still runs, and says how long that took.
func (s *site) end() (took time.Duration) {
	s.w.Helper()
	if s.ended {
		return 0
	}
	s.ended = true
	start := time.Now()
	s.stop()
	select {
	case s.err = <-s.done:
	case <-time.After(shutdownTime + time.Second):
		s.w.Errorf("%s does not stop", s.name)
	}
	return time.Since(start)
}

// kill ends the gateway without a word to anybody.
func (s *site) kill() {
	s.w.cut(s.host, true)
	s.end()
	s.w.cut(s.host, false)
}

// routes are those that lead into a device, and the addresses that it has.
type routes struct {
	sync.Mutex
	set     map[netip.Prefix]bool
	sources map[netip.Prefix]netip.Addr
	addrs   []netip.Addr
}

func (r *routes) add(p netip.Prefix, opts tun.RouteOptions) error {
	r.put(p, true)
	r.Lock()
	defer r.Unlock()
	if r.sources == nil {
		r.sources = map[netip.Prefix]netip.Addr{}
	}
	r.sources[p] = opts.Source
	return nil
}
func (r *routes) del(p netip.Prefix) error { r.put(p, false); return nil }

func (r *routes) addAddr(a netip.Addr) error {
	r.Lock()
	defer r.Unlock()
	r.addrs = append(r.addrs, a)
	return nil
}

func (r *routes) delAddr(a netip.Addr) error {
	r.Lock()
	defer r.Unlock()
	for p, source := range r.sources {
		if r.set[p] && source == a {
			return fmt.Errorf("the route to %v would go with %v", p, a)
		}
	}
	r.addrs = slices.DeleteFunc(r.addrs, func(x netip.Addr) bool { return x == a })
	return nil
}

// device is what the addresses are, and the source of the route to prefix.
func (r *routes) device(prefix string) (addrs []netip.Addr, source netip.Addr) {
	r.Lock()
	defer r.Unlock()
	return slices.Clone(r.addrs), r.sources[netip.MustParsePrefix(prefix)]
}

func (r *routes) put(p netip.Prefix, there bool) {
	r.Lock()
	defer r.Unlock()
	if r.set == nil {
		r.set = map[netip.Prefix]bool{}
	}
	r.set[p] = there
}

func (r *routes) there(p string) bool {
	r.Lock()
	defer r.Unlock()
	return r.set[netip.MustParsePrefix(p)]
}

// keepsSecret: the key, as text or as bytes in the ways that fmt writes them,
// is in nothing that this gateway says of itself.
func (s *site) keepsSecret() {
	s.w.Helper()
	key := []byte(secretKey)
	said := fmt.Sprintf("%s %v %v %+v %#v %+v %#v", s.log, s.err, s.Gateway, s.Gateway, s.Gateway, *s.cfg, *s.cfg)
	for _, shape := range []string{secretKey, fmt.Sprint(key[:8])[1:], fmt.Sprintf("%x", key[:8]), fmt.Sprintf("%#v", key[:8])[7:], "bjBib2R5LVNoYWxs"} {
		shape = strings.TrimRight(shape, "]}")
		if strings.Contains(said, shape) {
			s.w.Errorf("%s says its key, as %s", s.name, shape)
		}
	}
}

// status is what the operator sees, on its way through JSON.
func (s *site) status() Status {
	s.w.Helper()
	now, ok := s.Status()
	if !ok {
		s.w.Fatalf("%s is not running", s.name)
	}
	text, err := json.Marshal(now)
	noError(s.w, err)
	if strings.Contains(string(text), secretKey) {
		s.w.Errorf("the status of %s has its key in it", s.name)
	}
	var back Status
	noError(s.w, json.Unmarshal(text, &back))
	return back
}

// peer is the status of the only peer.
func (s *site) peer() PeerStatus {
	s.w.Helper()
	return s.status().Peers[0]
}

func (s *site) isUp() bool {
	p := s.peer()
	return p.State == "up" && len(p.Children) == 1
}

func (s *site) isDown() bool {
	p := s.peer()
	return p.State != "up" && len(p.Children) == 0
}

// journal is a log kept in memory.
type journal struct {
	mu      sync.Mutex
	records []record
}

type record struct {
	at    time.Time
	level slog.Level
	text  string
	attrs map[string]string
}

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler       { panic("not used") }
func (j *journal) WithGroup(string) slog.Handler            { panic("not used") }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	kept := record{r.Time, r.Level, r.Message, map[string]string{}}
	r.Attrs(func(a slog.Attr) bool {
		kept.attrs[a.Key] = a.Value.String()
		return true
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, kept)
	return nil
}

// of gives the records of one event.
func (j *journal) of(event string) (rs []record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.records {
		if r.attrs["event"] == event {
			rs = append(rs, r)
		}
	}
	return rs
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	for _, r := range j.records {
		fmt.Fprintf(&b, "%s %v %s %v\n", r.at.Format("15:04:05.000"), r.level, r.text, r.attrs)
	}
	return b.String()
}

// pair starts both sides and waits for the tunnel.
func (w *world) pair(textA, textB string) (a, b *site) {
	w.Helper()
	a, b = w.start(w.net.A, "a", textA), w.start(w.net.B, "b", textB)
	w.untilUp(a, b, time.Second)
	return a, b
}

func (w *world) untilUp(a, b *site, limit time.Duration) {
	w.Helper()
	w.until("tunnel", limit, func() bool { return a.isUp() && b.isUp() })
}

// crosses sends packets from one site's host and wants the very same out of
// the other's device.
func (w *world) crosses(from, to *site, packets ...[]byte) {
	w.Helper()
	synctest.Wait()
	to.device.Drain()
	for _, p := range packets {
		from.device.InjectPacket(p)
	}
	w.settle()
	wantPackets(w, from.name+" to "+to.name, to.device.Drain(), packets)
}

// arrives says whether one packet does.
func (w *world) arrives(from, to *site, packet []byte) bool {
	synctest.Wait()
	to.device.Drain()
	from.device.InjectPacket(packet)
	w.settle()
	got := to.device.Drain()
	return len(got) == 1 && string(got[0]) == string(packet)
}

var (
	fromA = func(seed uint64, n int) []byte { return udp(hostA, hostB, noise(seed, n)) }
	fromB = func(seed uint64, n int) []byte { return udp(hostB, hostA, noise(seed, n)) }
)

// goroutinesOf counts the goroutines that run a gateway's code.
func goroutinesOf() (n int) {
	buf := make([]byte, 1<<20)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, owner := range []string{"(*Gateway).Run", "(*loops)", "(*control)", "(*inbound)", "(*outbound)", "(*Gateway).receiveIKE", "(*Gateway).findPath"} {
			if strings.Contains(stack, "culvert/gateway."+owner) {
				n++
				break
			}
		}
	}
	return n
}

// TestSystem is the main job behind every kind of NAT, from the first datagram
// to the last.
func TestSystem(t *testing.T) {
	quiet := append([]string{"dpd", `"off"`}, either...)
	eachNAT(t, nattest.Config{MappingLifetime: 30 * time.Second, Latency: 5 * time.Millisecond}, func(w *world, kind nattest.Kind) {
		a, b := w.pair(with(textA, quiet...), with(textB, quiet...))
		w.tellsTheNAT(a, b, kind)
		w.bothWays(a, b)

		time.Sleep(10 * time.Minute)
		w.crosses(a, b, fromA(1, 100)) // nothing but B's keepalives kept that mapping open
		keepalives := a.status().Drops["keepalives_received"]
		if keepalives < 29 || keepalives > 31 {
			w.Errorf("%d keepalives in 10 minutes, want one every 20 s", keepalives)
		}
		if n := b.status().Drops["keepalives_received"]; n != 0 {
			w.Errorf("B, which is behind no NAT's back, got %d keepalives", n)
		}

		if took := b.end(); b.err != nil || took > time.Second {
			w.Errorf("B stopped after %v with %v", took, b.err)
		}
		w.until("end of the tunnel at A", time.Second, a.isDown)
		if down := a.log.of("down"); len(down) != 1 || down[0].attrs["reason"] != "deleted_by_peer" {
			w.Errorf("A's log of it: %v", down)
		}
		w.leavesNothing(a, b)
	})
}

func (w *world) tellsTheNAT(a, b *site, kind nattest.Kind) {
	w.Helper()
	pa, pb := a.peer(), b.peer()
	if pa.NAT != "peer side" || pb.NAT != "this side" {
		w.Errorf("NAT: %q at A, %q at B", pa.NAT, pb.NAT)
	}
	if pa.RemoteAddress.Addr() != nattest.PublicB || pa.LocalAddress != netip.AddrPortFrom(nattest.PublicA, 4500) {
		w.Errorf("A: %v <-> %v", pa.LocalAddress, pa.RemoteAddress)
	}
	if kept := pa.RemoteAddress.Port() == 4500; kept != (kind == nattest.OneToOne) {
		w.Errorf("A sees B at port %d", pa.RemoteAddress.Port())
	}
	if pb.RemoteAddress != netip.AddrPortFrom(nattest.PublicA, 4500) || pb.LocalAddress != netip.AddrPortFrom(nattest.PrivateB, 4500) {
		w.Errorf("B: %v <-> %v", pb.LocalAddress, pb.RemoteAddress)
	}
	if pa.Initiator || !pb.Initiator || pa.InitiatorSPI != pb.InitiatorSPI || pa.ResponderSPI != pb.ResponderSPI || len(pa.ResponderSPI) != 16 {
		w.Errorf("IKE SAs: %+v, %+v", pa, pb)
	}
	ca, cb := pa.Children[0], pb.Children[0]
	if ca.InboundSPI != cb.OutboundSPI || ca.OutboundSPI != cb.InboundSPI || ca.Suite != cb.Suite || ca.Suite == "" {
		w.Errorf("child SAs: %+v, %+v", ca, cb)
	}
	for _, s := range []*site{a, b} {
		found := s.log.of("init")
		if len(found) != 1 || !strings.Contains(found[0].text, "NAT: in front of") {
			w.Errorf("%s says of the NAT: %v", s.name, found)
		}
	}
}

// bothWays: packets of all sizes and a run, byte for byte.
func (w *world) bothWays(a, b *site) {
	w.Helper()
	for i, n := range []int{0, 1, 15, 16, 17, 512, 1410} {
		w.crosses(a, b, fromA(uint64(i), n))
		w.crosses(b, a, fromB(uint64(i), n))
	}
	run := bulk(hostB, hostA, 1, noise(7, 20*1398-11), 1398)
	b.device.Inject(run)
	w.settle()
	wantPackets(w, "a run", a.device.Drain(), apart(run))
	ca, cb := a.peer().Children[0], b.peer().Children[0]
	if ca.PacketsIn != 27 || cb.PacketsOut != 27 || ca.PacketsOut != 7 || cb.PacketsIn != 7 || ca.BytesIn != cb.BytesOut || ca.BytesIn < 20*1398 {
		w.Errorf("counted: %+v, %+v", ca, cb)
	}
	if ca.LastIn.IsZero() || time.Since(ca.LastIn) > time.Second {
		w.Errorf("last traffic at %v", ca.LastIn)
	}
}

// leavesNothing: after Run there is no route, no device and no goroutine.
func (w *world) leavesNothing(sites ...*site) {
	w.Helper()
	for _, s := range sites {
		if lan := s.cfg.Peers[0].Tunnels[0].Remote[0].String(); !s.ended && !s.routes.there(lan) {
			w.Errorf("%s has no route to %s", s.name, lan)
		}
		s.end()
		if s.err != nil {
			w.Errorf("%s ended with %v", s.name, s.err)
		}
		for p, there := range s.routes.set {
			if there {
				w.Errorf("%s left its route to %v", s.name, p)
			}
		}
		if s.device.InjectPacket(fromA(1, 1)) {
			w.Errorf("%s left its device open", s.name)
		}
		if _, err := s.host.Listen(netip.AddrPortFrom(netip.Addr{}, 4500), natt.Options{}); err != nil {
			w.Errorf("%s left its socket open: %v", s.name, err)
		}
		if _, ok := s.Status(); ok {
			w.Errorf("%s says that it runs", s.name)
		}
	}
	want := 0
	for _, s := range w.sites {
		if !s.ended {
			want += 4 // Run and three loops
		}
	}
	if n := goroutinesOf(); n != want {
		w.Errorf("%d goroutines are left, want %d", n, want)
	}
}

// TestTrafficIsLife: while packets flow both ways, there is no keepalive (RFC
// 3948 section 4) and no liveness check (RFC 7296 section 2.4); when they stop,
// both come.
func TestTrafficIsLife(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.PortRestricted, MappingLifetime: 30 * time.Second}, func(w *world) {
		a, b := w.pair(with(textA, either...), with(textB, either...))
		w.measured(a, b)
		overhead := func() int {
			return len(w.sent(func(d nattest.Datagram) bool { return natt.Classify(d.Bytes) != natt.ESP }))
		}
		before := overhead()
		for i := range 300 {
			w.crosses(a, b, fromA(uint64(i), 100))
			w.crosses(b, a, fromB(uint64(i), 100))
			time.Sleep(time.Second)
		}
		if n := overhead() - before; n != 0 {
			w.Errorf("%d datagrams beside the traffic", n)
		}
		time.Sleep(5 * time.Minute)
		if n := overhead() - before; n < 20 {
			w.Errorf("%d datagrams in 5 silent minutes", n)
		}
		if !a.isUp() || !b.isUp() {
			w.Error("the tunnel is down")
		}
	})
}

// TestSilenceKillsTheMapping is the other side of the keepalive's coin: without
// it the mapping dies, and the first packet from inside makes A follow.
func TestSilenceKillsTheMapping(t *testing.T) {
	eachNAT(t, nattest.Config{MappingLifetime: 30 * time.Second}, func(w *world, kind nattest.Kind) {
		off := []string{"dpd", `"off"`, "keepalive", `"off"`}
		a, b := w.pair(with(textA, off...), with(textB, off...))
		before := a.peer().RemoteAddress
		time.Sleep(10 * time.Minute)
		if n := a.status().Drops["keepalives_received"]; n != 0 {
			w.Errorf("%d keepalives", n)
		}
		if through := w.arrives(a, b, fromA(1, 100)); through != (kind == nattest.OneToOne) {
			w.Errorf("through the old mapping: %v", through)
		}
		w.crosses(b, a, fromB(1, 100))
		w.crosses(a, b, fromA(2, 100))
		after := a.peer().RemoteAddress
		if moved := after != before; moved != (kind != nattest.OneToOne) {
			w.Errorf("A has B at %v, before at %v", after, before)
		}
	})
}

// TestRebind: the NAT forgets its mappings while packets flow. A follows with
// the first packet from B, and nothing but what was under way is lost.
func TestRebind(t *testing.T) {
	for _, public := range []netip.Addr{nattest.PublicB, nattest.PublicB2} {
		t.Run(public.String(), func(t *testing.T) {
			eachNAT(t, nattest.Config{Latency: 5 * time.Millisecond}, func(w *world, kind nattest.Kind) {
				a, b := w.pair(textA, textB)
				before := a.peer().RemoteAddress
				var lostA, lostB []int
				for i := range 200 {
					if i == 100 {
						noError(w, w.net.Rebind(public))
					}
					a.device.InjectPacket(fromA(uint64(i), 100))
					b.device.InjectPacket(fromB(uint64(i), 100))
					time.Sleep(50 * time.Millisecond)
					synctest.Wait()
					if len(b.device.Drain()) != 1 {
						lostA = append(lostA, i)
					}
					if len(a.device.Drain()) != 1 {
						lostB = append(lostB, i)
					}
				}
				moves := kind != nattest.OneToOne || public == nattest.PublicB2
				want := 0
				if moves {
					want = 1 // was sent to the old mapping before A could know
				}
				if len(lostB) != 0 || len(lostA) != want {
					w.Errorf("lost to A %v, to B %v", lostB, lostA)
				}
				after := a.peer().RemoteAddress
				if after.Addr() != public || moves == (after == before) {
					w.Errorf("A has B at %v, before at %v", after, before)
				}
				moved := a.log.of("moved")
				if len(moved) != want || len(b.log.of("moved")) != 0 {
					w.Errorf("moves: A %v, B %v", moved, b.log.of("moved"))
				}
				if len(a.log.of("established")) != 1 {
					w.Error("it took a new IKE SA")
				}
			})
		})
	}
}

// TestRebindUnnoticed: only A sends, into a mapping that is no more. B's
// liveness check is what A hears from the new one.
func TestRebindUnnoticed(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.Symmetric}, func(w *world) {
		a, b := w.pair(with(textA, either...), with(textB, either...))
		w.crosses(a, b, fromA(0, 100))
		noError(w, w.net.Rebind(nattest.PublicB2))
		if w.arrives(a, b, fromA(1, 100)) {
			w.Error("through a mapping that is no more")
		}
		w.until("packets from A", config.DefaultDPD+trafficInterval, func() bool { return w.arrives(a, b, fromA(2, 100)) })
		if len(a.log.of("established")) != 1 {
			w.Error("it took a new IKE SA")
		}
	})
}

// TestForgedMove: a stranger who sends what it has heard, whole or damaged,
// moves nobody (RFC 7296 section 2.23).
func TestForgedMove(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.FullCone}, func(w *world) {
		a, b := w.pair(textA, textB)
		stranger, err := w.net.C.Listen(netip.AddrPortFrom(netip.Addr{}, 4500), natt.Options{NATT: true})
		noError(w, err)
		defer stranger.Close()
		for i := range 5 {
			w.crosses(b, a, fromB(uint64(i), 100))
		}
		before := a.peer()
		heard := w.sent(func(d nattest.Datagram) bool { return d.From.Addr() == nattest.PrivateB })
		for _, d := range heard {
			damaged := slices.Clone(d.Bytes)
			damaged[len(damaged)-1] ^= 1
			fresh := slices.Clone(d.Bytes)
			if len(fresh) > 8 {
				fresh[7] += 100 // a sequence number not seen yet
			}
			for _, bytes := range [][]byte{d.Bytes, damaged, fresh} {
				_, err := stranger.Send([]natt.Run{{Bytes: bytes, Path: natt.Path{Remote: d.To}}})
				noError(w, err)
				synctest.Wait()
			}
		}
		if after := a.peer(); after.RemoteAddress != before.RemoteAddress || after.Children[0].PacketsIn != before.Children[0].PacketsIn || after.State != "up" {
			w.Errorf("before %+v\nafter %+v", before, after)
		}
		if got := a.device.Drain(); len(got) != 0 {
			w.Errorf("%d forged packets got in", len(got))
		}
		w.crosses(a, b, fromA(9, 100))
		w.crosses(b, a, fromB(9, 100))
		d := a.status().Drops
		if d["replayed"] != 10 || d["authentication_failed"] != 5 {
			w.Errorf("counted %v", d)
		}
	})
}

// TestEachDatagramLost: from the first datagram to the last, any one may be
// lost, and the tunnel comes up, carries packets and goes down on both sides.
func TestEachDatagramLost(t *testing.T) {
	for _, kind := range []nattest.Kind{nattest.OneToOne, nattest.Symmetric} {
		t.Run(kind.String(), func(t *testing.T) {
			all := loseOne(t, kind, -1)
			if all < 10 || all > 40 {
				t.Fatalf("a life of %d datagrams", all)
			}
			for n := range all {
				t.Run(fmt.Sprint(n), func(t *testing.T) { loseOne(t, kind, n) })
			}
		})
	}
}

// loseOne is a whole life without datagram n, and how many datagrams it had.
func loseOne(t *testing.T, kind nattest.Kind, n int) (datagrams int) {
	inWorld(t, nattest.Config{NAT: kind}, func(w *world) {
		w.treat(func(d nattest.Datagram) nattest.Verdict { return nattest.Verdict{Drop: d.Number == n} })
		a, b := w.start(w.net.A, "a", textA), w.start(w.net.B, "b", textB)
		w.untilUp(a, b, 5*time.Second)
		lost := 0
		for i := range 3 {
			for _, way := range []bool{
				w.arrives(b, a, fromB(uint64(i), 100)), w.arrives(a, b, fromA(uint64(i), 100)),
			} {
				if !way {
					lost++
				}
			}
		}
		if lost > 1 {
			w.Errorf("%d packets were lost with one datagram", lost)
		}
		b.end()
		w.until("end of the tunnel at A", time.Second, a.isDown)
		if down := a.log.of("down"); len(down) != 1 || down[0].attrs["reason"] != "deleted_by_peer" {
			w.Errorf("A's log of it: %v", down)
		}
		w.leavesNothing(a, b)
		datagrams = len(w.sent(func(nattest.Datagram) bool { return true }))
	})
	return datagrams
}

// TestPeerKilled: a peer that ends without a word is found dead, and the
// tunnel comes back when the peer does.
func TestPeerKilled(t *testing.T) {
	t.Run("responder", func(t *testing.T) {
		inWorld(t, nattest.Config{NAT: nattest.PortRestricted}, func(w *world) {
			a, b := w.pair(textA, textB)
			a.kill()
			killed := time.Now()
			w.until("dead peer at B", 3*time.Minute, func() bool { return len(b.log.of("down")) == 1 })
			if r := b.log.of("down")[0]; r.attrs["reason"] != "dead_peer" {
				w.Errorf("B's reason: %v", r)
			}
			if after := time.Since(killed); after < config.DefaultDPD {
				w.Errorf("B gave up after %v", after)
			}
			if p := b.peer(); p.State == "up" || !strings.Contains(p.Problem, "does not answer") {
				w.Errorf("B's status: %+v", p)
			}
			time.Sleep(10 * time.Minute)
			again := w.start(w.net.A, "a2", textA)
			w.untilUp(again, b, 2*time.Minute)
			w.crosses(b, again, fromB(1, 100))
			w.crosses(again, b, fromA(1, 100))
			if p := b.peer(); p.Problem != "" {
				w.Errorf("B is up and complains: %s", p.Problem)
			}
		})
	})
	t.Run("initiator", func(t *testing.T) {
		inWorld(t, nattest.Config{NAT: nattest.PortRestricted}, func(w *world) {
			a, b := w.pair(textA, textB)
			b.kill()
			time.Sleep(3 * time.Second)
			again := w.start(w.net.B, "b2", textB)
			w.until("new tunnel", 5*time.Second, func() bool { return again.isUp() && len(a.log.of("established")) == 2 })
			w.crosses(again, a, fromB(1, 100))
			w.crosses(a, again, fromA(1, 100))
			if p := a.peer(); len(p.Children) != 1 || p.State != "up" {
				w.Errorf("A: %+v", p)
			}
			if down := a.log.of("down"); len(down) != 1 || down[0].attrs["reason"] != "replaced" {
				w.Errorf("A's log of it: %v", down)
			}
		})
	})
}

// TestPeerLate: an initiator whose peer is not there says so in plain words,
// and keeps trying with back-off.
func TestPeerLate(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		b := w.start(w.net.B, "b", textB)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		gaveUp := b.log.of("gave_up")
		if len(gaveUp) < 4 || len(gaveUp) > 20 {
			w.Fatalf("gave up %d times in 10 minutes", len(gaveUp))
		}
		if r := gaveUp[0]; r.level != slog.LevelWarn || r.attrs["diagnosis"] != "no_answer" || !strings.Contains(r.text, "line 2 of b.toml") {
			w.Errorf("it says: %v", r)
		}
		if p := b.peer(); p.State != "connecting" || p.Attempt < 4 || !strings.Contains(p.Problem, "203.0.113.1:500") {
			w.Errorf("status: %+v", p)
		}
		a := w.start(w.net.A, "a", textA)
		w.untilUp(a, b, 2*time.Minute)
	})
}
