package iketest

import (
	"net/netip"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// puppet is a peer of one engine whose every message the test writes: right
// where the test does not say otherwise. It does what an attacker can do who
// makes a key exchange, and with psk what the peer itself can do.
type puppet struct {
	t      testing.TB
	engine *ikev2.Engine
	now    time.Time
	path   ikev2.Path // the engine's view
	suite  keymat.IKESuite
	esp    []wire.Transform
	random *randomReader

	initiator  bool
	spii, spir wire.SPI
	ni, nr     []byte
	ke         keymat.KeyExchange
	prf        keymat.PRF
	keys       keymat.IKEKeys
	in, out    *keymat.Cipher
	initReq    []byte
	initResp   []byte
	next       uint32 // message ID of the puppet's next request
	link       []byte // to the next IKE_FOLLOWUP_KE

	sentBy    ikev2.Path // of the engine's latest message
	installed map[uint32]ikev2.InstallInbound
	outbound  map[uint32]uint32 // the puppet's SPIs by the engine's
	assigned  ikev2.AssignAddresses
	events    []ikev2.Event
	moved     []ikev2.MovePeer
}

type randomReader struct{ next byte }

func (r *randomReader) Read(b []byte) (int, error) {
	for i := range b {
		r.next++
		b[i] = r.next
	}
	return len(b), nil
}

var gcm = keymat.IKESuite{Encr: wire.EncrAESGCM16, KeyBits: 128, PRF: wire.PRFHMACSHA2256, Group: wire.GroupX25519}
var cbc = keymat.IKESuite{Encr: wire.EncrAESCBC, KeyBits: 256, PRF: wire.PRFHMACSHA2512, Integ: wire.IntegHMACSHA2512256, Group: wire.GroupX25519}

// newPuppet plays B of the situation towards A's engine, or, as a responder,
// A towards B's.
func newPuppet(t testing.TB, initiator bool, change func(*ikev2.Peer)) *puppet {
	return newPuppetWith(t, initiator, func(c *ikev2.Config) {
		if change != nil {
			change(&c.Peers[0])
		}
	})
}

func newPuppetWith(t testing.TB, initiator bool, change func(*ikev2.Config)) *puppet {
	cfg, cfgB := Configs()
	p := &puppet{t: t, initiator: initiator, suite: gcm, random: &randomReader{}, now: New().Now,
		path:      ikev2.Path{Local: ToB.Local, Remote: ToB.Remote},
		esp:       []wire.Transform{{Type: wire.TransformEncr, ID: wire.EncrAESGCM16, KeyBits: 128}, {Type: wire.TransformESN, ID: wire.ESNNo}},
		installed: map[uint32]ikev2.InstallInbound{}, outbound: map[uint32]uint32{}}
	if !initiator {
		cfg, p.path = cfgB, ToA
	}
	change(&cfg)
	p.engine = ikev2.New(cfg, Random(7))
	return p
}

// connected is a puppet whose IKE SA and first child are up.
func connected(t testing.TB) *puppet { return connectedWith(t, func(*ikev2.Config) {}) }

func connectedWith(t testing.TB, change func(*ikev2.Config)) *puppet {
	p := newPuppetWith(t, true, change)
	p.hello()
	p.send(p.request(wire.ExchangeIKEAuth, p.authPayloads()...))
	if len(p.installed) != 1 {
		t.Fatalf("no child SA: %v", p.events)
	}
	return p
}

// send gives the engine a datagram and returns what it sends. The engine stays
// sound, and counts what had no effect.
func (p *puppet) send(b []byte) [][]byte {
	p.t.Helper()
	return p.sendFrom(p.path, b)
}

func (p *puppet) sendFrom(path ikev2.Path, b []byte) [][]byte {
	p.t.Helper()
	before, effects := p.dropped(), len(p.events)+len(p.moved)
	sent := p.deliver(path, b)
	if len(sent) == 0 && len(p.events)+len(p.moved) == effects && p.dropped() == before {
		p.t.Errorf("a datagram had no effect and was not counted: %x", b)
	}
	return sent
}

// deliver is for what may be taken in silence: an answer that was due.
func (p *puppet) deliver(path ikev2.Path, b []byte) [][]byte {
	p.t.Helper()
	mine := append([]byte(nil), b...)
	p.engine.HandleDatagram(p.now, ikev2.Datagram{Path: path, Payload: mine})
	clear(mine) // the engine may keep nothing of it
	return p.poll()
}

func (p *puppet) dropped() (sum uint64) {
	for _, n := range p.engine.Drops() {
		sum += n
	}
	return sum
}

func (p *puppet) poll() (sent [][]byte) {
	p.t.Helper()
	for {
		o, ok := p.engine.Poll()
		if !ok {
			break
		}
		switch o := o.(type) {
		case ikev2.Transmit:
			sent, p.sentBy = append(sent, o.Payload), o.Path
		case ikev2.InstallInbound:
			p.installed[o.InboundSPI], p.outbound[o.InboundSPI] = o, o.OutboundSPI
		case ikev2.RemoveInbound:
			delete(p.installed, o.InboundSPI)
		case ikev2.AssignAddresses:
			p.assigned = o
		case ikev2.MovePeer:
			p.moved = append(p.moved, o)
		case ikev2.Event:
			p.events = append(p.events, o)
		}
	}
	if err := p.engine.Audit(); err != nil {
		p.t.Errorf("the engine is not sound: %v", err)
	}
	return sent
}

func (p *puppet) wait(d time.Duration) [][]byte {
	p.t.Helper()
	p.now = p.now.Add(d)
	p.engine.HandleTimeout(p.now)
	return p.poll()
}

func (p *puppet) has(kind ikev2.EventKind) bool { _, ok := p.last(kind); return ok }

func (p *puppet) last(kind ikev2.EventKind) (last ikev2.Event, ok bool) {
	for _, e := range p.events {
		if e.Kind == kind {
			last, ok = e, true
		}
	}
	return last, ok
}

// initPayloads are those of an IKE_SA_INIT of the puppet's.
func (p *puppet) initPayloads() []wire.Payload {
	nonce := p.ni
	if !p.initiator {
		nonce = p.nr
	}
	return []wire.Payload{
		&wire.SA{Proposals: []wire.Proposal{{Number: 1, Protocol: wire.ProtocolIKE, Transforms: transforms(p.suite)}}},
		&wire.KE{Group: p.ke.Group(), Data: p.ke.Public()},
		&wire.Nonce{Data: nonce},
	}
}

func transforms(s keymat.IKESuite) []wire.Transform {
	ts := []wire.Transform{
		{Type: wire.TransformEncr, ID: s.Encr, KeyBits: s.KeyBits},
		{Type: wire.TransformPRF, ID: s.PRF},
		{Type: wire.TransformKE, ID: s.Group},
	}
	if s.Integ != 0 {
		ts = append(ts, wire.Transform{Type: wire.TransformInteg, ID: s.Integ})
	}
	for i, id := range s.AddKE {
		if id != 0 {
			ts = append(ts, wire.Transform{Type: wire.TransformADDKE1 + wire.TransformType(i), ID: id})
		}
	}
	return ts
}

func (p *puppet) prepare() {
	p.t.Helper()
	nonce := make([]byte, 32)
	p.random.Read(nonce)
	var spi wire.SPI
	p.random.Read(spi[:])
	if p.initiator {
		p.ni, p.spii = nonce, spi
	} else {
		p.nr, p.spir = nonce, spi
	}
	var err error
	if p.ke, err = keymat.NewKeyExchange(p.suite.Group, p.random); err != nil {
		p.t.Fatal(err)
	}
}

func (p *puppet) initMessage(ps ...wire.Payload) []byte {
	h := wire.Header{InitiatorSPI: p.spii, Major: 2, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagInitiator}
	if !p.initiator {
		h.ResponderSPI, h.Flags = p.spir, wire.FlagResponse
	}
	m := wire.Message{Header: h, Payloads: ps}
	return m.Append(nil)
}

// hello makes a half-open SA in the engine.
func (p *puppet) hello(more ...wire.Payload) {
	p.t.Helper()
	p.prepare()
	p.initReq = p.initMessage(append(p.initPayloads(), more...)...)
	sent := p.send(p.initReq)
	if len(sent) != 1 {
		p.t.Fatalf("IKE_SA_INIT gets %d answers", len(sent))
	}
	p.learn(sent[0])
}

// learn takes the engine's IKE_SA_INIT and derives the keys.
func (p *puppet) learn(b []byte) {
	p.t.Helper()
	m, err := wire.Parse(b)
	if err != nil {
		p.t.Fatal(err)
	}
	ke, ok := wire.Find[*wire.KE](m.Payloads)
	nonce, _ := wire.Find[*wire.Nonce](m.Payloads)
	if !ok {
		p.t.Fatalf("IKE_SA_INIT holds %s", names(m.Payloads))
	}
	if p.initiator {
		p.spir, p.nr, p.initResp = m.ResponderSPI, nonce.Data, b
	} else {
		p.spii, p.ni, p.initReq = m.InitiatorSPI, nonce.Data, b
	}
	shared, err := p.ke.Shared(ke.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.keys, err = keymat.DeriveIKE(p.suite, p.ni, p.nr, shared, p.spii, p.spir); err != nil {
		p.t.Fatal(err)
	}
	p.prf, _ = keymat.NewPRF(p.suite.PRF)
	k := ikev2.IKEKeys{Suite: p.suite, Keys: p.keys}
	p.out, _ = newCipher(k, p.initiator)
	p.in, _ = newCipher(k, !p.initiator)
	p.next = 0
	if p.initiator {
		p.next = 1
	}
	if p.initiator {
		p.float()
	}
}

// request is the puppet's next request.
func (p *puppet) request(x wire.ExchangeType, ps ...wire.Payload) []byte {
	p.next++
	return p.seal(x, 0, p.next-1, ps...)
}

func (p *puppet) seal(x wire.ExchangeType, flags wire.Flags, id uint32, ps ...wire.Payload) []byte {
	first, inner := wire.AppendPayloads(nil, ps)
	return p.sealBytes(x, flags, id, first, inner)
}

func (p *puppet) sealBytes(x wire.ExchangeType, flags wire.Flags, id uint32, first wire.PayloadType, inner []byte) []byte {
	p.t.Helper()
	if p.initiator {
		flags |= wire.FlagInitiator
	}
	h := wire.Header{InitiatorSPI: p.spii, ResponderSPI: p.spir, Major: 2, Exchange: x, Flags: flags, MessageID: id}
	b, err := p.out.Seal(wire.AppendProtected(nil, h, first, p.out.BodyLen(len(inner))), inner, p.random)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// clear is the same header with the payloads in the clear.
func (p *puppet) clear(x wire.ExchangeType, flags wire.Flags, id uint32, ps ...wire.Payload) []byte {
	if p.initiator {
		flags |= wire.FlagInitiator
	}
	m := wire.Message{Header: wire.Header{InitiatorSPI: p.spii, ResponderSPI: p.spir, Major: 2, Exchange: x, Flags: flags, MessageID: id}, Payloads: ps}
	return m.Append(nil)
}

// open decrypts what the engine sent.
func (p *puppet) open(b []byte) (wire.Header, []wire.Payload) {
	p.t.Helper()
	m, err := wire.Parse(b)
	if err != nil {
		p.t.Fatal(err)
	}
	sk, ok := wire.Find[*wire.Encrypted](m.Payloads)
	if !ok {
		p.t.Fatalf("not protected: %s", names(m.Payloads))
	}
	inner, err := p.in.Open(b, sk.BodyOffset)
	if err != nil {
		p.t.Fatal(err)
	}
	ps, err := wire.ParsePayloads(sk.First, inner)
	if err != nil {
		p.t.Fatal(err)
	}
	return m.Header, ps
}

func idPayload(s string, responder bool) *wire.ID {
	id := identity(s)
	return &wire.ID{Responder: responder, IDType: id.Type, Data: []byte(id.Data)}
}

func (p *puppet) sign(psk string, id *wire.ID) *wire.Auth {
	data := keymat.PSKAuth(p.prf, []byte(psk), p.initResp, p.ni, p.keys.SKpr, id.Body(), nil)
	if p.initiator {
		data = keymat.PSKAuth(p.prf, []byte(psk), p.initReq, p.nr, p.keys.SKpi, id.Body(), nil)
	}
	return &wire.Auth{Method: wire.AuthSharedKey, Data: data}
}

// authPayloads authenticate the puppet and ask for, or grant, the child.
func (p *puppet) authPayloads() []wire.Payload {
	me, you := "@foo", AddrA
	if !p.initiator {
		me = AddrA
	}
	id := idPayload(me, !p.initiator)
	ps := []wire.Payload{id, p.sign("qwerty", id)}
	if p.initiator {
		ps = append(ps, idPayload(you, true))
	}
	return append(ps, p.childPayloads(0xabcd0001)...)
}

var lanA, lanB = prefix("10.103.0.0/24"), prefix("10.104.0.0/24")

func (p *puppet) childPayloads(spi uint32) []wire.Payload {
	return []wire.Payload{p.espSA(spi), &wire.TS{Selectors: lanB}, &wire.TS{Responder: true, Selectors: lanA}}
}

func (p *puppet) espSA(spi uint32) *wire.SA {
	b := []byte{byte(spi >> 24), byte(spi >> 16), byte(spi >> 8), byte(spi)}
	return &wire.SA{Proposals: []wire.Proposal{{Number: 1, Protocol: wire.ProtocolESP, SPI: b, Transforms: p.esp}}}
}

// greet is a responding puppet's part: the engine connects, and the puppet
// answers IKE_SA_INIT. It returns the engine's IKE_AUTH.
func (p *puppet) greet() []byte {
	p.t.Helper()
	p.called()
	sent := p.send(p.initResp)
	if len(sent) != 1 {
		p.t.Fatalf("%d messages after IKE_SA_INIT: %v", len(sent), p.events)
	}
	p.float()
	return sent[0]
}

// called makes the engine connect and the puppet's answer ready.
func (p *puppet) called(more ...wire.Payload) {
	p.t.Helper()
	if err := p.engine.Command(p.now, ikev2.Connect{Peer: "office", Path: ToA}); err != nil {
		p.t.Fatal(err)
	}
	sent := p.poll()
	p.prepare()
	first, _ := wire.ParseHeader(sent[0])
	p.spii = first.InitiatorSPI
	p.initResp = p.initMessage(append(p.initPayloads(), more...)...)
	p.learn(sent[0])
}

// float moves the puppet to the port for NAT traversal.
func (p *puppet) float() {
	p.path = ikev2.Path{Local: netip.AddrPortFrom(p.path.Local.Addr(), 4500), Remote: netip.AddrPortFrom(p.path.Remote.Addr(), 4500), Encap: true}
}
