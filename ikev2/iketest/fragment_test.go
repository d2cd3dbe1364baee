package iketest

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

var fragmentsSupported = &wire.Notify{NotifyType: wire.NotifyFragmentationSupported}

// manySelectors are the situation's configurations with a child that needs
// fragments to be asked for and to be granted: 64 selectors on each side.
func manySelectors(change func(a, b *ikev2.Peer)) (a, b ikev2.Config) {
	a, b = Configs()
	var onA, onB []wire.Selector
	for x := range byte(64) {
		onA = append(onA, wire.SelectorFromPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 103, 2 * x, 0}), 24)))
		onB = append(onB, wire.SelectorFromPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 104, 2 * x, 0}), 24)))
	}
	a.Peers[0].Children[0].Local, a.Peers[0].Children[0].Remote = onA, onB
	b.Peers[0].Children[0].Local, b.Peers[0].Children[0].Remote = onB, onA
	change(&a.Peers[0], &b.Peers[0])
	return a, b
}

func packetsOf(size int) func(a, b *ikev2.Peer) {
	return func(a, b *ikev2.Peer) { a.Fragmentation.Size, b.Fragmentation.Size = size, size }
}

// isFragment says whether a packet carries an SKF payload, and which.
func isFragment(p []byte) (f *wire.EncryptedFragment, h wire.Header, ok bool) {
	m, err := wire.Parse(p)
	if err != nil {
		return nil, h, false
	}
	f, ok = wire.Find[*wire.EncryptedFragment](m.Payloads)
	return f, m.Header, ok
}

// longestIP is the largest IP packet of protected IKE that a host has sent.
func longestIP(h *Host) (n int) {
	for _, s := range h.Sent {
		if s.Path.Encap {
			n = max(n, len(s.Payload)+32)
		}
	}
	return n
}

func fragmentsOf(h *Host) (n int) {
	for _, s := range h.Sent {
		if _, _, ok := isFragment(s.Payload); ok {
			n++
		}
	}
	return n
}

func connects(t *testing.T, n *Net, a, b *Host, within time.Duration) {
	t.Helper()
	n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
	n.RunUntil(within, func() bool { return len(a.Out) == 1 && len(b.Out) == 1 })
	faultless(t, n)
	if err := Agree(a, b); err != nil || len(a.In) != 1 {
		t.Fatalf("%d child SAs: %v\n%s", len(a.In), err, n.Transcript())
	}
}

// No packet is larger than the policy says, and none is smaller than need be.
func TestFragmentSizes(t *testing.T) {
	cbc := []ikev2.Proposal{{
		{Type: wire.TransformEncr, ID: wire.EncrAESCBC, KeyBits: 256}, {Type: wire.TransformInteg, ID: wire.IntegHMACSHA2512256},
		{Type: wire.TransformPRF, ID: wire.PRFHMACSHA2512}, {Type: wire.TransformKE, ID: wire.GroupX25519},
	}}
	for _, ike := range [][]ikev2.Proposal{nil, cbc} {
		for size, want := range map[int]int{0: 1280, 1: 576, 576: 576, 577: 577, 591: 591, 592: 592, 900: 900, 1400: 1400} {
			n, a, b := Situation(manySelectors(func(a, b *ikev2.Peer) {
				packetsOf(size)(a, b)
				a.IKE, b.IKE = ike, ike
			}))
			connects(t, n, a, b, time.Second)
			for _, h := range []*Host{a, b} {
				block := 0
				if ike != nil {
					block = 15
				}
				if got := longestIP(h); got > want || got < want-block {
					t.Errorf("size %d, %d proposals: %s sends packets of %d", size, len(ike), h.Name, got)
				}
			}
		}
	}
}

// Only a message that is too large goes in fragments, and only to a peer that
// takes them.
func TestFragmentsAreForThoseWhoTakeThem(t *testing.T) {
	off := func(p *ikev2.Peer) { p.Fragmentation.Mode = ikev2.ModeOff }
	for name, c := range map[string]struct {
		change func(a, b *ikev2.Peer)
		want   bool
	}{
		"both": {func(_, _ *ikev2.Peer) {}, true},
		"forced": {func(a, b *ikev2.Peer) {
			a.Fragmentation.Mode, b.Fragmentation.Mode = ikev2.ModeRequire, ikev2.ModeRequire
		}, true},
		"not initiator": {func(_, b *ikev2.Peer) { off(b) }, false},
		"not responder": {func(a, _ *ikev2.Peer) { off(a) }, false},
		"room enough":   {packetsOf(9000), false},
	} {
		t.Run(name, func(t *testing.T) {
			n, a, b := Situation(manySelectors(c.change))
			connects(t, n, a, b, time.Second)
			if fragmentsOf(a) > 0 != c.want || fragmentsOf(b) > 0 != c.want {
				t.Errorf("fragments: %d and %d", fragmentsOf(a), fragmentsOf(b))
			}
		})
	}
}

// Whichever fragment is lost, doubled or late, the exchange comes to its end;
// and what is built on it, a rekey of both kinds, too.
func TestFragmentsOnBadLinks(t *testing.T) {
	const ms = time.Millisecond
	fates := map[string]func(p Packet, nth int) []time.Duration{
		"lost":    func(Packet, int) []time.Duration { return nil },
		"doubled": func(Packet, int) []time.Duration { return []time.Duration{10 * ms, 15 * ms} },
		"late":    func(Packet, int) []time.Duration { return []time.Duration{400 * ms} },
		"a retransmission late": func(Packet, int) []time.Duration {
			return []time.Duration{10 * ms, 1200 * ms}
		},
	}
	for name, fate := range fates {
		t.Run(name, func(t *testing.T) {
			hit := true
			for nth := 0; hit; nth++ {
				hit = false
				n, a, b := Situation(manySelectors(packetsOf(576)))
				n.Link = func(p Packet) []time.Duration {
					if p.Number == nth {
						hit = true
						return fate(p, nth)
					}
					return []time.Duration{10 * ms}
				}
				connects(t, n, a, b, 10*time.Second)
				n.rekey(a, theChild)
				n.rekey(b, theIKE)
				n.Run(20 * time.Second)
				faultless(t, n)
				if err := Agree(a, b); err != nil || b.Has(ikev2.EventRekeyed) != 1 || a.Has(ikev2.EventDown)+b.Has(ikev2.EventDown) > 0 {
					t.Fatalf("datagram %d: %v\n%s", nth, err, n.Transcript())
				}
			}
		})
	}
	t.Run("in reverse", func(t *testing.T) {
		n, a, b := Situation(manySelectors(packetsOf(576)))
		n.Link = func(p Packet) []time.Duration { return []time.Duration{500*ms - time.Duration(p.Number%20)*20*ms} }
		connects(t, n, a, b, 10*time.Second)
	})
}

// A path that swallows larger packets than an old one must carry is found out
// by the third try, by the side whose message is lost, and remembered. Nothing
// helps IKE_SA_INIT, which cannot be fragmented.
func TestPathOfSmallPackets(t *testing.T) {
	for name, size := range map[string]int{"fragments": 1280, "single datagrams": 9000} {
		for _, narrow := range []string{"both ways", "to A", "to B"} {
			t.Run(name+" "+narrow, func(t *testing.T) {
				n, a, b := Situation(manySelectors(packetsOf(size)))
				n.Link = func(p Packet) []time.Duration {
					toA := p.To.Addr() == netip.MustParseAddr(AddrA)
					if p.Encap && len(p.Payload)+32 > 576 && (narrow == "both ways" || toA == (narrow == "to A")) {
						return nil
					}
					return []time.Duration{10 * time.Millisecond}
				}
				connects(t, n, a, b, 12*time.Second)
				sent := len(n.log)
				n.rekey(b, theChild)
				n.Run(time.Second)
				faultless(t, n)
				later := Net{log: n.log[sent:], keys: n.keys}
				if narrow == "both ways" && strings.Contains(later.Transcript(), "lost") {
					t.Errorf("the path is forgotten:\n%s", later.Transcript())
				}
			})
		}
	}
}

// A peer that is dead for a while is not taken for a narrow path when the
// message is small.
func TestSmallMessagesStayWhole(t *testing.T) {
	cfgA, cfgB := Configs()
	cfgB.Peers[0].PostQuantum.Mode = ikev2.ModeOff
	n, a, b := Situation(cfgA, cfgB)
	lost := 0
	n.Link = func(p Packet) []time.Duration {
		if p.Encap && lost < 6 {
			lost++
			return nil
		}
		return []time.Duration{10 * time.Millisecond}
	}
	connects(t, n, a, b, time.Minute)
	first := b.Sent[slices.IndexFunc(b.Sent, func(s ikev2.Transmit) bool { return s.Path.Encap })].Payload
	for _, s := range b.Sent {
		if h, _ := wire.ParseHeader(s.Payload); h.Exchange == wire.ExchangeIKEAuth && !bytes.Equal(s.Payload, first) {
			t.Error("a retransmission has other bytes")
		}
	}
}

// fragment seals one fragment, whatever its numbers.
func (p *puppet) fragment(h wire.Header, first wire.PayloadType, number, total uint16, part []byte) []byte {
	p.t.Helper()
	h.InitiatorSPI, h.ResponderSPI, h.Major = p.spii, p.spir, 2
	if p.initiator {
		h.Flags |= wire.FlagInitiator
	}
	b, err := p.out.Seal(wire.AppendFragment(nil, h, first, number, total, p.out.BodyLen(len(part))), part, p.random)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// split seals a message in total fragments.
func (p *puppet) split(h wire.Header, total int, ps ...wire.Payload) (datagrams [][]byte) {
	p.t.Helper()
	first, inner := wire.AppendPayloads(nil, ps)
	for i := range total {
		part := inner[i*len(inner)/total : (i+1)*len(inner)/total]
		datagrams = append(datagrams, p.fragment(h, first, uint16(i+1), uint16(total), part))
	}
	return datagrams
}

var authRequest = wire.Header{Exchange: wire.ExchangeIKEAuth, MessageID: 1}

// halfOpenFragments is a half-open SA on which fragments may come.
func halfOpenFragments(t testing.TB) *puppet {
	p := newPuppet(t, true, nil)
	p.hello(fragmentsSupported)
	return p
}

func (p *puppet) deliverAll(datagrams ...[]byte) (sent [][]byte) {
	for _, b := range datagrams {
		sent = append(sent, p.deliver(p.path, b)...)
	}
	return sent
}

// IKE_AUTH in 1 to 40 fragments, in any order, with doubles: one answer, when the
// last one comes; then each retransmission is answered once, by the same bytes.
func TestFragmentedRequest(t *testing.T) {
	orders := map[string]func([][]byte){
		"in order": func([][]byte) {},
		"reversed": slices.Reverse[[][]byte],
		"mixed": func(b [][]byte) {
			for i := range b {
				b[i], b[i*7%len(b)] = b[i*7%len(b)], b[i]
			}
		},
	}
	for name, order := range orders {
		for _, total := range []int{1, 2, 3, 5, 32, 33, 40} {
			t.Run(fmt.Sprintf("%s, %d", name, total), func(t *testing.T) {
				p := halfOpenFragments(t)
				parts := p.split(authRequest, total, p.authPayloads()...)
				inOrder := slices.Clone(parts)
				order(parts)
				last := parts[total-1]
				early := parts[:total-1]
				if sent := p.deliverAll(slices.Concat(early, early)...); len(sent) > 0 {
					t.Fatal("answered too early")
				}
				if got := p.engine.Drops()["ike_fragment_duplicate"]; got != uint64(total-1) {
					t.Errorf("%d duplicates", got)
				}
				sent := p.deliver(p.path, last)
				if len(sent) != 1 || len(p.installed) != 1 {
					t.Fatalf("%d answers, %d child SAs, %v", len(sent), len(p.installed), p.engine.Drops())
				}
				again := p.deliverAll(inOrder...)
				if len(again) != 1 || !bytes.Equal(again[0], sent[0]) {
					t.Errorf("a retransmission gets %d answers", len(again))
				}
				// RFC 7383 section 2.5.2: smaller ones, after all.
				if again := p.deliverAll(p.split(authRequest, total+3, p.authPayloads()...)...); len(again) != 1 || !bytes.Equal(again[0], sent[0]) {
					t.Errorf("other fragments of it get %d answers", len(again))
				}
				p.next = 2
				if len(p.send(p.request(wire.ExchangeInformational))) != 1 {
					t.Error("the SA does not work")
				}
			})
		}
	}
}

// What a hostile sender can make of fragments, before it is authenticated:
// nothing of it stands in the way of the right ones.
func TestHostileFragments(t *testing.T) {
	part := bytes.Repeat([]byte{7}, 100)
	for name, attack := range map[string]func(p *puppet) [][]byte{
		"number 0":          func(p *puppet) [][]byte { return [][]byte{p.fragment(authRequest, 0, 0, 3, part)} },
		"number past total": func(p *puppet) [][]byte { return [][]byte{p.fragment(authRequest, 0, 4, 3, part)} },
		"total 0":           func(p *puppet) [][]byte { return [][]byte{p.fragment(authRequest, 0, 0, 0, part)} },
		"65535 of 65535":    func(p *puppet) [][]byte { return [][]byte{p.fragment(authRequest, 0, 65535, 65535, part)} },
		"1 of 129":          func(p *puppet) [][]byte { return [][]byte{p.fragment(authRequest, 35, 1, 129, part)} },
		"empty":             func(p *puppet) [][]byte { return [][]byte{p.fragment(authRequest, 35, 1, 2, nil)} },
		"message ID 0": func(p *puppet) [][]byte {
			return [][]byte{p.fragment(wire.Header{Exchange: wire.ExchangeIKEAuth}, 35, 1, 2, part)}
		},
		"message ID 2": func(p *puppet) [][]byte {
			return [][]byte{p.fragment(wire.Header{Exchange: wire.ExchangeIKEAuth, MessageID: 2}, 35, 1, 2, part)}
		},
		"IKE_SA_INIT": func(p *puppet) [][]byte {
			return [][]byte{p.fragment(wire.Header{Exchange: wire.ExchangeIKESAInit}, 33, 1, 1, part)}
		},
		"INFORMATIONAL": func(p *puppet) [][]byte {
			return [][]byte{p.fragment(wire.Header{Exchange: wire.ExchangeInformational, MessageID: 1}, 42, 1, 1, part)}
		},
		"a response": func(p *puppet) [][]byte {
			return [][]byte{p.fragment(wire.Header{Exchange: wire.ExchangeIKEAuth, MessageID: 1, Flags: wire.FlagResponse}, 36, 1, 2, part)}
		},
		"wrong checksum": func(p *puppet) [][]byte {
			b := p.fragment(authRequest, 35, 1, 3, part)
			b[len(b)-1] ^= 1
			return [][]byte{b}
		},
		"changed number": func(p *puppet) [][]byte {
			b := p.fragment(authRequest, 35, 1, 3, part)
			b[33] = 2
			return [][]byte{b}
		},
		"changed total": func(p *puppet) [][]byte {
			b := p.fragment(authRequest, 35, 1, 3, part)
			b[35] = 100
			return [][]byte{b}
		},
		"no checksum": func(p *puppet) [][]byte {
			return [][]byte{p.clear(wire.ExchangeIKEAuth, 0, 1, &wire.EncryptedFragment{Number: 1, Total: 2, Body: []byte{1}})}
		},
		"in the clear": func(p *puppet) [][]byte {
			return [][]byte{p.clear(wire.ExchangeIKEAuth, 0, 1, &wire.EncryptedFragment{Number: 1, Total: 2, Body: part})}
		},
		"SKF and SK": func(p *puppet) [][]byte {
			return [][]byte{p.clear(wire.ExchangeIKEAuth, 0, 1, &wire.EncryptedFragment{Number: 1, Total: 2, Body: part}, &wire.Encrypted{Body: part})}
		},
		"cut short": func(p *puppet) [][]byte {
			b := p.fragment(authRequest, 35, 1, 3, part)
			return [][]byte{b[:len(b)-1]}
		},
		"three of four": func(p *puppet) [][]byte {
			return [][]byte{p.fragment(authRequest, 35, 1, 4, part), p.fragment(authRequest, 0, 2, 4, part), p.fragment(authRequest, 0, 4, 4, part)}
		},
		"17 KB": func(p *puppet) (b [][]byte) {
			for i := range uint16(17) {
				b = append(b, p.fragment(authRequest, 35, i+1, 18, make([]byte, 1000)))
			}
			return b
		},
		"one of 60 KB": func(p *puppet) [][]byte { return [][]byte{p.fragment(authRequest, 35, 1, 2, make([]byte, 60000))} },
	} {
		t.Run(name, func(t *testing.T) {
			p := halfOpenFragments(t)
			datagrams := attack(p)
			before := p.dropped()
			if sent := p.deliverAll(datagrams...); len(sent) > 0 {
				t.Fatalf("answered: %x", sent)
			}
			if p.dropped() == before && name != "three of four" {
				t.Error("not counted")
			}
			if sent := p.deliverAll(datagrams...); len(sent) > 0 {
				t.Error("answered the second time")
			}
			// The right ones are more than any of the above, or come whole.
			right := p.split(authRequest, 6, p.authPayloads()...)
			if name == "17 KB" {
				right = [][]byte{p.seal(wire.ExchangeIKEAuth, 0, 1, p.authPayloads()...)}
			}
			if sent := p.deliverAll(right...); len(sent) != 1 || len(p.installed) != 1 {
				t.Fatalf("the right one gets %d answers: %v %v", len(sent), p.events, p.engine.Drops())
			}
		})
	}
}

// A message that is divided anew counts from then on; what is left of the older
// division is late (RFC 7383 section 2.6). A smaller number is not believed.
func TestFragmentTotalChanges(t *testing.T) {
	p := halfOpenFragments(t)
	old, fewer, anew := p.split(authRequest, 4, p.authPayloads()...), p.split(authRequest, 3, p.authPayloads()...), p.split(authRequest, 5, p.authPayloads()...)
	p.deliverAll(old[0], old[1], old[2])
	p.send(fewer[0])
	if d := p.engine.Drops(); d["ike_fragment_duplicate"] != 1 || d["ike_fragment_incomplete"] != 0 {
		t.Errorf("a smaller total: %v", d)
	}
	p.send(anew[4])
	if p.engine.Drops()["ike_fragment_incomplete"] != 1 {
		t.Error("a larger total does not begin again")
	}
	p.send(old[3])
	if sent := p.deliverAll(anew[:4]...); len(sent) != 1 || len(p.installed) != 1 {
		t.Fatalf("%d answers: %v", len(sent), p.engine.Drops())
	}
}

// A forger's larger total has no effect without a key.
func TestForgedTotal(t *testing.T) {
	p := halfOpenFragments(t)
	parts := p.split(authRequest, 4, p.authPayloads()...)
	p.deliverAll(parts[:3]...)
	forged := bytes.Clone(parts[0])
	forged[35] = 9
	p.send(forged)
	if sent := p.deliver(p.path, parts[3]); len(sent) != 1 || p.engine.Drops()["ike_integrity"] != 1 {
		t.Fatalf("%d answers, %v", len(sent), p.engine.Drops())
	}
}

// Fragments without the rest are forgotten after half a minute, and the SA goes
// on; a message that comes whole in between takes their place.
func TestFragmentsExpire(t *testing.T) {
	p := halfOpenFragments(t)
	p.deliverAll(p.split(authRequest, 2, p.authPayloads()...)...)
	request := wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2}
	parts := p.split(request, 3, &wire.VendorID{Data: make([]byte, 50)})
	p.deliverAll(parts[:2]...)
	p.wait(29 * time.Second)
	if p.engine.Drops()["ike_fragment_incomplete"] != 0 {
		t.Error("forgotten too early")
	}
	p.wait(2 * time.Second)
	if p.engine.Drops()["ike_fragment_incomplete"] != 1 {
		t.Error("not forgotten")
	}
	if sent := p.deliver(p.path, parts[2]); len(sent) > 0 {
		t.Error("answered")
	}
	if sent := p.deliverAll(parts[:2]...); len(sent) != 1 {
		t.Error("not answered when all are there")
	}
	p.next = 3
	p.deliverAll(p.split(wire.Header{Exchange: wire.ExchangeInformational, MessageID: 3}, 2, &wire.VendorID{Data: make([]byte, 50)})[0])
	if len(p.send(p.request(wire.ExchangeInformational))) != 1 {
		t.Error("a message that comes whole is not taken")
	}
	if p.has(ikev2.EventDown) {
		t.Error("the SA is down")
	}
}

// An authenticated peer may send 64 KB; a byte more is refused, and nothing of
// it is kept.
func TestAssembledLimit(t *testing.T) {
	for _, size := range []int{60 << 10, 64<<10 - 4, 64 << 10} {
		p := halfOpenFragments(t)
		p.deliverAll(p.split(authRequest, 2, p.authPayloads()...)...)
		var ps []wire.Payload
		for left := size; left > 0; left -= 4096 {
			ps = append(ps, &wire.VendorID{Data: make([]byte, min(left, 4096)-4)})
		}
		sent := p.deliverAll(p.split(wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2}, 128, ps...)...)
		if len(sent) != 1 {
			t.Errorf("%d bytes: %d answers, %v", size, len(sent), p.engine.Drops())
		}
	}
	p := halfOpenFragments(t)
	p.deliverAll(p.split(authRequest, 2, p.authPayloads()...)...)
	request := wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2}
	p.deliverAll(p.fragment(request, 43, 1, 3, make([]byte, 40000)))
	p.send(p.fragment(request, 0, 2, 3, make([]byte, 40000)))
	if p.engine.Drops()["ike_fragment_limit"] != 1 {
		t.Errorf("80 KB are kept: %v", p.engine.Drops())
	}
}

// A responder's answer in fragments, with the same disturbances: the initiator
// takes it as one.
func TestFragmentedResponse(t *testing.T) {
	answer := wire.Header{Exchange: wire.ExchangeIKEAuth, MessageID: 1, Flags: wire.FlagResponse}
	for _, total := range []int{1, 2, 7} {
		p := newPuppet(t, false, nil)
		p.called(fragmentsSupported)
		p.send(p.initResp)
		p.float()
		parts := p.split(answer, total, p.authPayloads()...)
		slices.Reverse(parts)
		wrong := answer
		wrong.Exchange = wire.ExchangeInformational
		p.deliverAll(p.fragment(wrong, 0, 1, 2, []byte{1}), p.fragment(authRequest, 0, 1, 2, []byte{1}))
		for range 2 {
			p.deliverAll(parts[:total-1]...)
		}
		if p.has(ikev2.EventEstablished) {
			t.Fatal("up too early")
		}
		p.deliver(p.path, parts[total-1])
		if !p.has(ikev2.EventEstablished) || len(p.installed) != 1 {
			t.Fatalf("%d fragments: %v %v", total, p.events, p.engine.Drops())
		}
		if sent := p.deliverAll(parts...); len(sent) > 0 {
			t.Error("a late answer has an effect")
		}
	}
}

// Who has not said that it takes fragments may not send any.
func TestUnaskedFragments(t *testing.T) {
	p := newPuppet(t, true, nil)
	p.hello()
	if sent := p.deliverAll(p.split(authRequest, 2, p.authPayloads()...)...); len(sent) > 0 || p.engine.Drops()["ike_malformed"] != 2 {
		t.Errorf("%d answers, %v", len(sent), p.engine.Drops())
	}
}

// FuzzReassembly has somebody who made a key exchange send a train of fragments,
// each of three bytes: number, total, and where it belongs and how long it is.
// Whatever it is, the engine stays sound (its Audit bounds what it keeps), nobody
// is authenticated by it, and the right message still gets its answer.
func FuzzReassembly(f *testing.F) {
	f.Add(false, []byte{1, 2, 0, 2, 2, 0})
	f.Add(true, []byte{1, 2, 0, 2, 2, 0})
	f.Add(false, []byte{1, 3, 8, 2, 2, 8, 1, 4, 8, 4, 3, 8, 2, 4, 250, 0, 0, 1})
	f.Add(true, []byte{1, 1, 0xff, 1, 128, 0xff, 2, 128, 0xfe, 3, 128, 0xfc, 1, 2, 1, 1, 2, 2, 1, 2, 3})
	f.Add(true, bytes.Repeat([]byte{1, 200, 4, 9, 9, 4}, 20))
	f.Fuzz(func(t *testing.T, up bool, train []byte) {
		p := halfOpenFragments(t)
		request := authRequest
		if up {
			p.deliverAll(p.split(authRequest, 2, p.authPayloads()...)...)
			request = wire.Header{Exchange: wire.ExchangeInformational, MessageID: 2}
		}
		for len(train) >= 3 && len(p.events) < 4 && len(train) < 600 {
			h, size := request, int(train[2]&^3)*32
			h.MessageID += uint32(train[2] & 1)
			if train[2]&2 != 0 {
				h.Flags = wire.FlagResponse
			}
			p.deliver(p.path, p.fragment(h, wire.PayloadVendor, uint16(train[0]), uint16(train[1]), make([]byte, size)))
			train = train[3:]
		}
		if !up && p.has(ikev2.EventEstablished) || up && len(p.installed) == 0 && !p.has(ikev2.EventDown) {
			t.Fatalf("%v", p.events)
		}
		p.wait(40 * time.Second)
		if up && !p.has(ikev2.EventDown) {
			if d := p.engine.Drops(); d["ike_retransmission"] == 0 && len(p.deliver(p.path, p.seal(request.Exchange, 0, 2))) > 1 {
				t.Fatal("answered more than once")
			}
		}
	})
}
