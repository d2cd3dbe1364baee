package ikev2

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"culvert/ikev2/wire"
)

// The configuration payload (RFC 7296 sections 2.19 and 3.15, RFC 8598) makes a
// single host a peer, with an address of the network behind the other side:
//
//	client                                        server
//	IKE_AUTH  CP(CFG_REQUEST address, DNS)  --->  leases the address (lease.go)
//	          TSi = everything
//	AssignAddresses, then the child SA      <---  CP(CFG_REPLY address, DNS)
//	with no more than the address                 TSi = the address
//
// A client that got none asks again with each try for a child SA.

// Pool is a range of virtual addresses for peers (RFC 7296 section 2.19).
type Pool struct {
	Name string
	// First and Last bound the addresses, both included, of one family.
	First, Last netip.Addr
	// DNS and Domains are given with an address, Subnets are what the peer may
	// reach. Each goes to peers that ask for it.
	DNS     []netip.Addr
	Domains []string
	Subnets []netip.Prefix
}

// AddressPolicy is the configuration payload of one peer.
type AddressPolicy struct {
	// Pools are the names of the pools that the peer's addresses come from, one
	// of each family, the first pool first.
	Pools []string
	// Request4 and Request6 ask the peer for an address of that family.
	Request4, Request6 bool
}

func (a AddressPolicy) requests(is4 bool) bool { return is4 && a.Request4 || !is4 && a.Request6 }

// family is what the attributes of one address family are called.
type family struct {
	is4                  bool
	address, dns, subnet wire.AttributeType
	unspecified          netip.Addr
}

var families = []family{
	{true, wire.AttributeIP4Address, wire.AttributeIP4DNS, wire.AttributeIP4Subnet, netip.IPv4Unspecified()},
	{false, wire.AttributeIP6Address, wire.AttributeIP6DNS, wire.AttributeIP6Subnet, netip.IPv6Unspecified()},
}

// localTS is the traffic on our side that a child's policy allows now.
func (sa *ikeSA) localTS(cfg *Child) []wire.Selector {
	switch {
	case !cfg.LocalDynamic:
		return cfg.Local
	case !sa.peer.Address.requests(true) && !sa.peer.Address.requests(false):
		return withHosts(cfg.Local, sa.path.Local.Addr())
	}
	return withHosts(cfg.Local, sa.virtual...)
}

// remoteTS is the traffic on the peer's side that a child's policy allows now.
func (sa *ikeSA) remoteTS(cfg *Child) []wire.Selector {
	switch {
	case !cfg.RemoteDynamic:
		return cfg.Remote
	case len(sa.peer.Address.Pools) == 0:
		return withHosts(cfg.Remote, sa.path.Remote.Addr())
	}
	ss := cfg.Remote
	for _, l := range sa.leases {
		ss = withHosts(ss, l.addr)
	}
	return ss
}

// wantedTS is localTS, or as long as our address is not known, all that it may
// be (RFC 7296 section 2.19).
func (sa *ikeSA) wantedTS(cfg *Child) []wire.Selector {
	want := slices.Clip(sa.localTS(cfg))
	if !cfg.LocalDynamic || !sa.lacksAddress() {
		return want
	}
	for _, f := range families {
		if sa.peer.Address.requests(f.is4) {
			want = append(want, wire.SelectorFromPrefix(netip.PrefixFrom(f.unspecified, 0)))
		}
	}
	return want
}

func withHosts(ss []wire.Selector, hosts ...netip.Addr) []wire.Selector {
	ss = slices.Clip(ss)
	for _, a := range hosts {
		if a.IsValid() {
			ss = append(ss, wire.SelectorFromPrefix(hostPrefix(a)))
		}
	}
	return ss
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// lacksAddress: the peer is to assign us one and has not.
func (sa *ikeSA) lacksAddress() bool {
	a := sa.peer.Address
	return (a.requests(true) || a.requests(false)) && len(sa.virtual) == 0
}

// configTask asks for an address, if one is lacking.
type configTask struct{ asked bool }

func (t *configTask) request(sa *ikeSA, req *draft) error {
	if t.asked = sa.lacksAddress(); t.asked {
		req.add(&wire.Config{CFGType: wire.CFGRequest, Attributes: sa.peer.wishes()})
	}
	return nil
}

// wishes asks for the address that we had before, or for any, and what there is
// to know about the networks behind the peer.
func (p *peer) wishes() (as []wire.ConfigAttribute) {
	for _, f := range families {
		if !p.Address.requests(f.is4) {
			continue
		}
		address := wire.ConfigAttribute{Type: f.address}
		if had := p.had(f.is4); had.IsValid() {
			address = wire.AddrAttribute(f.address, had)
		}
		as = append(as, address, wire.ConfigAttribute{Type: f.dns}, wire.ConfigAttribute{Type: f.subnet})
	}
	return append(as, wire.ConfigAttribute{Type: wire.AttributeDNSDomain})
}

// had is the address of a family that the peer assigned us last.
func (p *peer) had(is4 bool) netip.Addr {
	i := slices.IndexFunc(p.virtual, func(a netip.Addr) bool { return a.Is4() == is4 })
	if i < 0 {
		return netip.Addr{}
	}
	return p.virtual[i]
}

// response takes the addresses. A peer that assigns none may ignore the payload,
// or say INTERNAL_ADDRESS_FAILURE; the IKE SA is up all the same (RFC 7296
// section 3.15.4).
func (t *configTask) response(sa *ikeSA, m *message) error {
	if sa.state != stateUp {
		return nil
	}
	reply, ok := wire.Find[*wire.Config](m.payloads)
	if ok && (!t.asked || reply.CFGType != wire.CFGReply) {
		sa.e.drop(dropConfiguration)
	}
	if !t.asked {
		return nil
	}
	given := AssignAddresses{Peer: sa.peer.Name}
	if ok && reply.CFGType == wire.CFGReply {
		for _, a := range reply.Attributes {
			if !sa.takeAttribute(&given, a) {
				sa.e.drop(dropConfiguration)
			}
		}
	}
	switch n := notifyOf(m.payloads); {
	case len(given.Addrs) > 0:
		sa.assigned(given)
	case n != wire.NotifyInvalidKEPayload: // after which all is asked again
		sa.report(Event{Kind: EventRefusedByPeer, Reason: ReasonNoAddress, Notify: n})
	}
	return nil
}

func (sa *ikeSA) assigned(given AssignAddresses) {
	for _, p := range given.Addrs {
		sa.virtual = append(sa.virtual, p.Addr())
	}
	sa.peer.virtual = sa.virtual
	sa.e.emit(given)
	sa.report(Event{Kind: EventAssigned, Addresses: slices.Clone(sa.virtual)})
}

func notifyOf(ps []wire.Payload) wire.NotifyType {
	if n := errorNotify(ps); n != nil {
		return n.NotifyType
	}
	return 0
}

// maxOfAKind bounds what a peer can have us remember of one kind.
const maxOfAKind = 32

// takeAttribute adds an attribute of a CFG_REPLY to what the peer gives us.
// False: it makes no sense. What is unknown, or not asked for, is passed over
// (RFC 7296 section 3.15.1).
func (sa *ikeSA) takeAttribute(given *AssignAddresses, a wire.ConfigAttribute) bool {
	switch a.Type {
	case wire.AttributeIP4Address, wire.AttributeIP6Address:
		addr, ok := a.Addr()
		if !ok || !sa.usable(addr, given.Addrs) {
			return false
		}
		given.Addrs = append(given.Addrs, hostPrefix(addr))
	case wire.AttributeIP4DNS, wire.AttributeIP6DNS:
		addr, ok := a.Addr()
		return ok && !addr.IsUnspecified() && addNew(&given.DNS, addr)
	case wire.AttributeIP4Subnet, wire.AttributeIP6Subnet:
		p, ok := a.Subnet()
		return ok && addNew(&given.Subnets, p)
	case wire.AttributeDNSDomain:
		return validDomain(string(a.Value)) && addNew(&given.Domains, string(a.Value))
	}
	return true
}

func addNew[T comparable](all *[]T, x T) bool {
	if len(*all) == maxOfAKind || slices.Contains(*all, x) {
		return false
	}
	*all = append(*all, x)
	return true
}

// usable: of a family that we asked for, the first of it, an address that a host
// may have, and that is not in use for something else here.
func (sa *ikeSA) usable(a netip.Addr, have []netip.Prefix) bool {
	second := slices.ContainsFunc(have, func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() })
	outer := a == sa.path.Local.Addr() || a == sa.path.Remote.Addr()
	taken := slices.ContainsFunc(sa.e.peers, func(p *peer) bool { return p.up != nil && p.up != sa && slices.Contains(p.up.virtual, a) })
	return sa.peer.Address.requests(a.Is4()) && !second && !outer && !taken && a.IsGlobalUnicast() && !a.Is4In6()
}

// validDomain: a name as DNS writes it, in letters, digits, hyphens, underscores
// and dots (RFC 8598 section 4.1). It may end up in other programs' commands.
func validDomain(s string) bool {
	other := func(r rune) bool {
		return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}
	return len(s) > 0 && len(s) <= 253 && s[0] != '-' && s[0] != '.' && !strings.Contains(s, "..") && !strings.ContainsFunc(s, other)
}

// returnAddresses ends what the SA was assigned, unless its successor has been
// assigned the same or others, and what it was leased.
func (sa *ikeSA) returnAddresses() {
	sa.e.leases.release(sa)
	had := len(sa.virtual) > 0
	sa.virtual = nil
	if had && (sa.peer.up == nil || len(sa.peer.up.virtual) == 0) {
		sa.e.emit(RemoveAddresses{sa.peer.Name})
	}
}

// configure answers a CFG_REQUEST, and says whether a child may follow: not
// where no address is left (RFC 7296 section 3.15.4). For a peer that has no
// pools the payload is ignored, as by a gateway that knows none.
func (sa *ikeSA) configure(req *message, resp *draft) bool {
	ask, ok := wire.Find[*wire.Config](req.payloads)
	if !ok {
		return true
	}
	if ask.CFGType != wire.CFGRequest || len(sa.peer.Address.Pools) == 0 {
		sa.e.drop(dropConfiguration)
		return true
	}
	g := grant{sa: sa, ask: ask, reply: wire.Config{CFGType: wire.CFGReply}}
	for _, f := range families {
		g.address(f)
	}
	switch {
	case len(g.leased) == 0 && g.wanted:
		resp.notify(wire.NotifyInternalAddressFailure, nil)
		return false
	case len(g.leased) > 0:
		sa.report(Event{Kind: EventLeased, Addresses: g.leased, Pools: g.pools})
	}
	resp.add(&g.reply)
	return true
}

// grant is the answer to a CFG_REQUEST as it grows.
type grant struct {
	sa     *ikeSA
	ask    *wire.Config
	reply  wire.Config
	wanted bool
	leased []netip.Addr
	pools  []string
}

// address grants an address of the family, if one is asked for.
func (g *grant) address(f family) {
	wish, asked := g.wish(f)
	if !asked {
		return
	}
	g.wanted = true
	l, pool := g.sa.lease(f.is4, wish)
	if l == nil {
		g.sa.report(Event{Kind: EventRefused, Reason: ReasonPoolExhausted, Notify: wire.NotifyInternalAddressFailure, Pools: g.sa.peer.Address.Pools})
		return
	}
	g.leased, g.pools = append(g.leased, l.addr), append(g.pools, pool.Name)
	g.add(wire.AddrAttribute(f.address, l.addr))
	if f.is4 && g.asks(wire.AttributeIP4Netmask) {
		g.add(wire.ConfigAttribute{Type: wire.AttributeIP4Netmask, Value: []byte{255, 255, 255, 255}})
	}
	g.describe(pool)
}

// describe adds what the peer asks about the networks behind us. Domains go only
// to a peer that asks for them, and with a name server (RFC 8598 section 3.2).
func (g *grant) describe(pool *Pool) {
	for _, a := range pool.DNS {
		for _, of := range families {
			if of.is4 == a.Is4() && g.asks(of.dns) {
				g.add(wire.AddrAttribute(of.dns, a))
			}
		}
	}
	for _, p := range pool.Subnets {
		for _, of := range families {
			if of.is4 == p.Addr().Is4() && g.asks(of.subnet) {
				g.add(wire.SubnetAttribute(p))
			}
		}
	}
	for _, d := range pool.Domains {
		if len(pool.DNS) > 0 && g.asks(wire.AttributeDNSDomain) {
			g.add(wire.ConfigAttribute{Type: wire.AttributeDNSDomain, Value: []byte(d)})
		}
	}
}

// add leaves out what the pool of the other family had already.
func (g *grant) add(a wire.ConfigAttribute) {
	same := func(b wire.ConfigAttribute) bool { return b.Type == a.Type && bytes.Equal(b.Value, a.Value) }
	if !slices.ContainsFunc(g.reply.Attributes, same) {
		g.reply.Attributes = append(g.reply.Attributes, a)
	}
}

func (g *grant) asks(t wire.AttributeType) bool {
	return slices.ContainsFunc(g.ask.Attributes, func(a wire.ConfigAttribute) bool { return a.Type == t })
}

// wish is the address of the family that the peer asks for; no address is any.
func (g *grant) wish(f family) (wish netip.Addr, asked bool) {
	for _, a := range g.ask.Attributes {
		if a.Type != f.address {
			continue
		}
		asked = true
		addr, ok := a.Addr()
		switch {
		case ok && !wish.IsValid():
			wish = addr
		case !ok && len(a.Value) > 0:
			g.sa.e.drop(dropConfiguration)
		}
	}
	return wish, asked
}

// mustAsk: a child of this peer is for a leased address, and it has none.
func (sa *ikeSA) mustAsk() bool {
	dynamic := func(c Child) bool { return c.RemoteDynamic }
	return len(sa.leases) == 0 && len(sa.peer.Address.Pools) > 0 && slices.ContainsFunc(sa.peer.Children, dynamic)
}
