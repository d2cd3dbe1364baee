package config

import (
	"fmt"
	"net/netip"
	"strings"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// with is the pool with its addresses: a range, or a network without the
// addresses that are not a host's: the network's own (in IPv6 that of all
// routers, RFC 4291 section 2.6.1), and IPv4's broadcast address.
func (p Pool) with(s string) (Pool, *fault) {
	sel, f := parseAddrs(s)
	if f != nil {
		return p, f
	}
	p.First, p.Last = sel.Start, sel.End
	if strings.Contains(s, "-") || sel.Start == sel.End || sel.Start.Next() == sel.End {
		return p, nil
	}
	p.First = p.First.Next()
	if p.Last.Is4() {
		p.Last = p.Last.Prev()
	}
	return p, nil
}

func (p Pool) addresses() string {
	return wire.Selector{EndPort: 65535, Start: p.First, End: p.Last}.String()
}

func parseDNS(s string) (netip.Addr, *fault) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() {
		return a, faultf("write an IPv4 or IPv6 address", "%q is not the address of a name server", s)
	}
	return a, nil
}

func parseDomain(s string) (string, *fault) {
	if !isHostName(s) {
		return "", faultf("write a domain such as corp.example", "%q is not a domain", s)
	}
	return strings.TrimSuffix(s, "."), nil
}

// validatePools: an address has one pool that gives it, and a peer pools that
// there are.
func validatePools(r *reader) {
	byName := map[string]*Pool{}
	for i := range r.cfg.Pools {
		p := &r.cfg.Pools[i]
		if first := byName[p.Name]; first != nil {
			r.error(p.Where[""].Pos, fmt.Sprintf("the first one is on line %d", first.Where[""].Line), "pool %q is there twice", p.Name)
		}
		byName[p.Name] = p
		validatePool(r, p)
		for j := range r.cfg.Pools[:i] {
			if o := &r.cfg.Pools[j]; p.First.IsValid() && o.First.IsValid() && p.First.Compare(o.Last) <= 0 && o.First.Compare(p.Last) <= 0 {
				r.error(p.Where.At("addresses").Pos, fmt.Sprintf("the other is on line %d", o.Where.At("addresses").Line), "pool %q overlaps pool %q", p.Name, o.Name)
			}
		}
	}
	for i := range r.cfg.Peers {
		p := &r.cfg.Peers[i]
		for _, name := range p.Address.Pools {
			if byName[name] == nil {
				r.error(p.Where.At("pools").Pos, didYouMean(name, keysOf(byName)), "there is no pool %q", name)
			}
		}
	}
}

func validatePool(r *reader, p *Pool) {
	if where := p.Where.At("addresses"); !p.First.IsValid() && !where.Given {
		r.error(where.Pos, "add "+where.Setting("10.9.0.0/24"), "pool %q has no addresses", p.Name)
	}
}

// requests are the families of addresses that are asked for, as they are
// written.
func requests(a ikev2.AddressPolicy) (families []string) {
	if a.Request4 {
		families = append(families, "ipv4")
	}
	if a.Request6 {
		families = append(families, "ipv6")
	}
	return families
}
