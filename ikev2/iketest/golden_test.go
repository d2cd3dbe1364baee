package iketest

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// scenarios are told in testdata/NAME.txt. Each is the situation, changed by
// setup and driven by run.
var scenarios = []struct {
	name  string
	setup func(a, b *ikev2.Peer)
	run   func(n *Net, a, b *Host)
}{
	{name: "situation", run: connectFor(time.Minute)},
	{name: "wrong-key", setup: func(_, b *ikev2.Peer) { b.PSK = []byte("azerty") }, run: connectFor(5 * time.Second)},
	{name: "unknown-identity", setup: func(_, b *ikev2.Peer) { b.LocalID = identity("@bar") }, run: connectFor(5 * time.Second)},
	{name: "private-address", setup: func(_, b *ikev2.Peer) { b.LocalID = identity(AddrB) }, run: connectFor(5 * time.Second)},
	{name: "wrong-responder", setup: func(_, b *ikev2.Peer) { b.RemoteID = identity("192.0.2.99") }, run: connectFor(5 * time.Second)},
	{name: "disjoint-selectors", setup: func(_, b *ikev2.Peer) { b.Children[0].Remote = prefix("10.99.0.0/24") }, run: connectFor(20 * time.Second)},
	{name: "no-common-proposal", setup: only(wire.EncrAESCBC, 256), run: connectFor(40 * time.Second)},
	{name: "other-group", setup: onlyGroup19, run: connectFor(time.Second)},
	{name: "cookie-then-other-group", setup: onlyGroup19, run: behindCookies},
	{name: "absent-peer", run: func(n *Net, _, b *Host) {
		n.Link = func(Packet) []time.Duration { return nil }
		connectFor(2*time.Minute)(n, nil, b)
	}},
	{name: "initiator-restarts", run: func(n *Net, a, b *Host) {
		connectFor(time.Second)(n, a, b)
		n.Restart(b, 3)
		connectFor(time.Second)(n, a, b)
	}},
	{name: "responder-restarts", run: func(n *Net, a, b *Host) {
		connectFor(time.Second)(n, a, b)
		n.Restart(a, 3)
		n.Run(3 * time.Minute)
	}},
	{name: "initiator-deletes", run: func(n *Net, a, b *Host) {
		connectFor(time.Second)(n, a, b)
		n.Command(b, ikev2.Disconnect{Peer: "office"})
		n.Run(30 * time.Second)
		connectFor(time.Second)(n, a, b)
	}},
	{name: "responder-deletes", run: func(n *Net, a, b *Host) {
		connectFor(time.Second)(n, a, b)
		n.Command(a, ikev2.Disconnect{Peer: "foo"})
		n.Run(10 * time.Second)
	}},
	{name: "rekey-child", run: rekeyAt(theChild, nothing)},
	{name: "rekey-child-both", run: rekeyAt(theChild, theChild)},
	{name: "rekey-child-other-group", setup: func(a, b *ikev2.Peer) {
		a.Children[0].ESP, b.Children[0].ESP = withGroups(wire.GroupECP256, wire.GroupX25519), withGroups(wire.GroupX25519)
	}, run: rekeyAt(theChild, nothing)},
	{name: "rekey-ike", run: rekeyAt(theIKE, nothing)},
	{name: "rekey-ike-both", run: rekeyAt(theIKE, theIKE)},
	{name: "rekey-child-and-ike", run: rekeyAt(theChild, theIKE)},
	{name: "fragments", setup: longIdentity, run: func(n *Net, a, b *Host) {
		n.Link = func(p Packet) []time.Duration {
			if p.Number == 3 || p.Number == 9 {
				return nil
			}
			return []time.Duration{10 * time.Millisecond}
		}
		connectFor(5*time.Second)(n, a, b)
	}},
	{name: "initiator-moves", run: func(n *Net, a, b *Host) {
		connectFor(time.Second)(n, a, b)
		n.NAT = map[netip.Addr]netip.Addr{netip.MustParseAddr(AddrB2): netip.MustParseAddr(AddrB2Public)}
		n.Move(b, AddrB2)
		n.Command(b, ikev2.Roam{Peer: "office", Path: ikev2.Path{Local: netip.MustParseAddrPort(AddrB2 + ":500"), Remote: ToA.Remote}})
		n.Run(time.Second)
	}},
	{name: "responder-moves", run: func(n *Net, a, b *Host) {
		connectFor(time.Second)(n, a, b)
		n.Move(a, AddrA2)
		n.Command(a, ikev2.Roam{Peer: "foo", Path: ikev2.Path{Local: netip.MustParseAddrPort(AddrA2 + ":500"), Remote: ToB.Remote}})
		n.Run(time.Second)
	}},
	{name: "wakes-up-forgotten", run: func(n *Net, a, b *Host) {
		connectFor(time.Second)(n, a, b)
		n.Restart(a, 3)
		n.Command(b, ikev2.Roam{Peer: "office", Path: ToA, Again: true})
		n.Run(10 * time.Second)
	}},
	{name: "three-tunnels", setup: threeTunnels, run: connectFor(10 * time.Second)},
	{name: "trap", setup: startBy(ikev2.StartPeer, ikev2.StartTraffic), run: func(n *Net, _, b *Host) {
		n.sees(b, packetOfB)
		n.Run(time.Second)
	}},
	{name: "single-pair", setup: pairsOf(true, false), run: connectFor(time.Second)},
	{name: "additional-selectors", setup: func(a, b *ikev2.Peer) {
		a.Children = []ikev2.Child{{Name: "one", Local: prefix("10.1.0.0/24"), Remote: lanB}, {Name: "two", Local: prefix("10.2.0.0/24"), Remote: lanB}}
		b.Children[0].Remote = prefix("0.0.0.0/0")
	}, run: connectFor(time.Second)},
	{name: "reconfigure-anew", run: reconfigureB(func(b *ikev2.Peer) { b.MOBIKE = ikev2.ModeOff })},
	{name: "reconfigure-selectors", run: reconfigureB(func(b *ikev2.Peer) { b.Children[0].Remote = prefix("10.103.0.0/25") })},
	{name: "reconfigure-key", run: reconfigureB(func(b *ikev2.Peer) { b.PSK = []byte("azerty") })},
	{name: "both-initiate", run: func(n *Net, a, b *Host) {
		n.Command(a, ikev2.Connect{Peer: "foo", Path: ToB})
		n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
		n.Run(2 * time.Minute)
	}},
}

// TestTranscripts compares each scenario with what is written of it. To see
// what a change does to the protocol, run it with -update and read the diff.
func TestTranscripts(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			cfgA, cfgB := Configs()
			if s.setup != nil {
				s.setup(&cfgA.Peers[0], &cfgB.Peers[0])
			}
			n, a, b := Situation(cfgA, cfgB)
			s.run(n, a, b)
			faultless(t, n)
			golden(t, s.name, n.Transcript())
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update rewrites it). Now:\n%s", file, got)
	}
}

func faultless(t *testing.T, n *Net) {
	t.Helper()
	if len(n.Faults) > 0 {
		t.Fatalf("%q\n%s", n.Faults, n.Transcript())
	}
}

func connectFor(d time.Duration) func(*Net, *Host, *Host) {
	return func(n *Net, _, b *Host) {
		n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
		n.Run(d)
	}
}

// rekeyAt has A and B replace something at the same moment.
func rekeyAt(atA, atB rekeyed) func(*Net, *Host, *Host) {
	return func(n *Net, a, b *Host) {
		connectFor(time.Second)(n, a, b)
		n.rekey(a, atA)
		n.rekey(b, atB)
		n.Run(20 * time.Second)
	}
}

func prefix(s string) []wire.Selector {
	return []wire.Selector{wire.SelectorFromPrefix(netip.MustParsePrefix(s))}
}

// only leaves B nothing to offer but one cipher, and A all but that.
func only(encr, bits uint16) func(a, b *ikev2.Peer) {
	x := wire.Transform{Type: wire.TransformEncr, ID: encr, KeyBits: bits}
	return func(a, b *ikev2.Peer) {
		for _, p := range ikev2.DefaultIKEProposals() {
			a.IKE = append(a.IKE, without(p, func(y wire.Transform) bool { return y == x }))
			b.IKE = append(b.IKE, without(p, func(y wire.Transform) bool { return y.Type == x.Type && y != x }))
		}
		b.IKE = b.IKE[1:]
	}
}

func onlyGroup19(a, _ *ikev2.Peer) {
	for _, p := range ikev2.DefaultIKEProposals() {
		a.IKE = append(a.IKE, without(p, func(x wire.Transform) bool { return x.Type == wire.TransformKE && x.ID != wire.GroupECP256 }))
	}
}

func without(p ikev2.Proposal, drop func(wire.Transform) bool) (kept ikev2.Proposal) {
	for _, x := range p {
		if !drop(x) {
			kept = append(kept, x)
		}
	}
	return kept
}

// longIdentity makes IKE_AUTH too long for a packet of the smallest kind.
func longIdentity(a, b *ikev2.Peer) {
	id := identity("@" + strings.Repeat("a-very-long-name.", 50) + "example")
	a.LocalID, b.RemoteID = id, id
	packetsOf(576)(a, b)
}

// threeTunnels, the second of which A does not allow.
func threeTunnels(a, b *ikev2.Peer) {
	ca, cb := ikev2.Config{Peers: []ikev2.Peer{*a}}, ikev2.Config{Peers: []ikev2.Peer{*b}}
	WithChildren(&ca, &cb, 1, 2, 3)
	*a, *b = ca.Peers[0], cb.Peers[0]
	a.Children[1].Local = prefix("10.9.0.0/24")
}

// behindCookies puts a responder under load in front of A: it lets no
// IKE_SA_INIT through without its cookie (RFC 7296 section 2.6).
func behindCookies(n *Net, a, b *Host) {
	n.Link = func(p Packet) []time.Duration {
		m, err := wire.Parse(p.Payload)
		if err == nil && m.Exchange == wire.ExchangeIKESAInit && m.Flags&wire.FlagResponse == 0 && wire.FindNotify(m.Payloads, wire.NotifyCookie) == nil {
			n.Inject(Packet{From: p.To, To: p.From, Payload: initNotify(m, wire.NotifyCookie, "biscuit")})
			return nil
		}
		return []time.Duration{10 * time.Millisecond}
	}
	connectFor(time.Second)(n, a, b)
}

// initNotify is an unprotected answer to an IKE_SA_INIT, which anybody can
// write who has seen the request.
func initNotify(req *wire.Message, t wire.NotifyType, data string) []byte {
	m := wire.Message{Header: req.Header, Payloads: []wire.Payload{&wire.Notify{NotifyType: t, Data: []byte(data)}}}
	m.Flags = wire.FlagResponse
	return m.Append(nil)
}
