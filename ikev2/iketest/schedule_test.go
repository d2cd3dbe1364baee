package iketest

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run only the random schedule of this seed")
	keepFlag  = flag.Bool("keep", false, "write the schedule of -seed to testdata/schedules")
	schedules = flag.Uint64("schedules", 2000, "how many random schedules to run")
	firstSeed = flag.Uint64("first", 1, "the seed of the first of them")
)

// TestRandomSchedules throws loss, duplication, delay and commands at two
// engines, both of which may start, and then leaves them alone: they must agree
// on their child SAs, and once told to part, nothing may be left.
func TestRandomSchedules(t *testing.T) { search(t, playSchedule) }

// progressEvery is how many schedules make a line of a long search.
const progressEvery = 10_000

// search plays the schedules of many seeds, or of the one that is wanted.
func search(t *testing.T, play func(*script) *schedule) {
	if *seedFlag != 0 {
		s := play(newScript(*seedFlag))
		t.Logf("\n%s", s.told())
		if *keepFlag {
			s.keep(t)
		}
		if s.failure != "" {
			t.Error(s.failure)
		}
		return
	}
	const shards = 8
	var played atomic.Uint64
	began := time.Now()
	for shard := range uint64(shards) {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			for seed := *firstSeed + shard; seed < *firstSeed+*schedules; seed += shards {
				if s := play(newScript(seed)); s.failure != "" {
					t.Fatalf("%s(-seed runs it alone, with -keep it is kept)", s.told())
				}
				if n := played.Add(1); n%progressEvery == 0 {
					t.Logf("%d schedules in %v", n, time.Since(began).Round(time.Second))
				}
			}
		})
	}
}

// Nothing but its inputs may decide what an engine sends.
func TestSameSeedSameBytes(t *testing.T) {
	seen := map[string]uint64{}
	for seed := uint64(1); seed <= 20; seed++ {
		one, two := playSchedule(newScript(seed)), playSchedule(newScript(seed))
		if one.n.Digest() != two.n.Digest() || one.n.Transcript() != two.n.Transcript() {
			t.Errorf("seed %d gives two stories:\n%s\n%s", seed, one.n.Transcript(), two.n.Transcript())
		}
		if other, ok := seen[one.n.Digest()]; ok {
			t.Errorf("seeds %d and %d send the same", seed, other)
		}
		seen[one.n.Digest()] = seed
	}
}

// schedule is what befalls two engines, all of it by one script.
type schedule struct {
	*script
	n       *Net
	a, b    *Host
	atB     netip.Addr // what B has
	lanes   bool       // some side has several
	failure string
}

func newSchedule(sc *script) *schedule {
	s := &schedule{script: sc, atB: netip.MustParseAddr(AddrB)}
	cfgA, cfgB := Configs()
	WithChildren(&cfgA, &cfgB, []byte{1, 2, 3}[:1+s.number("more children", 3)]...)
	if s.word("tickets", func() string { return yes(s.seed%2 == 0) }) == "yes" {
		cfgA.Resume.Key, cfgB.Resume.Key = keyA, keyB
	}
	s.choose(&cfgA.Peers[0], &cfgB.Peers[0])
	if s.word("ML-KEM for children", func() string { return yes(s.seed%3 == 0) }) == "yes" {
		for i := range cfgA.Peers[0].Children {
			cfgA.Peers[0].Children[i].ESP, cfgB.Peers[0].Children[i].ESP = withAddKE(wire.GroupMLKEM768), withAddKE(wire.GroupMLKEM768)
		}
	}
	lanes := s.word("lanes", func() string { return []string{"1 1", "2 2", "1 1", "1 3"}[s.seed/3%4] })
	if lanes != "" {
		_, err := fmt.Sscan(lanes, &cfgA.Lanes, &cfgB.Lanes)
		s.wrong, s.lanes = errors.Join(s.wrong, err), lanes != "1 1"
	}
	s.n = New()
	s.n.NAT = maps.Clone(natOfB)
	random := s.decode("random bytes", s.word("random bytes", func() string { return fmt.Sprint(2 * s.seed) }))
	s.a, s.b = s.n.Add("A", AddrA, cfgA, random), s.n.Add("B", AddrB, cfgB, random+1)
	return s
}

func playSchedule(sc *script) *schedule {
	s := newSchedule(sc)
	s.run()
	return s
}

func (s *schedule) run() {
	s.disturb()
	s.n.Link = nil
	s.raise()
	s.connect(s.a)
	if s.whether("both connect in the end", 2) {
		s.connect(s.b)
	}
	// An SA that only one side has lasts until that side has looked for its
	// peer: 30 s of silence, 80 s of tries.
	want := len(s.a.cfg.Peers[0].Children)
	for range 4 {
		s.packets()
		s.n.Run(time.Minute)
	}
	s.agreed(want)
	s.part()
	if len(s.n.Faults) > 0 {
		s.fail("%s", strings.Join(s.n.Faults, "; "))
	}
}

// raise has the sides want again what they were told not to.
func (s *schedule) raise() {
	for _, h := range []*Host{s.a, s.b} {
		for _, c := range h.cfg.Peers[0].Children {
			if up, said := h.Engine.Said(h.peer(), c.Name); said && !up {
				s.n.Command(h, ikev2.Raise{Peer: h.peer(), Child: c.Name})
			}
		}
	}
}

// agreed: the sides have the same child SAs, as many as are wanted. With lanes
// each may be there for all of them, and two sides that ask for those at once have
// more than either wants.
func (s *schedule) agreed(want int) {
	most := want
	if s.lanes {
		most = 4 * want
	}
	if err := Agree(s.a, s.b); err != nil || len(s.a.In) < want || len(s.a.In) > most {
		s.fail("after peace: %d child SAs, want %d to %d: %v", len(s.a.In), want, most, err)
	}
	for _, h := range []*Host{s.a, s.b} {
		if ike, children := h.Engine.SAs(); ike != 1 || children != len(s.a.In) {
			s.fail("after peace %s has %d IKE SAs and %d child SAs", h.Name, ike, children)
		}
	}
}

// choose draws what starts each child, where some side has to, and what becomes
// of duplicates.
func (s *schedule) choose(a, b *ikev2.Peer) {
	modes := map[string][2]ikev2.StartMode{
		"now/now": {ikev2.StartNow, ikev2.StartNow}, "peer/traffic": {ikev2.StartPeer, ikev2.StartTraffic},
		"traffic/peer": {ikev2.StartTraffic, ikev2.StartPeer}, "traffic/traffic": {ikev2.StartTraffic, ikev2.StartTraffic},
	}
	for i := range a.Children {
		m := modes[s.among("start", "now/now", "peer/traffic", "traffic/peer", "traffic/traffic")]
		a.Children[i].Start, b.Children[i].Start = m[0], m[1]
	}
	policies := map[string]ikev2.DuplicatePolicy{"replace": ikev2.DuplicatesReplace, "keep": ikev2.DuplicatesKeep, "never": ikev2.DuplicatesNever}
	a.Duplicates = policies[s.among("duplicates at A", "replace", "keep", "never")]
	b.Duplicates = policies[s.among("duplicates at B", "replace", "keep", "never")]
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
	loss, twice := s.fraction()*0.6, s.fraction()*0.5
	s.n.Link = s.link(loss, twice, 20*time.Millisecond, 400*time.Millisecond, 4*time.Second, 20*time.Second)
	s.connect(s.b)
	for range s.number("acts", 16) {
		s.act()
		s.pause()
	}
}

// pause lets time pass between two acts.
func (s *schedule) pause() {
	s.n.Run(s.span("pause", 30*time.Millisecond, time.Second, 10*time.Second))
}

// link loses, doubles and delays; how long at most is one of slowest.
func (s *schedule) link(loss, twice float64, slowest ...time.Duration) func(Packet) []time.Duration {
	longest := s.oneOf(slowest)
	return func(Packet) (fate []time.Duration) {
		w := s.word("fate", func() string { return s.drawFate(loss, twice, longest) })
		if w == lost {
			return nil
		}
		for arrival := range strings.SplitSeq(w, "+") {
			fate = append(fate, s.time("fate", arrival))
		}
		return fate
	}
}

const lost = "lost"

// drawFate is when a datagram arrives, and when it does again.
func (s *schedule) drawFate(loss, twice float64, slowest time.Duration) string {
	var arrivals []string
	if s.rng.Float64() >= loss {
		arrivals = append(arrivals, s.drawTime(slowest).String())
	}
	if s.rng.Float64() < twice {
		arrivals = append(arrivals, s.drawTime(slowest).String())
	}
	return cmp.Or(strings.Join(arrivals, "+"), lost)
}

func (s *schedule) act() { s.perform(s.word("act", s.drawAct)) }

// drawAct is a side, what is done there, and with what.
func (s *schedule) drawAct() string {
	h := "A"
	if s.rng.IntN(2) == 0 {
		h = "B"
	}
	switch s.rng.IntN(21) {
	case 19:
		return fmt.Sprint(h, " lowers ", s.rng.IntN(3))
	case 20:
		return fmt.Sprint(h, " raises ", s.rng.IntN(3))
	case 16, 17, 18:
		return s.drawRoaming(h)
	case 14, 15:
		return h + " sends"
	case 0:
		return h + " disconnects"
	case 1:
		return fmt.Sprint(h, " restarts ", s.rng.Uint64())
	case 2, 3, 4, 5:
		return fmt.Sprint(h, " rekeys ", s.rng.IntN(6))
	case 6, 7, 8:
		return h + " renews"
	}
	return h + " connects"
}

// drawRoaming has B's NAT show another address, or B have another one too, of
// which B learns; or tells h of its path, perhaps that it is there again.
func (s *schedule) drawRoaming(h string) string {
	seen, has := 10+s.rng.IntN(4), 1+s.rng.IntN(4)
	switch what := s.rng.IntN(3); {
	case what == 0:
		return h + " wakes"
	case h == "A":
		return h + " roams"
	case what == 1:
		return fmt.Sprint(h, " appears ", seen)
	}
	return fmt.Sprint(h, " moves ", seen, " ", has)
}

func (s *schedule) host(name string) *Host {
	if name == "A" {
		return s.a
	}
	return s.b
}

// acts are what a side can be told to do, with up to two numbers.
var acts = map[string]func(s *schedule, h *Host, x, y uint64){
	"connects":    func(s *schedule, h *Host, _, _ uint64) { s.connect(h) },
	"disconnects": func(s *schedule, h *Host, _, _ uint64) { s.n.Command(h, ikev2.Disconnect{Peer: h.peer()}) },
	"restarts":    func(s *schedule, h *Host, x, _ uint64) { s.n.Restart(h, x) },
	"sends":       func(s *schedule, _ *Host, _, _ uint64) { s.packets() },
	"rekeys":      func(s *schedule, h *Host, x, _ uint64) { s.rekey(h, x) },
	"renews":      func(s *schedule, h *Host, _, _ uint64) { s.n.Command(h, ikev2.RekeyIKE{Peer: h.peer()}) },
	"lowers":      func(s *schedule, h *Host, x, _ uint64) { s.say(h, x, false) },
	"raises":      func(s *schedule, h *Host, x, _ uint64) { s.say(h, x, true) },
	"wakes":       func(s *schedule, h *Host, _, _ uint64) { s.roam(h, true) },
	"roams":       func(s *schedule, h *Host, _, _ uint64) { s.roam(h, false) },
	"appears":     func(s *schedule, _ *Host, x, _ uint64) { s.move(byte(x), 0) },
	"moves": func(s *schedule, h *Host, x, y uint64) {
		s.move(byte(x), byte(y))
		s.roam(h, false)
	},
}

func (h *Host) peer() string { return h.cfg.Peers[0].Name }

// say has the operator want some child, or not.
func (s *schedule) say(h *Host, x uint64, up bool) {
	all := h.cfg.Peers[0].Children
	switch {
	case len(all) == 0:
	case up:
		s.n.Command(h, ikev2.Raise{Peer: h.peer(), Child: all[x%uint64(len(all))].Name})
	default:
		s.n.Command(h, ikev2.Lower{Peer: h.peer(), Child: all[x%uint64(len(all))].Name})
	}
}

// perform does an act, nothing where the script has no more.
func (s *schedule) perform(act string) {
	f := append(strings.Fields(act), "", "", "")
	switch do := acts[f[1]]; {
	case act == "":
	case do == nil:
		s.wrong = errors.Join(s.wrong, fmt.Errorf("act: %q", act))
	default:
		do(s, s.host(f[0]), s.decode("act", f[2]), s.decode("act", f[3]))
	}
}

// rekey replaces one of the child SAs that h sends on.
func (s *schedule) rekey(h *Host, which uint64) {
	if spis := slices.Sorted(maps.Keys(h.Out)); len(spis) > 0 {
		s.n.Command(h, ikev2.Rekey{SPI: spis[int(which)%len(spis)]})
	}
}

func (s *schedule) roam(h *Host, again bool) {
	s.n.Command(h, ikev2.Roam{Peer: h.peer(), Path: s.path(h), Again: again})
}

// move shows B as another address, and gives it another too unless has is 0.
func (s *schedule) move(seen, has byte) {
	public := netip.AddrFrom4([4]byte{192, 0, 2, seen})
	if has != 0 {
		s.atB = netip.AddrFrom4([4]byte{172, 16, 0, has})
	}
	s.n.NAT = map[netip.Addr]netip.Addr{s.atB: public}
	s.n.Move(s.b, s.atB.String())
	s.n.note("B: has %v, seen as %v", s.atB, public)
}

func (s *schedule) connect(h *Host) {
	s.n.Command(h, ikev2.Connect{Peer: h.peer(), Path: s.path(h)})
}

// path is h's way to the other as it is now.
func (s *schedule) path(h *Host) ikev2.Path {
	a, b := ToA.Remote, netip.AddrPortFrom(s.atB, 500)
	if h == s.a {
		return ikev2.Path{Local: a, Remote: netip.AddrPortFrom(s.n.NAT[s.atB], 500)}
	}
	return ikev2.Path{Local: b, Remote: a}
}
