package gateway

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"culvert/config"
	"culvert/diagnose"
	"culvert/espcrypto/sad"
	"culvert/ikev2"
)

// Finding is one thing that is wrong, or worth knowing, in plain words.
type Finding struct {
	Peer   string `json:"peer,omitempty"` // empty: of the gateway, or of somebody unknown
	Tunnel string `json:"tunnel,omitempty"`
	// Code names the case for scripts, as `diagnosis` does in the log.
	Code string `json:"code"`
	// Why says in a line what the Text begins with.
	Why string `json:"why"`
	// Text is a paragraph: what happened, why, and what to change.
	Text string `json:"text"`
	// Wrong: something is down or dropped that should not be. Else it is only
	// worth knowing.
	Wrong bool `json:"wrong"`
}

// Explanation is what Explain finds.
type Explanation struct {
	Wrong    bool      `json:"wrong"` // one of the findings is
	Findings []Finding `json:"findings"`
}

// How long and how much counts as now.
const (
	lossWindow    = time.Minute + trafficInterval/2
	silenceTime   = 10 * time.Second // of one direction while the other one speaks
	silencePacket = 5
	stormWindow   = time.Minute
	stormRekeys   = 10
	flapWindow    = 10 * time.Minute
	flapTimes     = 4
	memory        = 32 // entries of any list here
)

// watch is what control remembers so as to explain what goes on.
type watch struct {
	losses   losses
	lately   map[string]*lately
	refused  []refusal // of who is nobody we know, the oldest first
	reported map[trouble]bool
}

// lately is what a peer did, and what was dropped of its packets, in the last
// minutes.
type lately struct {
	made, rekeyed []occasion
	losses        losses
}

type occasion struct {
	at   time.Time
	from string
}

type refusal struct {
	at     time.Time
	report diagnose.Report
	from   netip.Addr
}

func newWatch() watch {
	return watch{lately: map[string]*lately{}, reported: map[trouble]bool{}}
}

// saw notes the events that only many of make a trouble, and refusals of
// strangers.
func (w *watch) saw(e ikev2.Event, r diagnose.Report) {
	now := time.Now()
	if unproven(e) && r.Code != "" {
		w.refused = slices.DeleteFunc(w.refused, func(old refusal) bool { return old.report.Summary == r.Summary })
		w.refused = lastOf(append(w.refused, refusal{now, r, e.Path.Remote.Addr()}), memory/4)
	}
	if e.Peer == "" {
		return
	}
	l := w.of(e.Peer)
	at := occasion{now, e.Path.Remote.Addr().String()}
	switch {
	case e.Kind == ikev2.EventEstablished:
		l.made = lastOf(append(l.made, at), memory)
	case e.Kind == ikev2.EventRekeyed, e.Kind == ikev2.EventChildDown && e.Reason == ikev2.ReasonRekeyed:
		l.rekeyed = lastOf(append(l.rekeyed, at), memory)
	}
}

func (w *watch) of(peer string) *lately {
	l := w.lately[peer]
	if l == nil {
		l = &lately{}
		w.lately[peer] = l
	}
	return l
}

func lastOf[T any](list []T, n int) []T { return slices.Delete(list, 0, max(0, len(list)-n)) }

// since are the occasions of the last while.
func since(all []occasion, window time.Duration) []occasion {
	i := slices.IndexFunc(all, func(o occasion) bool { return time.Since(o.at) < window })
	if i < 0 {
		return nil
	}
	return all[i:]
}

// Explain says what is wrong with a peer, or with peer "" all of them, and what
// this gateway drops. The error is ErrNotRunning or a *Refused.
func (g *Gateway) Explain(peer string) (x Explanation, err error) {
	ok := g.ask(func(c *control) {
		if peer != "" && c.peers[peer] == nil {
			err = unknown("no peer is named %q in %s%s", peer, g.cfg.File, thereAre(g.cfg.Peers, func(p config.Peer) string { return p.Name }))
			return
		}
		c.doubt(peer)
		x.Findings = slices.DeleteFunc(c.findings(), func(f Finding) bool { return peer != "" && f.Peer != "" && f.Peer != peer })
	})
	if !ok {
		return x, ErrNotRunning
	}
	x.Wrong = slices.ContainsFunc(x.Findings, func(f Finding) bool { return f.Wrong })
	return x, err
}

// findings are all there are now: peers in the order of the configuration, then
// the gateway's own.
func (c *control) findings() []Finding {
	all := []Finding{} // a list in JSON, empty or not
	rose := c.watch.losses.lost(c.drops())
	flows, up, narrow, holes := c.flows(rose), c.tunnelsUp(), c.narrowed(), c.blackHoles()
	for i := range c.g.cfg.Peers {
		p := &c.g.cfg.Peers[i]
		all = append(all, c.peerFindings(p, up)...)
		all = append(all, narrow[p.Name]...)
		all = append(all, holes[p.Name]...)
		all = append(all, flows[p.Name]...)
		all = append(all, c.peerLosses(p.Name, rose)...)
	}
	all = append(all, c.shared()...)
	all = append(all, c.callers()...)
	all = append(all, c.clocks.findings()...)
	if c.draining {
		all = append(all, Finding{Code: "draining", Why: "no new peers are taken",
			Text: "The gateway was told to drain: it takes no new peers until it ends, and a peer that goes cannot come back here. A restart ends that."})
	}
	return append(all, c.losses(rose)...)
}

// peerFindings are those of its IKE SA, and of tunnels that should be up.
func (c *control) peerFindings(p *config.Peer, up map[[2]string]bool) (all []Finding) {
	s := c.peers[p.Name]
	add := func(wrong bool, code, why, text string) {
		all = append(all, Finding{Peer: p.Name, Code: code, Why: why, Text: text, Wrong: wrong})
	}
	said, told := c.said[p.Name]
	switch {
	case s.State != "up" && told && !said:
		add(false, "disconnected", "taken down by the operator", fmt.Sprintf("Peer %s was taken down by the operator. `culvert connect %s` brings it up.", p.Name, p.Name))
	case s.Problem != "":
		add(true, cmp.Or(s.code, s.State), s.Why, s.Problem)
	case s.State == "connecting":
		add(true, "connecting", fmt.Sprintf("is being connected to, attempt %d", s.Attempt), fmt.Sprintf("Peer %s at %v is being connected to, attempt %d. When it does not answer, this says why.", p.Name, s.RemoteAddress, s.Attempt))
	case s.State != "up" && c.initiates(p):
		add(true, "down", "is about to be connected to", fmt.Sprintf("Peer %s is down and is about to be connected to.", p.Name))
	case s.State != "up":
		add(false, "waiting", "waits for the peer, or for traffic", fmt.Sprintf("Peer %s is not connected: it connects to us, or the first packet for one of its tunnels brings it up. It has to identify itself as %s, as %s to us. Nothing of it has come so far, unless a refusal is named below.", p.Name, s.RemoteID, s.LocalID))
	}
	if s.State == "up" {
		all = append(all, c.missing(p, up)...)
	}
	return append(all, c.restless(p)...)
}

// tunnelsUp are those that can send, by peer and name.
func (c *control) tunnelsUp() map[[2]string]bool {
	up := make(map[[2]string]bool, len(c.children))
	for _, ch := range c.children {
		if ch.out != nil {
			up[[2]string{ch.Peer, ch.Name}] = true
		}
	}
	return up
}

// missing are the tunnels that start with the connection, or that the operator has
// spoken of, and are not up.
func (c *control) missing(p *config.Peer, up map[[2]string]bool) (all []Finding) {
	for _, t := range p.Tunnels {
		wanted, said := c.engine.Said(p.Name, t.Name)
		switch {
		case up[[2]string{p.Name, t.Name}] || !said && t.Start != ikev2.StartNow:
			continue
		case said && !wanted:
			all = append(all, Finding{Peer: p.Name, Tunnel: t.Name, Code: "disconnected", Why: "taken down by the operator",
				Text: fmt.Sprintf("Tunnel %s of peer %s was taken down by the operator. `culvert connect %s %s` brings it up.", t.Name, p.Name, p.Name, t.Name)})
			continue
		}
		text := fmt.Sprintf("Peer %s is connected, and its tunnel %s is not up.", p.Name, t.Name)
		if c.peers[p.Name].Problem == "" {
			text += " It is asked for again from time to time; the log says why it ended, or was refused."
		}
		all = append(all, Finding{Peer: p.Name, Tunnel: t.Name, Code: "tunnel_down", Why: "the tunnel is not up", Text: text, Wrong: true})
	}
	return all
}

// restless: what is made or replaced far too often.
func (c *control) restless(p *config.Peer) (all []Finding) {
	l := c.watch.lately[p.Name]
	if l == nil {
		return nil
	}
	f := facts{c.g.cfg, ikev2.Event{Peer: p.Name}}
	found := func(r diagnose.Report) { all = append(all, Finding{p.Name, "", r.Code, r.Summary, r.Detail, true}) }
	if made := since(l.made, flapWindow); len(made) >= flapTimes {
		var from []string
		for _, m := range made {
			if !slices.Contains(from, m.from) {
				from = append(from, m.from)
			}
		}
		found(diagnose.Flapping{Connection: f.connection(), Times: len(made), During: time.Since(made[0].at), Addresses: from}.Report())
	}
	if rekeyed := since(l.rekeyed, stormWindow); len(rekeyed) >= stormRekeys*max(1, len(p.Tunnels))*len(c.g.doors.lanes()) {
		r := diagnose.RekeyStorm{Connection: f.connection(), Rekeys: len(rekeyed), During: time.Since(rekeyed[0].at)}
		if len(p.Tunnels) > 0 {
			r.LifetimeAt = cmp.Or(f.volumeSetting(&p.Tunnels[0]), f.at(p.Tunnels[0].Where, "lifetime"))
		}
		found(r.Report())
	}
	return all
}

// flows are the tunnels in which one direction is silent while the other one
// speaks, by peer.
func (c *control) flows(rose map[string]uint64) map[string][]Finding {
	by, tunnels := map[string][]Finding{}, map[[2]string][]*child{}
	for _, ch := range c.children {
		key := [2]string{ch.Peer, ch.Name}
		tunnels[key] = append(tunnels[key], ch)
	}
	for _, spi := range slices.Sorted(maps.Keys(c.children)) {
		ch := c.children[spi]
		r, ok := ch.oneWay()
		if !ok || ch.spokenFor(tunnels[[2]string{ch.Peer, ch.Name}], r.Out) {
			continue
		}
		r.Local, r.Remote = shown(ch.Local), shown(ch.Remote)
		if r.Out {
			r.Dropped = arrivals(rose, c.lostOf(ch.Peer))
		}
		f := facts{c.g.cfg, ikev2.Event{Peer: ch.Peer, Child: ch.Name}}
		r.Connection, r.Tunnel = f.connection(), ch.Name
		r.Peer = diagnose.Peer{Addr: ch.Path().Remote}
		if p := c.peers[ch.Peer]; p != nil {
			r.Peer.NAT = p.nat
		}
		report := r.Report()
		by[ch.Peer] = append(by[ch.Peer], Finding{ch.Peer, ch.Name, report.Code, report.Summary, report.Detail, true})
	}
	return by
}

// spokenFor: what is silent in the child goes by another one of its tunnel's with
// the same traffic. Which of several lanes has the answers is the peer's to choose.
func (ch *child) spokenFor(tunnel []*child, out bool) bool {
	for _, x := range tunnel {
		if x == ch || !slices.Equal(x.Local, ch.Local) || !slices.Equal(x.Remote, ch.Remote) {
			continue
		}
		if out && x.in != nil && sinceNano(x.in.LastNano()) < silenceTime || !out && x.out != nil && sinceNano(x.out.LastNano()) < silenceTime {
			return true
		}
	}
	return false
}

// arrivals are the counters of what came in and went no further: the peer's, and
// those of which nobody knows whose they are.
func arrivals(rose, ofPeer map[string]uint64) (words []string) {
	add := func(of map[string]uint64, names ...string) {
		for _, name := range names {
			if n := of[name]; n > 0 {
				words = append(words, fmt.Sprintf("%s %d", name, n))
			}
		}
	}
	add(rose, "unknown_spi")
	add(ofPeer, "authentication_failed", "replayed", "stale", "truncated", "bad_padding", "bad_next_header", "selector_violation", "inbound_malformed")
	add(rose, "tun_write_error")
	return words
}

// oneWay tells a direction that is silent while the other one speaks. A child
// that cannot send is about to be gone.
func (ch *child) oneWay() (r diagnose.OneWay, ok bool) {
	if ch.in == nil || ch.out == nil {
		return r, false
	}
	now, in, out := time.Now(), ch.in.SA.Stats().Packets, ch.out.SA.Stats().Packets
	ch.note(in, out, now)
	for _, d := range []struct {
		out          bool
		speaks, mute direction
		packets      uint64
		last         int64
	}{
		{true, ch.quietOut, ch.quietIn, out, ch.out.LastNano()},
		{false, ch.quietIn, ch.quietOut, in, ch.in.LastNano()},
	} {
		r.Out, r.Never, r.For = d.out, d.mute.packets == 0, now.Sub(d.mute.at)
		r.Packets = d.packets - d.mute.others
		if r.Packets >= silencePacket && r.For >= silenceTime && sinceNano(d.last) < silenceTime {
			return r, true
		}
	}
	return r, false
}

// direction is when packets of it were last seen, how many there were then, and
// how many of the other one.
type direction struct {
	packets, others uint64
	at              time.Time
}

// note is called every trafficInterval or oftener.
func (ch *child) note(in, out uint64, now time.Time) {
	if ch.quietIn.at.IsZero() {
		ch.quietIn.at, ch.quietOut.at = ch.since, ch.since
	}
	if in != ch.quietIn.packets {
		ch.quietIn = direction{in, out, now}
	}
	if out != ch.quietOut.packets {
		ch.quietOut = direction{out, in, now}
	}
}

// callers are refusals of who is nobody we know: wrong where a peer is missed,
// which may be the one.
func (c *control) callers() (all []Finding) {
	missed := c.down() != nil
	said := func(r refusal) bool { // of the peer that it is
		return slices.ContainsFunc(slices.Collect(maps.Values(c.peers)), func(p *peerStatus) bool { return p.Problem == r.report.Detail })
	}
	for _, r := range c.watch.refused {
		if time.Since(r.at) < flapWindow && !said(r) && !(r.report.Code == "unfinished" && c.isUpAt(r.from)) {
			all = append(all, Finding{Code: r.report.Code, Why: r.report.Summary, Text: fmt.Sprintf("%s (%v ago)", r.report.Detail, time.Since(r.at).Round(time.Second)), Wrong: missed})
		}
	}
	return all
}

// isUpAt: a peer is connected from that address.
func (c *control) isUpAt(from netip.Addr) bool {
	for _, p := range c.peers {
		if p.State == "up" && p.RemoteAddress.Addr() == from {
			return true
		}
	}
	return false
}

// down names the peers that are not connected.
func (c *control) down() (names []string) {
	for _, p := range c.g.cfg.Peers {
		if c.peers[p.Name].State != "up" {
			names = append(names, p.Name)
		}
	}
	return names
}

// lookForTrouble takes samples, and logs what tunnels that are up do not carry,
// each once until it has passed.
func (c *control) lookForTrouble() {
	c.sampleLosses()
	rose := c.watch.losses.lost(c.watch.losses.last)
	now := map[trouble]bool{}
	report := func(all []Finding) {
		for _, f := range all {
			t := trouble{f.Peer, f.Tunnel, f.Code}
			if now[t] = true; !c.watch.reported[t] {
				level := slog.LevelInfo
				if f.Wrong {
					level = slog.LevelWarn
				}
				c.g.log.Log(c.ctx, level, f.Text, "event", "trouble", "peer", f.Peer, "tunnel", f.Tunnel, "diagnosis", f.Code)
			}
		}
	}
	flows, narrow, holes := c.flows(rose), c.narrowed(), c.blackHoles()
	for i := range c.g.cfg.Peers {
		p := &c.g.cfg.Peers[i]
		report(narrow[p.Name])
		report(holes[p.Name])
		report(flows[p.Name])
		report(c.restless(p))
		report(c.peerLosses(p.Name, rose))
	}
	report(c.shared())
	report(c.losses(rose))
	c.watch.reported = now
}

// trouble is what makes two findings the same.
type trouble struct{ peer, tunnel, code string }

func shown(ss []sad.Selector) []diagnose.Selector { return selectors(wireSelectors(ss)) }
