package iketest

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run only the random schedule of this seed")
	schedules = flag.Uint64("schedules", 2000, "how many random schedules to run")
)

// TestRandomSchedules throws loss, duplication, delay and commands at two
// engines, both of which may start, and then leaves them alone: they must agree
// on their child SAs, and once told to part, nothing may be left.
func TestRandomSchedules(t *testing.T) {
	if *seedFlag != 0 {
		s := newSchedule(*seedFlag)
		s.run()
		t.Logf("\n%s", s.n.Transcript())
		if s.failure != "" {
			t.Error(s.failure)
		}
		return
	}
	const shards = 8
	for shard := range uint64(shards) {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			for seed := shard + 1; seed <= *schedules; seed += shards {
				s := newSchedule(seed)
				if s.run(); s.failure != "" {
					t.Fatalf("seed %d (-seed runs it alone): %s\n%s", seed, s.failure, s.n.Transcript())
				}
			}
		})
	}
}

// Nothing but its inputs may decide what an engine sends.
func TestSameSeedSameBytes(t *testing.T) {
	seen := map[string]uint64{}
	for seed := uint64(1); seed <= 20; seed++ {
		one, two := newSchedule(seed), newSchedule(seed)
		one.run()
		two.run()
		if one.n.Digest() != two.n.Digest() || one.n.Transcript() != two.n.Transcript() {
			t.Errorf("seed %d gives two stories:\n%s\n%s", seed, one.n.Transcript(), two.n.Transcript())
		}
		if other, ok := seen[one.n.Digest()]; ok {
			t.Errorf("seeds %d and %d send the same", seed, other)
		}
		seen[one.n.Digest()] = seed
	}
}

// schedule is what befalls two engines, all of it from one seed.
type schedule struct {
	rng     *rand.Rand
	n       *Net
	a, b    *Host
	atB     netip.Addr // what B has
	failure string
}

func newSchedule(seed uint64) *schedule {
	s := &schedule{rng: newRand(seed), atB: netip.MustParseAddr(AddrB)}
	cfgA, cfgB := Configs()
	WithChildren(&cfgA, &cfgB, []byte{1, 2, 3}[:1+s.rng.IntN(3)]...)
	if seed%2 == 0 {
		cfgA.Resume.Key, cfgB.Resume.Key = keyA, keyB
	}
	s.choose(&cfgA.Peers[0], &cfgB.Peers[0])
	for i := range cfgA.Peers[0].Children {
		if seed%3 == 0 { // additional key exchanges for the child SAs too
			cfgA.Peers[0].Children[i].ESP, cfgB.Peers[0].Children[i].ESP = withAddKE(wire.GroupMLKEM768), withAddKE(wire.GroupMLKEM768)
		}
	}
	s.n = New()
	s.n.NAT = maps.Clone(natOfB)
	s.a, s.b = s.n.Add("A", AddrA, cfgA, 2*seed), s.n.Add("B", AddrB, cfgB, 2*seed+1)
	return s
}

func (s *schedule) run() {
	s.disturb()
	s.n.Link = nil
	s.connect(s.a)
	if s.rng.IntN(2) == 0 {
		s.connect(s.b)
	}
	// An SA that only one side has lasts until that side has looked for its
	// peer: 30 s of silence, 80 s of tries.
	want := len(s.a.cfg.Peers[0].Children)
	for range 4 {
		s.packets()
		s.n.Run(time.Minute)
	}
	if err := Agree(s.a, s.b); err != nil || len(s.a.In) != want {
		s.fail("after peace: %d child SAs, want %d: %v", len(s.a.In), want, err)
	}
	for _, h := range []*Host{s.a, s.b} {
		if ike, children := h.Engine.SAs(); ike != 1 || children != want {
			s.fail("after peace %s has %d IKE SAs and %d child SAs", h.Name, ike, children)
		}
	}
	s.part()
	if len(s.n.Faults) > 0 {
		s.fail("%s", strings.Join(s.n.Faults, "; "))
	}
}

// choose draws what starts each child, where some side has to, and what becomes
// of duplicates.
func (s *schedule) choose(a, b *ikev2.Peer) {
	modes := [][2]ikev2.StartMode{{ikev2.StartNow, ikev2.StartNow}, {ikev2.StartPeer, ikev2.StartTraffic}, {ikev2.StartTraffic, ikev2.StartPeer}, {ikev2.StartTraffic, ikev2.StartTraffic}}
	for i := range a.Children {
		m := modes[s.rng.IntN(len(modes))]
		a.Children[i].Start, b.Children[i].Start = m[0], m[1]
	}
	a.Duplicates, b.Duplicates = ikev2.DuplicatePolicy(s.rng.IntN(3)), ikev2.DuplicatePolicy(s.rng.IntN(3))
}

// packets want through every child that starts with traffic, on both sides.
func (s *schedule) packets() {
	for _, h := range []*Host{s.a, s.b} {
		p := h.cfg.Peers[0]
		for _, c := range p.Children {
			local, remote := c.Local[0], c.Remote[0]
			local.End, remote.End = local.Start, remote.Start
			if c.Start == ikev2.StartTraffic {
				s.n.Command(h, ikev2.Acquire{Peer: p.Name, Child: c.Name, Local: local, Remote: remote})
			}
		}
	}
}

// part: nothing is left but what still answers retransmissions.
func (s *schedule) part() {
	s.n.Command(s.a, ikev2.Disconnect{Peer: "foo"})
	s.n.Command(s.b, ikev2.Disconnect{Peer: "office"})
	s.n.Run(3 * time.Minute)
	for _, h := range []*Host{s.a, s.b} {
		if _, waiting := h.Engine.Deadline(); !h.Engine.Idle() || len(h.In) > 0 || waiting {
			s.fail("%s keeps something: idle %v, %d child SAs, a timer %v", h.Name, h.Engine.Idle(), len(h.In), waiting)
		}
	}
}

func (s *schedule) fail(format string, args ...any) {
	if s.failure == "" {
		s.failure = fmt.Sprintf(format, args...)
	}
}

// disturb is half a minute of a bad link and a restless operator.
func (s *schedule) disturb() {
	loss, twice := s.rng.Float64()*0.6, s.rng.Float64()*0.5
	slowest := []time.Duration{20 * time.Millisecond, 400 * time.Millisecond, 4 * time.Second, 20 * time.Second}[s.rng.IntN(4)]
	s.n.Link = s.link(loss, twice, slowest)
	s.connect(s.b)
	for range s.rng.IntN(16) {
		s.act()
		s.n.Run(s.delay([]time.Duration{30 * time.Millisecond, time.Second, 10 * time.Second}[s.rng.IntN(3)]))
	}
}

func (s *schedule) link(loss, twice float64, slowest time.Duration) func(Packet) []time.Duration {
	return func(Packet) (fate []time.Duration) {
		if s.rng.Float64() >= loss {
			fate = append(fate, s.delay(slowest))
		}
		if s.rng.Float64() < twice {
			fate = append(fate, s.delay(slowest))
		}
		return fate
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func (s *schedule) delay(slowest time.Duration) time.Duration {
	return time.Millisecond + time.Duration(s.rng.Int64N(int64(slowest)))
}

func (s *schedule) act() {
	h := s.a
	if s.rng.IntN(2) == 0 {
		h = s.b
	}
	switch s.rng.IntN(19) {
	case 16, 17, 18:
		s.roam(h)
	case 14, 15:
		s.packets()
	case 0:
		s.n.Command(h, ikev2.Disconnect{Peer: h.cfg.Peers[0].Name})
	case 1:
		s.n.Restart(h, s.rng.Uint64())
	case 2, 3, 4, 5:
		if spis := slices.Sorted(maps.Keys(h.Out)); len(spis) > 0 {
			s.n.Command(h, ikev2.Rekey{SPI: spis[s.rng.IntN(len(spis))]})
		}
	case 6, 7, 8:
		s.n.Command(h, ikev2.RekeyIKE{Peer: h.cfg.Peers[0].Name})
	default:
		s.connect(h)
	}
}

func (s *schedule) connect(h *Host) {
	s.n.Command(h, ikev2.Connect{Peer: h.cfg.Peers[0].Name, Path: s.path(h)})
}

// path is h's way to the other as it is now.
func (s *schedule) path(h *Host) ikev2.Path {
	a, b := ToA.Remote, netip.AddrPortFrom(s.atB, 500)
	if h == s.a {
		return ikev2.Path{Local: a, Remote: netip.AddrPortFrom(s.n.NAT[s.atB], 500)}
	}
	return ikev2.Path{Local: b, Remote: a}
}

// roam has B's NAT show another address, or B have another one too, of which B
// learns; or tells h that its path is there again.
func (s *schedule) roam(h *Host) {
	what := s.rng.IntN(3)
	if what > 0 && h == s.b {
		public := netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + s.rng.IntN(4))})
		if what == 2 {
			s.atB = netip.AddrFrom4([4]byte{172, 16, 0, byte(1 + s.rng.IntN(4))})
		}
		s.n.NAT = map[netip.Addr]netip.Addr{s.atB: public}
		s.n.Move(s.b, s.atB.String())
		s.n.note("B: has %v, seen as %v", s.atB, public)
	}
	if what != 1 {
		s.n.Command(h, ikev2.Roam{Peer: h.cfg.Peers[0].Name, Path: s.path(h), Again: what == 0})
	}
}
