package lab

import (
	"fmt"
	"net/netip"
)

// Addresses of the situation; the package documentation draws it.
var (
	HostAAddr    = netip.MustParseAddr("10.103.0.10")
	HostBAddr    = netip.MustParseAddr("10.104.0.10")
	GatewayAAddr = netip.MustParseAddr("203.0.113.1")
	GatewayBAddr = netip.MustParseAddr("172.16.0.1") // what gwb itself has
	GatewayBSeen = netip.MustParseAddr("192.0.2.10") // what the NAT shows of it
	LANA         = netip.MustParsePrefix("10.103.0.0/24")
	LANB         = netip.MustParsePrefix("10.104.0.0/24")
)

// SiteToSite is the lab that Situation builds, with its hosts at hand.
type SiteToSite struct {
	*Lab
	HostA, GatewayA, NAT, GatewayB, HostB *Host
}

// Situation builds two gateways with a LAN each and a 1:1 NAT between them. mtu
// is that of every link; 0 means 1500. After an error nothing of it is left.
func Situation(prefix string, mtu int) (*SiteToSite, error) {
	l, err := New(prefix)
	if err != nil {
		return nil, err
	}
	s := &SiteToSite{Lab: l}
	if err := s.build(mtu); err != nil {
		l.Close()
		return nil, err
	}
	return s, nil
}

func (s *SiteToSite) build(mtu int) error {
	for name, host := range map[string]**Host{
		"hosta": &s.HostA, "gwa": &s.GatewayA, "nat": &s.NAT, "gwb": &s.GatewayB, "hostb": &s.HostB,
	} {
		h, err := s.Host(name)
		if err != nil {
			return err
		}
		*host = h
	}
	if err := s.link(mtu); err != nil {
		return err
	}
	if err := s.route(); err != nil {
		return err
	}
	if err := s.NAT.NAT1to1(GatewayBSeen, GatewayBAddr); err != nil {
		return err
	}
	return s.NAT.DropForward(netip.MustParsePrefix("10.0.0.0/8"))
}

func (s *SiteToSite) link(mtu int) error {
	for _, link := range []struct {
		a          *Host
		ifA, cidrA string
		b          *Host
		ifB, cidrB string
	}{
		{s.HostA, "eth0", "10.103.0.10/24", s.GatewayA, "lan", "10.103.0.1/24"},
		{s.GatewayA, "wan", "203.0.113.1/24", s.NAT, "out", "203.0.113.254/24"},
		{s.NAT, "in", "172.16.0.254/24", s.GatewayB, "wan", "172.16.0.1/24"},
		{s.GatewayB, "lan", "10.104.0.1/24", s.HostB, "eth0", "10.104.0.10/24"},
	} {
		a := End{link.a, link.ifA, netip.MustParsePrefix(link.cidrA)}
		b := End{link.b, link.ifB, netip.MustParsePrefix(link.cidrB)}
		if err := s.Link(a, b, mtu); err != nil {
			return err
		}
	}
	return nil
}

func (s *SiteToSite) route() error {
	everything := netip.MustParsePrefix("0.0.0.0/0")
	for via, h := range map[string]*Host{
		"10.103.0.1": s.HostA, "203.0.113.254": s.GatewayA, "172.16.0.254": s.GatewayB, "10.104.0.1": s.HostB,
	} {
		if err := h.Route(everything, netip.MustParseAddr(via)); err != nil {
			return fmt.Errorf("lab: default route of %s: %w", h.Name, err)
		}
	}
	return nil
}
