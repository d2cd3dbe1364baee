package gateway

import (
	"maps"
	"slices"
	"time"

	"culvert/diagnose"
	"culvert/ikev2"
)

// losses are by how much counters rose lately.
type losses struct {
	last  map[string]uint64 // at the last sample
	rises []rise            // the oldest first, over lossWindow
}

type rise struct {
	at time.Time
	by map[string]uint64
}

// sample takes the counters, once in a trafficInterval or when they have changed.
func (l *losses) sample(counts map[string]uint64) {
	l.rises = slices.DeleteFunc(l.rises, func(r rise) bool { return !r.recent() })
	if by := more(counts, l.last); len(by) > 0 {
		l.rises = append(l.rises, rise{time.Now(), by})
	}
	l.last = counts
}

// lost is by how much each counter rose in the window, those that did.
func (l *losses) lost(counts map[string]uint64) map[string]uint64 {
	rose := more(counts, l.last)
	for _, r := range l.rises {
		for name, n := range r.by {
			if r.recent() {
				rose[name] += n
			}
		}
	}
	return rose
}

func (r rise) recent() bool { return time.Since(r.at) <= lossWindow }

func more(counts, before map[string]uint64) map[string]uint64 {
	by := map[string]uint64{}
	for name, n := range counts {
		if n > before[name] {
			by[name] = n - before[name]
		}
	}
	return by
}

// sampleLosses takes the gateway's counters, and those of the peers of whose
// packets any was dropped since the last time.
func (c *control) sampleLosses() {
	c.watch.losses.sample(c.drops())
	for peer, dropped := range c.dropped {
		if now := dropped.named(); now != nil && !maps.Equal(now, c.watch.of(peer).losses.last) {
			c.watch.of(peer).losses.sample(now)
		}
	}
}

// lostOf is what was lately dropped of a peer's packets.
func (c *control) lostOf(peer string) map[string]uint64 {
	if l := c.watch.lately[peer]; l != nil {
		return l.losses.lost(c.droppedOf(peer).named())
	}
	return nil
}

// peerLosses are what is dropped of a peer's packets, by more than an accident. It
// takes that from what is dropped by anybody's.
func (c *control) peerLosses(peer string, anybody map[string]uint64) (all []Finding) {
	rose := c.lostOf(peer)
	delete(rose, counterNames[dropNoOutboundSA]) // no SA is the peer's: told with all that are down
	for _, name := range slices.Sorted(maps.Keys(rose)) {
		f := diagnose.Dropped{Counter: name, Count: rose[name], During: c.lossTime(), Connection: facts{c.g.cfg, ikev2.Event{Peer: peer}}.connection()}
		if f.Trouble() {
			r := f.Report()
			all = append(all, Finding{Peer: peer, Code: r.Code, Why: r.Summary, Text: r.Detail, Wrong: true})
			anybody[name] -= min(anybody[name], f.Count)
		}
	}
	return all
}

// losses are the counters that rose by more than an accident.
func (c *control) losses(rose map[string]uint64) (all []Finding) {
	for _, name := range slices.Sorted(maps.Keys(rose)) {
		f := diagnose.Dropped{Counter: name, Count: rose[name], During: c.lossTime()}
		if name == counterNames[dropNoOutboundSA] {
			f.Down = slices.DeleteFunc(c.down(), func(peer string) bool { return c.lostOf(peer)[name] == 0 })
		}
		if f.Trouble() {
			r := f.Report()
			all = append(all, Finding{Code: r.Code, Why: r.Summary, Text: r.Detail, Wrong: true})
		}
	}
	return all
}

// lossTime is what losses are over.
func (c *control) lossTime() time.Duration { return min(lossWindow, time.Since(c.g.started)) }
