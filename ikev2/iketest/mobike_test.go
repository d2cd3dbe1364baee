package iketest

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// mobile is a connected puppet that speaks MOBIKE.
func mobile(t testing.TB) *puppet {
	t.Helper()
	p := newPuppet(t, true, nil)
	p.hello()
	sent := p.send(p.request(wire.ExchangeIKEAuth, append(p.authPayloads(), status(wire.NotifyMobIKESupported), status(wire.NotifyNoAdditionalAddresses))...))
	if _, ps := p.open(sent[0]); wire.FindNotify(ps, wire.NotifyMobIKESupported) == nil {
		t.Fatal("MOBIKE is not taken up")
	}
	return p
}

func status(t wire.NotifyType, data ...byte) *wire.Notify {
	return &wire.Notify{NotifyType: t, Data: data}
}

// abroad is where the puppet goes to, further where it goes next.
var (
	abroad  = ikev2.Path{Local: netip.MustParseAddrPort(AddrA + ":4500"), Remote: netip.MustParseAddrPort("198.51.100.7:31337"), Encap: true}
	further = ikev2.Path{Local: netip.MustParseAddrPort(AddrA + ":4500"), Remote: netip.MustParseAddrPort("198.51.100.8:4500"), Encap: true}
	info    = wire.ExchangeInformational
)

// checkIn is what a check asks to be returned.
func (p *puppet) checkIn(b []byte) (h wire.Header, cookie []byte) {
	p.t.Helper()
	h, ps := p.open(b)
	n := wire.FindNotify(ps, wire.NotifyCookie2)
	if h.Exchange != info || h.Flags&wire.FlagResponse != 0 || n == nil || len(n.Data) < 8 || len(n.Data) > 64 {
		p.t.Fatalf("not a check: %v %s", h, names(ps))
	}
	return h, n.Data
}

// updates sends an update from elsewhere and returns the engine's check.
func (p *puppet) updates(from ikev2.Path, more ...wire.Payload) (check []byte) {
	p.t.Helper()
	sent := p.sendFrom(from, p.request(info, append(more, status(wire.NotifyUpdateSAAddresses))...))
	if len(sent) != 2 || p.sentBy != from {
		p.t.Fatalf("%d messages, the last to %v", len(sent), p.sentBy.Remote)
	}
	return sent[1]
}

// The responder's side of RFC 4555 sections 3.5 and 3.7: IKE goes where the
// update came from, ESP when the peer has shown that it is there.
func TestUpdateIsCheckedFirst(t *testing.T) {
	p := mobile(t)
	sent := p.sendFrom(abroad, p.request(info, status(wire.NotifyUpdateSAAddresses), status(wire.NotifyCookie2, 1, 2, 3, 4, 5, 6, 7, 8),
		status(wire.NotifyNATDetectionSourceIP, make([]byte, 20)...), status(wire.NotifyNATDetectionDestinationIP, make([]byte, 20)...)))
	if len(sent) != 2 {
		t.Fatalf("%d messages", len(sent))
	}
	_, ps := p.open(sent[0])
	if n := wire.FindNotify(ps, wire.NotifyCookie2); n == nil || !bytes.Equal(n.Data, []byte{1, 2, 3, 4, 5, 6, 7, 8}) {
		t.Errorf("the cookie does not come back: %s", names(ps))
	}
	seen := keymat.NATDetection(p.spii, p.spir, abroad.Remote)
	if n := wire.FindNotify(ps, wire.NotifyNATDetectionDestinationIP); n == nil || !bytes.Equal(n.Data, seen[:]) {
		t.Error("it does not say where it sees us")
	}
	if len(p.moved) > 0 {
		t.Fatal("ESP goes there unproven")
	}
	h, cookie := p.checkIn(sent[1])
	p.sendFrom(abroad, p.seal(info, wire.FlagResponse, h.MessageID, status(wire.NotifyCookie2, cookie...)))
	if len(p.moved) != 1 || p.moved[0].Path != abroad {
		t.Errorf("moved %v", p.moved)
	}
	if e, ok := p.last(ikev2.EventMoved); !ok || e.Path != abroad || e.Former != p.path || !e.NAT.Remote {
		t.Errorf("reported %+v", e)
	}
}

// An IKE SA whose peer does not return the cookie is closed (RFC 4555 section
// 3.7); nothing has moved.
func TestWrongCookie(t *testing.T) {
	for name, answer := range map[string][]wire.Payload{
		"none":    nil,
		"other":   {status(wire.NotifyCookie2, 9, 9, 9, 9, 9, 9, 9, 9)},
		"shorter": {status(wire.NotifyCookie2, 9)},
	} {
		t.Run(name, func(t *testing.T) {
			p := mobile(t)
			h, _ := p.checkIn(p.updates(abroad))
			sent := p.sendFrom(abroad, p.seal(info, wire.FlagResponse, h.MessageID, answer...))
			if len(sent) != 1 || !p.has(ikev2.EventDown) || len(p.moved) > 0 {
				t.Errorf("%d messages, down: %v, moved %v", len(sent), p.has(ikev2.EventDown), p.moved)
			}
		})
	}
}

// A peer that does not answer where it says it is: ESP has gone on to where it
// was, and IKE goes back there.
func TestCheckUnanswered(t *testing.T) {
	p := mobile(t)
	p.updates(abroad)
	at := map[ikev2.Path]int{}
	var last []byte
	for range 30 {
		for _, b := range p.wait(time.Second) {
			at[p.sentBy]++
			last = b
		}
	}
	if len(p.moved) > 0 || at[abroad] < 3 || at[p.path] < 3 || p.sentBy != p.path {
		t.Errorf("moved %v, asked %v, at last at %v", p.moved, at, p.sentBy.Remote)
	}
	// It answers late, from there: that is asked again, and taken then.
	h, cookie := p.checkIn(last)
	sent := p.sendFrom(abroad, p.seal(info, wire.FlagResponse, h.MessageID, status(wire.NotifyCookie2, cookie...)))
	if len(sent) != 1 || p.sentBy != abroad || len(p.moved) > 0 {
		t.Fatalf("%d messages, the last to %v, moved %v", len(sent), p.sentBy.Remote, p.moved)
	}
	h, cookie = p.checkIn(sent[0])
	p.sendFrom(abroad, p.seal(info, wire.FlagResponse, h.MessageID, status(wire.NotifyCookie2, cookie...)))
	if len(p.moved) != 1 || p.moved[0].Path != abroad {
		t.Errorf("moved %v", p.moved)
	}
}

// A peer that goes on before it has answered is checked where it is then.
func TestUpdateDuringCheck(t *testing.T) {
	p := mobile(t)
	h, cookie := p.checkIn(p.updates(abroad))
	sent := p.sendFrom(further, p.request(info, status(wire.NotifyUpdateSAAddresses)))
	if len(sent) != 2 || p.sentBy != further { // the answer, and the check again
		t.Fatalf("%d messages, the last to %v", len(sent), p.sentBy.Remote)
	}
	again := p.sendFrom(further, p.seal(info, wire.FlagResponse, h.MessageID, status(wire.NotifyCookie2, cookie...)))
	if len(again) != 1 || len(p.moved) > 0 {
		t.Fatalf("a check that went to two addresses proves something: moved %v", p.moved)
	}
	h, cookie = p.checkIn(again[0])
	p.sendFrom(further, p.seal(info, wire.FlagResponse, h.MessageID, status(wire.NotifyCookie2, cookie...)))
	if len(p.moved) != 1 || p.moved[0].Path != further {
		t.Errorf("moved %v", p.moved)
	}
	// There and back before it is checked: ESP has never left.
	h, cookie = p.checkIn(p.updates(abroad))
	p.sendFrom(further, p.request(info, status(wire.NotifyUpdateSAAddresses)))
	p.deliver(further, p.seal(info, wire.FlagResponse, h.MessageID, status(wire.NotifyCookie2, cookie...)))
	if len(p.moved) != 1 {
		t.Errorf("there and back moves %v", p.moved)
	}
}

// What an update must not do.
func TestUpdateRefused(t *testing.T) {
	at := func(addr string, encap bool) ikev2.Path {
		return ikev2.Path{Local: abroad.Local, Remote: netip.MustParseAddrPort(addr), Encap: encap}
	}
	noNATs := func(path ikev2.Path) []byte {
		b := slices.Concat(path.Remote.Addr().AsSlice(), path.Local.Addr().AsSlice())
		return append(b, byte(path.Remote.Port()>>8), byte(path.Remote.Port()), byte(path.Local.Port()>>8), byte(path.Local.Port()))
	}
	for _, tt := range []struct {
		name string
		path ikev2.Path
		more []wire.Payload
		want wire.NotifyType
	}{
		{"multicast", at("224.0.0.1:4500", true), nil, wire.NotifyUnacceptableAddresses},
		{"broadcast", at("255.255.255.255:4500", true), nil, wire.NotifyUnacceptableAddresses},
		{"no address", at("0.0.0.0:4500", true), nil, wire.NotifyUnacceptableAddresses},
		{"port 0", at("198.51.100.7:0", true), nil, wire.NotifyUnacceptableAddresses},
		{"port 500", at("198.51.100.7:500", false), nil, wire.NotifyUnacceptableAddresses},
		{"a NAT where none may be", abroad, []wire.Payload{status(wire.NotifyNoNATsAllowed, noNATs(further)...)}, wire.NotifyUnexpectedNATDetected},
		{"a NAT, no data", abroad, []wire.Payload{status(wire.NotifyNoNATsAllowed)}, wire.NotifyUnexpectedNATDetected},
		{"no NAT where none may be", abroad, []wire.Payload{status(wire.NotifyNoNATsAllowed, noNATs(abroad)...)}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := mobile(t)
			sent := p.sendFrom(tt.path, p.request(info, append(tt.more, status(wire.NotifyUpdateSAAddresses))...))
			if tt.want == 0 {
				if len(sent) != 2 {
					t.Fatal("refused")
				}
				return
			}
			_, ps := p.open(sent[0])
			if len(sent) != 1 || wire.FindNotify(ps, tt.want) == nil || p.has(ikev2.EventMoved) || p.has(ikev2.EventDown) {
				t.Errorf("%d messages, %s, %v", len(sent), names(ps), p.events)
			}
		})
	}
}

// With MOBIKE no IKE message but an update moves anything (RFC 4555 section
// 3.8); nor does one that is repeated or forged.
func TestNothingElseMoves(t *testing.T) {
	p := mobile(t)
	p.sendFrom(abroad, p.request(info))
	here := p.path
	update := p.request(info, status(wire.NotifyUpdateSAAddresses))
	p.sendFrom(here, update)
	p.sendFrom(abroad, update)
	p.sendFrom(abroad, flip(p.seal(info, 0, p.next, status(wire.NotifyUpdateSAAddresses)), 50))
	p.sendFrom(abroad, p.clear(info, 0, p.next, status(wire.NotifyUpdateSAAddresses)))
	p.sendFrom(abroad, p.seal(info, 0, p.next+1, status(wire.NotifyUpdateSAAddresses)))
	if p.has(ikev2.EventMoved) || len(p.moved) > 0 {
		t.Errorf("moved: %v", p.moved)
	}
	if sent := p.wait(30 * time.Second); len(sent) != 1 || p.sentBy != here {
		t.Errorf("IKE goes to %v", p.sentBy.Remote)
	}
}

// A peer that has not agreed on MOBIKE updates nothing by its words.
func TestUpdateWithoutMOBIKE(t *testing.T) {
	p := newPuppet(t, true, func(cfg *ikev2.Peer) { cfg.MOBIKE = ikev2.ModeOff })
	p.hello()
	sent := p.send(p.request(wire.ExchangeIKEAuth, append(p.authPayloads(), status(wire.NotifyMobIKESupported))...))
	if _, ps := p.open(sent[0]); wire.FindNotify(ps, wire.NotifyMobIKESupported) != nil {
		t.Error("MOBIKE is taken up")
	}
	sent = p.sendFrom(abroad, p.request(info, status(wire.NotifyUpdateSAAddresses), status(wire.NotifyCookie2, make([]byte, 16)...)))
	if _, ps := p.open(sent[0]); len(sent) != 1 || len(ps) != 0 {
		t.Errorf("answered with %s", names(ps))
	}
}

// A peer may list any number of addresses; few are kept, and nothing breaks.
func TestAddressLists(t *testing.T) {
	p := mobile(t)
	var list []wire.Payload
	for i := range 12 {
		list = append(list, status(wire.NotifyAdditionalIP4Address, 198, 51, 100, byte(i)), status(wire.NotifyAdditionalIP6Address, make([]byte, 16)...))
	}
	p.sendFrom(abroad, p.request(info, list...))
	p.sendFrom(p.path, p.request(info, status(wire.NotifyNoAdditionalAddresses)))
	if p.has(ikev2.EventMoved) || p.has(ikev2.EventDown) {
		t.Errorf("%v", p.events)
	}
}

// mobileResponder is a responding puppet that speaks MOBIKE, whose engine's SA is
// up.
func mobileResponder(t testing.TB) *puppet {
	t.Helper()
	p := newPuppet(t, false, nil)
	p.greet()
	p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, append(p.authPayloads(), status(wire.NotifyMobIKESupported))...))
	if len(p.installed) != 1 {
		t.Fatalf("no child SA: %v", p.events)
	}
	return p
}

// roam takes the engine to another address.
func (p *puppet) roam(addr string) (sent [][]byte) {
	p.t.Helper()
	path := ToA
	path.Local = netip.MustParseAddrPort(addr + ":500")
	if err := p.engine.Command(p.now, ikev2.Roam{Peer: "office", Path: path}); err != nil {
		p.t.Fatal(err)
	}
	return p.poll()
}

// The initiator's side: all goes by the new address at once, and the responder
// is told.
func TestInitiatorUpdates(t *testing.T) {
	p := mobileResponder(t)
	sent := p.roam(AddrB2)
	if len(sent) != 1 || p.sentBy.Local.Addr() != netip.MustParseAddr(AddrB2) || len(p.moved) != 1 || p.moved[0].Path != p.sentBy {
		t.Fatalf("%d messages by %v, moved %v", len(sent), p.sentBy, p.moved)
	}
	h, ps := p.open(sent[0])
	n := wire.FindNotify(ps, wire.NotifyCookie2)
	if wire.FindNotify(ps, wire.NotifyUpdateSAAddresses) == nil || n == nil || wire.FindNotify(ps, wire.NotifyNATDetectionSourceIP) == nil {
		t.Fatalf("it says %s", names(ps))
	}
	// It goes on before that is answered: the request goes by the new way, its
	// answer means nothing, and another update follows (RFC 4555 section 3.5).
	again := p.roam("172.16.0.3")
	if len(again) != 1 || !bytes.Equal(again[0], sent[0]) || p.sentBy.Local.Addr() != netip.MustParseAddr("172.16.0.3") {
		t.Fatalf("%d messages by %v", len(again), p.sentBy)
	}
	sent = p.send(p.seal(info, wire.FlagResponse, h.MessageID, status(wire.NotifyUnacceptableAddresses), n))
	if len(sent) != 1 || p.has(ikev2.EventRefusedByPeer) {
		t.Fatalf("%d messages, %v", len(sent), p.events)
	}
	h, ps = p.open(sent[0])
	if wire.FindNotify(ps, wire.NotifyUpdateSAAddresses) == nil {
		t.Fatalf("it says %s", names(ps))
	}
	// The responder does not like that one: another IKE SA is tried from there.
	sent = p.send(p.seal(info, wire.FlagResponse, h.MessageID, status(wire.NotifyUnacceptableAddresses), wire.FindNotify(ps, wire.NotifyCookie2)))
	first, err := wire.ParseHeader(sent[0])
	if err != nil || first.Exchange != wire.ExchangeIKESAInit || !p.has(ikev2.EventRefusedByPeer) || p.has(ikev2.EventDown) {
		t.Errorf("%v, %v", first, p.events)
	}
}

// Only the original initiator updates: from a responder that means nothing.
func TestResponderMayNotUpdate(t *testing.T) {
	p := mobileResponder(t)
	elsewhere := ikev2.Path{Local: p.path.Local, Remote: netip.MustParseAddrPort("198.51.100.7:4500"), Encap: true}
	sent := p.sendFrom(elsewhere, p.request(info, status(wire.NotifyUpdateSAAddresses)))
	if len(sent) != 1 || p.has(ikev2.EventMoved) {
		t.Errorf("%d messages, %v", len(sent), p.events)
	}
	// It may say its addresses, and is checked before ESP goes there.
	sent = p.sendFrom(elsewhere, p.request(info, status(wire.NotifyNoAdditionalAddresses)))
	if len(sent) != 2 || p.sentBy != elsewhere || len(p.moved) > 0 {
		t.Fatalf("%d messages, the last to %v, moved %v", len(sent), p.sentBy.Remote, p.moved)
	}
	h, cookie := p.checkIn(sent[1])
	p.sendFrom(elsewhere, p.seal(info, wire.FlagResponse, h.MessageID, status(wire.NotifyCookie2, cookie...)))
	if len(p.moved) != 1 || p.moved[0].Path != elsewhere {
		t.Errorf("moved %v", p.moved)
	}
}
