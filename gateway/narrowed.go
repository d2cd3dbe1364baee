package gateway

import (
	"slices"

	"culvert/diagnose"
	"culvert/espcrypto/sad"
	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// narrowed are the tunnels that are up for less than they are configured for, by
// peer. Those that the peer brings up have to be up for what it asks for: only
// where it asked for something else too do the two sides differ.
func (c *control) narrowed() map[string][]Finding {
	by, up := map[string][]Finding{}, c.sendingByTunnel()
	for i := range c.g.cfg.Peers {
		p := &c.g.cfg.Peers[i]
		for j := range p.Tunnels {
			t := &p.Tunnels[j]
			children := up[[2]string{p.Name, t.Name}]
			differ := slices.ContainsFunc(children, func(ch *child) bool { return len(ch.askedLocal) > 0 })
			if t.Start != ikev2.StartNow && !differ || t.SinglePair || len(children) == 0 {
				continue
			}
			var local, remote []wire.Selector
			for _, ch := range children {
				local, remote = append(local, wireSelectors(ch.Local)...), append(remote, wireSelectors(ch.Remote)...)
			}
			leftLocal, leftRemote := ikev2.Without(t.Local, local), ikev2.Without(t.Remote, remote)
			if len(leftLocal)+len(leftRemote) == 0 {
				continue
			}
			last := children[len(children)-1]
			r := diagnose.Narrowed{Tunnel: t.Name, Local: selectors(t.Local), Remote: selectors(t.Remote), LeftLocal: selectors(leftLocal), LeftRemote: selectors(leftRemote),
				AskedLocal: selectors(last.askedLocal), AskedRemote: selectors(last.askedRemote), Peer: diagnose.Peer{Addr: last.Path().Remote}}
			f := facts{c.g.cfg, ikev2.Event{Peer: p.Name, Child: t.Name}}
			r.Connection, r.GotLocal, r.GotRemote = f.connection(), selectors(local), selectors(remote)
			r.LocalAt, r.RemoteAt = f.at(t.Where, "local"), f.at(t.Where, "remote")
			report := r.Report()
			by[p.Name] = append(by[p.Name], Finding{p.Name, t.Name, report.Code, report.Summary, report.Detail, false})
		}
	}
	return by
}

// sendingByTunnel are the children that can send, by peer and tunnel, the oldest
// first. Of one that is being replaced there are two.
func (c *control) sendingByTunnel() map[[2]string][]*child {
	by := map[[2]string][]*child{}
	for _, ch := range c.children {
		if key := [2]string{ch.Peer, ch.Name}; ch.out != nil {
			by[key] = append(by[key], ch)
		}
	}
	for _, children := range by {
		slices.SortFunc(children, func(a, b *child) int { return a.since.Compare(b.since) })
	}
	return by
}

func wireSelectors(ss []sad.Selector) []wire.Selector {
	all := make([]wire.Selector, len(ss))
	for i, s := range ss {
		all[i] = wire.Selector(s)
	}
	return all
}

// shared are the networks behind peers that are connected here as well.
func (c *control) shared() (all []Finding) {
	for _, s := range c.g.cfg.Shared(c.host) {
		f := facts{c.g.cfg, ikev2.Event{Peer: s.Peer.Name}}
		r := diagnose.SharedNetwork{Connection: f.connection(), Tunnel: s.Tunnel.Name, Remote: selectors([]wire.Selector{s.Remote})[0],
			Network: s.Address.Masked().String(), Interface: s.Interface.Name, RemoteAt: f.at(s.Tunnel.Where, "remote")}.Report()
		all = append(all, Finding{s.Peer.Name, s.Tunnel.Name, r.Code, r.Summary, r.Detail, true})
	}
	return all
}
