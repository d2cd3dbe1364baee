package iketest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// tokenA is what the engine, playing B, was given in IKE_AUTH as A's token.
var tokenA = bytes.Repeat([]byte{0x5a}, 16)

// taker is an engine that is up with the puppet, whose token it has.
func taker(t *testing.T, token []byte) *puppet {
	p := newPuppet(t, false, nil)
	p.greet()
	p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, append(p.authPayloads(), &wire.Notify{NotifyType: wire.NotifyQuickCrashDetection, Data: token})...))
	if !p.has(ikev2.EventChildUp) {
		t.Fatalf("not up: %v", p.events)
	}
	p.events = nil
	return p
}

func (p *puppet) says(notifies ...*wire.Notify) []byte {
	var ps []wire.Payload
	for _, n := range notifies {
		ps = append(ps, n)
	}
	return p.clear(wire.ExchangeInformational, wire.FlagResponse, 2, ps...)
}

func invalidIKESPI() *wire.Notify { return &wire.Notify{NotifyType: wire.NotifyInvalidIKESPI} }

func tokenNotify(b []byte) *wire.Notify {
	return &wire.Notify{NotifyType: wire.NotifyQuickCrashDetection, Data: b}
}

// The peer's token ends the SA; nothing else in the clear does, and nothing
// makes us ask more often than now and then.
func TestToken(t *testing.T) {
	long := bytes.Repeat([]byte{1}, 128)
	for name, c := range map[string]struct {
		given []byte
		said  []*wire.Notify
		ends  bool
	}{
		"the token":            {tokenA, []*wire.Notify{invalidIKESPI(), tokenNotify(tokenA)}, true},
		"the token alone":      {tokenA, []*wire.Notify{tokenNotify(tokenA)}, true},
		"one of two":           {tokenA, []*wire.Notify{tokenNotify(long), tokenNotify(tokenA)}, true},
		"a long token":         {long, []*wire.Notify{tokenNotify(long)}, true},
		"another":              {tokenA, []*wire.Notify{invalidIKESPI(), tokenNotify(long[:16])}, false},
		"a part of it":         {tokenA, []*wire.Notify{tokenNotify(tokenA[:15])}, false},
		"more than it":         {tokenA, []*wire.Notify{tokenNotify(append(tokenA[:16:16], 0))}, false},
		"nothing":              {tokenA, []*wire.Notify{tokenNotify(nil)}, false},
		"a token that is weak": {tokenA[:15], []*wire.Notify{tokenNotify(tokenA[:15])}, false},
		"none was given":       {nil, []*wire.Notify{invalidIKESPI(), tokenNotify(nil)}, false},
		"INVALID_IKE_SPI":      {tokenA, []*wire.Notify{invalidIKESPI()}, false},
		"Delete":               {tokenA, []*wire.Notify{{NotifyType: wire.NotifyAuthenticationFailed}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := taker(t, c.given)
			asked := 0
			for range 20 {
				asked += len(p.send(p.says(c.said...)))
				if c.ends {
					break
				}
			}
			if e, down := p.last(ikev2.EventDown); down != c.ends || down && e.Reason != ikev2.ReasonRestarted {
				t.Errorf("down %v, want %v: %v", down, c.ends, p.events)
			}
			if !c.ends && asked > 1 {
				t.Errorf("%d questions", asked)
			}
		})
	}
}

// The token of a message is that of its SPIs, role and all: no reflection, no
// turned header, and not by another gateway.
func TestTokenIsTheSAs(t *testing.T) {
	n, a, b := resumable()
	connectFor(time.Second)(n, a, b)
	from := netip.MustParseAddrPort(AddrBPublic + ":4500")
	to := netip.MustParseAddrPort(AddrA + ":4500")
	original := b.Sent[len(b.Sent)-1].Payload
	for name, turn := range map[string]func([]byte){
		"the flag of the initiator": func(b []byte) { b[19] ^= byte(wire.FlagInitiator) },
		"SPIs changed":              func(b []byte) { copy(b, append(bytes.Clone(b[8:16]), b[:8]...)) },
		"SPIs and flag": func(b []byte) {
			copy(b, append(bytes.Clone(b[8:16]), b[:8]...))
			b[19] ^= byte(wire.FlagInitiator)
		},
		"another initiator": func(b []byte) { b[0] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			turned := bytes.Clone(original)
			turn(turned)
			n.Inject(Packet{From: from, To: to, Encap: true, Payload: turned})
			n.Run(time.Second)
			for _, o := range a.Sent {
				m, err := wire.Parse(o.Payload)
				if err != nil || wire.FindNotify(m.Payloads, wire.NotifyQuickCrashDetection) == nil {
					continue
				}
				// Under any SPIs and flags, B does not take it for A's.
				for _, flags := range []wire.Flags{wire.FlagResponse, wire.FlagResponse | wire.FlagInitiator} {
					h, _ := wire.ParseHeader(original)
					m.Header.InitiatorSPI, m.Header.ResponderSPI, m.Flags = h.InitiatorSPI, h.ResponderSPI, flags
					n.Inject(Packet{From: to, To: from, Encap: true, Payload: m.Append(nil)})
					n.Run(20 * time.Second)
				}
			}
			agreed(t, n, a, b)
			if b.Has(ikev2.EventDown)+a.Has(ikev2.EventDown) > 0 {
				t.Errorf("the SA is down\n%s", n.Transcript())
			}
		})
	}
}

// Strangers' messages for SAs that are not there are answered few times a
// second, each source and all, by nothing that is longer; and not at all when
// they are answers themselves or in the clear.
func TestUnknownSAFlood(t *testing.T) {
	cfg, _ := Configs()
	cfg.Resume.Key = keyA
	p := newPuppet(t, true, nil)
	p.engine = ikev2.New(cfg, Random(1))
	body := make([]byte, 25)
	message := func(i uint32, flags wire.Flags) []byte {
		m := wire.Message{Header: wire.Header{ResponderSPI: wire.SPI{1}, Major: 2, Exchange: wire.ExchangeInformational, Flags: flags, MessageID: 7},
			Payloads: []wire.Payload{&wire.Encrypted{Body: body}}}
		binary.BigEndian.PutUint32(m.InitiatorSPI[:], i+1)
		return m.Append(nil)
	}
	p.float()
	answers, in, out := 0, 0, 0
	for i := range uint32(10000) {
		path := p.path
		path.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 4500)
		if i < 1000 {
			path = p.path // one source alone
		}
		b := message(i, wire.FlagInitiator)
		in += len(b)
		for _, answer := range p.sendFrom(path, b) {
			answers++
			out += len(answer)
			if len(answer) > len(b) {
				t.Fatalf("%d octets are answered by %d", len(b), len(answer))
			}
		}
		if i == 999 && answers != 100 {
			t.Errorf("one source gets %d answers", answers)
		}
	}
	if answers != 100+9000 {
		t.Errorf("%d answers in a second", answers)
	}
	t.Logf("%d octets in, %d out", in, out)
	p.now = p.now.Add(time.Minute)
	if len(p.send(message(1, wire.FlagInitiator|wire.FlagResponse))) > 0 {
		t.Error("an answer is answered")
	}
	short := wire.Message{Header: wire.Header{InitiatorSPI: wire.SPI{1}, ResponderSPI: wire.SPI{2}, Major: 2, Exchange: wire.ExchangeInformational, Flags: wire.FlagInitiator},
		Payloads: []wire.Payload{&wire.Encrypted{Body: body[:8]}}}
	if len(p.send(short.Append(nil))) > 0 {
		t.Error("a short message gets a longer answer")
	}
	short.Payloads = []wire.Payload{&wire.Notify{NotifyType: wire.NotifyInvalidIKESPI}}
	if len(p.send(short.Append(nil))) > 0 {
		t.Error("a message in the clear is answered")
	}
}

// INVALID_SPI in the clear makes us ask the peer, but only about a child that we
// send with, only from where the peer is, and only now and then.
func TestInvalidSPIHint(t *testing.T) {
	hint := func(spi uint32) []byte {
		m := wire.Message{Header: wire.Header{Major: 2, Exchange: wire.ExchangeInformational, Flags: wire.FlagInitiator},
			Payloads: []wire.Payload{&wire.Notify{NotifyType: wire.NotifyInvalidSPI, Data: binary.BigEndian.AppendUint32(nil, spi)}}}
		return m.Append(nil)
	}
	p := connected(t)
	elsewhere := p.path
	elsewhere.Remote = netip.MustParseAddrPort("198.51.100.1:4500")
	if len(p.send(hint(0xdead0001))) > 0 || len(p.sendFrom(elsewhere, hint(0xabcd0001))) > 0 {
		t.Error("a stranger's hint is taken")
	}
	asked := 0
	for range 300 {
		p.now = p.now.Add(100 * time.Millisecond)
		for _, b := range p.send(hint(0xabcd0001)) {
			h, ps := p.open(b)
			if len(ps) > 0 || h.Flags&wire.FlagResponse != 0 {
				t.Fatalf("%v %s", h.Exchange, names(ps))
			}
			asked++
			p.deliver(p.path, p.seal(wire.ExchangeInformational, wire.FlagResponse, h.MessageID))
		}
	}
	if asked != 3 || len(p.installed) != 1 {
		t.Errorf("%d questions in 30 s, %d child SAs", asked, len(p.installed))
	}
}

// ESP that no child takes is complained of under the protection of the IKE SA
// with its sender, else in the clear; not when the SPI is one that is on its
// way up, and few times a second.
func TestUnknownSPI(t *testing.T) {
	p := connected(t)
	unknown := func(path ikev2.Path, spi uint32) [][]byte {
		t.Helper()
		if err := p.engine.Command(p.now, ikev2.UnknownSPI{SPI: spi, Path: path}); err != nil {
			t.Fatal(err)
		}
		return p.poll()
	}
	for spi := range p.installed {
		if len(unknown(p.path, spi)) > 0 {
			t.Error("an SPI that is known is complained of")
		}
	}
	sent := unknown(p.path, 0xdead0001)
	if len(sent) != 1 {
		t.Fatalf("%d complaints", len(sent))
	}
	h, ps := p.open(sent[0])
	n := wire.FindNotify(ps, wire.NotifyInvalidSPI)
	if n == nil || binary.BigEndian.Uint32(n.Data) != 0xdead0001 || h.Exchange != wire.ExchangeInformational {
		t.Errorf("%s", names(ps))
	}
	p.deliver(p.path, p.seal(wire.ExchangeInformational, wire.FlagResponse, h.MessageID))
	for range 100 {
		if len(unknown(p.path, 0xdead0001)) > 0 {
			t.Fatal("complains again at once")
		}
	}
	elsewhere := p.path
	elsewhere.Remote = netip.MustParseAddrPort("198.51.100.1:4500")
	count := 0
	for range 100 {
		for _, b := range unknown(elsewhere, 0xdead0001) {
			m, err := wire.Parse(b)
			if err != nil || names(m.Payloads) != "INVALID_SPI" || m.InitiatorSPI != (wire.SPI{}) || m.Flags != wire.FlagInitiator || p.sentBy != elsewhere {
				t.Fatalf("%x: %v", b, err)
			}
			count++
		}
	}
	if count != 5 {
		t.Errorf("%d complaints to a stranger in a second", count)
	}
}

// A peer that says under protection that it does not have our child has it
// replaced; of what is not there, nothing comes.
func TestInvalidSPIProtected(t *testing.T) {
	p := connected(t)
	say := func(spi uint32) [][]byte {
		t.Helper()
		return p.send(p.request(wire.ExchangeInformational, &wire.Notify{NotifyType: wire.NotifyInvalidSPI, Data: binary.BigEndian.AppendUint32(nil, spi)}))
	}
	if len(say(0xdead0001)) != 1 || len(p.installed) != 1 {
		t.Fatal("an SPI that is not ours has an effect")
	}
	sent := say(0xabcd0001)
	if len(sent) != 2 || !p.has(ikev2.EventChildDown) {
		t.Fatalf("%d messages, %v", len(sent), p.events)
	}
	if _, ps := p.open(sent[1]); names(ps) != "D" {
		t.Errorf("says %s", names(ps))
	}
}

// The child that only one side has lost is replaced at once, under the IKE SA
// that both have.
func TestChildLost(t *testing.T) {
	n, a, b := resumable()
	connectFor(time.Second)(n, a, b)
	var out ikev2.InstallOutbound
	for _, out = range b.Out {
	}
	// A's data path has dropped it, and says so of B's packets.
	n.Inject(Packet{From: netip.MustParseAddrPort(AddrBPublic + ":4500"), To: netip.MustParseAddrPort(AddrA + ":4500"), Encap: true,
		Payload: (&wire.Message{Header: wire.Header{InitiatorSPI: wire.SPI{1}, Major: 2, Exchange: wire.ExchangeInformational}}).Append(nil)})
	n.Run(time.Second)
	n.Command(a, ikev2.UnknownSPI{SPI: out.OutboundSPI ^ 0x00100000, Path: a.Out[out.OutboundSPI].Path})
	n.Run(5 * time.Second)
	agreed(t, n, a, b)
	if a.Has(ikev2.EventDown)+b.Has(ikev2.EventDown) > 0 {
		t.Error("the IKE SA is down")
	}
}

// TestTokenIsNotOfAnSAToCome: the peer has a replaced IKE SA's successor first.
// What it says there may overtake its answer, and tells nobody that the SA is lost.
func TestTokenIsNotOfAnSAToCome(t *testing.T) {
	for name, mode := range map[string]ikev2.Mode{"classical": ikev2.ModeOff, "ML-KEM": ikev2.ModePrefer} {
		t.Run(name, func(t *testing.T) {
			n, a, b := resumable(func(a, b *ikev2.Config) { a.Peers[0].PostQuantum.Mode, b.Peers[0].PostQuantum.Mode = mode, mode })
			connectFor(time.Second)(n, a, b)
			established := b.Has(ikev2.EventEstablished)
			n.Link = func(p Packet) []time.Duration {
				h, err := wire.ParseHeader(p.Payload)
				switch {
				case err != nil:
				case h.NextPayload == wire.PayloadNotify: // what B says in the clear, after its own token
					return []time.Duration{time.Second}
				case h.Exchange != wire.ExchangeInformational && h.Flags&wire.FlagResponse != 0:
					return []time.Duration{300 * time.Millisecond}
				}
				return soon
			}
			n.Command(b, ikev2.RekeyIKE{Peer: b.peer()})
			n.RunUntil(time.Second, func() bool { return a.Has(ikev2.EventRekeyed) == 1 })
			n.Command(a, ikev2.Rekey{SPI: a.current("lan")})
			n.Run(10 * time.Second)
			for _, h := range []*Host{a, b} {
				if h.Has(ikev2.EventRekeyed) != 1 || h.Has(ikev2.EventDown) != 0 || h.Has(ikev2.EventEstablished) != established {
					t.Errorf("%s has lost the SA:\n%s", h.Name, n.Transcript())
				}
			}
			if err := Agree(a, b); err != nil {
				t.Error(err)
			}
			faultless(t, n)
		})
	}
}
