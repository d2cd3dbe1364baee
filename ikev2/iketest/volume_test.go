package iketest

import (
	"testing"
	"time"

	"culvert/ikev2"
)

// A child is replaced when it has carried its bytes or its packets in one
// direction, no earlier than a tenth before, and once.
func TestLifetimeByVolume(t *testing.T) {
	for _, c := range []struct {
		name          string
		limit         func(*ikev2.Child)
		before, after ikev2.Traffic
	}{
		{"bytes", func(c *ikev2.Child) { c.LifeBytes = 1e9 }, ikev2.Traffic{Bytes: 9e8 - 1e6, Packets: 1e12}, ikev2.Traffic{Bytes: 1e9}},
		{"packets", func(c *ikev2.Child) { c.LifePackets = 1e6 }, ikev2.Traffic{Bytes: 1e12, Packets: 9e5 - 1e3}, ikev2.Traffic{Packets: 1e6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, a, b := joined(t, 1, withGroups(), withGroups(), func(cfgA, _ *ikev2.Config) { c.limit(&cfgA.Peers[0].Children[0]) })
			carried := func(v ikev2.Traffic) {
				v.SPI, v.Out = a.current("lan"), true
				n.Command(a, v)
				n.Run(10 * time.Second)
			}
			carried(c.before)
			if a.Has(ikev2.EventChildUp) != 1 {
				t.Fatalf("replaced too early\n%s", n.Transcript())
			}
			carried(c.after)
			settled(t, n, a, b)
			if got := a.Has(ikev2.EventChildUp); got != 2 {
				t.Errorf("%d child SAs, want a second\n%s", got, n.Transcript())
			}
		})
	}
}

// One whose replacement does not succeed is kept for as much again, then ends;
// tries go on at the pace of RFC 7296 section 2.25, not of the traffic.
func TestHardExpiryByVolume(t *testing.T) {
	n, a, b := joined(t, 1, withGroups(), withGroups(), func(cfgA, _ *ikev2.Config) { cfgA.Peers[0].Children[0].LifeBytes = 1000 })
	n.Link = func(Packet) []time.Duration { return nil }
	spi := a.current("lan")
	sent := len(a.Sent)
	for bytes := uint64(1000); bytes < 1800; bytes += 100 {
		n.Command(a, ikev2.Traffic{SPI: spi, Out: true, Bytes: bytes})
	}
	if got := len(a.Sent) - sent; got != 1 || len(a.Out) != 1 {
		t.Fatalf("%d requests, %d child SAs\n%s", got, len(a.Out), n.Transcript())
	}
	n.Command(a, ikev2.Traffic{SPI: spi, Out: true, Bytes: 2000})
	faultless(t, n)
	if down, _ := a.Last(ikev2.EventChildDown); len(a.Out) != 0 || down.Reason != ikev2.ReasonExpired {
		t.Errorf("%d child SAs, down for %v", len(a.Out), down.Reason)
	}
	n.Link = nil
	n.Run(5 * time.Minute)
	settled(t, n, a, b)
}
