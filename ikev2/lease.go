package ikev2

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Lease is an address of a pool and whose it is. It stays the peer's when the
// peer is gone, for the time when it comes back, until the pool has no other
// address left for somebody else.
type Lease struct {
	Pool              string
	LocalID, RemoteID Identity
	Addr              netip.Addr
	InUse             bool
}

// lease is a Lease at work.
type lease struct {
	pool   string
	owner  leaseOwner
	addr   netip.Addr
	holder *ikeSA // nil when the peer is gone
	since  uint64 // when holder last changed: who left first loses it first
}

// leaseOwner: a peer has one address of each family.
type leaseOwner struct {
	local, remote Identity
	is4           bool
}

func (p *peer) leaseOwner(is4 bool) leaseOwner { return leaseOwner{p.LocalID, p.RemoteID, is4} }

// leaseTable is all leases. There are never more than addresses in the pools,
// nor more than two for each peer there has been.
type leaseTable struct {
	byAddr  map[netip.Addr]*lease
	byOwner map[leaseOwner]*lease
	// fresh is by range the first address that may never have been leased.
	fresh map[[2]netip.Addr]netip.Addr
}

// seed takes leases of an earlier run, the order of which is that in which
// their peers left. What does not fit the pools any more is forgotten.
func (t *leaseTable) seed(e *Engine, leases []Lease) {
	t.byAddr, t.byOwner, t.fresh = map[netip.Addr]*lease{}, map[leaseOwner]*lease{}, map[[2]netip.Addr]netip.Addr{}
	for _, l := range leases {
		owner := leaseOwner{l.LocalID, l.RemoteID, l.Addr.Is4()}
		known := slices.ContainsFunc(e.cfg.Pools, func(p Pool) bool { return p.Name == l.Pool && p.holds(l.Addr) })
		if known && t.byAddr[l.Addr] == nil && t.byOwner[owner] == nil {
			t.put(&lease{pool: l.Pool, owner: owner, addr: l.Addr, since: e.tick()})
		}
	}
}

// Leases are the addresses of our pools that peers have or had: first those of
// peers that are gone, in the order in which they left.
func (e *Engine) Leases() (all []Lease) {
	for _, l := range slices.SortedFunc(maps.Values(e.leases.byAddr), byAge) {
		all = append(all, Lease{l.pool, l.owner.local, l.owner.remote, l.addr, l.holder != nil})
	}
	return all
}

func byAge(a, b *lease) int {
	if (a.holder == nil) != (b.holder == nil) {
		if a.holder == nil {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.since, b.since)
}

func (t *leaseTable) put(l *lease) { t.byAddr[l.addr], t.byOwner[l.owner] = l, l }

func (t *leaseTable) forget(l *lease) {
	l.detach()
	delete(t.byAddr, l.addr)
	delete(t.byOwner, l.owner)
}

func (l *lease) detach() {
	if l.holder != nil {
		l.holder.leases = slices.DeleteFunc(l.holder.leases, func(x *lease) bool { return x == l })
		l.holder = nil
	}
}

// lease gives the peer of sa an address of its pools and the family: the one it
// had, the one it wishes for, one that nobody had, the one whose peer left
// first. Nil when there is none.
func (sa *ikeSA) lease(is4 bool, wish netip.Addr) (l *lease, of *Pool) {
	e := sa.e
	t, pools, owner := &e.leases, e.poolsOf(sa.peer, is4), sa.peer.leaseOwner(is4)
	l = t.byOwner[owner]
	if l != nil {
		if of = poolOf(pools, l.addr); of == nil {
			t.forget(l) // the configuration has changed
			l = nil
		}
	}
	if l == nil {
		addr := t.choose(pools, wish)
		if !addr.IsValid() {
			return nil, nil
		}
		if was := t.byAddr[addr]; was != nil {
			t.forget(was)
		}
		of = poolOf(pools, addr)
		l = &lease{owner: owner, addr: addr}
		t.put(l)
	}
	if l.holder != sa {
		l.detach() // from the SA that sa takes the place of
		l.holder, l.since = sa, e.tick()
		sa.leases = append(sa.leases, l)
	}
	l.pool = of.Name
	return l, of
}

func (t *leaseTable) choose(pools []*Pool, wish netip.Addr) netip.Addr {
	if poolOf(pools, wish) != nil && t.byAddr[wish] == nil {
		return wish
	}
	for _, p := range pools {
		if a := t.unused(p); a.IsValid() {
			return a
		}
	}
	return t.oldest(pools)
}

// unused walks a pool once in the life of the table.
func (t *leaseTable) unused(p *Pool) netip.Addr {
	key := [2]netip.Addr{p.First, p.Last}
	a, begun := t.fresh[key]
	if !begun {
		a = p.First
	}
	for p.holds(a) && t.byAddr[a] != nil {
		a = a.Next()
	}
	t.fresh[key] = a
	if !p.holds(a) {
		return netip.Addr{}
	}
	return a
}

// oldest is the address whose peer has been gone for longest.
func (t *leaseTable) oldest(pools []*Pool) netip.Addr {
	var least *lease
	for _, l := range t.byAddr {
		if l.holder == nil && (least == nil || l.since < least.since) && poolOf(pools, l.addr) != nil {
			least = l
		}
	}
	if least == nil {
		return netip.Addr{}
	}
	return least.addr
}

func (p *Pool) holds(a netip.Addr) bool {
	return a.BitLen() == p.First.BitLen() && p.First.Compare(a) <= 0 && a.Compare(p.Last) <= 0
}

// poolsOf are the pools of one family that a peer's addresses come from.
func (e *Engine) poolsOf(p *peer, is4 bool) (pools []*Pool) {
	for _, name := range p.Address.Pools {
		for i := range e.cfg.Pools {
			if pool := &e.cfg.Pools[i]; pool.Name == name && pool.First.Is4() == is4 {
				pools = append(pools, pool)
			}
		}
	}
	return pools
}

func poolOf(pools []*Pool, a netip.Addr) *Pool {
	for _, p := range pools {
		if p.holds(a) {
			return p
		}
	}
	return nil
}

// release leaves sa's leases to the peer's next SA.
func (t *leaseTable) release(sa *ikeSA) {
	for _, l := range sa.leases {
		if l.holder == sa {
			l.holder, l.since = nil, sa.e.tick()
		}
	}
	sa.leases = nil
}

// handOver gives the leases of an SA to the one that takes its place.
func (t *leaseTable) handOver(from, to *ikeSA) {
	for _, l := range from.leases {
		l.holder = to
	}
	to.leases, from.leases = from.leases, nil
}
