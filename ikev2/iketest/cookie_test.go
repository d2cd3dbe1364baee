package iketest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

func limited(l ikev2.Limits) func(*ikev2.Config) {
	return func(c *ikev2.Config) { c.Limits = l }
}

// anotherHello is an IKE_SA_INIT with the number-th SPI.
func (p *puppet) anotherHello(number int, more ...wire.Payload) []byte {
	binary.BigEndian.PutUint64(p.spii[:], uint64(number)+1)
	return p.initMessage(append(more, p.initPayloads()...)...)
}

// cookieIn is the cookie of an answer that is nothing but one (RFC 7296 section
// 2.6).
func (p *puppet) cookieIn(answer []byte) *wire.Notify {
	p.t.Helper()
	m, err := wire.Parse(answer)
	if err != nil {
		p.t.Fatal(err)
	}
	if m.ResponderSPI != (wire.SPI{}) || m.MessageID != 0 || m.Flags != wire.FlagResponse || len(m.Payloads) != 1 {
		p.t.Errorf("a request for a cookie: %+v", m)
	}
	n := wire.FindNotify(m.Payloads, wire.NotifyCookie)
	if n != nil && (len(n.Data) < 1 || len(n.Data) > 64) {
		p.t.Errorf("a cookie of %d bytes", len(n.Data))
	}
	return n
}

// asked sends an IKE_SA_INIT and wants a cookie asked for.
func (p *puppet) asked(b []byte) *wire.Notify {
	p.t.Helper()
	before, _ := p.engine.SAs()
	sent := p.send(b)
	if len(sent) != 1 || len(sent[0]) > len(b) {
		p.t.Fatalf("answered by %x", sent)
	}
	n := p.cookieIn(sent[0])
	if after, _ := p.engine.SAs(); n == nil || after != before {
		p.t.Fatalf("no cookie is asked for: %d more SAs", after-before)
	}
	return n
}

// accepted sends an IKE_SA_INIT and wants an SA.
func (p *puppet) accepted(b []byte) {
	p.t.Helper()
	before, _ := p.engine.SAs()
	sent := p.send(b)
	if after, _ := p.engine.SAs(); len(sent) != 1 || after != before+1 {
		p.t.Fatalf("%d answers, %d more SAs: %v", len(sent), after-before, p.engine.Drops())
	}
}

// From the threshold on, and for as long after as strangers come, a cookie is
// asked for; without one there is no SA.
func TestCookieThreshold(t *testing.T) {
	p := newPuppetWith(t, true, limited(ikev2.Limits{CookieThreshold: 4, HalfOpenLifetime: 5 * time.Second}))
	p.prepare()
	for i := range 3 {
		p.accepted(p.anotherHello(i))
	}
	cookie := p.asked(p.anotherHello(3))
	p.accepted(p.anotherHello(3, cookie))
	if d := p.engine.Drops(); d["ike_cookie_asked"] != 1 {
		t.Errorf("counted: %v", d)
	}
	// An initiator may be between its two requests, though nobody is half-open.
	p.wait(9 * time.Second)
	if n, _ := p.engine.SAs(); n != 0 {
		t.Fatalf("%d SAs left", n)
	}
	p.asked(p.anotherHello(4))
	p.wait(9 * time.Second)
	p.asked(p.anotherHello(5))
	p.wait(11 * time.Second)
	p.accepted(p.anotherHello(6))
}

func TestNoCookies(t *testing.T) {
	p := newPuppetWith(t, true, limited(ikev2.Limits{CookieThreshold: -1, HalfOpenPerSource: -1}))
	p.prepare()
	for i := range 200 {
		p.accepted(p.anotherHello(i))
	}
}

// A cookie is good for the nonce, SPI and address that it was made for and no
// other; anything else is answered by a fresh one.
func TestCookieIsForOne(t *testing.T) {
	always := limited(ikev2.Limits{CookieThreshold: 1})
	for name, spoil := range map[string]func(p *puppet, cookie *wire.Notify){
		"another address": func(p *puppet, _ *wire.Notify) {
			p.path.Remote = netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), 500)
		},
		"another port":    func(p *puppet, _ *wire.Notify) { p.path.Remote = netip.AddrPortFrom(p.path.Remote.Addr(), 501) },
		"another nonce":   func(p *puppet, _ *wire.Notify) { p.ni[0] ^= 1 },
		"a longer nonce":  func(p *puppet, _ *wire.Notify) { p.ni = append(p.ni, 0) },
		"a changed bit":   func(_ *puppet, c *wire.Notify) { c.Data[len(c.Data)-1] ^= 1 },
		"another version": func(_ *puppet, c *wire.Notify) { c.Data[0]++ },
		"version 0":       func(_ *puppet, c *wire.Notify) { c.Data[0]-- },
		"cut short":       func(_ *puppet, c *wire.Notify) { c.Data = c.Data[:len(c.Data)-1] },
		"version alone":   func(_ *puppet, c *wire.Notify) { c.Data = c.Data[:1] },
		"lengthened":      func(_ *puppet, c *wire.Notify) { c.Data = append(c.Data, 0) },
		"the longest":     func(_ *puppet, c *wire.Notify) { c.Data = append(c.Data, make([]byte, 64-len(c.Data))...) },
		"too long":        func(_ *puppet, c *wire.Notify) { c.Data = append(c.Data, make([]byte, 1000)...) },
		"empty":           func(_ *puppet, c *wire.Notify) { c.Data = nil },
		"another notify":  func(_ *puppet, c *wire.Notify) { c.NotifyType = wire.NotifyCookie2 },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPuppetWith(t, true, always)
			p.prepare()
			cookie := p.asked(p.anotherHello(1))
			good := *cookie
			good.Data = bytes.Clone(cookie.Data)
			spoil(p, cookie)
			fresh := p.asked(p.anotherHello(1, cookie))
			p.accepted(p.anotherHello(1, fresh))
		})
	}
	p := newPuppetWith(t, true, always)
	p.prepare()
	cookie := p.asked(p.anotherHello(1))
	p.asked(p.anotherHello(2, cookie)) // another SPI
	p.accepted(p.anotherHello(1, cookie))
	// As the last payload, which is not where the RFC wants it.
	p.anotherHello(3)
	cookie = p.asked(p.anotherHello(3))
	p.accepted(p.initMessage(append(p.initPayloads(), cookie)...))
}

// The secret changes, a cookie of the last one is still good, an older one not.
func TestCookieSecretRotates(t *testing.T) {
	for after, good := range map[time.Duration]bool{
		0: true, 20 * time.Second: true, 29 * time.Second: true, 31 * time.Second: true, 59 * time.Second: true,
		61 * time.Second: false, 5 * time.Minute: false, 256 * 30 * time.Second: false,
	} {
		p := newPuppetWith(t, true, limited(ikev2.Limits{CookieThreshold: 1}))
		p.prepare()
		mine := p.anotherHello(1)
		cookie := p.asked(mine)
		for waited := time.Duration(0); waited < after; waited += 10 * time.Second {
			p.wait(min(10*time.Second, after-waited))
			p.asked(p.anotherHello(2))
		}
		again := p.anotherHello(1, cookie)
		if good {
			p.accepted(again)
		} else {
			p.asked(again)
		}
		idle := newPuppetWith(t, true, limited(ikev2.Limits{CookieThreshold: 1}))
		idle.prepare()
		cookie = idle.asked(idle.anotherHello(1))
		idle.wait(after)
		if again = idle.anotherHello(1, cookie); good {
			idle.accepted(again)
		} else {
			idle.asked(again)
		}
	}
}

// What makes no sense gets no cookie.
func TestCookieForNonsense(t *testing.T) {
	p := newPuppetWith(t, true, limited(ikev2.Limits{CookieThreshold: 1}))
	p.prepare()
	whole := p.anotherHello(1)
	for name, b := range map[string][]byte{
		"no nonce":      p.initMessage(p.initPayloads()[:2]...),
		"short nonce":   p.initMessage(&wire.Nonce{Data: make([]byte, 15)}),
		"long nonce":    p.initMessage(&wire.Nonce{Data: make([]byte, 257)}),
		"nothing":       p.initMessage(),
		"broken chain":  flip(whole, wire.HeaderLen+3),
		"bytes after":   p.initMessage(append(p.initPayloads(), &wire.Unknown{PayloadType: 0, Body: make([]byte, 9)})...),
		"responder SPI": flip(whole, 15),
		"message ID":    flip(whole, 23),
	} {
		if sent := p.send(b); len(sent) > 0 {
			t.Errorf("%s: answered by %x", name, sent)
		}
	}
	p.asked(p.initMessage(&wire.Nonce{Data: make([]byte, 64)})) // cheap; the rest is read when the cookie is back
	short := p.initMessage(&wire.Nonce{Data: make([]byte, 16)})
	if sent := p.send(short); len(sent) > 0 || p.engine.Drops()["ike_reply_limit"] != 1 {
		t.Error("a reply that is longer than the request is sent")
	}
}

// A culvert meets a culvert that wants cookies and another group: it comes
// through, with the cookie carried into the request with the other group, and
// AUTH signs the last of the three.
func TestCookiesBetweenCulverts(t *testing.T) {
	a, b := Configs()
	a.Limits.CookieThreshold = 1
	onlyGroup19(&a.Peers[0], nil)
	n, hostA, hostB := Situation(a, b)
	connects(t, n, hostA, hostB, time.Second)
	if hostB.Has(ikev2.EventRetryCookie) != 1 || hostB.Has(ikev2.EventRetryKE) != 1 {
		t.Error(n.Transcript())
	}
	if ike, _ := hostA.Engine.SAs(); ike != 1 {
		t.Errorf("%d SAs", ike)
	}
}

// The other order: the group is refused first, then cookies begin.
func TestCookieAfterOtherGroup(t *testing.T) {
	a, b := Configs()
	a.Limits.CookieThreshold = 4
	onlyGroup19(&a.Peers[0], nil)
	n, hostA, hostB := Situation(a, b)
	flood := newPuppet(t, true, nil)
	flood.suite.Group = wire.GroupECP256
	flood.prepare()
	inits := 0
	n.Link = func(p Packet) []time.Duration {
		if h, err := wire.ParseHeader(p.Payload); err == nil && h.Exchange == wire.ExchangeIKESAInit && h.Flags&wire.FlagResponse == 0 {
			if inits++; inits == 2 {
				for i := range 3 {
					hostA.Engine.HandleDatagram(n.Now, ikev2.Datagram{Path: flood.path, Payload: flood.anotherHello(i)})
				}
			}
		}
		return []time.Duration{10 * time.Millisecond}
	}
	connects(t, n, hostA, hostB, time.Second)
	if hostB.Has(ikev2.EventRetryCookie) != 1 || hostB.Has(ikev2.EventRetryKE) != 1 {
		t.Error(n.Transcript())
	}
}

// Each answer of the two refusals can be lost; each request can come twice.
func TestCookiesOnBadLinks(t *testing.T) {
	for nth := range 8 {
		for _, fate := range [][]time.Duration{nil, {10 * time.Millisecond, 12 * time.Millisecond}, {10 * time.Millisecond, 1500 * time.Millisecond}} {
			a, b := Configs()
			a.Limits.CookieThreshold = 1
			onlyGroup19(&a.Peers[0], nil)
			n, hostA, hostB := Situation(a, b)
			n.Link = func(p Packet) []time.Duration {
				if p.Number == nth {
					return fate
				}
				return []time.Duration{10 * time.Millisecond}
			}
			connects(t, n, hostA, hostB, 10*time.Second)
		}
	}
}

// INVALID_KE_PAYLOAD leaves nothing behind.
func TestOtherGroupWithoutState(t *testing.T) {
	p := newPuppet(t, true, nil)
	p.prepare()
	m := p.initPayloads()
	m[1] = &wire.KE{Group: wire.GroupECP256, Data: make([]byte, 64)}
	for range 1000 {
		p.random.next++
		p.spii[0] = p.random.next
		p.deliver(p.path, p.initMessage(m...))
	}
	if n, _ := p.engine.SAs(); n != 0 || !p.engine.Idle() {
		t.Errorf("%d SAs", n)
	}
	if d := p.engine.Drops(); d["ike_init_refused"] != 1000 || d["ike_reply_limit"] != 900 {
		t.Errorf("%v", d)
	}
}

// A request that has been seen can be sent again in somebody's name, before and
// after authentication: what that somebody receives of it has a bound, and the
// next second begins anew.
func TestRepeatedRequestsAreBounded(t *testing.T) {
	p := newPuppet(t, true, nil)
	p.hello()
	first := ikev2.Path{Local: ToB.Local, Remote: ToB.Remote}
	up := connected(t)
	info := up.request(wire.ExchangeInformational)
	up.send(info)
	for name, c := range map[string]struct {
		p    *puppet
		path ikev2.Path
		b    []byte
	}{"IKE_SA_INIT": {p, first, p.initReq}, "INFORMATIONAL": {up, up.path, info}} {
		for range 2 {
			answers := 0
			for range 3000 {
				answers += len(c.p.sendFrom(c.path, c.b))
			}
			if answers != 1000 {
				t.Errorf("%s: %d answers in a second", name, answers)
			}
			c.p.now = c.p.now.Add(time.Second)
		}
	}
}

// One source, an IPv4 address or an IPv6 /64, has its share of half-open SAs,
// also of those that were refused and linger; others have theirs.
func TestHalfOpenPerSource(t *testing.T) {
	l := ikev2.Limits{CookieThreshold: -1, HalfOpenPerSource: 3}
	p := newPuppetWith(t, true, limited(l))
	p.prepare()
	from := func(addr string, port uint16) {
		p.path.Remote = netip.AddrPortFrom(netip.MustParseAddr(addr), port)
	}
	number := 0
	next := func() []byte { number++; return p.anotherHello(number) }
	refused := func() {
		t.Helper()
		if sent := p.send(next()); len(sent) > 0 {
			t.Error("more than its share")
		}
	}
	for i := range 3 {
		from("192.0.2.10", uint16(500+i))
		p.accepted(next())
	}
	refused()
	from("192.0.2.11", 500)
	p.accepted(next())
	for i, addr := range []string{"2001:db8:1:1::1", "2001:db8:1:1:ffff::2", "2001:db8:1:1:8000::3"} {
		from(addr, uint16(500+i))
		p.accepted(next())
	}
	from("2001:db8:1:1::4", 500)
	refused()
	from("2001:db8:1:2::1", 500)
	p.accepted(next())
	from("::ffff:192.0.2.10", 500)
	refused()
	if d := p.engine.Drops(); d["ike_half_open_source_limit"] != 3 || d["ike_half_open_limit"] != 0 {
		t.Errorf("%v", d)
	}
	p.wait(31 * time.Second)
	p.accepted(next())

	q := newPuppetWith(t, true, limited(l))
	for range 3 {
		q.hello()
		q.send(q.request(wire.ExchangeIKEAuth, idPayload("@nobody", false)))
		q.path = ikev2.Path{Local: ToB.Local, Remote: ToB.Remote}
	}
	if sent := q.send(q.anotherHello(9)); len(sent) > 0 {
		t.Error("a refused SA makes room for the next at once")
	}
	q.wait(11 * time.Second)
	q.accepted(q.anotherHello(10))
}

func TestHalfOpenLifetime(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{0: 30 * time.Second, -1: 30 * time.Second, 7 * time.Second: 7 * time.Second} {
		p := newPuppetWith(t, true, limited(ikev2.Limits{HalfOpenLifetime: given}))
		p.hello()
		p.wait(want - time.Second)
		if n, _ := p.engine.SAs(); n != 1 {
			t.Errorf("%v: gone too early", given)
		}
		p.wait(time.Second)
		if n, _ := p.engine.SAs(); n != 0 {
			t.Errorf("%v: still there", given)
		}
	}
}

// A hundred thousand IKE_SA_INIT from made-up sources: an engine with its
// default limits keeps next to nothing of them, sends no more bytes than came, serves its peer, and lets a newcomer in that returns its cookie.
func TestSpoofedFlood(t *testing.T) {
	const flood = 100_000
	p := connected(t)
	stranger := newPuppet(t, true, nil)
	stranger.engine = p.engine
	stranger.prepare()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, began := heap(), time.Now()
	in, out := 0, 0
	for i := range flood {
		if i%40 == 0 {
			p.now = p.now.Add(time.Millisecond)
		}
		b := stranger.anotherHello(i)
		in += len(b)
		source := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		p.engine.HandleDatagram(p.now, ikev2.Datagram{Path: ikev2.Path{Local: p.path.Local, Remote: netip.AddrPortFrom(source, 500)}, Payload: b})
		for o, ok := p.engine.Poll(); ok; o, ok = p.engine.Poll() {
			if answer, is := o.(ikev2.Transmit); is {
				out += len(answer.Payload)
			}
		}
	}
	took, after := time.Since(began), heap()
	t.Logf("%v for each, %d bytes in, %d out, %d KB of heap", took/flood, in, out, (int64(after)-int64(before))>>10)
	if n, _ := p.engine.SAs(); n > 31 {
		t.Errorf("%d SAs", n)
	}
	if after > before+4<<20 {
		t.Errorf("the heap has grown by %d KB", (after-before)>>10)
	}
	if out > in {
		t.Errorf("%d bytes in, %d out", in, out)
	}
	if err := p.engine.Audit(); err != nil {
		t.Error(err)
	}
	if len(p.send(p.request(wire.ExchangeInformational))) != 1 {
		t.Error("the peer that is up is not answered")
	}
	stranger.now = p.now.Add(time.Second)
	cookie := stranger.asked(stranger.anotherHello(flood))
	stranger.accepted(stranger.anotherHello(flood, cookie))
}

// BenchmarkCookie is what a flood costs for each IKE_SA_INIT.
func BenchmarkCookie(b *testing.B) {
	p := newPuppetWith(b, true, limited(ikev2.Limits{CookieThreshold: 1}))
	p.prepare()
	hello := p.anotherHello(1)
	b.ReportAllocs()
	for i := range b.N {
		if i%90 == 0 {
			p.now = p.now.Add(time.Second)
		}
		p.engine.HandleDatagram(p.now, ikev2.Datagram{Path: p.path, Payload: hello})
		for _, ok := p.engine.Poll(); ok; _, ok = p.engine.Poll() {
		}
	}
}
