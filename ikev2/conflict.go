package ikev2

import (
	"math/bits"
	"net/netip"
	"slices"

	"culvert/ikev2/wire"
)

// claims are the child SAs by the prefixes around their remote selectors. No
// two peers' child SAs may claim the same traffic: a packet for the one would
// leave for the other. The data path sends a packet by the longest remote
// prefix, then by the longest local one, so that a network inside a larger one
// of another peer is no conflict; it is one where neither lies inside the other
// or both are the same. The child SA that was there first stays.
type claims map[netip.Prefix][]*childSA

func (cs claims) add(c *childSA) {
	for _, p := range c.remotePrefixes() {
		cs[p] = append(cs[p], c)
	}
}

func (cs claims) remove(c *childSA) {
	for _, p := range c.remotePrefixes() {
		rest := slices.DeleteFunc(cs[p], func(x *childSA) bool { return x == c })
		if cs[p] = rest; len(rest) == 0 {
			delete(cs, p)
		}
	}
}

func (c *childSA) remotePrefixes() (ps []netip.Prefix) {
	for _, s := range c.remote {
		if p := prefixAround(s); !slices.Contains(ps, p) {
			ps = append(ps, p)
		}
	}
	return ps
}

// rival is a child SA of another peer's that c is in conflict with, nil if
// there is none. Where a selector is a prefix, which all but exotic ones are,
// only what lies in it or around it without being one can be in its way.
func (cs claims) rival(c *childSA) (found *childSA) {
	consider := func(list []*childSA) {
		for _, x := range list {
			if x.sa.peer != c.sa.peer && x.live() && conflict(c, x) && (found == nil || x.in < found.in) {
				found = x
			}
		}
	}
	for _, s := range c.remote {
		p := prefixAround(s)
		for n := range p.Bits() + 1 {
			consider(cs[netip.PrefixFrom(p.Addr(), n).Masked()])
		}
		if wire.SelectorFromPrefix(p).Start == s.Start && wire.SelectorFromPrefix(p).End == s.End {
			continue
		}
		for inner, list := range cs {
			if inner.Bits() > p.Bits() && p.Contains(inner.Addr()) {
				consider(list)
			}
		}
	}
	return found
}

// conflictWith are the facts of a child SA that is not made.
func (c *childSA) conflictWith(rival *childSA) Event {
	return Event{Kind: EventRefused, Reason: ReasonSelectorConflict, Child: c.cfg.Name, LocalTS: c.local, RemoteTS: c.remote,
		Rival: rival.sa.peer.Name, RivalChild: rival.cfg.Name, RivalTS: rival.remote}
}

// conflict: some traffic is within the selectors of both, and no longer prefix
// decides.
func conflict(a, b *childSA) bool {
	for _, ra := range a.remote {
		for _, rb := range b.remote {
			if _, meet := intersect(ra, rb); !meet || nested(ra, rb) {
				continue
			}
			if localsMeet(a.local, b.local, prefixAround(ra) == prefixAround(rb)) {
				return true
			}
		}
	}
	return false
}

// localsMeet: where the remote prefix is the same, the longer local one decides.
func localsMeet(a, b []wire.Selector, samePrefix bool) bool {
	return slices.ContainsFunc(a, func(x wire.Selector) bool {
		return slices.ContainsFunc(b, func(y wire.Selector) bool {
			_, meet := intersect(x, y)
			return meet && !(samePrefix && nested(x, y))
		})
	})
}

// nested: the addresses of one lie inside the other's, and so does the prefix
// around them.
func nested(a, b wire.Selector) bool {
	if prefixAround(a).Bits() > prefixAround(b).Bits() {
		a, b = b, a
	}
	return prefixAround(a).Bits() < prefixAround(b).Bits() && a.Start.Compare(b.Start) <= 0 && b.End.Compare(a.End) <= 0
}

// prefixAround is the longest prefix that holds the selector's addresses.
func prefixAround(s wire.Selector) netip.Prefix {
	a, b := s.Start.AsSlice(), s.End.AsSlice()
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return netip.PrefixFrom(s.Start, 8*i+bits.LeadingZeros8(x)).Masked()
		}
	}
	return netip.PrefixFrom(s.Start, s.Start.BitLen())
}
