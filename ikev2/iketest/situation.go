package iketest

import (
	"net/netip"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// The addresses of the situation: A is public; B is behind a 1:1 NAT.
const (
	AddrA       = "203.0.113.1"
	AddrB       = "172.16.0.1"
	AddrBPublic = "192.0.2.10"
)

// Configs are both sides of the situation: B identifies itself as @foo, A by
// its address.
func Configs() (a, b ikev2.Config) {
	lanA := wire.SelectorFromPrefix(netip.MustParsePrefix("10.103.0.0/24"))
	lanB := wire.SelectorFromPrefix(netip.MustParsePrefix("10.104.0.0/24"))
	idA, idB := identity(AddrA), identity("@foo")
	a.Peers = []ikev2.Peer{{
		Name: "foo", LocalID: idA, RemoteID: idB, PSK: []byte("qwerty"),
		Children: []ikev2.Child{{Name: "lan", Local: []wire.Selector{lanA}, Remote: []wire.Selector{lanB}}},
	}}
	b.Peers = []ikev2.Peer{{
		Name: "office", LocalID: idB, RemoteID: idA, PSK: []byte("qwerty"),
		Children: []ikev2.Child{{Name: "lan", Local: []wire.Selector{lanB}, Remote: []wire.Selector{lanA}}},
	}}
	return a, b
}

func identity(s string) ikev2.Identity {
	id, err := ikev2.ParseIdentity(s)
	if err != nil {
		panic(err)
	}
	return id
}

// Situation is the network of the main job with both engines in it.
func Situation(a, b ikev2.Config) (n *Net, hostA, hostB *Host) {
	n = New()
	n.NAT[netip.MustParseAddr(AddrB)] = netip.MustParseAddr(AddrBPublic)
	return n, n.Add("A", AddrA, a, 1), n.Add("B", AddrB, b, 2)
}

// ToA is B's way to A.
var ToA = ikev2.Path{Local: netip.MustParseAddrPort(AddrB + ":500"), Remote: netip.MustParseAddrPort(AddrA + ":500")}
