package gateway

import (
	"maps"
	"time"

	"culvert/ikev2"
)

// History is the last minutes of the peers that have been up, for plots. All
// lists are of one length and end now.
type History struct {
	Interval float64       `json:"interval"` // seconds from one sample to the next
	Until    time.Time     `json:"until,omitzero"`
	Peers    []PeerHistory `json:"peers"`
}

// PeerHistory are bits a second inside ESP, and milliseconds; 0 where there was
// nothing, or nothing known.
type PeerHistory struct {
	Name      string    `json:"name"`
	BitsIn    []float32 `json:"bits_in"`
	BitsOut   []float32 `json:"bits_out"`
	RoundTrip []float32 `json:"round_trip_ms"`
}

const (
	historyInterval = 2 * time.Second
	historyLen      = 150 // samples: 5 minutes
	// While somebody looks at the history, peers are asked for an answer every
	// measureEvery samples, measureMost of them at once: without that, a tunnel
	// that carries traffic has no round trips.
	measureEvery = 5
	measureMost  = 64
	lookTime     = 15 * time.Second
)

// history is a ring of samples for each peer that has been up since it is known,
// 2 KB each.
type history struct {
	peers  map[string]*past
	n      int // samples so far
	at     time.Time
	looked time.Time
	next   int // of the configured peers, to measure
}

type past struct {
	in, out uint64 // bytes at the last sample
	samples [historyLen]sample
}

type sample struct{ in, out, roundTrip float32 }

func (h *history) last(peer string) (s sample) {
	if p := h.peers[peer]; p != nil && h.n > 0 {
		s = p.samples[(h.n-1)%historyLen]
	}
	return s
}

// remember takes a sample of every peer, once in a historyInterval.
func (c *control) remember(now time.Time) {
	h := &c.history
	seconds := now.Sub(h.at).Seconds()
	if h.at.IsZero() {
		seconds = historyInterval.Seconds()
	}
	for name, t := range c.totalsByPeer() {
		p := h.peers[name]
		if p == nil {
			if t.Established == 0 {
				continue
			}
			p = &past{}
			h.peers[name] = p
		}
		p.samples[h.n%historyLen] = sample{bitRate(t.BytesIn, p.in, seconds), bitRate(t.BytesOut, p.out, seconds),
			float32(c.roundTrip(name).Seconds() * 1000)}
		p.in, p.out = t.BytesIn, t.BytesOut
	}
	maps.DeleteFunc(h.peers, func(name string, _ *past) bool { return c.peers[name] == nil })
	h.n, h.at = h.n+1, now
	if h.n%measureEvery == 0 && now.Sub(h.looked) < lookTime {
		c.measure()
	}
}

func bitRate(now, before uint64, seconds float64) float32 {
	if now <= before || seconds <= 0 {
		return 0
	}
	return float32(float64(now-before) * 8 / seconds)
}

// roundTrip is of a peer that is up; 0 while none is known.
func (c *control) roundTrip(peer string) time.Duration {
	if p := c.peers[peer]; p == nil || p.State != "up" {
		return 0
	}
	return c.engine.RoundTrip(peer)
}

// measure asks some peers that are up for an answer, others the next time.
func (c *control) measure() {
	peers := c.g.cfg.Peers
	for range min(measureMost, len(peers)) {
		c.history.next = (c.history.next + 1) % len(peers)
		if name := peers[c.history.next].Name; c.peers[name].State == "up" {
			c.command(ikev2.Measure{Peer: name})
		}
	}
}

// History asks the running gateway. False when it is not running.
func (g *Gateway) History() (x History, ok bool) {
	ok = g.ask(func(c *control) {
		c.history.looked = time.Now()
		x = c.history.tell(g.peerNames())
	})
	return x, ok
}

// peerNames are control's to ask for.
func (g *Gateway) peerNames() []string {
	names := make([]string, len(g.cfg.Peers))
	for i, p := range g.cfg.Peers {
		names[i] = p.Name
	}
	return names
}

func (h *history) tell(names []string) History {
	x := History{Interval: historyInterval.Seconds(), Until: h.at, Peers: []PeerHistory{}}
	n := min(h.n, historyLen)
	for _, name := range names {
		p := h.peers[name]
		if p == nil {
			continue
		}
		y := PeerHistory{name, make([]float32, n), make([]float32, n), make([]float32, n)}
		for i := range n {
			s := p.samples[(h.n-n+i)%historyLen]
			y.BitsIn[i], y.BitsOut[i], y.RoundTrip[i] = s.in, s.out, s.roundTrip
		}
		x.Peers = append(x.Peers, y)
	}
	return x
}
