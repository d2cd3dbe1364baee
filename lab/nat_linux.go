package lab

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tableName is that of the one table, an address family, of a host's rules.
const tableName = "lab"

// family says where an address family keeps what the rules match and rewrite.
type family struct {
	table    nftables.TableFamily
	nfproto  uint32
	src, dst uint32 // offsets in the IP header
	length   uint32
}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return family{nftables.TableFamilyIPv4, unix.NFPROTO_IPV4, 12, 16, 4}
	}
	return family{nftables.TableFamilyIPv6, unix.NFPROTO_IPV6, 8, 24, 16}
}

// chain is what a chain is made of; rules are added to it by transaction.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
}

var (
	prerouting  = chain{"prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest}
	postrouting = chain{"postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource}
	forward     = chain{"forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter}
)

// rule is one rule and the chain that it ends.
type rule struct {
	family nftables.TableFamily
	chain  chain
	exprs  []expr.Any
}

// addRules adds them in one transaction. Tables and chains that exist are kept.
func (h *Host) addRules(rules ...rule) error {
	return h.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return fmt.Errorf("lab: nftables on %s: %w", h.Name, err)
		}
		for _, r := range rules {
			table := conn.AddTable(&nftables.Table{Family: r.family, Name: tableName})
			c := conn.AddChain(&nftables.Chain{
				Table: table, Name: r.chain.name, Type: r.chain.kind, Hooknum: r.chain.hook, Priority: r.chain.priority,
			})
			conn.AddRule(&nftables.Rule{Table: table, Chain: c, Exprs: r.exprs})
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("lab: nftables on %s: %w", h.Name, err)
		}
		return nil
	})
}

// NAT1to1 makes the host translate one public address to one private address and
// back, ports untouched, for whatever passes it. The host has the public address
// on lo: it answers ARP for it, but IPv6 neighbours need a route.
func (h *Host) NAT1to1(public, private netip.Addr) error {
	err := h.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(public, public.BitLen())), Flags: unix.IFA_F_NODAD})
	})
	if err != nil {
		return fmt.Errorf("lab: give %s the address %s: %w", h.Name, public, err)
	}
	f := familyOf(public)
	return h.addRules(
		rule{f.table, prerouting, append(f.match(f.dst, public), f.translate(expr.NATTypeDestNAT, private)...)},
		rule{f.table, postrouting, append(f.match(f.src, private), f.translate(expr.NATTypeSourceNAT, public)...)},
	)
}

// match: the address at that offset of the IP header is this one.
func (f family) match(offset uint32, a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
	}
}

func (f family) translate(kind expr.NATType, to netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.NAT{Type: kind, Family: f.nfproto, RegAddrMin: 1},
	}
}

// PortMapping is how a masquerading NAT chooses the source port it shows.
type PortMapping int

const (
	KeepPort   PortMapping = iota // the sender's own where it is free
	RandomPort                    // another for each destination, as symmetric NATs do
)

// Masquerade makes the host show its own address for everything IPv4 that leaves
// through the interface out, as a home router does.
func (h *Host) Masquerade(out string, ports PortMapping) error {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, out)
	return h.addRules(rule{nftables.TableFamilyIPv4, postrouting, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
		&expr.Masq{Random: ports == RandomPort, FullyRandom: ports == RandomPort},
	}})
}

// DropForward makes the host drop whatever it would forward from or to one of
// the prefixes.
func (h *Host) DropForward(prefixes ...netip.Prefix) error {
	var rules []rule
	for _, p := range prefixes {
		f := familyOf(p.Addr())
		rules = append(rules,
			rule{f.table, forward, append(f.within(f.src, p), &expr.Verdict{Kind: expr.VerdictDrop})},
			rule{f.table, forward, append(f.within(f.dst, p), &expr.Verdict{Kind: expr.VerdictDrop})},
		)
	}
	return h.addRules(rules...)
}

// within: the address at that offset of the IP header lies in the prefix.
func (f family) within(offset uint32, p netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.length, Mask: ipNet(p).Mask, Xor: make([]byte, f.length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// DropUDP makes the host drop forwarded UDP to that destination port, as networks
// do that block IPsec.
func (h *Host) DropUDP(port uint16) error {
	return h.addRules(rule{nftables.TableFamilyIPv4, forward, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
}

// DropLong makes the host drop forwarded IPv4 packets of more than so many bytes
// and say nothing, as paths do whose tunnels hide.
func (h *Host) DropLong(bytes uint16) error {
	return h.addRules(rule{nftables.TableFamilyIPv4, forward, []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpGt, Register: 1, Data: binaryutil.BigEndian.PutUint16(bytes)},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
}

// ForgetNAT empties the host's connection table, as a NAT does that restarts:
// mappings that peers rely on may come back with other ports.
func (h *Host) ForgetNAT() error {
	return h.Do(func() error {
		if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
			return fmt.Errorf("lab: flush the connection table of %s: %w", h.Name, err)
		}
		return nil
	})
}
