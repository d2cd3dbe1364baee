package iketest

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// Whoever is behind a NAT, both sides find it, IKE and ESP float to port 4500,
// and exactly the sides behind one send keepalives (RFC 7296 section 2.23, RFC
// 3948 section 4).
func TestNATMatrix(t *testing.T) {
	const privateA = "10.0.0.1"
	for name, behind := range map[string]struct{ a, b bool }{
		"none": {false, false}, "initiator's": {false, true}, "responder's": {true, false}, "both": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfgA, cfgB := Configs()
			for _, p := range []*ikev2.Peer{&cfgA.Peers[0], &cfgB.Peers[0]} {
				p.Timing.DPD = -1 // so that nothing but keepalives is sent
			}
			n := New()
			a, b := n.Add("A", AddrA, cfgA, 1), n.Add("B", AddrB, cfgB, 2)
			if behind.a {
				n.Move(a, privateA)
				n.NAT[netip.MustParseAddr(privateA)] = netip.MustParseAddr(AddrA)
			}
			if behind.b {
				n.NAT[netip.MustParseAddr(AddrB)] = netip.MustParseAddr(AddrBPublic)
			}
			connectFor(61*time.Second)(n, a, b)
			faultless(t, n)
			if err := Agree(a, b); err != nil || len(a.In) != 1 {
				t.Fatalf("%d child SAs, %v\n%s", len(a.In), err, n.Transcript())
			}
			found(t, a, ikev2.NAT{Known: true, Local: behind.a, Remote: behind.b})
			found(t, b, ikev2.NAT{Known: true, Local: behind.b, Remote: behind.a})
		})
	}
}

func found(t *testing.T, h *Host, want ikev2.NAT) {
	t.Helper()
	e, _ := h.Last(ikev2.EventEstablished)
	if e.NAT != want || !e.Path.Encap || e.Path.Local.Port() != 4500 || e.Path.Remote.Port() != 4500 {
		t.Errorf("%s found %v and uses %v, want %v", h.Name, e.NAT, e.Path, want)
	}
	for _, in := range h.In {
		if in.Path != e.Path {
			t.Errorf("%s: ESP takes another path than IKE: %v", h.Name, in.Path)
		}
	}
	keepalives := 0
	if want.Local {
		keepalives = 3
	}
	if h.Keepalives != keepalives {
		t.Errorf("%s sent %d keepalives in a minute, want %d", h.Name, h.Keepalives, keepalives)
	}
}

// What a responder reads out of the hashes of peers that are not culvert.
func TestNATDetectionHashes(t *testing.T) {
	src, dst := wire.NotifyNATDetectionSourceIP, wire.NotifyNATDetectionDestinationIP
	right := func(n wire.NotifyType) func(*puppet) wire.Payload {
		return func(p *puppet) wire.Payload {
			addr := p.path.Remote
			if n == dst {
				addr = p.path.Local
			}
			h := keymat.NATDetection(p.spii, wire.SPI{}, addr)
			return &wire.Notify{NotifyType: n, Data: h[:]}
		}
	}
	wrong := func(n wire.NotifyType, b byte) func(*puppet) wire.Payload {
		return func(*puppet) wire.Payload { return &wire.Notify{NotifyType: n, Data: bytes.Repeat([]byte{b}, 20)} }
	}
	type hashes []func(*puppet) wire.Payload
	for _, tt := range []struct {
		name   string
		hashes hashes
		want   ikev2.NAT
	}{
		{"none sent", nil, ikev2.NAT{}},
		{"only a source", hashes{right(src)}, ikev2.NAT{}},
		{"only a destination", hashes{right(dst)}, ikev2.NAT{}},
		{"no NAT", hashes{right(src), right(dst)}, ikev2.NAT{Known: true}},
		{"the peer's", hashes{wrong(src, 1), right(dst)}, ikev2.NAT{Known: true, Remote: true}},
		{"ours", hashes{right(src), wrong(dst, 1)}, ikev2.NAT{Known: true, Local: true}},
		{"both", hashes{wrong(src, 1), wrong(dst, 1)}, ikev2.NAT{Known: true, Local: true, Remote: true}},
		{"several sources, the last fits", hashes{wrong(src, 1), wrong(src, 2), right(dst), right(src)}, ikev2.NAT{Known: true}},
		{"several sources, the first fits", hashes{right(src), wrong(src, 2), wrong(src, 3), right(dst)}, ikev2.NAT{Known: true}},
		{"several sources, none fits", hashes{wrong(src, 1), wrong(src, 2), right(dst)}, ikev2.NAT{Known: true, Remote: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPuppet(t, true, nil)
			p.prepare()
			ps := p.initPayloads()
			for _, h := range tt.hashes {
				ps = append(ps, h(p))
			}
			p.send(p.initMessage(ps...))
			if e, _ := p.last(ikev2.EventInit); e.NAT != tt.want {
				t.Errorf("found %v, want %v", e.NAT, tt.want)
			}
		})
	}
	t.Run("hash of 19 bytes", func(t *testing.T) {
		p := newPuppet(t, true, nil)
		p.prepare()
		p.send(p.initMessage(append(p.initPayloads(), &wire.Notify{NotifyType: src, Data: make([]byte, 19)})...))
		if p.has(ikev2.EventInit) {
			t.Error("it is accepted")
		}
	})
}

// A NAT that forgets its mapping gives B another address: A follows B's next
// message, and moves ESP with it.
func TestNATRebinding(t *testing.T) {
	n, a, b := Situation(Configs())
	connectFor(time.Second)(n, a, b)
	elsewhere := netip.MustParseAddr("192.0.2.11")
	n.NAT = map[netip.Addr]netip.Addr{netip.MustParseAddr(AddrB): elsewhere}
	n.Run(5 * time.Minute)
	faultless(t, n)
	e, ok := a.Last(ikev2.EventMoved)
	if !ok || e.Path.Remote.Addr() != elsewhere || a.Has(ikev2.EventDown)+b.Has(ikev2.EventDown) > 0 {
		t.Errorf("moved to %v, %d and %d down\n%s", e.Path.Remote, a.Has(ikev2.EventDown), b.Has(ikev2.EventDown), n.Transcript())
	}
	for _, moved := range a.Moved {
		if moved.Path.Remote.Addr() != elsewhere {
			t.Errorf("ESP moved to %v", moved.Path.Remote)
		}
	}
	if len(a.Moved) != 1 || len(b.Moved) != 0 {
		t.Errorf("%d and %d child SAs moved", len(a.Moved), len(b.Moved))
	}
}

// NAT detection is off where the peer does not do it, and the tunnel is in UDP
// all the same.
func TestPeerWithoutNATDetection(t *testing.T) {
	p := connected(t)
	for _, in := range p.installed {
		if !in.Path.Encap {
			t.Errorf("ESP goes by %v", in.Path)
		}
	}
	if e, _ := p.last(ikev2.EventEstablished); e.NAT.Known {
		t.Errorf("found %v", e.NAT)
	}
}
