package iketest

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// pools are two addresses of each family.
func pools() []ikev2.Pool {
	return []ikev2.Pool{
		{Name: "four", First: addr("10.9.0.1"), Last: addr("10.9.0.2"), DNS: []netip.Addr{addr("10.103.0.53"), addr("fd00:103::53")},
			Domains: []string{"corp.example"}, Subnets: []netip.Prefix{netip.MustParsePrefix("10.103.0.0/24")}},
		{Name: "six", First: addr("fd00:9::1"), Last: addr("fd00:9::2"), Domains: []string{"corp.example"},
			DNS: []netip.Addr{addr("fd00:103::53")}, Subnets: []netip.Prefix{netip.MustParsePrefix("fd00:103::/64")}},
	}
}

var bothLANs = append(prefix("10.103.0.0/24"), prefix("fd00:103::/64")...)

// remoteAccess makes A a server that leases addresses, and B its client.
func remoteAccess(a, b *ikev2.Config) {
	a.Pools = pools()
	serve(&a.Peers[0])
	b.Peers[0].Address = ikev2.AddressPolicy{Request4: true, Request6: true}
	b.Peers[0].Children = []ikev2.Child{{Name: "net", LocalDynamic: true, Remote: bothLANs}}
}

func serve(p *ikev2.Peer) {
	p.Address = ikev2.AddressPolicy{Pools: []string{"four", "six"}}
	p.Children = []ikev2.Child{{Name: "net", Local: bothLANs, RemoteDynamic: true}}
}

// office is A with one peer for each name, and a client for each at an address
// of its own.
func office(change func(*ikev2.Config), names ...string) (n *Net, a *Host, clients []*Host) {
	n = New()
	cfgA, cfgB := Configs()
	remoteAccess(&cfgA, &cfgB)
	model := cfgA.Peers[0]
	cfgA.Peers = nil
	for i, name := range names {
		p := model
		p.Name, p.RemoteID = name, identity("@"+name)
		cfgA.Peers = append(cfgA.Peers, p)
		c := cfgB
		c.Peers = slices.Clone(cfgB.Peers)
		c.Peers[0].LocalID = p.RemoteID
		clients = append(clients, n.Add(name, clientAddr(i), c, uint64(10+i)))
	}
	if change != nil {
		change(&cfgA)
	}
	return n, n.Add("A", AddrA, cfgA, 1), clients
}

func clientAddr(i int) string { return fmt.Sprintf("192.0.2.%d", 10+i) }

func (n *Net) dial(c *Host, i int) {
	n.Command(c, ikev2.Connect{Peer: "office", Path: ikev2.Path{Local: netip.AddrPortFrom(addr(clientAddr(i)), 500), Remote: ToA.Remote}})
	n.Run(time.Second)
}

func (n *Net) hangUp(c *Host) {
	n.Command(c, ikev2.Disconnect{Peer: "office"})
	n.Run(time.Second)
}

// has are the addresses that a client was assigned.
func (h *Host) has() (as []string) {
	for _, p := range h.Assigned["office"].Addrs {
		as = append(as, p.String())
	}
	return as
}

func (h *Host) wants(t *testing.T, want ...string) {
	t.Helper()
	if got := h.has(); !slices.Equal(got, want) {
		t.Errorf("%s has %v, want %v", h.Name, got, want)
	}
}

// A client gets an address of each family, what there is to know of the network,
// and selectors for no more than its addresses.
func TestAddresses(t *testing.T) {
	n, a, clients := office(nil, "foo", "bar")
	foo, bar := clients[0], clients[1]
	n.dial(foo, 0)
	n.dial(bar, 1)
	foo.wants(t, "10.9.0.1/32", "fd00:9::1/128")
	bar.wants(t, "10.9.0.2/32", "fd00:9::2/128")
	got := foo.Assigned["office"]
	if !slices.Equal(got.DNS, []netip.Addr{addr("10.103.0.53"), addr("fd00:103::53")}) || !slices.Equal(got.Domains, []string{"corp.example"}) ||
		!slices.Equal(got.Subnets, []netip.Prefix{netip.MustParsePrefix("10.103.0.0/24"), netip.MustParsePrefix("fd00:103::/64")}) {
		t.Errorf("foo is told %+v", got)
	}
	for _, in := range a.In {
		own := append(prefix("10.9.0.1/32"), prefix("fd00:9::1/128")...)
		if in.Peer == "bar" {
			own = append(prefix("10.9.0.2/32"), prefix("fd00:9::2/128")...)
		}
		if !slices.Equal(in.Remote, own) || !slices.Equal(in.Local, bothLANs) {
			t.Errorf("%s may use %v to %v, want %v", in.Peer, in.Remote, in.Local, own)
		}
	}
	if len(a.In) != 2 {
		t.Errorf("%d child SAs", len(a.In))
	}
	for _, h := range clients {
		if err := heard(h, a); err != nil {
			t.Error(err)
		}
	}
	n.hangUp(foo)
	foo.wants(t)
	faultless(t, n)
}

// Who comes back gets what it had, as long as nobody else needs it.
func TestLeaseOutlivesConnection(t *testing.T) {
	for _, forgets := range []bool{false, true} {
		t.Run(fmt.Sprint("client restarts: ", forgets), func(t *testing.T) {
			n, _, clients := office(nil, "foo", "bar")
			foo, bar := clients[0], clients[1]
			n.dial(foo, 0)
			n.hangUp(foo)
			if forgets {
				n.Restart(foo, 99)
			}
			n.dial(bar, 1)
			bar.wants(t, "10.9.0.2/32", "fd00:9::2/128")
			n.dial(foo, 0)
			foo.wants(t, "10.9.0.1/32", "fd00:9::1/128")
			faultless(t, n)
		})
	}
}

// A client that crashes takes its own lease again, though its old SA is still
// there.
func TestLeaseOfCrashedClient(t *testing.T) {
	n, a, clients := office(nil, "foo", "bar")
	n.dial(clients[0], 0)
	n.Restart(clients[0], 99)
	n.dial(clients[0], 0)
	clients[0].wants(t, "10.9.0.1/32", "fd00:9::1/128")
	n.dial(clients[1], 1)
	clients[1].wants(t, "10.9.0.2/32", "fd00:9::2/128")
	if len(a.In) != 2 {
		t.Errorf("%d child SAs", len(a.In))
	}
	faultless(t, n)
}

// A connection made anew beside the old one takes the lease over, and the address
// stays the client's when the old one ends.
func TestAddressesMadeAnew(t *testing.T) {
	n, a, clients := office(nil, "foo")
	foo := clients[0]
	n.dial(foo, 0)
	n.Command(foo, ikev2.Connect{Peer: "office", Anew: true, Path: ikev2.Path{Local: netip.AddrPortFrom(addr(clientAddr(0)), 500), Remote: ToA.Remote}})
	n.Run(10 * time.Second)
	foo.wants(t, "10.9.0.1/32", "fd00:9::1/128")
	if foo.Has(ikev2.EventAssigned) != 2 || foo.Has(ikev2.EventDown) != 1 {
		t.Errorf("assigned %d times", foo.Has(ikev2.EventAssigned))
	}
	if l := a.Engine.Leases(); len(l) != 2 || !l[0].InUse || !l[1].InUse {
		t.Errorf("leases %+v", l)
	}
	if err := Agree(a, foo); err != nil || len(a.In) != 1 {
		t.Errorf("%d child SAs: %v", len(a.In), err)
	}
	n.hangUp(foo)
	foo.wants(t)
	faultless(t, n)
}

// When the pool is used up, who comes gets no child but keeps its IKE SA; as soon
// as somebody leaves, the address of who left first is given to who asks again.
func TestPoolExhausted(t *testing.T) {
	n, a, clients := office(nil, "one", "two", "three", "four")
	for i, c := range clients[:3] {
		n.dial(c, i)
	}
	one, two, three, four := clients[0], clients[1], clients[2], clients[3]
	three.wants(t)
	if e, _ := a.Last(ikev2.EventRefused); e.Reason != ikev2.ReasonPoolExhausted || e.Peer != "three" || !slices.Equal(e.Pools, []string{"four", "six"}) {
		t.Errorf("A says %+v", e)
	}
	if e, _ := three.Last(ikev2.EventRefusedByPeer); e.Reason != ikev2.ReasonNoAddress || e.Notify != wire.NotifyInternalAddressFailure {
		t.Errorf("three says %+v", e)
	}
	if ike, children := three.Engine.SAs(); ike != 1 || children != 0 {
		t.Errorf("three has %d IKE SAs and %d child SAs", ike, children)
	}
	n.hangUp(two)
	n.hangUp(one)
	n.Run(time.Minute) // for three to ask again
	three.wants(t, "10.9.0.2/32", "fd00:9::2/128")
	if three.Has(ikev2.EventEstablished) != 1 {
		t.Error("three made another IKE SA")
	}
	n.dial(four, 3)
	four.wants(t, "10.9.0.1/32", "fd00:9::1/128")
	if err := heard(three, a); err != nil {
		t.Error(err)
	}
	faultless(t, n)
}

// One family may run out alone.
func TestOneFamilyExhausted(t *testing.T) {
	n, a, clients := office(func(a *ikev2.Config) { a.Pools[1].Last = a.Pools[1].First }, "one", "two")
	n.dial(clients[0], 0)
	n.dial(clients[1], 1)
	clients[1].wants(t, "10.9.0.2/32")
	if e, _ := a.Last(ikev2.EventRefused); e.Reason != ikev2.ReasonPoolExhausted {
		t.Errorf("A says %+v", e)
	}
	if len(a.In) != 2 {
		t.Errorf("%d child SAs", len(a.In))
	}
	faultless(t, n)
}

// A server that has lost its leases gives a client the address that it asks for,
// unless it is somebody else's by then.
func TestRequestedAddress(t *testing.T) {
	n, a, clients := office(nil, "foo", "bar")
	foo, bar := clients[0], clients[1]
	n.dial(foo, 0)
	n.dial(bar, 1)
	n.hangUp(foo)
	n.hangUp(bar)
	n.Restart(a, 77)
	n.dial(bar, 1)
	bar.wants(t, "10.9.0.2/32", "fd00:9::2/128")
	n.hangUp(bar)
	n.Restart(a, 78)
	n.Restart(bar, 79) // asks for any address now
	n.dial(bar, 1)
	bar.wants(t, "10.9.0.1/32", "fd00:9::1/128")
	n.dial(foo, 0) // asks for bar's
	foo.wants(t, "10.9.0.2/32", "fd00:9::2/128")
	faultless(t, n)
}

// Leases written down by one engine are those of the next.
func TestLeasesSurviveRestart(t *testing.T) {
	n, a, clients := office(nil, "one", "two", "three")
	n.dial(clients[1], 1)
	n.dial(clients[0], 0)
	leases := a.Engine.Leases()
	if len(leases) != 4 || !leases[0].InUse || leases[0].RemoteID != identity("@two") || leases[0].Pool != "four" || leases[0].Addr != addr("10.9.0.1") {
		t.Fatalf("leases %+v", leases)
	}
	n.hangUp(clients[0])
	n.hangUp(clients[1])
	leases = a.Engine.Leases()
	if len(leases) != 4 || leases[0].InUse || leases[0].RemoteID != identity("@one") {
		t.Fatalf("leases %+v", leases)
	}
	outside, second := leases[0], leases[1]
	outside.Addr = addr("10.8.0.1")
	second.Addr = leases[0].Addr // the same one twice
	a.cfg.Leases = append(leases, outside, second)
	n.Restart(a, 5)
	if got := a.Engine.Leases(); !slices.Equal(got, leases) {
		t.Errorf("leases %+v, want %+v", got, leases)
	}
	n.dial(clients[2], 2) // one left first
	clients[2].wants(t, "10.9.0.2/32", "fd00:9::2/128")
	n.dial(clients[1], 1)
	clients[1].wants(t, "10.9.0.1/32", "fd00:9::1/128")
	faultless(t, n)
}

// New keys, of child or IKE SA and from either side, change no address.
func TestRekeyKeepsAddresses(t *testing.T) {
	n, a, clients := office(nil, "foo")
	foo := clients[0]
	n.dial(foo, 0)
	for range 3 {
		for _, h := range []*Host{a, foo} {
			n.rekey(h, theChild)
			n.Run(20 * time.Second)
			n.rekey(h, theIKE)
			n.Run(20 * time.Second)
		}
	}
	foo.wants(t, "10.9.0.1/32", "fd00:9::1/128")
	if foo.Has(ikev2.EventAssigned) != 1 || a.Has(ikev2.EventLeased) != 1 {
		t.Error("the address was assigned again")
	}
	if err := Agree(a, foo); err != nil || len(a.In) != 1 {
		t.Errorf("%d child SAs: %v", len(a.In), err)
	}
	n.hangUp(foo)
	foo.wants(t)
	if l := a.Engine.Leases(); len(l) != 2 || l[0].InUse || l[1].InUse {
		t.Errorf("leases %+v", l)
	}
	faultless(t, n)
}

// A client that has to ask and does not is told so; its IKE SA stays (RFC 7296
// section 3.10.1).
func TestAddressNotAsked(t *testing.T) {
	cfgA, cfgB := Configs()
	remoteAccess(&cfgA, &cfgB)
	cfgB.Peers[0].Address = ikev2.AddressPolicy{}
	cfgB.Peers[0].Children[0].LocalDynamic = false
	cfgB.Peers[0].Children[0].Local = prefix("10.9.0.1/32")
	n, a, b := Situation(cfgA, cfgB)
	connectFor(time.Second)(n, a, b)
	if e, _ := a.Last(ikev2.EventRefused); e.Reason != ikev2.ReasonAddressNotAsked || e.Notify != wire.NotifyFailedCPRequired {
		t.Errorf("A says %+v", e)
	}
	if e, _ := b.Last(ikev2.EventRefusedByPeer); e.Reason != ikev2.ReasonAddressRequired {
		t.Errorf("B says %+v", e)
	}
	if ike, children := a.Engine.SAs(); ike != 1 || children != 0 {
		t.Errorf("A has %d IKE SAs and %d child SAs", ike, children)
	}
	faultless(t, n)
}

// A peer that has no pools passes the request over. The client has no address,
// says so and asks again.
func TestNoPools(t *testing.T) {
	cfgA, cfgB := Configs()
	remoteAccess(&cfgA, &cfgB)
	cfgA.Peers[0].Address = ikev2.AddressPolicy{}
	cfgA.Peers[0].Children[0] = ikev2.Child{Name: "net", Local: bothLANs, Remote: prefix("0.0.0.0/0")}
	n, a, b := Situation(cfgA, cfgB)
	connectFor(3*time.Minute)(n, a, b)
	e, _ := b.Last(ikev2.EventRefusedByPeer)
	if e.Reason != ikev2.ReasonNoAddress || e.Notify != 0 || b.Has(ikev2.EventRefusedByPeer) < 3 {
		t.Errorf("B says %+v", e)
	}
	if len(b.In)+len(a.Out) != 0 || b.Has(ikev2.EventEstablished) != 1 || a.Engine.Drops()["ike_configuration"] == 0 {
		t.Errorf("%d and %d child SAs, drops %v", len(b.In), len(a.Out), a.Engine.Drops())
	}
	faultless(t, n)
}

// A packet wants the network behind the server before the client has an address,
// so that it cannot carry that.
func TestPacketWantsAddress(t *testing.T) {
	n, a, clients := office(nil, "foo")
	foo := clients[0]
	foo.cfg.Peers[0].Children[0].Start = ikev2.StartTraffic
	n.Restart(foo, 4)
	one := func(s string) wire.Selector { return prefix(s)[0] }
	n.Command(foo, ikev2.Acquire{Peer: "office", Child: "net", Local: one("192.0.2.10/32"), Remote: one("10.103.0.10/32")})
	n.Command(foo, ikev2.Connect{Peer: "office", Once: true, Path: ikev2.Path{Local: netip.AddrPortFrom(addr("192.0.2.10"), 500), Remote: ToA.Remote}})
	n.Run(10 * time.Second)
	foo.wants(t, "10.9.0.1/32", "fd00:9::1/128")
	if err := Agree(a, foo); err != nil || len(a.In) != 1 {
		t.Errorf("%d child SAs: %v", len(a.In), err)
	}
	faultless(t, n)
}

// A server has no address to give a client that it calls itself: it asks for no
// child SA, and the client, which has to ask, may on its own.
func TestServerCalls(t *testing.T) {
	cfgA, cfgB := Configs()
	remoteAccess(&cfgA, &cfgB)
	cfgA.Peers[0].Children = append(cfgA.Peers[0].Children, ikev2.Child{Name: "lan", Local: lanA, Remote: lanB})
	cfgB.Peers[0].Children = append(cfgB.Peers[0].Children, ikev2.Child{Name: "lan", Local: lanB, Remote: lanA})
	n, a, b := Situation(cfgA, cfgB)
	n.Command(a, ikev2.Connect{Peer: "foo", Path: ToB})
	n.Run(time.Minute)
	if err := Agree(a, b); err != nil || len(a.In) != 1 || a.Has(ikev2.EventRefusedByPeer)+b.Has(ikev2.EventRefused) > 0 {
		t.Errorf("%d child SAs: %v", len(a.In), err)
	}
	n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
	n.Run(time.Minute)
	if err := Agree(a, b); err != nil {
		t.Error(err)
	}
	faultless(t, n)
}

// TestRandomAddresses throws loss, duplication, delay and commands at a server
// of addresses and its client, and then leaves them alone: the client has its
// addresses, and both have the child SA for them.
func TestRandomAddresses(t *testing.T) {
	for seed := uint64(1); seed <= *schedules/10; seed++ {
		cfgA, cfgB := Configs()
		remoteAccess(&cfgA, &cfgB)
		if seed%2 == 0 {
			cfgA.Resume.Key, cfgB.Resume.Key = keyA, keyB
		}
		s := &schedule{script: newScript(seed), n: New(), atB: addr(AddrB)}
		s.n.NAT = natOfB
		s.a, s.b = s.n.Add("A", AddrA, cfgA, 2*seed), s.n.Add("B", AddrB, cfgB, 2*seed+1)
		s.n.Link = s.link(s.fraction()*0.6, s.fraction()*0.5, 4*time.Second)
		s.connect(s.b)
		for range s.rng.IntN(16) {
			s.disturbAddresses()
			s.pause()
		}
		s.n.Link = nil
		s.n.Command(s.a, ikev2.Disconnect{Peer: "foo"})
		s.n.Run(4 * time.Minute)
		s.connect(s.b)
		s.n.Run(2 * time.Minute)
		if err := Agree(s.a, s.b); err != nil || len(s.a.In) != 1 || len(s.b.has()) != 2 {
			s.fail("%d child SAs, addresses %v: %v", len(s.a.In), s.b.has(), err)
		}
		s.part()
		if held := slices.ContainsFunc(s.a.Engine.Leases(), func(l ikev2.Lease) bool { return l.InUse }); held || len(s.b.has()) > 0 {
			s.fail("an address is in use by nobody")
		}
		if len(s.n.Faults) > 0 {
			s.fail("%q", s.n.Faults)
		}
		if s.failure != "" {
			t.Fatalf("seed %d: %s\n%s", seed, s.failure, s.n.Transcript())
		}
	}
}

func (s *schedule) disturbAddresses() {
	h := []*Host{s.a, s.b}[s.rng.IntN(2)]
	switch s.rng.IntN(8) {
	case 0:
		s.n.Command(h, ikev2.Disconnect{Peer: h.cfg.Peers[0].Name})
	case 1:
		s.n.Restart(h, s.rng.Uint64())
	case 2, 3:
		for _, spi := range slices.Sorted(maps.Keys(h.Out)) {
			s.n.Command(h, ikev2.Rekey{SPI: spi})
		}
	case 4, 5:
		s.n.Command(h, ikev2.RekeyIKE{Peer: h.cfg.Peers[0].Name})
	default:
		s.connect(h)
	}
}

// "dynamic" without configuration payload is the end of the IKE SA.
func TestDynamicWithoutPools(t *testing.T) {
	cfgA, cfgB := Configs()
	cfgA.Peers[0].Children[0] = ikev2.Child{Name: "host", LocalDynamic: true, RemoteDynamic: true}
	cfgB.Peers[0].Children[0] = ikev2.Child{Name: "host", LocalDynamic: true, RemoteDynamic: true}
	n := New()
	a, b := n.Add("A", AddrA, cfgA, 1), n.Add("B", "192.0.2.10", cfgB, 2)
	n.dial(b, 0)
	for _, in := range a.In {
		if !slices.Equal(in.Local, prefix(AddrA+"/32")) || !slices.Equal(in.Remote, prefix("192.0.2.10/32")) {
			t.Errorf("selectors %v <-> %v", in.Local, in.Remote)
		}
	}
	if err := Agree(a, b); err != nil || len(a.In) != 1 {
		t.Errorf("%d child SAs: %v", len(a.In), err)
	}
	faultless(t, n)
}

// client is a puppet towards a server of addresses.
func addressClient(t testing.TB) *puppet {
	p := newPuppet(t, true, serve)
	p.engine = nil
	cfg, _ := Configs()
	serve(&cfg.Peers[0])
	cfg.Pools = pools()
	p.engine = ikev2.New(cfg, Random(7))
	p.hello()
	return p
}

// asks sends IKE_AUTH with a CFG_REQUEST and returns the answer's payloads.
func (p *puppet) asks(cp *wire.Config) []wire.Payload {
	p.t.Helper()
	id := idPayload("@foo", false)
	everything := append(prefix("0.0.0.0/0"), prefix("::/0")...)
	sent := p.send(p.request(wire.ExchangeIKEAuth, id, p.sign("qwerty", id), cp, p.espSA(0xabcd0001),
		&wire.TS{Selectors: everything}, &wire.TS{Responder: true, Selectors: everything}))
	if len(sent) != 1 {
		p.t.Fatalf("%d answers", len(sent))
	}
	_, ps := p.open(sent[0])
	return ps
}

func attribute(t wire.AttributeType, value ...byte) wire.ConfigAttribute {
	return wire.ConfigAttribute{Type: t, Value: value}
}

// What a client asks for is what it gets, whatever else is in its request.
func TestOddRequests(t *testing.T) {
	address4, address6 := attribute(wire.AttributeIP4Address), attribute(wire.AttributeIP6Address)
	first4 := attribute(wire.AttributeIP4Address, 10, 9, 0, 1)
	many := slices.Repeat([]wire.ConfigAttribute{attribute(28672, 1, 2, 3), address4}, 127)
	for _, c := range []struct {
		name    string
		kind    wire.CFGType
		ask     []wire.ConfigAttribute
		want    []wire.ConfigAttribute
		dropped bool
	}{
		{"an address", wire.CFGRequest, []wire.ConfigAttribute{address4}, []wire.ConfigAttribute{first4}, false},
		{"with a netmask", wire.CFGRequest, []wire.ConfigAttribute{address4, attribute(wire.AttributeIP4Netmask)},
			[]wire.ConfigAttribute{first4, attribute(wire.AttributeIP4Netmask, 255, 255, 255, 255)}, false},
		{"unknown and UNITY attributes", wire.CFGRequest, many, []wire.ConfigAttribute{first4}, false},
		{"a certain one", wire.CFGRequest, []wire.ConfigAttribute{attribute(wire.AttributeIP4Address, 10, 9, 0, 2)},
			[]wire.ConfigAttribute{attribute(wire.AttributeIP4Address, 10, 9, 0, 2)}, false},
		{"one of another network", wire.CFGRequest, []wire.ConfigAttribute{attribute(wire.AttributeIP4Address, 10, 103, 0, 1)}, []wire.ConfigAttribute{first4}, false},
		{"0.0.0.0", wire.CFGRequest, []wire.ConfigAttribute{attribute(wire.AttributeIP4Address, 0, 0, 0, 0)}, []wire.ConfigAttribute{first4}, false},
		{"one of three octets", wire.CFGRequest, []wire.ConfigAttribute{attribute(wire.AttributeIP4Address, 10, 9, 0)}, []wire.ConfigAttribute{first4}, true},
		{"IPv6 of 16 octets", wire.CFGRequest, []wire.ConfigAttribute{attribute(wire.AttributeIP6Address, addr("fd00:9::2").AsSlice()...)},
			[]wire.ConfigAttribute{wire.AddrAttribute(wire.AttributeIP6Address, addr("fd00:9::1"))}, true},
		{"IPv6", wire.CFGRequest, []wire.ConfigAttribute{address6, attribute(wire.AttributeIP6DNS)},
			[]wire.ConfigAttribute{wire.AddrAttribute(wire.AttributeIP6Address, addr("fd00:9::1")), wire.AddrAttribute(wire.AttributeIP6DNS, addr("fd00:103::53"))}, false},
		{"CFG_SET", wire.CFGSet, []wire.ConfigAttribute{address4}, nil, true},
		{"CFG_REPLY", wire.CFGReply, []wire.ConfigAttribute{first4}, nil, true},
		{"nothing", wire.CFGRequest, nil, []wire.ConfigAttribute{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := addressClient(t)
			ps := p.asks(&wire.Config{CFGType: c.kind, Attributes: c.ask})
			reply, ok := wire.Find[*wire.Config](ps)
			same := func(a, b wire.ConfigAttribute) bool { return a.Type == b.Type && bytes.Equal(a.Value, b.Value) }
			switch {
			case ok != (c.want != nil):
				t.Fatalf("answer holds %s", names(ps))
			case ok && (reply.CFGType != wire.CFGReply || !slices.EqualFunc(reply.Attributes, c.want, same)):
				t.Errorf("%v %v, want %v", reply.CFGType, reply.Attributes, c.want)
			}
			if (p.engine.Drops()["ike_configuration"] > 0) != c.dropped {
				t.Errorf("drops %v", p.engine.Drops())
			}
			if n := errorNotifyOf(ps); len(c.want) == 0 != (n == wire.NotifyFailedCPRequired) {
				t.Errorf("answer says %v", n)
			}
			if !p.has(ikev2.EventEstablished) {
				t.Error("the IKE SA is not up")
			}
		})
	}
}

func errorNotifyOf(ps []wire.Payload) wire.NotifyType {
	for _, p := range ps {
		if n, ok := p.(*wire.Notify); ok && n.NotifyType.IsError() {
			return n.NotifyType
		}
	}
	return 0
}

// addressServer is a puppet that an engine with a dynamic child calls.
func addressServer(t testing.TB, policy ikev2.AddressPolicy) *puppet {
	p := newPuppet(t, false, func(b *ikev2.Peer) {
		b.Address = policy
		b.Children = []ikev2.Child{{Name: "net", LocalDynamic: policy.Request4 || policy.Request6, Local: nil, Remote: bothLANs}}
		if !b.Children[0].LocalDynamic {
			b.Children[0].Local = lanB
		}
	})
	p.greet()
	return p
}

// grants answers IKE_AUTH with a configuration payload and a child for tsi.
func (p *puppet) grants(cp *wire.Config, tsi []wire.Selector) {
	p.t.Helper()
	id := idPayload(AddrA, true)
	p.deliver(p.path, p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, id, p.sign("qwerty", id), cp, p.espSA(0xabcd0001),
		&wire.TS{Selectors: tsi}, &wire.TS{Responder: true, Selectors: bothLANs}))
}

// Nothing that a server says about addresses is believed that does not make
// sense; the IKE SA stays up.
func TestOddReplies(t *testing.T) {
	four, both := ikev2.AddressPolicy{Request4: true}, ikev2.AddressPolicy{Request4: true, Request6: true}
	good4 := attribute(wire.AttributeIP4Address, 10, 9, 0, 1)
	good6 := wire.AddrAttribute(wire.AttributeIP6Address, addr("fd00:9::1"))
	ip4 := func(s string) wire.ConfigAttribute { return wire.AddrAttribute(wire.AttributeIP4Address, addr(s)) }
	ip6 := func(s string) wire.ConfigAttribute { return wire.AddrAttribute(wire.AttributeIP6Address, addr(s)) }
	for _, c := range []struct {
		name   string
		policy ikev2.AddressPolicy
		kind   wire.CFGType
		as     []wire.ConfigAttribute
		want   string
		drops  uint64
	}{
		{"good", both, wire.CFGReply, []wire.ConfigAttribute{good4, good6}, "[10.9.0.1/32 fd00:9::1/128]", 0},
		{"not asked", ikev2.AddressPolicy{}, wire.CFGReply, []wire.ConfigAttribute{good4}, "[]", 1},
		{"CFG_REQUEST", four, wire.CFGRequest, []wire.ConfigAttribute{good4}, "[]", 1},
		{"CFG_SET", four, wire.CFGSet, []wire.ConfigAttribute{good4}, "[]", 1},
		{"family not asked for", four, wire.CFGReply, []wire.ConfigAttribute{good6, good4}, "[10.9.0.1/32]", 1},
		{"only the family not asked for", four, wire.CFGReply, []wire.ConfigAttribute{good6}, "[]", 1},
		{"two", four, wire.CFGReply, []wire.ConfigAttribute{good4, ip4("10.9.0.2")}, "[10.9.0.1/32]", 1},
		{"none", four, wire.CFGReply, nil, "[]", 0},
		{"empty value", four, wire.CFGReply, []wire.ConfigAttribute{attribute(wire.AttributeIP4Address)}, "[]", 1},
		{"three octets", four, wire.CFGReply, []wire.ConfigAttribute{attribute(wire.AttributeIP4Address, 10, 9, 0)}, "[]", 1},
		{"0.0.0.0", four, wire.CFGReply, []wire.ConfigAttribute{ip4("0.0.0.0")}, "[]", 1},
		{"loopback", four, wire.CFGReply, []wire.ConfigAttribute{ip4("127.0.0.1")}, "[]", 1},
		{"multicast", four, wire.CFGReply, []wire.ConfigAttribute{ip4("224.0.0.5")}, "[]", 1},
		{"broadcast", four, wire.CFGReply, []wire.ConfigAttribute{ip4("255.255.255.255")}, "[]", 1},
		{"link-local", both, wire.CFGReply, []wire.ConfigAttribute{ip4("169.254.1.1"), ip6("fe80::1")}, "[]", 2},
		{"mapped", both, wire.CFGReply, []wire.ConfigAttribute{ip6("::ffff:10.9.0.1")}, "[]", 1},
		{"ours", four, wire.CFGReply, []wire.ConfigAttribute{ip4(AddrB)}, "[]", 1},
		{"the peer's own", four, wire.CFGReply, []wire.ConfigAttribute{ip4(AddrA)}, "[]", 1},
		{"unknown attributes", four, wire.CFGReply, []wire.ConfigAttribute{attribute(28674, 1), attribute(wire.AttributeDNSSECTA, 1), attribute(7, 'x'), good4}, "[10.9.0.1/32]", 0},
		{"bad DNS", four, wire.CFGReply, []wire.ConfigAttribute{good4, attribute(wire.AttributeIP4DNS, 1), attribute(wire.AttributeIP6DNS, 1, 2), attribute(wire.AttributeIP4DNS, 0, 0, 0, 0)}, "[10.9.0.1/32]", 3},
		{"bad subnets", four, wire.CFGReply, []wire.ConfigAttribute{good4, attribute(wire.AttributeIP4Subnet, 10, 0, 0, 0), attribute(wire.AttributeIP4Subnet, 10, 0, 0, 0, 255, 0, 255, 0),
			attribute(wire.AttributeIP6Subnet, append(addr("fd00::").AsSlice(), 129)...)}, "[10.9.0.1/32]", 3},
		{"bad domains", four, wire.CFGReply, []wire.ConfigAttribute{good4, attribute(wire.AttributeDNSDomain), attribute(wire.AttributeDNSDomain, []byte("a; rm -rf /")...),
			attribute(wire.AttributeDNSDomain, []byte("-a")...), attribute(wire.AttributeDNSDomain, 0xff)}, "[10.9.0.1/32]", 4},
		{"more than anybody needs", four, wire.CFGReply, append(manyDNS(254), good4), "[10.9.0.1/32]", 254 - 32},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := addressServer(t, c.policy)
			tsi := prefix("10.9.0.1/32")
			if c.policy.Request6 {
				tsi = append(tsi, prefix("fd00:9::1/128")...)
			}
			asked := c.policy.Request4 || c.policy.Request6
			if !asked {
				tsi = lanB
			}
			p.grants(&wire.Config{CFGType: c.kind, Attributes: c.as}, tsi)
			if got := fmt.Sprint(p.assigned.Addrs); got != c.want {
				t.Errorf("assigned %v, want %v", got, c.want)
			}
			if got := p.engine.Drops()["ike_configuration"]; got != c.drops {
				t.Errorf("%d dropped, want %d", got, c.drops)
			}
			up := c.want != "[]" || !asked
			if (len(p.installed) == 1) != up || !p.has(ikev2.EventEstablished) || p.has(ikev2.EventDown) {
				t.Errorf("%d child SAs: %v", len(p.installed), p.events)
			}
			if e, ok := p.last(ikev2.EventRefusedByPeer); ok == up || ok && e.Reason != ikev2.ReasonNoAddress {
				t.Errorf("reported as %v", e.Reason)
			}
		})
	}
}

func manyDNS(n int) (as []wire.ConfigAttribute) {
	for i := range n {
		as = append(as, attribute(wire.AttributeIP4DNS, 10, 1, byte(i), 1))
	}
	return as
}

// A server that grants more than the address is not let have it.
func TestGrantedTooMuch(t *testing.T) {
	p := addressServer(t, ikev2.AddressPolicy{Request4: true})
	p.grants(&wire.Config{CFGType: wire.CFGReply, Attributes: []wire.ConfigAttribute{attribute(wire.AttributeIP4Address, 10, 9, 0, 1)}}, prefix("0.0.0.0/0"))
	if e, _ := p.last(ikev2.EventRefusedByPeer); e.Reason != ikev2.ReasonSelectors || len(p.installed) > 0 {
		t.Errorf("%d child SAs, reported as %v", len(p.installed), e.Reason)
	}
}

// FuzzConfigReply gives a client any configuration payload. It may take
// addresses of the family that it wants, and no more than the bounds.
func FuzzConfigReply(f *testing.F) {
	body := func(as ...wire.ConfigAttribute) []byte {
		_, b := wire.AppendPayloads(nil, []wire.Payload{&wire.Config{CFGType: wire.CFGReply, Attributes: as}})
		return b[4:]
	}
	f.Add(body(attribute(wire.AttributeIP4Address, 10, 9, 0, 1), attribute(wire.AttributeIP4DNS, 10, 9, 0, 3)))
	f.Add(body(wire.AddrAttribute(wire.AttributeIP6Address, addr("fd00:9::1")), wire.SubnetAttribute(netip.MustParsePrefix("fd00::/16"))))
	f.Add(body(wire.SubnetAttribute(netip.MustParsePrefix("10.0.0.0/8")), attribute(wire.AttributeDNSDomain, []byte("corp.example")...)))
	f.Add(body(manyDNS(255)...))
	f.Add(body(attribute(wire.AttributeIP4Address), attribute(28673, 1)))
	f.Add([]byte{2, 0, 0, 0, 0x80, 1, 0, 4, 10, 9, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 50000 {
			return
		}
		p := addressServer(t, ikev2.AddressPolicy{Request4: true})
		id := idPayload(AddrA, true)
		_, inner := wire.AppendPayloads(nil, []wire.Payload{p.sign("qwerty", id), p.espSA(0xabcd0001),
			&wire.TS{Selectors: prefix("10.9.0.1/32")}, &wire.TS{Responder: true, Selectors: bothLANs}})
		// IDr and CP come first, CP as it is.
		idr := id.Body()
		head := append([]byte{byte(wire.PayloadCP), 0, 0, byte(4 + len(idr))}, idr...)
		cp := append([]byte{byte(wire.PayloadAuth), 0, byte((4 + len(b)) >> 8), byte(4 + len(b))}, b...)
		inner = slices.Concat(head, cp, inner)
		p.deliver(p.path, p.sealBytes(wire.ExchangeIKEAuth, wire.FlagResponse, 1, wire.PayloadIDr, inner))
		got := p.assigned
		if len(got.Addrs) > 1 || len(got.DNS) > 32 || len(got.Subnets) > 32 || len(got.Domains) > 32 {
			t.Fatalf("assigned %+v", got)
		}
		for _, a := range got.Addrs {
			if !a.Addr().Is4() || !a.IsSingleIP() || !a.Addr().IsGlobalUnicast() {
				t.Fatalf("assigned %v", a)
			}
		}
		if len(p.installed) > 0 && (len(got.Addrs) != 1 || got.Addrs[0] != netip.MustParsePrefix("10.9.0.1/32")) {
			t.Fatalf("a child SA with address %v", got.Addrs)
		}
	})
}
