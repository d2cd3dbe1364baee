package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"culvert/config"
	"culvert/diagnose"
	"culvert/espcrypto/sad"
	"culvert/ikev2"
	"culvert/ikev2/wire"
	"culvert/tun"
)

// networksBehind are what a tunnel leads into the device: its remote networks,
// and the pools from which the peer may have an address.
func networksBehind(cfg *config.Config, p *config.Peer, t *config.Tunnel) (networks []netip.Prefix) {
	for _, s := range t.Remote {
		networks = append(networks, sad.Selector(s).Cover())
	}
	for _, pool := range cfg.Pools {
		if t.RemoteDynamic && slices.Contains(p.Address.Pools, pool.Name) {
			networks = append(networks, poolPrefixes(pool.Pool)...)
		}
	}
	return networks
}

// poolPrefixes is the network of a pool that has all of one, but perhaps its
// first and last address; else the prefixes that make up the range, for a pool
// may be a part of a network that is elsewhere.
func poolPrefixes(p ikev2.Pool) (prefixes []netip.Prefix) {
	whole := sad.Selector{Start: p.First, End: p.Last}.Cover()
	edges := sad.Prefix(whole)
	if (edges.Start == p.First || edges.Start.Next() == p.First) && (edges.End == p.Last || p.Last.Next() == edges.End) {
		return []netip.Prefix{whole}
	}
	for a := p.First; a.IsValid() && a.Compare(p.Last) <= 0; {
		block := largestBlock(a, p.Last)
		prefixes = append(prefixes, block)
		a = sad.Prefix(block).End.Next()
	}
	return prefixes
}

// largestBlock is the largest prefix that begins with first and does not go
// beyond end.
func largestBlock(first, end netip.Addr) netip.Prefix {
	p := netip.PrefixFrom(first, first.BitLen())
	for p.Bits() > 0 {
		next := netip.PrefixFrom(first, p.Bits()-1)
		if next.Masked() != next || sad.Prefix(next).End.Compare(end) > 0 {
			break
		}
		p = next
	}
	return p
}

// assign puts the addresses that a peer assigned to us on the device, and has
// this host's own traffic into the peer's dynamic tunnels carry them. What else
// the peer says of its network is shown, and nothing is done with it: name
// servers are the operator's to set.
func (c *control) assign(o ikev2.AssignAddresses) {
	c.assigned[o.Peer] = o
	old := c.ownAddrs[o.Peer]
	c.ownAddrs[o.Peer] = nil
	for _, p := range o.Addrs {
		c.ownAddrs[o.Peer] = append(c.ownAddrs[o.Peer], p.Addr())
		if err := c.g.doors.AddAddr(p.Addr()); err != nil {
			c.g.log.Warn(fmt.Sprintf("%s: %v", o.Peer, err), "event", "address_failed", "peer", o.Peer, "address", p.Addr())
			continue
		}
		c.g.log.Info(fmt.Sprintf("%s has the address %v, which peer %s assigned", c.g.doors.Device.Name(), p.Addr(), o.Peer),
			"event", "address_added", "peer", o.Peer, "address", p.Addr(), "device", c.g.doors.Device.Name(),
			"dns", addrList(o.DNS), "domains", o.Domains, "subnets", prefixTexts(o.Subnets))
		c.sourceRoutes(o.Peer, p.Addr().Is4(), p.Addr())
	}
	c.delAddrs(o.Peer, slices.DeleteFunc(old, func(a netip.Addr) bool { return slices.Contains(c.ownAddrs[o.Peer], a) }))
}

// unassign leaves the addresses on the device until the peer assigns others:
// connections over them outlive the SA, and what is sent meanwhile goes into the
// device and no further, never out in the clear.
func (c *control) unassign(peer string) { delete(c.assigned, peer) }

// delAddrs changes the routes first, for the kernel drops those whose source is
// gone.
func (c *control) delAddrs(peer string, addrs []netip.Addr) {
	for _, a := range addrs {
		if !slices.ContainsFunc(c.ownAddrs[peer], func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			c.sourceRoutes(peer, a.Is4(), netip.Addr{})
		}
		if err := c.g.doors.DelAddr(a); err != nil {
			c.g.log.Warn(fmt.Sprintf("%s: %v", peer, err), "event", "address_failed", "peer", peer, "address", a)
		}
	}
}

// sourceRoutes has the routes of a peer's dynamic tunnels, of one family, carry a
// source; none is the one that their static networks have.
func (c *control) sourceRoutes(peer string, is4 bool, source netip.Addr) {
	for i := range c.g.cfg.Peers {
		if p := &c.g.cfg.Peers[i]; p.Name == peer {
			c.sourceRoutesOf(p, is4, source)
		}
	}
}

func (c *control) sourceRoutesOf(p *config.Peer, is4 bool, source netip.Addr) {
	for i := range p.Tunnels {
		t := &p.Tunnels[i]
		for _, r := range routesOfTunnel(c.g.cfg, p, t) {
			if !t.LocalDynamic || r.prefix.Addr().Is4() != is4 || !slices.Contains(c.routes, r.prefix) {
				continue
			}
			opts := tun.RouteOptions{Source: source}
			if !source.IsValid() {
				opts = r.options()
			}
			if err := c.g.doors.ChangeRoute(r.prefix, opts); err != nil {
				c.g.log.Warn(fmt.Sprintf("%s: %v", p.Name, err), "event", "route_failed", "peer", p.Name, "prefix", r.prefix)
			}
		}
	}
}

func prefixTexts(ps []netip.Prefix) (texts []string) {
	for _, p := range ps {
		texts = append(texts, p.String())
	}
	return texts
}

func (c *control) assignedStatus(peer string) *AssignedStatus {
	o, ok := c.assigned[peer]
	if !ok {
		return nil
	}
	return &AssignedStatus{o.Addrs, o.DNS, o.Domains, o.Subnets}
}

// LeaseStatus is an address of a pool and the peer that has it, or had it last
// and gets it again when it comes back.
type LeaseStatus struct {
	Pool     string     `json:"pool"`
	Address  netip.Addr `json:"address"`
	LocalID  string     `json:"local_id"`
	RemoteID string     `json:"remote_id"`
	InUse    bool       `json:"in_use"`
}

func (c *control) leases() []LeaseStatus {
	all := []LeaseStatus{}
	for _, l := range c.engine.Leases() {
		all = append(all, LeaseStatus{l.Pool, l.Addr, l.LocalID.String(), l.RemoteID.String(), l.InUse})
	}
	return all
}

// leaseFile is what is kept of the leases from one run to the next.
type leaseFile struct {
	Leases []LeaseStatus `json:"leases"`
}

// loadLeases reads the lease file. One that cannot be read costs the peers their
// old addresses, but not the tunnels.
func (g *Gateway) loadLeases() (leases []ikev2.Lease) {
	name := g.leaseFile()
	if name == "" {
		return nil
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var file leaseFile
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil {
		g.log.Warn(fmt.Sprintf("lease file %s: %v; starting without the leases in it", name, err), "event", "lease_file_failed")
		return nil
	}
	for _, l := range file.Leases {
		local, errLocal := ikev2.ParseIdentity(l.LocalID)
		remote, errRemote := ikev2.ParseIdentity(l.RemoteID)
		if errLocal == nil && errRemote == nil {
			leases = append(leases, ikev2.Lease{Pool: l.Pool, LocalID: local, RemoteID: remote, Addr: l.Address})
		}
	}
	return leases
}

func (g *Gateway) leaseFile() string {
	if g.cfg.Gateway.LeaseFile == "" {
		return ""
	}
	return g.cfg.Path(g.cfg.Gateway.LeaseFile)
}

// saveLeases writes the lease file if there is something new in it.
func (c *control) saveLeases() {
	name := c.g.leaseFile()
	if name == "" || !c.leasesChanged {
		return
	}
	c.leasesChanged = false
	text, err := json.MarshalIndent(leaseFile{c.leases()}, "", "  ")
	if err == nil {
		err = replaceFile(name, append(text, '\n'))
	}
	if err != nil {
		c.g.log.Warn(fmt.Sprintf("lease file %s: %v", name, err), "event", "lease_file_failed")
	}
}

// replaceFile leaves the old content or the new one, whatever happens.
func replaceFile(name string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func (f facts) noAddressLeft() diagnose.Report {
	r := diagnose.NoAddressLeft{Peer: f.peer(), Connection: f.connection(), Pools: f.e.Pools}
	for _, pool := range f.cfg.Pools {
		if slices.Contains(f.e.Pools, pool.Name) {
			r.PoolsAt = append(r.PoolsAt, f.at(pool.Where, "addresses"))
		}
	}
	return r.Report()
}

// addressNotAsked points to the tunnel that the peer can have only with an
// address, the first one.
func (f facts) addressNotAsked() diagnose.Report {
	r := diagnose.AddressNotAsked{Peer: f.peer(), Connection: f.connection()}
	if p := f.configured(); p != nil {
		if i := slices.IndexFunc(p.Tunnels, func(t config.Tunnel) bool { return t.RemoteDynamic }); i >= 0 {
			r.Tunnel, r.RemoteAt = p.Tunnels[i].Name, f.at(p.Tunnels[i].Where, "remote")
		}
	}
	return r.Report()
}

func (f facts) peerSetting(key string) diagnose.Setting {
	if p := f.configured(); p != nil {
		return f.at(p.Where, key)
	}
	return diagnose.Setting{}
}

func notifyName(n wire.NotifyType) string {
	if n == 0 {
		return ""
	}
	return n.String()
}
