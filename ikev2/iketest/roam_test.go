package iketest

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"culvert/ikev2"
)

// Addresses that hosts move to.
const (
	AddrA2       = "203.0.113.2"
	AddrB2       = "172.16.0.2"
	AddrB2Public = "192.0.2.11"
)

// travel is a network under traffic: both sides send ESP every 100 ms.
type travel struct {
	t    *testing.T
	n    *Net
	a, b *Host
}

// setOff connects B, behind its NAT or at a public address.
func setOff(t *testing.T, mobike ikev2.Mode, nat bool) *travel {
	t.Helper()
	cfgA, cfgB := Configs()
	cfgA.Peers[0].MOBIKE, cfgB.Peers[0].MOBIKE = mobike, mobike
	n := New()
	if nat {
		n.NAT = maps.Clone(natOfB)
	}
	v := &travel{t, n, n.Add("A", AddrA, cfgA, 1), n.Add("B", AddrB, cfgB, 2)}
	n.Command(v.b, ikev2.Connect{Peer: "office", Path: ToA})
	if took, ok := v.crosses(time.Second); !ok {
		t.Fatalf("not connected after %v\n%s", took, n.Transcript())
	}
	return v
}

// crosses sends both ways until packets arrive at both ends, and says how long
// that took.
func (v *travel) crosses(limit time.Duration) (took time.Duration, ok bool) {
	start, gotA, gotB := v.n.Now, v.a.Received, v.b.Received
	for v.n.Now.Sub(start) < limit {
		v.tick()
		if v.a.Received > gotA && v.b.Received > gotB {
			return v.n.Now.Sub(start), true
		}
	}
	return limit, false
}

func (v *travel) tick() {
	v.n.ESP(v.a, "lan", 15*time.Millisecond) // no faster than IKE
	v.n.ESP(v.b, "lan", 15*time.Millisecond) // no faster than IKE
	v.n.Run(100 * time.Millisecond)
	v.n.Traffic(v.a)
	v.n.Traffic(v.b)
}

func (v *travel) during(d time.Duration) {
	for end := v.n.Now.Add(d); v.n.Now.Before(end); {
		v.tick()
	}
}

// moveB gives B another address, and its NAT another one to show.
func (v *travel) moveB(local, public string) {
	v.n.Move(v.b, local)
	if len(v.n.NAT) > 0 {
		v.n.NAT = map[netip.Addr]netip.Addr{netip.MustParseAddr(local): netip.MustParseAddr(public)}
	}
}

func (v *travel) roamB(local string, again bool) {
	path := ToA
	path.Local = netip.AddrPortFrom(netip.MustParseAddr(local), 500)
	v.n.Command(v.b, ikev2.Roam{Peer: "office", Path: path, Again: again})
}

// wantBack: both directions work within 5 s.
func (v *travel) wantBack() {
	v.t.Helper()
	took, ok := v.crosses(5 * time.Second)
	if !ok {
		v.t.Fatalf("not back in 5 s\n%s", v.n.Transcript())
	}
	v.t.Logf("back after %v", took)
}

// wantKept: the IKE SA has lived through it, and all is well in the end.
func (v *travel) wantKept(kept bool) {
	v.t.Helper()
	if new := v.b.Has(ikev2.EventEstablished) - 1; (new == 0) != kept {
		v.t.Errorf("%d new IKE SAs\n%s", new, v.n.Transcript())
	}
	v.during(3 * time.Minute)
	if _, ok := v.crosses(time.Second); !ok {
		v.t.Errorf("not for long\n%s", v.n.Transcript())
	}
	faultless(v.t, v.n)
	if err := Agree(v.a, v.b); err != nil || len(v.a.In) != 1 {
		v.t.Errorf("%d child SAs, %v\n%s", len(v.a.In), err, v.n.Transcript())
	}
	for _, h := range []*Host{v.a, v.b} {
		if ike, children := h.Engine.SAs(); ike != 1 || children != 1 {
			v.t.Errorf("%s has %d IKE SAs and %d child SAs", h.Name, ike, children)
		}
	}
}

var modes = map[string]ikev2.Mode{"MOBIKE": ikev2.ModeDefault, "no MOBIKE": ikev2.ModeOff}

// The side that began the connection gets another address, at once or after a
// time without any, with and without a NAT.
func TestInitiatorMoves(t *testing.T) {
	for name, mobike := range modes {
		for _, nat := range []bool{false, true} {
			for _, outage := range []time.Duration{0, 2500 * time.Millisecond, 14 * time.Second, 40 * time.Second} {
				t.Run(fmt.Sprintf("%s/NAT %v/%v", name, nat, outage), func(t *testing.T) {
					v := setOff(t, mobike, nat)
					v.n.Broken = true
					v.moveB(AddrB2, AddrB2Public)
					v.roamB(AddrB2, false) // its address is there before the network is
					v.during(outage)
					v.n.Broken = false
					v.wantBack()
					v.wantKept(mobike != ikev2.ModeOff || nat)
				})
			}
		}
	}
}

// The side that answered gets another address: only MOBIKE has words for that.
func TestResponderMoves(t *testing.T) {
	for _, nat := range []bool{false, true} {
		t.Run(fmt.Sprintf("NAT %v", nat), func(t *testing.T) {
			v := setOff(t, ikev2.ModeDefault, nat)
			v.n.Move(v.a, AddrA2)
			path := ToB
			path.Local = netip.AddrPortFrom(netip.MustParseAddr(AddrA2), 500)
			v.n.Command(v.a, ikev2.Roam{Peer: "foo", Path: path})
			v.wantBack()
			v.wantKept(true)
			if e, ok := v.b.Last(ikev2.EventMoved); !ok || e.Path.Remote.Addr() != netip.MustParseAddr(AddrA2) || e.Former.Remote.Addr() != netip.MustParseAddr(AddrA) {
				t.Errorf("B went from %v to %v", e.Former.Remote, e.Path.Remote)
			}
		})
	}
}

// The path is away for a while and nobody is told: as long as the IKE SA lives,
// requests go out often enough. When this host is told that the way leads
// somewhere again, it is faster than that, however long it took.
func TestOutage(t *testing.T) {
	for name, mobike := range modes {
		for _, outage := range []time.Duration{2 * time.Second, 29 * time.Second, 33 * time.Second, 55 * time.Second, 100 * time.Second, 5 * time.Minute, time.Hour} {
			for _, told := range []bool{false, true} {
				if !told && outage > 100*time.Second {
					continue // the peer was given up; the next attempt comes when it is due
				}
				t.Run(fmt.Sprintf("%s/%v/told %v", name, outage, told), func(t *testing.T) {
					v := setOff(t, mobike, true)
					v.n.Broken = true
					v.during(outage)
					v.n.Broken = false
					if told {
						v.roamB(AddrB, true)
					}
					v.wantBack()
					v.wantKept(outage <= 100*time.Second)
				})
			}
		}
	}
}

// After sleep the peer may have forgotten us, while our own clocks stood still.
func TestWakesUpToAPeerThatForgot(t *testing.T) {
	for name, mobike := range modes {
		for _, elsewhere := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/elsewhere %v", name, elsewhere), func(t *testing.T) {
				v := setOff(t, mobike, true)
				v.n.Restart(v.a, 3)
				local := AddrB
				if elsewhere {
					local = AddrB2
					v.moveB(AddrB2, AddrB2Public)
				}
				v.roamB(local, true)
				v.wantBack()
				v.n.Faults = nil // that A got ESP which it could not know
				v.wantKept(false)
			})
		}
	}
}

// A NAT that maps anew under traffic is followed by the first ESP packet; one
// that does so in silence is found by the next liveness check.
func TestNATMapsAnew(t *testing.T) {
	for name, mobike := range modes {
		t.Run(name+"/traffic", func(t *testing.T) {
			v := setOff(t, mobike, true)
			for i := range 5 {
				v.moveB(AddrB, fmt.Sprintf("192.0.2.%d", 20+i))
				v.wantBack()
				v.during(time.Duration(i) * 7 * time.Second)
			}
			v.wantKept(true)
		})
		t.Run(name+"/silence", func(t *testing.T) {
			v := setOff(t, mobike, true)
			v.n.Run(70 * time.Second)
			moves := len(v.a.Moved)
			v.moveB(AddrB, AddrB2Public)
			v.n.RunUntil(35*time.Second, func() bool { return len(v.a.Moved) > moves })
			v.n.Run(time.Second)
			for _, in := range v.a.In {
				if in.Path.Remote.Addr() != netip.MustParseAddr(AddrB2Public) {
					t.Errorf("A sends to %v\n%s", in.Path.Remote, v.n.Transcript())
				}
			}
			v.wantKept(true)
		})
	}
}

// A path that changes again and again while nothing is answered.
func TestMovesInARow(t *testing.T) {
	v := setOff(t, ikev2.ModeDefault, true)
	for i := range 20 {
		local := fmt.Sprintf("172.16.0.%d", 10+i)
		v.moveB(local, fmt.Sprintf("192.0.2.%d", 20+i))
		v.n.Broken = i%3 == 1
		v.roamB(local, i%5 == 0)
		v.during(time.Duration(i) * 100 * time.Millisecond)
	}
	v.n.Broken = false
	v.wantBack()
	v.during(time.Minute)
	faultless(t, v.n)
}

// An IKE SA that is replaced keeps what was agreed about moving.
func TestMovesAfterRekey(t *testing.T) {
	for _, by := range []string{"initiator", "responder"} {
		t.Run(by, func(t *testing.T) {
			v := setOff(t, ikev2.ModeDefault, true)
			if by == "initiator" {
				v.n.Command(v.b, ikev2.RekeyIKE{Peer: "office"})
			} else {
				v.n.Command(v.a, ikev2.RekeyIKE{Peer: "foo"})
			}
			v.during(2 * time.Second)
			v.moveB(AddrB2, AddrB2Public)
			v.roamB(AddrB2, false)
			v.wantBack()
			v.wantKept(true)
			if v.b.Has(ikev2.EventRekeyed) == 0 {
				t.Error("it was not replaced")
			}
		})
	}
}

// While everything is being replaced by both sides, B moves at every moment of
// it.
func TestMovesDuringRekey(t *testing.T) {
	for at := 0; at < 200; at += 5 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			v := setOff(t, ikev2.ModeDefault, true)
			for _, h := range []*Host{v.a, v.b} {
				v.n.Command(h, ikev2.RekeyIKE{Peer: h.cfg.Peers[0].Name})
				v.n.Command(h, ikev2.Rekey{SPI: h.current("lan")})
			}
			v.n.Run(time.Duration(at) * time.Millisecond)
			v.moveB(AddrB2, AddrB2Public)
			v.roamB(AddrB2, false)
			v.wantBack()
			v.wantKept(true)
		})
	}
}
