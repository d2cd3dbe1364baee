package gateway

import (
	"fmt"
	"net/netip"
	"slices"

	"culvert/config"
	"culvert/espcrypto/sad"
	"culvert/ikev2/wire"
	"culvert/tun"
)

// route is a prefix that a tunnel leads into the device: a network behind it,
// or a part of one that has the peer's own address in it.
type route struct {
	prefix, network netip.Prefix
	peer            *config.Peer
	tunnel          *config.Tunnel
}

// options ask the system for its addresses.
func (r route) options() tun.RouteOptions {
	return tun.RouteOptions{Source: sourceAddr(r.tunnel.Local, r.prefix)}
}

// routesOf are a configuration's routes, each prefix once. Those of a device that
// somebody else prepares are not ours.
func routesOf(cfg *config.Config) (rs []route) {
	if cfg.Gateway.DevicePrepared {
		return nil
	}
	seen := map[netip.Prefix]bool{}
	for i := range cfg.Peers {
		p := &cfg.Peers[i]
		for j := range p.Tunnels {
			for _, r := range routesOfTunnel(cfg, p, &p.Tunnels[j]) {
				if !seen[r.prefix] {
					seen[r.prefix] = true
					rs = append(rs, r)
				}
			}
		}
	}
	return rs
}

// routesOfTunnel are a tunnel's routes. What it leads to the peer's own address
// would lead IKE itself into the tunnel that it is to build: that address is left
// out.
func routesOfTunnel(cfg *config.Config, p *config.Peer, t *config.Tunnel) (rs []route) {
	for _, network := range networksBehind(cfg, p, t) {
		r := route{network, network, p, t}
		remote, err := netip.ParseAddr(p.Remote)
		if err != nil || !network.Contains(remote) || r.anyToAny() {
			rs = append(rs, r)
			continue
		}
		for _, part := range around(network, remote) {
			rs = append(rs, route{part, network, p, t})
		}
	}
	return rs
}

// around is a network without one of its addresses, in as few prefixes as there
// can be, the largest first.
func around(network netip.Prefix, addr netip.Addr) (parts []netip.Prefix) {
	for bits := network.Bits() + 1; bits <= addr.BitLen(); bits++ {
		sibling := addr.AsSlice()
		sibling[(bits-1)/8] ^= 0x80 >> ((bits - 1) % 8)
		other, _ := netip.AddrFromSlice(sibling)
		parts = append(parts, netip.PrefixFrom(other, bits).Masked())
	}
	return parts
}

// anyToAny: the tunnel is for everything on both sides, as peers have it that
// choose by routes alone. What goes into it is for its operator to say.
func (r route) anyToAny() bool {
	return r.network.Bits() == 0 && slices.ContainsFunc(r.tunnel.Local, func(s wire.Selector) bool {
		local := sad.Selector(s).Cover()
		return local.Bits() == 0 && local.Addr().Is4() == r.network.Addr().Is4()
	})
}

// withheld says why the route is left to the operator; empty if it is not.
func (r route) withheld() string {
	switch _, err := netip.ParseAddr(r.peer.Remote); {
	case r.anyToAny():
		return "the tunnel is for everything on both sides; lead what should go through it into the device by routes of your own"
	case r.network.Bits() == 0 && r.peer.Remote != "" && err != nil:
		return "the peer's own address, which is to be left out, is not known before its name is resolved; write the address"
	}
	return ""
}

// addRoutes leads every tunnel's remote prefixes into the device from the start,
// tunnel up or not, so that their traffic never leaves in the clear. A route
// that is there stays.
func (c *control) addRoutes() {
	there := map[netip.Prefix]bool{}
	for _, p := range c.routes {
		there[p] = true
	}
	for _, r := range routesOf(c.g.cfg) {
		if !there[r.prefix] {
			c.addRoute(r)
		}
	}
}

func (c *control) addRoute(r route) {
	text := r.withheld()
	if text == "" {
		err := c.g.doors.AddRoute(r.prefix, r.options())
		if err == nil {
			c.routes = append(c.routes, r.prefix)
			c.logRoute(r, "route_added", "leads into "+c.g.doors.Device.Name())
			return
		}
		text = err.Error()
	}
	c.g.log.Warn(fmt.Sprintf("no route to %v: %s", r.prefix, text), "event", "route_failed", "peer", r.peer.Name, "prefix", r.prefix)
}

// logRoute has one line for all parts of a network.
func (c *control) logRoute(r route, event, becomes string) {
	if r.prefix.Bits() > r.network.Bits()+1 {
		return
	}
	text := "route to " + r.network.String()
	if r.prefix != r.network {
		text += ", but for " + r.peer.Remote + ","
	}
	c.g.log.Info(text+" "+becomes, "event", event, "peer", r.peer.Name, "tunnel", r.tunnel.Name, "prefix", r.network, "device", c.g.doors.Device.Name())
}

// trimRoutes takes down the routes that no tunnel wants any more, and has the
// others carry the source that their tunnel has now.
func (c *control) trimRoutes(was *config.Config) {
	before, stay := map[netip.Prefix]route{}, map[netip.Prefix]bool{}
	for _, r := range routesOf(was) {
		before[r.prefix] = r
	}
	for _, r := range routesOf(c.g.cfg) {
		stay[r.prefix] = r.withheld() == ""
		old, known := before[r.prefix]
		if known && stay[r.prefix] && !slices.Equal(old.tunnel.Local, r.tunnel.Local) && !r.tunnel.LocalDynamic && slices.Contains(c.routes, r.prefix) {
			if err := c.g.doors.ChangeRoute(r.prefix, r.options()); err != nil {
				c.g.log.Warn(fmt.Sprintf("route to %v: %v", r.prefix, err), "event", "route_failed", "peer", r.peer.Name, "prefix", r.prefix)
			}
		}
	}
	gone := slices.DeleteFunc(slices.Clone(c.routes), func(p netip.Prefix) bool { return stay[p] })
	c.delRoutes(gone)
	c.routes = slices.DeleteFunc(c.routes, func(p netip.Prefix) bool { return !stay[p] })
	for _, p := range gone {
		c.logRoute(before[p], "route_removed", "is gone")
	}
}

func (c *control) delRoutes(gone []netip.Prefix) {
	for _, p := range gone {
		if err := c.g.doors.DelRoute(p); err != nil {
			c.g.log.Debug(fmt.Sprintf("route to %v: %v", p, err), "event", "route_failed", "prefix", p)
		}
	}
}

// sourceAddr is an address of this host inside the local selectors, which its
// own traffic to a prefix behind the tunnel has to carry.
func sourceAddr(local []wire.Selector, to netip.Prefix) netip.Addr {
	for _, s := range local {
		if a, ok := tun.HostAddr(sad.Selector(s).Cover()); ok && a.Is4() == to.Addr().Is4() {
			return a
		}
	}
	return netip.Addr{}
}
