package iketest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// situated is a fresh pair of configurations with these tunnels, changed by
// what a test wants; two of the same make have nothing in common in memory.
func situated(octets []byte, changes ...func(a, b *ikev2.Peer)) (a, b ikev2.Config) {
	a, b = Configs()
	WithChildren(&a, &b, octets...)
	for _, change := range changes {
		change(&a.Peers[0], &b.Peers[0])
	}
	return a, b
}

// reconfigureB changes B's peer while it is connected.
func reconfigureB(change func(*ikev2.Peer)) func(n *Net, a, b *Host) {
	return func(n *Net, a, b *Host) {
		connectFor(time.Second)(n, a, b)
		_, cfg := Configs()
		change(&cfg.Peers[0])
		n.Reconfigure(b, cfg)
		n.Run(time.Second)
	}
}

func two(change func(*ikev2.Peer)) func(a, b *ikev2.Peer) {
	return func(a, b *ikev2.Peer) { change(a); change(b) }
}

// A configuration that says the same changes nothing: not a byte is sent
// otherwise, whatever is on its way.
func TestReconfigureUnchanged(t *testing.T) {
	tell := func(again bool) (digest, transcript string) {
		cfgA, cfgB := situated([]byte{1, 2, 3})
		n, a, b := Situation(cfgA, cfgB)
		n.Link = (&schedule{script: newScript(7), n: n}).link(0.2, 0.2, 400*time.Millisecond)
		n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
		for i := range 3000 {
			n.Run(20 * time.Millisecond)
			switch i % 500 {
			case 100:
				n.Command(b, ikev2.Rekey{SPI: b.current("lan2")})
			case 200:
				n.Command(a, ikev2.RekeyIKE{Peer: "foo"})
			}
			if !again {
				continue
			}
			for _, h := range []*Host{a, b} {
				events, sent := len(h.Events), len(h.Sent)
				cfgA, cfgB = situated([]byte{1, 2, 3})
				changes := n.Reconfigure(h, map[*Host]ikev2.Config{a: cfgA, b: cfgB}[h])
				if len(h.Events) != events || len(h.Sent) != sent || len(changes) != 1 || changes[h.cfg.Peers[0].Name] != ikev2.Unchanged {
					t.Fatalf("%s: %v\n%s", h.Name, changes, n.Transcript())
				}
			}
		}
		faultless(t, n)
		if err := Agree(a, b); err != nil || len(a.In) != 3 {
			t.Fatalf("%d child SAs: %v", len(a.In), err)
		}
		return n.Digest(), n.Transcript()
	}
	left, leftStory := tell(false)
	again, againStory := tell(true)
	if left != again || leftStory != againStory {
		t.Errorf("the story is another:\n%s\nwithout:\n%s", againStory, leftStory)
	}
}

// renewal is what is seen of a change while it happens.
type renewal struct {
	change ikev2.Change
	down   bool // the IKE SA ends before there is another
	renew  bool // there is another IKE SA by IKE_SA_INIT
	rekey  bool // there is another IKE SA by a rekey
	gap    bool // a tunnel that is there before and after does not carry for a while
}

// Each kind of change, made on one side and then on the other, ends with both
// agreeing, and costs no more than it must.
func TestReconfigure(t *testing.T) {
	gcm256 := []ikev2.Proposal{{{Type: wire.TransformEncr, ID: wire.EncrAESGCM16, KeyBits: 256}, {Type: wire.TransformPRF, ID: wire.PRFHMACSHA2512}, {Type: wire.TransformKE, ID: wire.GroupECP384}}}
	wider := func(a, b *ikev2.Peer) {
		a.Children[0].Local, b.Children[0].Remote = prefix("10.1.0.0/23"), prefix("10.1.0.0/23")
	}
	for _, tt := range []struct {
		name   string
		change func(a, b *ikev2.Peer)
		want   renewal
		ends   int // of two tunnels
	}{
		{"nothing", two(func(*ikev2.Peer) {}), renewal{change: ikev2.Unchanged}, 2},
		{"timing", two(func(p *ikev2.Peer) { p.Timing.DPD, p.Timing.Keepalive = 5*time.Second, 7*time.Second }), renewal{change: ikev2.Adjusted}, 2},
		{"timing off", two(func(p *ikev2.Peer) { p.Timing.DPD, p.Timing.Keepalive = -1, -1 }), renewal{change: ikev2.Adjusted}, 2},
		{"duplicates", two(func(p *ikev2.Peer) { p.Duplicates = ikev2.DuplicatesKeep }), renewal{change: ikev2.Adjusted}, 2},
		{"IKE lifetime", two(func(p *ikev2.Peer) { p.IKELifetime = 20 * time.Second }), renewal{change: ikev2.Adjusted, rekey: true}, 2},
		{"no IKE lifetime", two(func(p *ikev2.Peer) { p.IKELifetime = -1 }), renewal{change: ikev2.Adjusted}, 2},
		{"child lifetime", two(func(p *ikev2.Peer) { p.Children[1].Lifetime = 20 * time.Second }), renewal{change: ikev2.Adjusted}, 2},
		{"IKE proposals", two(func(p *ikev2.Peer) { p.IKE = gcm256 }), renewal{change: ikev2.Adjusted, rekey: true}, 2},
		{"ESP proposals", two(func(p *ikev2.Peer) { p.Children[0].ESP = withGroups(wire.GroupECP256) }), renewal{change: ikev2.Adjusted}, 2},
		{"selectors", wider, renewal{change: ikev2.Adjusted, gap: true}, 2},
		{"one tunnel more", func(a, b *ikev2.Peer) { addTunnel(a, b) }, renewal{change: ikev2.Adjusted}, 3},
		{"one tunnel less", two(func(p *ikev2.Peer) { p.Children = p.Children[:1] }), renewal{change: ikev2.Adjusted}, 1},
		{"no tunnel", two(func(p *ikev2.Peer) { p.Children = nil }), renewal{change: ikev2.Adjusted, gap: true}, 0},
		{"tunnels in another order", two(func(p *ikev2.Peer) { slices.Reverse(p.Children) }), renewal{change: ikev2.Adjusted}, 2},
		{"a tunnel's name", two(func(p *ikev2.Peer) { p.Children[0].Name = "another" }), renewal{change: ikev2.Adjusted, gap: true}, 2},
		{"pre-shared key", two(func(p *ikev2.Peer) { p.PSK = []byte("azerty") }), renewal{change: ikev2.Reestablished, down: true, renew: true, gap: true}, 2},
		{"identity", func(a, b *ikev2.Peer) { a.RemoteID, b.LocalID = identity("@bar"), identity("@bar") }, renewal{change: ikev2.Reestablished, down: true, renew: true, gap: true}, 2},
		{"MOBIKE", two(func(p *ikev2.Peer) { p.MOBIKE = ikev2.ModeOff }), renewal{change: ikev2.Reestablished, down: true, renew: true, gap: true}, 2},
		{"the peer's name", two(func(p *ikev2.Peer) { p.Name += "2" }), renewal{change: ikev2.Removed, down: true, renew: true, gap: true}, 2},
	} {
		for _, order := range []string{"AB", "BA"} {
			t.Run(tt.name+"/"+order, func(t *testing.T) {
				n, a, b := Situation(situated([]byte{1, 2}))
				connectFor(time.Second)(n, a, b)
				nextA, nextB := situated([]byte{1, 2}, tt.change)
				was := a.Keys.ID
				w := watch(n, a, b)
				for _, side := range order {
					h, cfg := a, nextA
					if side == 'B' {
						h, cfg = b, nextB
					}
					name := h.cfg.Peers[0].Name
					if got := n.Reconfigure(h, cfg)[name]; got != tt.want.change {
						t.Errorf("%s: change %d, want %d", h.Name, got, tt.want.change)
					}
					if name != cfg.Peers[0].Name && side == 'B' {
						n.Command(b, ikev2.Connect{Peer: cfg.Peers[0].Name, Path: ToA})
					}
					w.run(3 * time.Second)
				}
				w.run(2 * time.Minute)
				faultless(t, n)
				if err := Agree(a, b); err != nil || len(a.In) != tt.ends {
					t.Fatalf("%d child SAs, want %d: %v\n%s", len(a.In), tt.ends, err, n.Transcript())
				}
				for _, h := range []*Host{a, b} {
					if ike, children := h.Engine.SAs(); ike != 1 || children != tt.ends {
						t.Errorf("%s has %d IKE SAs and %d child SAs\n%s", h.Name, ike, children, n.Transcript())
					}
				}
				got := renewal{change: tt.want.change, down: w.down, renew: a.Has(ikev2.EventEstablished) > 1,
					rekey: a.Has(ikev2.EventRekeyed) > 0 && a.Keys.ID != was, gap: w.gap}
				if got != tt.want {
					t.Errorf("seen %+v, want %+v\n%s", got, tt.want, n.Transcript())
				}
			})
		}
	}
}

func addTunnel(a, b *ikev2.Peer) {
	here, there := prefix("10.9.0.0/24"), prefix("10.9.1.0/24")
	a.Children = append(a.Children, ikev2.Child{Name: "more", Local: here, Remote: there})
	b.Children = append(b.Children, ikev2.Child{Name: "more", Local: there, Remote: here})
}

// watcher looks at both sides after every step: whether there always was an IKE
// SA, and a way out for the traffic of each tunnel, whatever its name is.
type watcher struct {
	n         *Net
	a, b      *Host
	down, gap bool
}

func watch(n *Net, a, b *Host) *watcher { return &watcher{n: n, a: a, b: b} }

func (w *watcher) run(d time.Duration) {
	w.n.RunUntil(d, func() bool {
		for _, h := range []*Host{w.a, w.b} {
			w.gap = w.gap || !h.carries(prefix("10.1.0.0/24"), prefix("10.1.1.0/24"))
			ups := h.Has(ikev2.EventEstablished) - h.Has(ikev2.EventDown)
			w.down = w.down || ups < 1
		}
		return false
	})
}

// carries says whether some child sends between these networks, one of them
// here.
func (h *Host) carries(one, other []wire.Selector) bool {
	covers := func(ss, of []wire.Selector) bool {
		return ss[0].Start.Compare(of[0].Start) <= 0 && ss[0].End.Compare(of[0].End) >= 0
	}
	for _, out := range h.Out {
		if covers(out.Local, one) && covers(out.Remote, other) || covers(out.Local, other) && covers(out.Remote, one) {
			return true
		}
	}
	return false
}

// The new IKE SA is made where the peer is, also when it is not any more where
// it was called first.
func TestReconfigureFindsPeerThatMoved(t *testing.T) {
	n, a, b := Situation(situated([]byte{1}))
	connectFor(time.Second)(n, a, b)
	n.Link = func(p Packet) []time.Duration {
		if p.To.Port() == 500 {
			return nil
		}
		return soon
	}
	_, cfgB := situated([]byte{1}, two(func(p *ikev2.Peer) { p.Fragmentation.Mode = ikev2.ModeOff }))
	n.Reconfigure(b, cfgB)
	n.Run(2 * time.Minute)
	faultless(t, n)
	for _, h := range []*Host{a, b} {
		if ike, children := h.Engine.SAs(); ike != 1 || children != 1 || h.Has(ikev2.EventEstablished) != 2 {
			t.Errorf("%s: %d IKE SAs, %d child SAs, %d times established\n%s", h.Name, ike, children, h.Has(ikev2.EventEstablished), n.Transcript())
		}
	}
}

// What is agreed when the IKE SA is made takes another one, made first where we
// connect: there is always a way out for the traffic. As long as the new one
// does not come about, the old one stays, and the tries go on.
func TestReconfigureMakesBeforeItBreaks(t *testing.T) {
	n, a, b := Situation(situated([]byte{1, 2}))
	connectFor(time.Second)(n, a, b)
	was, w := a.Keys.ID, watch(n, a, b)
	n.Link = func(p Packet) []time.Duration {
		if h, err := wire.ParseHeader(p.Payload); err == nil && h.Exchange == wire.ExchangeIKESAInit {
			return nil
		}
		return soon
	}
	_, cfgB := situated([]byte{1, 2}, two(func(p *ikev2.Peer) { p.Fragmentation.Mode = ikev2.ModeOff }))
	n.Reconfigure(b, cfgB)
	w.run(10 * time.Minute)
	if tries := b.Has(ikev2.EventGaveUp); tries < 5 || b.Has(ikev2.EventEstablished) != 1 || a.Keys.ID != was {
		t.Errorf("gave up %d times, %d IKE SAs\n%s", tries, b.Has(ikev2.EventEstablished), n.Transcript())
	}
	n.Link = nil
	for range 6000 {
		n.ESP(a, "lan1", 10*time.Millisecond)
		n.ESP(b, "lan2", 2*time.Second)
		w.run(20 * time.Millisecond)
	}
	n.Run(5 * time.Second)
	faultless(t, n)
	for _, h := range []*Host{a, b} {
		if ike, children := h.Engine.SAs(); ike != 1 || children != 2 || h.Has(ikev2.EventEstablished) != 2 {
			t.Errorf("%s: %d IKE SAs, %d child SAs, %d times established", h.Name, ike, children, h.Has(ikev2.EventEstablished))
		}
	}
	if err := Agree(a, b); err != nil || a.Keys.ID == was {
		t.Errorf("%v, another IKE SA: %v", err, a.Keys.ID != was)
	}
	if down := b.Has(ikev2.EventDown); w.down || w.gap || down != 1 {
		t.Errorf("down %v, gap %v, %d times down\n%s", w.down, w.gap, down, n.Transcript())
	}
}

// Connect with Anew does the same for a peer whose address is another, and ends
// the wait of one that is down.
func TestConnectAnew(t *testing.T) {
	n, a, b := Situation(situated([]byte{1, 2}))
	n.Link = func(Packet) []time.Duration { return nil }
	connectFor(20*time.Minute)(n, a, b)
	n.Link = nil
	n.Command(b, ikev2.Connect{Peer: "office", Path: ToA, Anew: true})
	reach(t, n, "connected", time.Second, func() bool { return len(a.In) == 2 && Agree(a, b) == nil })
	was, w := a.Keys.ID, watch(n, a, b)
	n.Command(b, ikev2.Connect{Peer: "office", Path: ToA, Anew: true})
	w.run(2 * time.Minute)
	faultless(t, n)
	if err := Agree(a, b); err != nil || a.Keys.ID == was || w.down || w.gap {
		t.Errorf("%v, another IKE SA: %v, down %v, gap %v", err, a.Keys.ID != was, w.down, w.gap)
	}
}

// A peer that is on its way in is judged by what it meets at IKE_AUTH.
func TestReconfigureWhileHalfOpen(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(a, b *ikev2.Peer)
		up     bool
	}{
		{"other timing", two(func(p *ikev2.Peer) { p.Timing.DPD = time.Second }), true},
		{"another key", two(func(p *ikev2.Peer) { p.PSK = []byte("azerty") }), false},
		{"another name", two(func(p *ikev2.Peer) { p.Name = "bar" }), true},
		{"another identity", two(func(p *ikev2.Peer) { p.RemoteID = identity("@bar") }), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, a, b := Situation(situated([]byte{1}))
			n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
			n.Run(25 * time.Millisecond)
			if ike, _ := a.Engine.SAs(); ike != 1 || a.Has(ikev2.EventEstablished) != 0 {
				t.Fatalf("%d IKE SAs\n%s", ike, n.Transcript())
			}
			cfgA, _ := situated([]byte{1}, tt.change)
			n.Reconfigure(a, cfgA)
			n.Run(50 * time.Millisecond)
			faultless(t, n)
			if up := len(a.In) == 1 && len(b.In) == 1; up != tt.up {
				t.Errorf("up: %v\n%s", up, n.Transcript())
			}
		})
	}
}

// A peer that does not answer its configuration's wrong key is tried again at
// once when the key is right.
func TestReconfigureMends(t *testing.T) {
	cfgA, cfgB := situated([]byte{1, 2}, func(_, b *ikev2.Peer) { b.PSK, b.Children[1].Remote = []byte("azerty"), prefix("10.77.0.0/24") })
	n, a, b := Situation(cfgA, cfgB)
	connectFor(20*time.Minute)(n, a, b)
	_, next := situated([]byte{1, 2}, func(_, b *ikev2.Peer) { b.Children[1].Remote = prefix("10.77.0.0/24") })
	n.Reconfigure(b, next)
	reach(t, n, "one tunnel", 100*time.Millisecond, func() bool { return len(a.In) == 1 && Agree(a, b) == nil })
	n.Run(20 * time.Minute)
	_, next = situated([]byte{1, 2})
	n.Reconfigure(b, next)
	reach(t, n, "both tunnels", 100*time.Millisecond, func() bool { return len(a.In) == 2 && Agree(a, b) == nil })
	faultless(t, n)
}

// Of many peers only the one that changes notices.
func TestReconfigureOneOfMany(t *testing.T) {
	const peers = 100
	config := func(changed int) (cfg ikev2.Config) {
		a, _ := Configs()
		for i := range peers {
			p := a.Peers[0]
			p.Name, p.RemoteID = fmt.Sprint("peer", i), identity(fmt.Sprintf("@peer%d", i))
			p.Children = []ikev2.Child{{Name: fmt.Sprint("lan", i), Local: lanA, Remote: prefix(fmt.Sprintf("10.104.%d.0/24", i))}}
			if i == changed {
				p.PSK = []byte("azerty")
			}
			cfg.Peers = append(cfg.Peers, p)
		}
		return cfg
	}
	n := New()
	a := n.Add("A", AddrA, config(-1), 1)
	for i := range peers {
		_, b := Configs()
		b.Peers[0].LocalID = identity(fmt.Sprintf("@peer%d", i))
		b.Peers[0].Children = []ikev2.Child{{Name: "lan", Local: prefix(fmt.Sprintf("10.104.%d.0/24", i)), Remote: lanA}}
		addr := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
		h := n.Add(fmt.Sprintf("B%d", i), addr.String(), b, uint64(i+2))
		n.Command(h, ikev2.Connect{Peer: "office", Path: ikev2.Path{Local: netip.AddrPortFrom(addr, 500), Remote: ToA.Remote}})
	}
	n.Run(time.Second)
	if len(a.Out) != peers {
		t.Fatalf("%d of %d peers are up", len(a.Out), peers)
	}
	before := maps.Clone(a.Out)
	for name, change := range n.Reconfigure(a, config(42)) {
		if want := name == "peer42"; (change == ikev2.Reestablished) != want || (change == ikev2.Unchanged) == want {
			t.Errorf("%s: %v", name, change)
		}
	}
	n.Run(10 * time.Second)
	for spi, out := range before {
		if _, stays := a.Out[spi]; stays == (out.Peer == "peer42") {
			t.Errorf("%s stays: %v", out.Peer, stays)
		}
	}
	if len(a.Out) != peers-1 {
		t.Errorf("%d child SAs", len(a.Out))
	}
	faultless(t, n)
}

// A pool that grows disturbs nobody; one that changes otherwise takes those
// whose addresses are of it.
func TestReconfigurePools(t *testing.T) {
	pool := func(first, last string) ikev2.Pool {
		return ikev2.Pool{Name: "roadwarriors", First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}
	}
	other := ikev2.Pool{Name: "other", First: netip.MustParseAddr("10.8.0.1"), Last: netip.MustParseAddr("10.8.0.9")}
	from := two(func(p *ikev2.Peer) { p.Address.Pools = []string{"roadwarriors"} })
	for _, tt := range []struct {
		name  string
		pools []ikev2.Pool
		want  ikev2.Change
	}{
		{"the same", []ikev2.Pool{pool("10.9.0.10", "10.9.0.20")}, ikev2.Unchanged},
		{"grown", []ikev2.Pool{pool("10.9.0.5", "10.9.0.90")}, ikev2.Unchanged},
		{"shrunk", []ikev2.Pool{pool("10.9.0.11", "10.9.0.90")}, ikev2.Reestablished},
		{"gone", nil, ikev2.Reestablished},
		{"another one more", []ikev2.Pool{other, pool("10.9.0.10", "10.9.0.20")}, ikev2.Unchanged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, _ := situated([]byte{1}, from)
			cfg.Pools = []ikev2.Pool{pool("10.9.0.10", "10.9.0.20")}
			n := New()
			a := n.Add("A", AddrA, cfg, 1)
			next, _ := situated([]byte{1}, from)
			next.Pools = tt.pools
			if got := n.Reconfigure(a, next)["foo"]; got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// After Shutdown a configuration is of no use.
func TestReconfigureAfterShutdown(t *testing.T) {
	n, a, b := Situation(situated([]byte{1}))
	connectFor(time.Second)(n, a, b)
	n.Command(b, ikev2.Shutdown{})
	_, next := situated([]byte{1}, two(func(p *ikev2.Peer) { p.PSK = []byte("azerty") }))
	if changes := n.Reconfigure(b, next); changes != nil {
		t.Errorf("%v", changes)
	}
	n.Run(3 * time.Minute)
	if !b.Engine.Idle() || b.Has(ikev2.EventConnecting) != 1 {
		t.Errorf("%d attempts\n%s", b.Has(ikev2.EventConnecting), n.Transcript())
	}
}

// Whatever the configurations were in between, and whatever the link and the
// operators did meanwhile: once both sides have fitting ones, they agree, and
// once told to part, nothing is left.
func TestRandomReconfigurations(t *testing.T) { search(t, playReconfigured) }

// reconfigured is a schedule in which configurations change too.
type reconfigured struct{ *schedule }

func playReconfigured(sc *script) *schedule {
	s := reconfigured{newSchedule(sc)}
	s.run()
	return s.schedule
}

func (s reconfigured) run() {
	loss, twice := s.fraction()*0.5, s.fraction()*0.4
	s.n.Link = s.link(loss, twice, 20*time.Millisecond, 400*time.Millisecond, 4*time.Second)
	s.connect(s.b)
	for range 3 + s.number("acts", 14) {
		if h := s.host(s.among("turn of", "A", "B")); s.whether("reconfigures", 2) {
			s.n.Reconfigure(h, s.variant(h))
		} else if len(s.a.cfg.Peers) > 0 && len(s.b.cfg.Peers) > 0 {
			s.act()
		}
		s.pause()
	}
	s.converge()
}

// converge gives both sides fitting configurations and peace.
func (s reconfigured) converge() {
	a, b := s.configs()
	s.n.Reconfigure(s.a, a)
	s.n.Run(s.span("pause", time.Second))
	s.n.Reconfigure(s.b, b)
	s.n.Run(s.span("pause", time.Second))
	s.n.Link = nil
	s.raise()
	s.connect(s.b)
	want := len(s.a.cfg.Peers[0].Children)
	s.n.Run(6 * time.Minute)
	s.agreed(want)
	s.part()
	if len(s.n.Faults) > 0 {
		s.fail("%q", s.n.Faults)
	}
}

// variant is any configuration, or none.
func (s reconfigured) variant(h *Host) ikev2.Config {
	if s.whether("nothing configured", 8) {
		return ikev2.Config{}
	}
	cfg, cfgB := s.configs()
	if h == s.b {
		cfg = cfgB
	}
	starts := map[string]ikev2.StartMode{"now": ikev2.StartNow, "traffic": ikev2.StartTraffic, "peer": ikev2.StartPeer}
	p := &cfg.Peers[0]
	for i := range p.Children {
		c := &p.Children[i]
		c.Start = starts[s.among("child start", "now", "now", "traffic", "peer")]
		c.SinglePair = s.whether("single pair", 4)
		c.LocalDynamic, c.RemoteDynamic = s.whether("local dynamic", 6), s.whether("remote dynamic", 6)
	}
	if s.whether("classical", 3) {
		p.PostQuantum.Mode = ikev2.ModeOff
	}
	duplicates := map[string]ikev2.DuplicatePolicy{"replace": ikev2.DuplicatesReplace, "keep": ikev2.DuplicatesKeep, "never": ikev2.DuplicatesNever}
	p.Duplicates = duplicates[s.among("duplicates", "replace", "replace", "keep", "never")]
	if h == s.a && s.whether("pools", 2) {
		last := netip.AddrFrom4([4]byte{10, 9, 0, byte(20 + s.number("more leases", 3))})
		cfg.Pools = []ikev2.Pool{{Name: "pool", First: netip.MustParseAddr("10.9.0.1"), Last: last}}
		p.Address.Pools = []string{"pool"}
	}
	p.Address.Request4 = h == s.b && s.whether("asks for an address", 2)
	return cfg
}

// configs are fitting ones for both sides.
func (s reconfigured) configs() (a, b ikev2.Config) {
	var octets []byte
	for x := range byte(4) {
		if s.whether("another tunnel", 2) {
			octets = append(octets, x+1)
		}
	}
	dpds := map[string]time.Duration{"10s": 10 * time.Second, "20s": 20 * time.Second}
	groups := map[string][]ikev2.Proposal{"none": withGroups(), "ECP-256": withGroups(wire.GroupECP256)}
	otherKey, noMOBIKE := s.whether("another key", 4), s.whether("no MOBIKE", 4)
	dpd, group := dpds[s.among("DPD", "default", "10s", "20s")], groups[s.among("groups of children", "default", "none", "ECP-256")]
	oneSuite, wide := s.whether("one suite", 3), s.whether("wide selectors", 3)
	return situated(octets, two(func(p *ikev2.Peer) {
		if otherKey {
			p.PSK = []byte("azerty")
		}
		if noMOBIKE {
			p.MOBIKE = ikev2.ModeOff
		}
		p.Timing.DPD = dpd
		if oneSuite {
			p.IKE = ikev2.DefaultIKEProposals()[:1]
		}
		for i := range p.Children {
			p.Children[i].ESP = group
		}
	}), func(a, b *ikev2.Peer) {
		if wide && len(octets) > 0 {
			wider := prefix(fmt.Sprintf("10.%d.0.0/16", octets[0]))
			a.Children[0].Local, a.Children[0].Remote = wider, wider
			b.Children[0].Local, b.Children[0].Remote = wider, wider
		}
	})
}

// Nothing but its inputs decides what comes of a reconfiguration.
func TestReconfigureSameSeedSameBytes(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		one, two := playReconfigured(newScript(seed)), playReconfigured(newScript(seed))
		if one.n.Digest() != two.n.Digest() || one.n.Transcript() != two.n.Transcript() {
			t.Errorf("seed %d gives two stories", seed)
		}
	}
}

// A thousand peers that fail at the same moment return spread over the whole
// wait, more and more thinly, whoever's random bytes they are.
func TestReconnectionsSpread(t *testing.T) {
	const peers = 1000
	cfg := ikev2.Config{}
	for i := range peers {
		_, b := Configs()
		b.Peers[0].Name = fmt.Sprint("peer", i)
		cfg.Peers = append(cfg.Peers, b.Peers[0])
	}
	e, now, waits := ikev2.New(cfg, Random(1)), New().Now, map[int][]time.Duration{}
	for _, p := range cfg.Peers {
		if err := e.Command(now, ikev2.Connect{Peer: p.Name, Path: ToA}); err != nil {
			t.Fatal(err)
		}
	}
	for end := now.Add(10 * time.Minute); now.Before(end); now, _ = e.Deadline() {
		e.HandleTimeout(now)
		for o, ok := e.Poll(); ok; o, ok = e.Poll() {
			if r, is := o.(ikev2.Event); is && r.Kind == ikev2.EventRetrying {
				waits[r.Attempt] = append(waits[r.Attempt], r.Wait)
			}
		}
	}
	for attempt, longest := range []time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 8 * time.Second, 5: 16 * time.Second, 6: 32 * time.Second, 7: time.Minute, 8: time.Minute} {
		if attempt == 0 {
			continue
		}
		var tenths [10]int
		for _, w := range waits[attempt] {
			if w <= 0 || w > longest {
				t.Fatalf("attempt %d: a wait of %v", attempt, w)
			}
			tenths[min(9, w*10/longest)]++
		}
		for i, count := range tenths {
			if len(waits[attempt]) != peers || count < 60 || count > 140 { // 100, and 4 standard deviations
				t.Errorf("attempt %d: %d of %d peers wait %d tenths of %v", attempt, count, len(waits[attempt]), i, longest)
			}
		}
	}
}
