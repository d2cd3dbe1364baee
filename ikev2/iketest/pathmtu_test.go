package iketest

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// hole is a link that loses packets of more than size bytes and says nothing.
func hole(size int) func(Packet) []time.Duration {
	return func(p Packet) []time.Duration {
		if ipLen(p.Payload) > size {
			return nil
		}
		return []time.Duration{10 * time.Millisecond}
	}
}

// ipLen is that of a message on port 4500 over IPv4.
func ipLen(payload []byte) int { return len(payload) + 20 + 8 + 4 }

// probing is two connected hosts, of which B looks for the path's MTU.
func probing(t *testing.T, change func(a, b *ikev2.Peer)) (n *Net, a, b *Host) {
	t.Helper()
	cfgA, cfgB := Configs()
	change(&cfgA.Peers[0], &cfgB.Peers[0])
	n, a, b = Situation(cfgA, cfgB)
	n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
	reach(t, n, "connected", time.Minute, func() bool { return len(b.Out) == 1 && len(a.Out) == 1 })
	n.Run(time.Second)
	return n, a, b
}

// finds looks for the path's MTU until it is told.
func finds(t *testing.T, n *Net, b *Host, most int) ikev2.PathMTU {
	t.Helper()
	before := len(b.PathMTUs)
	n.Command(b, ikev2.FindPathMTU{Peer: "office", Most: most})
	reach(t, n, "path MTU", 2*time.Minute, func() bool { return len(b.PathMTUs) > before })
	faultless(t, n)
	return b.PathMTUs[before]
}

func unchanged(_, _ *ikev2.Peer) {}

// TestPathMTU finds what a silent path takes, to within 4 bytes, and nobody's
// connection is the worse for it.
func TestPathMTU(t *testing.T) {
	for _, c := range []struct {
		hole, most, want int
	}{
		{1500, 1500, 1500}, {1499, 1500, 1496}, {1492, 1500, 1492}, {1420, 1500, 1420}, {1403, 1500, 1400}, {1284, 1500, 1284},
		{1280, 1500, 1280}, {1279, 1500, 1276}, {1000, 1500, 1000}, {576, 1500, 576}, {1400, 1380, 1380}, {600, 1200, 600}, {1500, 1000, 1000},
		{8000, 9000, 8000}, {1500, 9000, 1500}, {1500, 1499, 1496}, {1500, 576, 576},
	} {
		n, a, b := probing(t, unchanged)
		n.Link = hole(c.hole)
		start, dropped, sent := n.Now, b.Dropped(), len(b.Sent)
		got := finds(t, n, b, c.most)
		if got.Size != c.want || got.Size < got.Most != (c.hole < got.Most) || got.Path != b.Out[slices.Collect(keys(b))[0]].Path {
			t.Errorf("a hole of %d, %d looked for: %+v\n%s", c.hole, c.most, got, n.Transcript())
		}
		if took := n.Now.Sub(start); took > 15*time.Second || b.Dropped() != dropped {
			t.Errorf("a hole of %d: found after %v, %d dropped", c.hole, took, b.Dropped()-dropped)
		}
		if asked := len(b.Sent) - sent; c.hole >= c.most && asked > 2 {
			t.Errorf("%d probes of a path that takes all", asked)
		}
		n.Command(b, ikev2.RekeyIKE{Peer: "office"})
		n.Run(time.Minute)
		if err := Agree(a, b); err != nil || b.Has(ikev2.EventDown)+b.Has(ikev2.EventGaveUp)+a.Has(ikev2.EventDown) > 0 || b.Has(ikev2.EventRekeyed) != 1 {
			t.Errorf("a hole of %d: %v\n%s", c.hole, err, n.Transcript())
		}
	}
}

func keys(h *Host) func(func(uint32) bool) {
	return func(yield func(uint32) bool) {
		for spi := range h.Out {
			if !yield(spi) {
				return
			}
		}
	}
}

// TestPathMTULoss: packets that are lost by chance are not taken for a hole,
// neither some of them nor all for a while.
func TestPathMTULoss(t *testing.T) {
	for _, size := range []int{1500, 1420} {
		for seed := range uint64(50) {
			n, _, b := probing(t, unchanged)
			silent, chance := hole(size), rand.New(rand.NewPCG(seed, 0))
			n.Link = func(p Packet) []time.Duration {
				if chance.IntN(20) == 0 {
					return nil
				}
				return silent(p)
			}
			if got := finds(t, n, b, 1500); got.Size != size {
				t.Errorf("each twentieth is lost, %d: %+v, want %d\n%s", seed, got, size, n.Transcript())
			}
		}
		for outage := range 12 {
			n, _, b := probing(t, unchanged)
			n.Link = hole(size)
			n.Command(b, ikev2.FindPathMTU{Peer: "office", Most: 1500})
			n.Run(time.Duration(outage) * time.Second / 2)
			n.Broken = true
			n.Run(4 * time.Second)
			n.Broken = false
			n.Run(2 * time.Minute)
			if len(b.PathMTUs) != 1 || b.PathMTUs[0].Size != size && (outage > 0 || b.PathMTUs[0].Size != 0) {
				t.Errorf("%d outage: %+v, want %d\n%s", outage, b.PathMTUs, size, n.Transcript())
			}
		}
	}
}

// TestPathMTUBeside: a search keeps no request waiting, and ends with its IKE SA.
func TestPathMTUBeside(t *testing.T) {
	n, a, b := probing(t, unchanged)
	n.Link = hole(1420)
	n.Command(b, ikev2.FindPathMTU{Peer: "office", Most: 1500})
	n.Run(500 * time.Millisecond)
	start := n.Now
	n.Command(b, ikev2.Rekey{SPI: slices.Collect(keys(b))[0]})
	reach(t, n, "new keys", time.Second, func() bool { return b.Has(ikev2.EventChildUp) == 2 })
	if took := n.Now.Sub(start); took > 100*time.Millisecond {
		t.Errorf("the rekey took %v\n%s", took, n.Transcript())
	}
	reach(t, n, "path MTU", time.Minute, func() bool { return len(b.PathMTUs) == 1 })
	if got := b.PathMTUs[0].Size; got != 1420 {
		t.Errorf("found %d", got)
	}
	n.Command(b, ikev2.FindPathMTU{Peer: "office", Most: 1500})
	n.Run(500 * time.Millisecond)
	n.Command(b, ikev2.RekeyIKE{Peer: "office"})
	n.Run(time.Minute)
	if len(b.PathMTUs) != 1 || b.Has(ikev2.EventRekeyed) != 1 {
		t.Errorf("%v by an IKE SA that is replaced\n%s", b.PathMTUs, n.Transcript())
	}
	n.Command(b, ikev2.FindPathMTU{Peer: "office", Most: 1500})
	n.Run(500 * time.Millisecond)
	n.Command(b, ikev2.Disconnect{Peer: "office"})
	n.Run(500 * time.Millisecond)
	if len(a.In)+len(b.In) != 0 || len(b.PathMTUs) != 1 {
		t.Errorf("%d and %d child SAs, %v\n%s", len(a.In), len(b.In), b.PathMTUs, n.Transcript())
	}
	faultless(t, n)
}

// TestPathMTUMoves: a search ends with the path that it is for, and does not
// make the connection anew.
func TestPathMTUMoves(t *testing.T) {
	v := setOff(t, ikev2.ModeDefault, true)
	v.n.Link = hole(1400)
	v.n.Command(v.b, ikev2.FindPathMTU{Peer: "office", Most: 1500})
	v.during(500 * time.Millisecond)
	v.moveB(AddrB2, AddrB2Public)
	v.roamB(AddrB2, true)
	if took, ok := v.crosses(time.Second); !ok {
		t.Errorf("carries again after %v\n%s", took, v.n.Transcript())
	}
	v.during(time.Minute)
	if len(v.b.PathMTUs) > 0 || v.b.Has(ikev2.EventEstablished) != 1 {
		t.Errorf("%v, %d connections\n%s", v.b.PathMTUs, v.b.Has(ikev2.EventEstablished), v.n.Transcript())
	}
	if got := finds(t, v.n, v.b, 1500); got.Size != 1400 {
		t.Errorf("%+v", got)
	}
	v.n.Command(v.b, ikev2.FindPathMTU{Peer: "office", Most: 1500})
	v.during(500 * time.Millisecond)
	v.roamB(AddrB2, true) // the way was gone and is as it was
	v.during(time.Minute)
	if len(v.b.PathMTUs) != 2 || v.b.PathMTUs[1].Size != 1400 || v.b.Has(ikev2.EventEstablished) != 1 {
		t.Errorf("%v, %d connections\n%s", v.b.PathMTUs, v.b.Has(ikev2.EventEstablished), v.n.Transcript())
	}
}

// TestPathMTUUntold: of a peer that answers no probe it is not known what reaches
// it, and it gets two.
func TestPathMTUUntold(t *testing.T) {
	n, a, b := probing(t, unchanged)
	n.Link = func(p Packet) []time.Duration {
		if p.Whole {
			return nil
		}
		return []time.Duration{10 * time.Millisecond}
	}
	sent := len(b.Sent)
	if got := finds(t, n, b, 1500); got.Size != 0 || len(b.Sent)-sent != 2 {
		t.Errorf("%+v\n%s", got, n.Transcript())
	}
	if err := Agree(a, b); err != nil {
		t.Error(err)
	}
}

// TestPathMTUFar: an answer that is late is no loss.
func TestPathMTUFar(t *testing.T) {
	for _, size := range []int{1500, 1420} {
		n, _, b := probing(t, unchanged)
		n.Link = func(p Packet) []time.Duration {
			if ipLen(p.Payload) > size {
				return nil
			}
			return []time.Duration{900 * time.Millisecond}
		}
		if got := finds(t, n, b, 1500); got.Size != size {
			t.Errorf("%+v\n%s", got, n.Transcript())
		}
	}
}

// TestPathMTUForged: an answer counts for the probe whose SPI it has, from where
// that went.
func TestPathMTUForged(t *testing.T) {
	n, _, b := probing(t, unchanged)
	var probe Packet
	n.Link = func(p Packet) []time.Duration {
		if p.Whole && ipLen(p.Payload) > 1400 {
			probe = p
			return nil
		}
		return []time.Duration{10 * time.Millisecond}
	}
	forge := func(from netip.AddrPort, spi wire.SPI, flags wire.Flags) {
		m := wire.Message{Header: wire.Header{InitiatorSPI: spi, Major: 2, Exchange: wire.ExchangeIKESAInit, Flags: flags},
			Payloads: []wire.Payload{&wire.Notify{NotifyType: wire.NotifyInvalidMajorVersion}}}
		n.Inject(Packet{From: from, To: probe.From, Encap: true, Payload: m.Append(nil)})
	}
	n.Command(b, ikev2.FindPathMTU{Peer: "office", Most: 1500})
	for range 200 {
		n.Run(100 * time.Millisecond)
		if h, err := wire.ParseHeader(probe.Payload); err == nil {
			forge(netip.MustParseAddrPort("198.51.100.7:4500"), h.InitiatorSPI, wire.FlagResponse)
			forge(probe.To, h.InitiatorSPI, 0)
			h.InitiatorSPI[7] ^= 1
			forge(probe.To, h.InitiatorSPI, wire.FlagResponse)
		}
	}
	if len(b.PathMTUs) != 1 || b.PathMTUs[0].Size != 1400 {
		t.Errorf("%+v", b.PathMTUs)
	}
	faultless(t, n)
}
