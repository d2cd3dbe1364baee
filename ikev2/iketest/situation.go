package iketest

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

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

var natOfB = map[netip.Addr]netip.Addr{netip.MustParseAddr(AddrB): netip.MustParseAddr(AddrBPublic)}

// Situation is the network of the main job with both engines in it.
func Situation(a, b ikev2.Config) (n *Net, hostA, hostB *Host) {
	n = New()
	n.NAT = natOfB
	return n, n.Add("A", AddrA, a, 1), n.Add("B", AddrB, b, 2)
}

// ToA is B's way to A, and ToB the way back, which a 1:1 NAT lets through.
var (
	ToA = ikev2.Path{Local: netip.MustParseAddrPort(AddrB + ":500"), Remote: netip.MustParseAddrPort(AddrA + ":500")}
	ToB = ikev2.Path{Local: netip.MustParseAddrPort(AddrA + ":500"), Remote: netip.MustParseAddrPort(AddrBPublic + ":500")}
)

// WithChildren gives both sides one tunnel for each of the third octets, 10.x.0.0/24
// on A's side to 10.x.1.0/24 on B's.
func WithChildren(a, b *ikev2.Config, octets ...byte) {
	for _, c := range []*ikev2.Config{a, b} {
		c.Peers[0].Children = nil
	}
	for _, x := range octets {
		lanA := []wire.Selector{wire.SelectorFromPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, x, 0, 0}), 24))}
		lanB := []wire.Selector{wire.SelectorFromPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, x, 1, 0}), 24))}
		name := fmt.Sprintf("lan%d", x)
		a.Peers[0].Children = append(a.Peers[0].Children, ikev2.Child{Name: name, Local: lanA, Remote: lanB})
		b.Peers[0].Children = append(b.Peers[0].Children, ikev2.Child{Name: name, Local: lanB, Remote: lanA})
	}
}

// Agree says where two hosts do not have the same child SAs: the same number,
// each one's inbound half with the SPI, the keys, the suite and the selectors
// of the other's outbound half.
func Agree(a, b *Host) error {
	for _, n := range []int{len(a.Out), len(b.In), len(b.Out)} {
		if n != len(a.In) {
			return fmt.Errorf("%s has %d child SAs in and %d out, %s has %d and %d", a.Name, len(a.In), len(a.Out), b.Name, len(b.In), len(b.Out))
		}
	}
	if err := heard(a, b); err != nil {
		return err
	}
	return heard(b, a)
}

func heard(from, by *Host) error {
	for _, out := range from.Out {
		in, ok := by.In[out.OutboundSPI]
		if !ok {
			return fmt.Errorf("%s sends to SPI %08x, which %s does not have", from.Name, out.OutboundSPI, by.Name)
		}
		same := in.OutboundSPI == out.InboundSPI && in.Suite == out.Suite &&
			slices.Equal(in.Local, out.Remote) && slices.Equal(in.Remote, out.Local) &&
			bytes.Equal(in.Keys.Encr, out.Keys.Encr) && bytes.Equal(in.Keys.Integ, out.Keys.Integ)
		if !same {
			return fmt.Errorf("%s and %s see child SA %08x differently", from.Name, by.Name, out.OutboundSPI)
		}
	}
	return nil
}
