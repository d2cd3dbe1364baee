package config

import (
	"fmt"
	"net/netip"
	"slices"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// validate judges what no single setting shows. What a reader has complained
// of already is left alone.
func validate(r *reader) {
	settle(r)
	if len(r.cfg.Peers) == 0 && r.errors == 0 {
		r.error(Pos{r.file, 1, 1}, noPeerHints[r.cfg.Format], "there is no peer")
	}
	names := map[string]Pos{}
	for i := range r.cfg.Peers {
		p := &r.cfg.Peers[i]
		if first, taken := names[p.Name]; taken {
			r.error(p.Where[""].Pos, fmt.Sprintf("the first one is on line %d", first.Line), "peer %q is there twice", p.Name)
		} else {
			names[p.Name] = p.Where[""].Pos
		}
		validateAddresses(r, p)
		validateIdentities(r, p)
		validatePPK(r, p)
		validateTiming(r, p)
		for j := range p.Tunnels {
			validateTunnel(r, p, &p.Tunnels[j])
		}
		if len(p.Tunnels) == 0 && r.errors == 0 {
			r.error(p.Where[""].Pos, "name the networks on both sides, as in culvert's examples", "peer %q has no tunnel", p.Name)
		}
	}
	validatePools(r)
	validatePairs(r)
	validateOverlaps(r)
	lint(r)
}

var noPeerHints = map[Format]string{
	FormatTOML:     "write [peer.NAME] with its settings",
	FormatVyOSTree: "write site-to-site { peer NAME { ... } }",
	FormatVyOSSet:  "write set vpn ipsec site-to-site peer NAME ...",
	FormatSwanctl:  "write connections { NAME { ... } }",
}

func validateAddresses(r *reader, p *Peer) {
	if p.Initiate && p.Remote == "" && r.errors == 0 {
		r.error(p.Where.At("initiate").Pos, "write the peer's address or host name, or let the peer initiate", "peer %q cannot be initiated to: its address is not known", p.Name)
	}
	remote, err := netip.ParseAddr(p.Remote)
	for _, local := range []netip.Addr{p.Local, r.cfg.Gateway.Local} {
		if err == nil && local.IsValid() && local.Is4() != remote.Is4() {
			r.error(p.Where.At("remote").Pos, "both have to be IPv4 or both IPv6", "peer %q at %v cannot be reached from %v", p.Name, remote, local)
			return
		}
	}
	if g := r.cfg.Gateway.Local; g.IsValid() && p.Local.IsValid() && g != p.Local {
		r.error(p.Where.At("local").Pos, "leave one of them out", "peer %q is to be reached from %v, but the gateway listens on %v alone", p.Name, p.Local, g)
	}
}

func validateIdentities(r *reader, p *Peer) {
	none := ikev2.Identity{}
	for _, side := range []struct {
		id            ikev2.Identity
		setting, lack string
	}{
		{p.LocalID, "local_id", "what this side is to identify itself as"},
		{p.RemoteID, "remote_id", "what the peer identifies itself as"},
	} {
		if where := p.Where.At(side.setting); side.id == none && !where.Given {
			r.error(where.Pos, "add "+where.Setting("@NAME")+"; a name holds whatever a NAT does to addresses", "peer %q does not say %s", p.Name, side.lack)
		}
	}
	// A side that takes its own identity for a peer's can be made to talk to
	// itself by reflecting its messages.
	if p.LocalID == p.RemoteID && p.LocalID != none {
		r.error(p.Where.At("remote_id").Pos, "give each side an identity of its own", "peer %q has the identity %v on both sides", p.Name, p.LocalID)
	}
}

// validatePairs: the pair of identities is what a peer is found by.
func validatePairs(r *reader) {
	type pair struct{ local, remote ikev2.Identity }
	seen := map[pair]*Peer{}
	for i := range r.cfg.Peers {
		p := &r.cfg.Peers[i]
		ids := pair{p.LocalID, p.RemoteID}
		if ids.local == (ikev2.Identity{}) || ids.remote == (ikev2.Identity{}) {
			continue
		}
		if first := seen[ids]; first != nil {
			r.error(p.Where.At("remote_id").Pos, "use another identity on either side, or make one peer with several tunnels of them",
				"peer %q has the same pair of identities as peer %q: %v and %v", p.Name, first.Name, ids.local, ids.remote)
			continue
		}
		seen[ids] = p
	}
}

func validateTunnel(r *reader, p *Peer, t *Tunnel) {
	wantNetwork(r, p, t, "local", t.Local, t.LocalDynamic)
	wantNetwork(r, p, t, "remote", t.Remote, t.RemoteDynamic)
	if len(t.Local) == 0 || len(t.Remote) == 0 {
		return
	}
	where := t.Where.At("remote").Pos
	matched := false
	for _, l := range t.Local {
		for _, s := range t.Remote {
			matched = matched || l.Start.Is4() == s.Start.Is4()
			validateSides(r, t, l, s, where)
		}
	}
	if !matched && !t.LocalDynamic && !t.RemoteDynamic {
		r.error(where, "give both sides an IPv4 network, or both an IPv6 one", "tunnel %q of peer %q has IPv4 on one side and IPv6 on the other only", t.Name, p.Name)
	}
}

func wantNetwork(r *reader, p *Peer, t *Tunnel, setting string, s []wire.Selector, dynamic bool) {
	if where := t.Where.At(setting); len(s) == 0 && !dynamic && !where.Given {
		r.error(where.Pos, "add "+where.Setting("10.1.0.0/16"), "tunnel %q of peer %q has no %s network", t.Name, p.Name, setting)
	}
}

// validateSides looks for addresses that would be on both sides. A network
// inside the other side's is usual for a branch of a bigger network, and
// everything (0.0.0.0/0) for one that sends all its traffic through the tunnel.
func validateSides(r *reader, t *Tunnel, l, s wire.Selector, where Pos) {
	if !addrsOverlap(l, s) || everything(l) || everything(s) {
		return
	}
	small, large := l, s
	if holds(l, s) {
		small, large = s, l
	}
	if small == large || !holds(large, small) {
		r.error(where, "the sides of a tunnel need different networks", "tunnel %q has %v on this side and %v on the other, which overlap", t.Name, l, s)
		return
	}
	r.warn(where, "this is right for a branch of a larger network, and wrong otherwise", "tunnel %q: %v of one side lies within %v of the other", t.Name, small, large)
}

func everything(s wire.Selector) bool {
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		if a := wire.SelectorFromPrefix(netip.MustParsePrefix(all)); s.Start == a.Start && s.End == a.End {
			return true
		}
	}
	return false
}

func holds(large, small wire.Selector) bool {
	return large.Start.Compare(small.Start) <= 0 && small.End.Compare(large.End) <= 0
}

func addrsOverlap(a, b wire.Selector) bool {
	return a.Start.BitLen() == b.Start.BitLen() && a.Start.Compare(b.End) <= 0 && b.Start.Compare(a.End) <= 0
}

func overlap(a, b wire.Selector) bool {
	sameProtocol := a.Protocol == b.Protocol || a.Protocol == 0 || b.Protocol == 0
	return addrsOverlap(a, b) && sameProtocol && a.StartPort <= b.EndPort && b.StartPort <= a.EndPort
}

// claim is a network that a tunnel leads to.
type claim struct {
	peer   *Peer
	tunnel *Tunnel
	remote wire.Selector
	order  int
}

// validateOverlaps: a packet has one tunnel to go into. In the order of their
// first addresses, a claim is compared with those that begin inside it.
func validateOverlaps(r *reader) {
	claims := r.cfg.claims()
	slices.SortStableFunc(claims, func(a, b claim) int { return a.remote.Start.Compare(b.remote.Start) })
	said := map[[2]*Tunnel]bool{}
	for i, a := range claims {
		for _, b := range claims[i+1:] {
			if b.remote.Start.Compare(a.remote.End) > 0 {
				break
			}
			first, second := a, b
			if second.order < first.order {
				first, second = second, first
			}
			if local, both := sameTraffic(first, second); both {
				overlapping(r, first, second, local, said)
			}
		}
	}
}

// overlapping speaks of two claims on the same traffic, once for two tunnels.
// Where one network lies within that of another peer the narrower one has it,
// as with routes.
func overlapping(r *reader, first, second claim, local wire.Selector, said map[[2]*Tunnel]bool) {
	where, hint := second.tunnel.Where.At("remote").Pos, fmt.Sprintf("the other is on line %d", first.tunnel.Where.At("remote").Line)
	pair := [2]*Tunnel{first.tunnel, second.tunnel}
	switch {
	case first.peer != second.peer && nested(first.remote, second.remote):
		r.warn(where, hint, "%s and %s are one within the other: the narrower one takes what is in both", second, first)
	case !said[pair]:
		said[pair] = true
		r.error(where, hint+"; keep the network in one of them", "tunnel %q of peer %q overlaps tunnel %q of peer %q: both take traffic between %v and %v",
			second.tunnel.Name, second.peer.Name, first.tunnel.Name, first.peer.Name, local, second.remote)
	}
}

func (c claim) String() string {
	return fmt.Sprintf("%v of tunnel %q of peer %q", c.remote, c.tunnel.Name, c.peer.Name)
}

// nested says whether the addresses of one are a part of the other's.
func nested(a, b wire.Selector) bool {
	return (holds(a, b) || holds(b, a)) && (a.Start != b.Start || a.End != b.End)
}

func (c *Config) claims() []claim {
	var all []claim
	for i := range c.Peers {
		p := &c.Peers[i]
		for j := range p.Tunnels {
			t := &p.Tunnels[j]
			for _, s := range t.Remote {
				all = append(all, claim{p, t, s, len(all)})
			}
		}
	}
	return all
}

// sameTraffic finds the second claim's local network whose traffic the first
// takes too.
func sameTraffic(first, second claim) (local wire.Selector, ok bool) {
	if first.tunnel == second.tunnel || !overlap(first.remote, second.remote) {
		return local, false
	}
	for _, local := range second.tunnel.Local {
		if slices.ContainsFunc(first.tunnel.Local, func(o wire.Selector) bool { return overlap(local, o) }) {
			return local, true
		}
	}
	return local, false
}
