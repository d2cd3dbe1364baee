package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"culvert/config"
	"culvert/espcrypto/sad"
	"culvert/ikev2"
	"culvert/ikev2/wire"
	"culvert/tun"
)

// reserve holds the traffic of every configured tunnel for its own SAs, in the
// place of what was reserved before and is not the same any more: while a tunnel is down its packets are
// dropped, and go neither through the tunnel of a larger network nor to another
// peer. The first of them bring up a tunnel that starts with traffic.
func (c *control) reserve(cfg *config.Config) {
	old := map[[2]string]*sad.Outbound{}
	for _, r := range c.reserved {
		old[[2]string{r.Peer, r.Name}] = r
	}
	c.reserved = nil
	for i := range cfg.Peers {
		p := &cfg.Peers[i]
		for j := range p.Tunnels {
			t := &p.Tunnels[j]
			if len(t.Remote) == 0 {
				continue // what is for leased addresses alone has nothing to hold yet
			}
			want, trap, name := policy(p, t), t.Start == ikev2.StartTraffic, [2]string{p.Name, t.Name}
			if r := old[name]; r != nil && r.Trap == trap && slices.Equal(r.Local, want.Local) && slices.Equal(r.Remote, want.Remote) {
				c.reserved = append(c.reserved, r)
				delete(old, name)
				continue
			}
			want.Drops = c.droppedOf(p.Name)[:]
			r, err := c.g.table.Reserve(want, trap)
			if err != nil {
				c.g.log.Error(fmt.Sprintf("peer %s, tunnel %s: %v", p.Name, t.Name, err), "event", "reserve_failed", "peer", p.Name, "tunnel", t.Name)
				continue
			}
			c.reserved = append(c.reserved, r)
		}
	}
	for _, r := range old {
		c.g.table.Release(r)
	}
}

// policy is a tunnel as the SA table knows it. A network inside another of the
// same tunnel is part of that one's SA.
func policy(p *config.Peer, t *config.Tunnel) *sad.Child {
	local := slices.Clip(t.Local)
	if t.LocalDynamic {
		local = append(local, anywhere...) // our address is not known yet
	}
	return &sad.Child{Peer: p.Name, Name: t.Name, Local: sadSelectors(outermost(local)), Remote: sadSelectors(outermost(t.Remote))}
}

var anywhere = []wire.Selector{wire.SelectorFromPrefix(netip.MustParsePrefix("0.0.0.0/0")), wire.SelectorFromPrefix(netip.MustParsePrefix("::/0"))}

func outermost(ss []wire.Selector) []wire.Selector {
	return slices.DeleteFunc(slices.Clone(ss), func(s wire.Selector) bool {
		return slices.ContainsFunc(ss, func(o wire.Selector) bool { return o != s && inside(s, o) })
	})
}

func inside(s, o wire.Selector) bool {
	return (o.Protocol == 0 || o.Protocol == s.Protocol) && o.StartPort <= s.StartPort && s.EndPort <= o.EndPort &&
		o.Start.Compare(s.Start) <= 0 && s.End.Compare(o.End) <= 0 && o.Start.BitLen() == s.Start.BitLen()
}

// acquire has the engine ask for the child SA that a packet wants, and looks for
// a way to the peer if there is no IKE SA.
func (c *control) acquire(ctx context.Context, n notice) {
	i := slices.IndexFunc(c.g.cfg.Peers, func(p config.Peer) bool { return p.Name == n.Policy.Peer })
	if i < 0 || c.deadline != nil {
		return
	}
	p := &c.g.cfg.Peers[i]
	if connect, said := c.said[p.Name]; said && !connect {
		return
	}
	if up, said := c.engine.Said(p.Name, n.Policy.Name); said && !up {
		return
	}
	c.command(ikev2.Acquire{Peer: p.Name, Child: n.Policy.Name,
		Local:  packetSelector(n.Flow, n.Flow.Src, n.Flow.SrcPort),
		Remote: packetSelector(n.Flow, n.Flow.Dst, n.Flow.DstPort)})
	if p.Remote != "" && c.peers[p.Name].State != "up" {
		c.dial(ctx, p)
	}
}

// packetSelector is one side of a packet as a traffic selector.
func packetSelector(f tun.Flow, a netip.Addr, port uint16) wire.Selector {
	s := wire.Selector{Protocol: f.Protocol, EndPort: 65535, Start: a, End: a}
	if f.HasPorts {
		s.StartPort, s.EndPort = port, port
	}
	return s
}
