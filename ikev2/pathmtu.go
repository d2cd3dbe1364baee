package ikev2

import (
	"time"

	"culvert/ikev2/wire"
)

// The largest packet that a path takes is found by sending such packets (RFC
// 8899): ICMP, which is to say so, is filtered by some routers and forged by
// others. A probe is a message of a version of IKE that there is not, in one
// packet of the wanted size that nobody may fragment. Whoever gets it says so in
// the clear (RFC 7296 section 2.5), and forgets it.
//
//	version 3.0, SPI x, padded  ------>
//	                            <------  N(INVALID_MAJOR_VERSION), SPI x: the size passes
//	or, not answered:
//	the same once more          -- x     the size is lost
//
// It is no exchange of the IKE SA's: a request that is lost for its size would
// be in the way of all others, for there is a window of one, and one that is sent
// again has to be the same to the bit (RFC 7296 section 2.1), or in fragments,
// which some peers do not take in INFORMATIONAL. Here nothing hangs on a probe.
// The SPI, which is random, is what the answer is known by. Who is on the way and
// sees it can pretend that a packet has arrived, or lose it: as with any other.

// FindPathMTU asks for the largest packet that reaches a peer that is up.
// PathMTU answers, unless the peer is lost or moves meanwhile.
type FindPathMTU struct {
	Peer string
	// Most is the largest packet in bytes that is of interest, IP header
	// included.
	Most int
}

func (FindPathMTU) command() {}

// PathMTU is the largest packet in bytes that has reached a peer, IP header
// included, of those up to Most, to within 4 bytes. 0 says that it cannot be
// told: the peer answers no probe.
type PathMTU struct {
	Peer       string
	Path       Path
	Size, Most int
}

func (PathMTU) output() {}

const (
	// noVersion is the major version of a probe.
	noVersion = 3
	// notifyPadding is of the private range (RFC 7296 section 3.10.1).
	notifyPadding wire.NotifyType = 60173
	// notifyHead is a Notify payload without data (RFC 7296 section 3.10).
	notifyHead = 8
	// probeTries is how often a size is tried before it counts as lost, for any
	// packet may be. The one that the result hangs on is tried as often again,
	// which is more than the three times of RFC 8899 section 5.1.2.
	probeTries = 2
	// maxProbes bounds a search on a path that loses at random.
	maxProbes = 40
)

// sizeSearch closes in on a size between one that was answered and one that was
// not; both are 0 before there is one.
type sizeSearch struct {
	path           Path
	least, most    int
	answered, lost int
	alive          bool // what is answered was so again, after lost was lost
	over           bool
	probes         int
	wait           time.Duration // for an answer

	// The probe that is out.
	spi   wire.SPI
	size  int
	tries int
	sent  time.Time // first
}

// next is the size to try.
func (s *sizeSearch) next() (size int, ok bool) {
	const usual = packetSize
	switch middle := (s.answered + s.lost) / 2 &^ 3; {
	case s.over, s.answered == s.most, s.probes == maxProbes:
		return 0, false
	case s.answered == 0:
		return s.least, true // is it answered at all, and how soon?
	case s.lost == 0:
		return s.most, true
	case s.answered < usual && usual < s.lost:
		return usual, true // most paths with a tunnel in them take that
	case middle > s.answered:
		return middle, true
	case !s.alive:
		return s.answered, true // or is everything lost just now?
	}
	return s.lost, true // once more: was it lost for its size?
}

// tried takes the result of a probe. What was lost by chance, or with all the
// rest, says nothing of sizes.
func (s *sizeSearch) tried(answered bool) {
	again := s.size == s.answered
	switch {
	case answered && again:
		s.alive = true
	case answered:
		s.answered = max(s.answered, s.size)
		if s.size >= s.lost {
			s.lost, s.alive = 0, false
		}
	case again:
		s.lost = 0
	case s.size == s.lost, s.size == s.least:
		s.over = true
	default:
		s.lost = s.size
	}
}

func (sa *ikeSA) findPathMTU(most int) {
	s := &sizeSearch{path: sa.path, least: leastPacket, most: most &^ 3, wait: sa.timing().Retransmit}
	if sa.search == nil && sa.path == sa.espPath() && s.most >= s.least {
		sa.search = s
		sa.goOn()
	}
}

// goOn tries the next size, or tells what the search has found.
func (sa *ikeSA) goOn() {
	s := sa.search
	delete(sa.e.probing, s.spi)
	size, ok := s.next()
	if !ok {
		sa.dropSearch()
		if s.over || s.answered == s.most {
			sa.e.emit(PathMTU{Peer: sa.peer.Name, Path: s.path, Size: s.answered, Most: s.most})
		}
		return
	}
	spi, err := sa.e.newSPI()
	if err != nil {
		sa.e.drop(dropRandom)
		sa.dropSearch()
		return
	}
	sa.e.probing[spi] = sa
	s.spi, s.size, s.tries, s.sent = spi, size, 0, sa.e.now
	s.probes++
	sa.probePath()
}

// probePath sends the probe.
func (sa *ikeSA) probePath() {
	s := sa.search
	s.tries++
	pad := make([]byte, s.size-s.path.overhead()-wire.HeaderLen-notifyHead)
	m := wire.Message{
		Header:   wire.Header{InitiatorSPI: s.spi, Major: noVersion, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagInitiator},
		Payloads: []wire.Payload{&wire.Notify{NotifyType: notifyPadding, Data: pad}},
	}
	sa.sent = sa.e.now
	sa.e.emit(Transmit{Path: s.path, Payload: m.Append(nil), Whole: true})
	sa.e.setTimer(&sa.timers, timerProbe, sa.e.now.Add(s.wait))
}

// probeLost is when an answer would have come.
func (sa *ikeSA) probeLost() {
	if s := sa.search; s.tries < probeTries {
		sa.probePath()
	} else {
		s.tried(false)
		sa.goOn()
	}
}

// probeAnswered takes an answer. The first ones tell how far away the peer is.
func (sa *ikeSA) probeAnswered(p Path) {
	s := sa.search
	if p != s.path {
		return
	}
	s.wait = max(sa.timing().Retransmit/2, 3*sa.e.now.Sub(s.sent))
	s.tried(true)
	sa.goOn()
}

func (sa *ikeSA) dropSearch() {
	if sa.search != nil {
		delete(sa.e.probing, sa.search.spi)
		sa.search = nil
		sa.e.setTimer(&sa.timers, timerProbe, time.Time{})
	}
}
