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

// route is a prefix that a tunnel leads into the device.
type route struct {
	prefix netip.Prefix
	peer   *config.Peer
	tunnel *config.Tunnel
}

// options ask the system for its addresses.
func (r route) options() tun.RouteOptions {
	return tun.RouteOptions{Source: sourceAddr(r.tunnel.Local, r.prefix)}
}

// routesOf are a configuration's routes, each prefix once.
func routesOf(cfg *config.Config) (rs []route) {
	seen := map[netip.Prefix]bool{}
	for i := range cfg.Peers {
		p := &cfg.Peers[i]
		for j := range p.Tunnels {
			t := &p.Tunnels[j]
			for _, prefix := range routePrefixes(cfg, p, t) {
				if !seen[prefix] {
					seen[prefix] = true
					rs = append(rs, route{prefix, p, t})
				}
			}
		}
	}
	return rs
}

// swallows: the route would lead IKE itself into the tunnel that it is to build.
func (r route) swallows() bool {
	remote, err := netip.ParseAddr(r.peer.Remote)
	return err == nil && r.prefix.Contains(remote)
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
	device := c.g.doors.Device.Name()
	text := "the prefix has the peer's own address in it; lead what should go through the tunnel into the device by routes of your own"
	if !r.swallows() {
		err := c.g.doors.AddRoute(r.prefix, r.options())
		if err == nil {
			c.routes = append(c.routes, r.prefix)
			c.g.log.Info(fmt.Sprintf("route to %v leads into %s", r.prefix, device), "event", "route_added",
				"peer", r.peer.Name, "tunnel", r.tunnel.Name, "prefix", r.prefix, "device", device)
			return
		}
		text = err.Error()
	}
	c.g.log.Warn(fmt.Sprintf("no route to %v: %s", r.prefix, text), "event", "route_failed", "peer", r.peer.Name, "prefix", r.prefix)
}

// trimRoutes takes down the routes that no tunnel wants any more, and has the
// others carry the source that their tunnel has now.
func (c *control) trimRoutes(was *config.Config) {
	before, stay := map[netip.Prefix]route{}, map[netip.Prefix]bool{}
	for _, r := range routesOf(was) {
		before[r.prefix] = r
	}
	for _, r := range routesOf(c.g.cfg) {
		stay[r.prefix] = !r.swallows()
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
		c.g.log.Info(fmt.Sprintf("route to %v is gone", p), "event", "route_removed", "prefix", p)
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
