package config

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// lint warns of what is allowed and seldom meant.
func lint(r *reader) {
	if r.errors > 0 {
		return
	}
	presetMTU(r)
	for i := range r.cfg.Peers {
		p := &r.cfg.Peers[i]
		lintKey(r, p)
		lintHiddenIdentities(r, p)
		lintKeepalive(r, p)
		lintPreset(r, p)
	}
}

// knownKeys are in documentation, or the first that anybody tries.
var knownKeys = []string{
	"secret", "password", "passw0rd", "changeme", "change-me", "changethis", "default", "example", "presharedkey", "pre-shared-key", "preshared", "psk", "mysecret", "mypsk", "supersecret",
	"sharedsecret", "shared-secret", "secretkey", "secret-key", "vpnpassword", "vpnsecret", "cisco", "cisco123", "vyos", "vyatta", "strongswan", "culvert", "ipsec", "test", "testing", "letmein",
	"qwerty", "admin", "welcome", "0123456789abcdef", "1234567890123456", "a random one goes here", "your-pre-shared-key", "yourpresharedkey", "your_pre_shared_key",
}

// lintKey knows the keys that are no secret, as they are or several times over,
// with digits behind them or without.
func lintKey(r *reader, p *Peer) {
	key := bytes.ToLower(p.PSK.Bytes())
	bare := bytes.TrimRight(key, "0123456789!.")
	known := slices.ContainsFunc(knownKeys, func(k string) bool {
		return string(key) == k || string(bare) == k || len(bare) > 0 && strings.Trim(strings.ReplaceAll(string(bare), k, ""), " -_") == ""
	})
	if known && len(key) >= pskKey.minLen { // a shorter one is warned of anyway
		r.warn(p.Where.At("psk").Pos, "make one with: culvert psk", "the pre-shared key of peer %q is one that everybody knows or tries first", p.Name)
	}
}

// lintHiddenIdentities: an address that a NAT hides says nothing to the other
// side, and another network behind NAT may have the same.
func lintHiddenIdentities(r *reader, p *Peer) {
	remote, err := netip.ParseAddr(p.Remote)
	if err != nil && p.Remote == "" || err == nil && hidden(remote) {
		return // a peer of our own network, or nobody knows
	}
	if presets[p.Preset].addressed {
		return // which has its own rule
	}
	if where := p.Where.At("local_id"); where.Given && isHidden(p.LocalID) {
		r.warn(where.Pos, "write "+where.Setting("@NAME")+", and have the peer expect that name", "local_id %v is a private address, which a NAT on the way to %s hides: a peer that expects the public one refuses it", p.LocalID, p.Remote)
	}
	if where := p.Where.At("remote_id"); where.Given && isHidden(p.RemoteID) {
		r.warn(where.Pos, "let the peer identify itself by a name", "remote_id %v is a private address, and the peer is at %s: it holds only as long as the peer sends just that", p.RemoteID, p.Remote)
	}
}

func isHidden(id ikev2.Identity) bool {
	a, ok := id.Addr()
	return ok && hidden(a)
}

func lintKeepalive(r *reader, p *Peer) {
	where := p.Where.At("keepalive")
	if p.Keepalive == 0 && where.Given && p.Remote != "" {
		r.warn(where.Pos, "leave it out: keepalives are sent only where there is a NAT", "without keepalives a NAT in front of this side forgets the connection as soon as it is quiet, and nothing gets in until this side speaks")
	}
}

// Host is what is to be known of the machine that a configuration is for.
type Host struct {
	// Networks are those of its interfaces, each with the address in it.
	Networks []Interface
	// Processors is how many there are; 0: not known.
	Processors int
}

// Interface is an address of the machine and the network that it is in.
type Interface struct {
	Name    string
	Address netip.Prefix
}

// LintHost is what there is to warn of on that machine beside Warnings.
func (c *Config) LintHost(h Host) []Diagnostic {
	var r reports
	lintLanes(&r, c, h)
	for i := range c.Peers {
		lintOwnAddress(&r, h, &c.Peers[i])
	}
	for _, s := range c.Shared(h) {
		r.warn(s.Tunnel.Where.At("remote").Pos, "the two sides need networks of their own: renumber one, or name only the part that is not here",
			"tunnel %q leads to %v, and %v is connected here, at %s: hosts that are here are looked for there, or the other way round", s.Tunnel.Name, s.Remote, s.Address.Masked(), s.Interface.Name)
	}
	return r.sorted()
}

// lintLanes: each lane is a processor's work.
func lintLanes(r *reports, c *Config, h Host) {
	if n := h.Processors; n > 0 && c.Gateway.Lanes > n {
		r.warn(c.Gateway.Where.At("lanes").Pos, "write as many as there are processors to spare, or leave it out", "%d lanes are more than the %d processors of this machine: they wait for each other", c.Gateway.Lanes, n)
	}
}

// Shared is a network behind a peer that is connected to the machine as well: what
// is connected here does not go into the tunnel, or worse, the tunnel's route takes
// it from the interface.
type Shared struct {
	Peer   *Peer
	Tunnel *Tunnel
	Remote wire.Selector // of the tunnel
	Interface
}

// Shared are those networks of the configuration on that machine.
func (c *Config) Shared(h Host) (all []Shared) {
	for i := range c.Peers {
		for j := range c.Peers[i].Tunnels {
			t := &c.Peers[i].Tunnels[j]
			for _, s := range t.Remote {
				for _, n := range h.Networks {
					if n.Name != c.Gateway.Device && !n.Address.Addr().IsLoopback() && !n.Address.Addr().IsLinkLocalUnicast() && !everything(s) &&
						addrsOverlap(s, wire.SelectorFromPrefix(n.Address.Masked())) {
						all = append(all, Shared{&c.Peers[i], t, s, n})
					}
				}
			}
		}
	}
	return all
}

// lintOwnAddress: an address as our identity that this machine does not have is
// the NAT's, or a mistake.
func lintOwnAddress(r *reports, h Host, p *Peer) {
	a, ok := p.LocalID.Addr()
	if !ok || slices.ContainsFunc(h.Networks, func(i Interface) bool { return i.Address.Addr() == a }) {
		return
	}
	r.warn(p.Where.At("local_id").Pos, "if it is not, write the address that the peer knows, or a name", "local_id %v is no address of this machine: it has to be the public one of the NAT in front of it", a)
}
