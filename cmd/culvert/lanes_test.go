//go:build linux

package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/lab"
)

const twoLanes = "[gateway]\nlanes = 2\n\n"

// lanesInUse are the lanes of child SAs that have carried something both ways.
func (p *culvertProcess) lanesInUse() (lanes []int) {
	for _, c := range p.status().Peers[0].Children {
		if c.PacketsIn > 0 && c.PacketsOut > 0 {
			lanes = append(lanes, c.Lane)
		}
	}
	slices.Sort(lanes)
	return slices.Compact(lanes)
}

// rush is many TCP streams at once, so that some go by either lane.
func rush(w route, d time.Duration) error {
	_, err := lab.TCP(context.Background(), w.from, w.to, w.addr, lab.TCPOptions{Duration: d, Streams: 16})
	return err
}

// TestPairLanes has two lanes on both sides carry many flows, while every child SA
// is replaced every few seconds, and lose nothing.
func TestPairLanes(t *testing.T) {
	n := newPeerNet(t)
	lives := []string{"ike = [", "ike_lifetime = \"4s\"\nike = [", "esp = [", "lifetime = \"2s\"\nesp = ["}
	a, b := n.pair(twoLanes+edit(t, sideA(plainSuite), lives...), twoLanes+edit(t, sideB(plainSuite), lives...))
	arrived := n.streaming()
	done := make(chan error, 2)
	for _, w := range n.ways() {
		go func() { done <- rush(w, 8*time.Second) }()
	}
	for _, p := range []*culvertProcess{a, b} {
		eventually(t, "packets both ways in both lanes of "+p.file, func() bool { return slices.Equal(p.lanesInUse(), []int{0, 1}) })
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	arrived()
	for _, p := range []*culvertProcess{a, b} {
		p.wantRekeys(4, 0) // that of the IKE SA waits while a child SA's is under way
		p.wantNoDrops("unknown_spi", "authentication_failed", "replayed", "stale", "selector_violation", "tun_write_error", "sequence_exhausted")
		if s := p.status(); s.Device.Lanes != 2 || !strings.Contains(s.Device.Offload, "tcp") {
			t.Errorf("%+v", s.Device)
		}
	}
}

// TestLanesWithOne has two lanes on one side only. The other one grants child SAs
// for both.
func TestLanesWithOne(t *testing.T) {
	n := newPeerNet(t)
	a, b := n.pair(sideA(plainSuite), twoLanes+sideB(plainSuite))
	for _, w := range n.ways() {
		if err := rush(w, 2*time.Second); err != nil {
			t.Error(err)
		}
	}
	received := 0
	for _, c := range a.status().Peers[0].Children { // A sends by whichever is newest
		if c.PacketsIn > 0 {
			received++
		}
	}
	if received != 2 {
		t.Errorf("A receives on %d child SAs of %+v", received, a.status().Peers[0].Children)
	}
	a.wantNoDrops("unknown_spi", "authentication_failed", "replayed", "stale")
	b.wantNoDrops("unknown_spi", "authentication_failed", "replayed", "stale")
}

// TestStrongSwanLanes has two lanes share the one child SA that a strongSwan
// without RFC 9611 has, in the order of its numbers.
func TestStrongSwanLanes(t *testing.T) {
	needStrongSwan(t)
	for _, initiator := range []bool{true, false} {
		scenario(t, "children", "two lanes share a child SA", roleOf(initiator))
		n := newPeerNet(t)
		var p *culvertProcess
		if initiator {
			_, p = n.swanResponds(swanA(plainSuite), twoLanes+sideB(plainSuite))
		} else {
			p, _ = n.swanInitiates(twoLanes+sideA(plainSuite), swanB(plainSuite))
		}
		n.reaches() // before the rush, of which strongSwan loses packets
		for _, w := range n.ways() {
			if err := rush(w, 2*time.Second); err != nil {
				t.Error(err)
			}
		}
		if children := p.status().Peers[0].Children; len(children) != 1 {
			t.Errorf("%d child SAs: %+v", len(children), children)
		}
		p.wantNoDrops("unknown_spi", "authentication_failed", "replayed", "stale", "selector_violation", "tun_write_error")
	}
}
