//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"culvert/gateway"
	"culvert/lab"
)

// searchTime is how long a gateway may take to find what a path takes: it waits
// for every packet that is lost.
const searchTime = time.Minute

// swallowing is a network whose router drops packets of more than so many bytes
// and says nothing. They come to it one by one, as from a wire: what leaves a
// virtual link as a run would be dropped for the run's size.
func swallowing(t *testing.T, size uint16) *peerNet {
	t.Helper()
	n := newPeerNet(t)
	if err := n.NAT.DropLong(size); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*lab.Host{n.GatewayA, n.GatewayB} {
		err := h.Do(func() error {
			link, err := netlink.LinkByName("wan")
			if err != nil {
				return err
			}
			return netlink.LinkSetGSOMaxSegs(link, 1)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// knowsHole wants the gateway to have found the size and to say what to set, and
// TCP to pass.
func (p *culvertProcess) knowsHole(size int, setting string) {
	p.t.Helper()
	p.waitIn(searchTime, 1, "event", "trouble", "diagnosis", "mtu_black_hole")
	s := p.status()
	i := slices.IndexFunc(s.Findings, func(f gateway.Finding) bool { return f.Code == "mtu_black_hole" })
	if s.Peers[0].PathMTU != size || i < 0 || !strings.Contains(s.Findings[i].Text, setting) || s.Findings[i].Wrong {
		p.t.Errorf("found %d, want %d with %q: %+v", s.Peers[0].PathMTU, size, setting, s.Findings)
	}
}

// TestBlackHolePair: each side finds what its path takes by itself, names the
// setting, and large transfers pass.
func TestBlackHolePair(t *testing.T) {
	n := swallowing(t, 1400)
	a, b := n.pair(sideA(plainSuite), sideB(plainSuite))
	for _, p := range []*culvertProcess{a, b} {
		p.knowsHole(1400, "`mtu = 1338`")
	}
	n.reaches()
	for _, p := range []*culvertProcess{a, b} {
		if p.made() != 1 {
			t.Errorf("%d IKE SAs", p.made())
		}
	}
}

// TestBlackHoleToStrongSwan: strongSwan answers the probes, and as either side
// has its TCP agree on what passes.
func TestBlackHoleToStrongSwan(t *testing.T) {
	scenario(t, "packets", "the MTU of a path that drops packets of more than 1420 bytes", initiates, responds)
	needStrongSwan(t)
	for name, role := range map[string]role{"initiates": initiates, "responds": responds} {
		t.Run(name, func(t *testing.T) {
			n := swallowing(t, 1420)
			var p *culvertProcess
			if role == initiates {
				_, p = n.swanResponds(swanA(plainSuite), sideB(plainSuite))
			} else {
				p, _ = n.swanInitiates(sideA(plainSuite), swanB(plainSuite))
			}
			p.knowsHole(1420, "`mtu = 1358`")
			n.reaches()
			if p.made() != 1 {
				t.Errorf("%d IKE SAs", p.made())
			}
			p.alive()
		})
	}
}
