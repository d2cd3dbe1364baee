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

// addrC is another gateway for B, with A's identity and key.
const addrC = "203.0.113.2"

func redirecting(change ...func(a, b *ikev2.Config)) (n *Net, a, b, c *Host) {
	n, a, b = resumable(append([]func(a, b *ikev2.Config){func(_, b *ikev2.Config) { b.Peers[0].Redirect = ikev2.ModePrefer }}, change...)...)
	n.Names = map[string]string{"vpn2.example": addrC}
	cfgC := a.cfg
	cfgC.Resume.Key = keyB // of its own
	return n, a, b, n.Add("C", addrC, cfgC, 9)
}

// A peer that is up is sent to another gateway and leaves the first when it is
// there.
func TestRedirectEstablished(t *testing.T) {
	for _, to := range []string{addrC, "vpn2.example"} {
		t.Run(to, func(t *testing.T) {
			n, a, b, c := redirecting()
			connectFor(time.Second)(n, a, b)
			n.Command(a, ikev2.Drain{To: to})
			n.Run(7 * time.Second) // 5 for what was on its way from the first
			agreed(t, n, b, c)
			if len(a.In) > 0 || b.Has(ikev2.EventRedirected) != 1 {
				t.Errorf("%d child SAs left, redirected %d times\n%s", len(a.In), b.Has(ikev2.EventRedirected), n.Transcript())
			}
			if e, _ := b.Last(ikev2.EventRedirected); e.Gateway != to {
				t.Errorf("to %q", e.Gateway)
			}
		})
	}
}

// A new peer is sent away before there is any state of it.
func TestRedirectInit(t *testing.T) {
	n, a, b, c := redirecting()
	n.Command(a, ikev2.Drain{To: addrC})
	connectFor(time.Second)(n, a, b)
	agreed(t, n, b, c)
	if ike, _ := a.Engine.SAs(); ike > 0 || a.Has(ikev2.EventInit) > 0 {
		t.Error("the gateway that sent it away keeps an SA")
	}
	if !strings.Contains(n.Transcript(), "REDIRECT_SUPPORTED REDIRECTED_FROM") {
		t.Errorf("it does not say who sent it\n%s", n.Transcript())
	}
}

// While a gateway drains, a peer that cannot be sent away is refused when it is
// new, in words, and stays when it is up; it may come again after.
func TestDrainOthers(t *testing.T) {
	for _, to := range []string{"", addrC} {
		t.Run("to "+to, func(t *testing.T) {
			n, a, b, c := redirecting(func(_, b *ikev2.Config) { b.Peers[0].Redirect = ikev2.ModeDefault })
			connectFor(time.Second)(n, a, b)
			n.Command(a, ikev2.Drain{To: to})
			n.Command(b, ikev2.RekeyIKE{Peer: "office"})
			n.Run(time.Minute)
			agreed(t, n, a, b)
			n.Restart(b, 3)
			connectFor(20*time.Second)(n, a, b)
			if e, _ := b.Last(ikev2.EventUnprotectedError); e.Notify != wire.NotifyTemporaryFailure || len(b.In)+len(c.In) > 0 {
				t.Errorf("%v, %d and %d child SAs", e.Notify, len(b.In), len(c.In))
			}
			n.Command(a, ikev2.Drain{Off: true})
			n.Run(3 * time.Minute)
			agreed(t, n, a, b)
		})
	}
}

// Drain takes an address or a name.
func TestDrainRefuses(t *testing.T) {
	_, a, _, _ := redirecting()
	for _, bad := range []string{"two words", "a\nb", strings.Repeat("x", 256), "a@b"} {
		if err := a.Engine.Command(New().Now, ikev2.Drain{To: bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Where the new gateway is not there, or is not the peer, the old SA stays in
// use; where there was none, the configured gateway is tried again.
func TestRedirectNowhere(t *testing.T) {
	for _, to := range []string{"203.0.113.77", "nowhere.example"} {
		t.Run(to, func(t *testing.T) {
			n, a, b, _ := redirecting()
			connectFor(time.Second)(n, a, b)
			n.Command(a, ikev2.Drain{To: to})
			n.Run(3 * time.Minute)
			agreed(t, n, a, b)
			n.Command(a, ikev2.Drain{Off: true})
			n.Run(time.Minute)
			n.Command(b, ikev2.Disconnect{Peer: "office"})
			n.Run(time.Second)
			connectFor(20*time.Second)(n, a, b)
			agreed(t, n, a, b)
		})
		t.Run(to+", new", func(t *testing.T) {
			n, a, b, _ := redirecting()
			n.Command(a, ikev2.Drain{To: to})
			connectFor(time.Minute)(n, a, b)
			n.Command(a, ikev2.Drain{Off: true})
			n.Run(5 * time.Minute)
			agreed(t, n, a, b)
		})
	}
}

// Two gateways that send a peer to each other are followed five times in five
// minutes.
func TestRedirectLoop(t *testing.T) {
	n, a, b, c := redirecting()
	n.Command(a, ikev2.Drain{To: addrC})
	n.Command(c, ikev2.Drain{To: AddrA})
	connectFor(4*time.Minute)(n, a, b)
	faultless(t, n)
	if got := b.Has(ikev2.EventRedirected); got != 5 {
		t.Errorf("followed %d times", got)
	}
	if e, ok := b.Last(ikev2.EventRefused); !ok || e.Reason != ikev2.ReasonRedirects {
		t.Errorf("refused %v", e.Reason)
	}
	n.Command(a, ikev2.Drain{Off: true})
	n.Run(10 * time.Minute)
	agreed(t, n, a, b)
}

// REDIRECT in the clear is followed only with our nonce, only where we said that
// we would, and only to a gateway that can be read.
func TestRedirectForged(t *testing.T) {
	gateway := []byte{1, 4, 203, 0, 113, 9}
	for name, c := range map[string]struct {
		mode    ikev2.Mode
		data    func(nonce []byte) []byte
		follows bool
	}{
		"right":          {ikev2.ModePrefer, func(ni []byte) []byte { return slices.Concat(gateway, ni) }, true},
		"a name":         {ikev2.ModePrefer, func(ni []byte) []byte { return slices.Concat([]byte{3, 4}, []byte("a.bc"), ni) }, true},
		"not allowed":    {ikev2.ModeDefault, func(ni []byte) []byte { return slices.Concat(gateway, ni) }, false},
		"off":            {ikev2.ModeOff, func(ni []byte) []byte { return slices.Concat(gateway, ni) }, false},
		"no nonce":       {ikev2.ModePrefer, func([]byte) []byte { return gateway }, false},
		"another nonce":  {ikev2.ModePrefer, func([]byte) []byte { return slices.Concat(gateway, make([]byte, 32)) }, false},
		"half the nonce": {ikev2.ModePrefer, func(ni []byte) []byte { return slices.Concat(gateway, ni[:16]) }, false},
		"empty":          {ikev2.ModePrefer, func([]byte) []byte { return nil }, false},
		"type 0":         {ikev2.ModePrefer, func(ni []byte) []byte { return slices.Concat([]byte{0, 4, 1, 2, 3, 4}, ni) }, false},
		"short address":  {ikev2.ModePrefer, func(ni []byte) []byte { return slices.Concat([]byte{1, 3, 1, 2, 3}, ni) }, false},
		"long address":   {ikev2.ModePrefer, func(ni []byte) []byte { return slices.Concat([]byte{2, 255, 1, 2, 3}, ni) }, false},
		"no name":        {ikev2.ModePrefer, func(ni []byte) []byte { return slices.Concat([]byte{3, 0}, ni) }, false},
		"odd name":       {ikev2.ModePrefer, func(ni []byte) []byte { return slices.Concat([]byte{3, 4}, []byte("a\n\x1bb"), ni) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPuppet(t, false, func(peer *ikev2.Peer) { peer.Redirect = c.mode })
			p.called()
			m, err := wire.Parse(p.initReq)
			if err != nil {
				t.Fatal(err)
			}
			if said := wire.FindNotify(m.Payloads, wire.NotifyRedirectSupported) != nil; said != (c.mode == ikev2.ModePrefer) {
				t.Errorf("says that it can be sent away: %v", said)
			}
			p.send(initNotify(m, wire.NotifyRedirect, string(c.data(p.ni))))
			if p.has(ikev2.EventRedirected) != c.follows {
				t.Errorf("follows: %v", p.events)
			}
			if !c.follows && len(p.send(p.initResp)) != 1 {
				t.Error("the true answer is no longer taken")
			}
		})
	}
}

// A gateway may send a peer away in IKE_AUTH, when it knows who it is; one that
// has not proven who it is may not.
func TestRedirectInAuth(t *testing.T) {
	for name, c := range map[string]struct {
		proof   bool
		follows bool
	}{"authenticated": {true, true}, "not": {false, false}} {
		t.Run(name, func(t *testing.T) {
			p := newPuppet(t, false, func(peer *ikev2.Peer) { peer.Redirect = ikev2.ModePrefer })
			p.greet()
			id := idPayload(AddrA, true)
			auth := p.sign("qwerty", id)
			if !c.proof {
				auth.Data[0] ^= 1
			}
			p.send(p.seal(wire.ExchangeIKEAuth, wire.FlagResponse, 1, id, auth, &wire.Notify{NotifyType: wire.NotifyRedirect, Data: []byte{1, 4, 203, 0, 113, 9}}))
			if p.has(ikev2.EventRedirected) != c.follows {
				t.Errorf("%v", p.events)
			}
		})
	}
}

// Nobody is sent away by a way that was not asked for, twice, or when it is no
// longer wanted.
func TestRedirectedUnasked(t *testing.T) {
	n, a, b, c := redirecting()
	connectFor(time.Second)(n, a, b)
	toC := ikev2.Redirected{Peer: "office", Path: ikev2.Path{Local: netip.MustParseAddrPort(AddrB + ":500"), Remote: netip.MustParseAddrPort(addrC + ":500")}}
	n.Command(b, toC)
	n.Run(time.Second)
	agreed(t, n, a, b)
	n.Command(a, ikev2.Drain{To: "nowhere.example"})
	n.Run(time.Second)
	n.Command(b, ikev2.Disconnect{Peer: "office"})
	n.Command(b, toC)
	n.Run(time.Minute)
	faultless(t, n)
	if len(b.In)+len(c.In) > 0 {
		t.Error("a peer that is not wanted is connected")
	}
}

// FuzzRedirect: whatever a gateway says in REDIRECT, an engine stays sound.
func FuzzRedirect(f *testing.F) {
	f.Add([]byte{1, 4, 203, 0, 113, 9}, true)
	f.Add([]byte{3, 4, 'a', '.', 'b', 'c'}, true)
	f.Add([]byte{2, 16}, false)
	f.Fuzz(func(t *testing.T, data []byte, own bool) {
		p := newPuppet(t, false, func(peer *ikev2.Peer) { peer.Redirect = ikev2.ModePrefer })
		p.called()
		m, err := wire.Parse(p.initReq)
		if err != nil {
			t.Fatal(err)
		}
		if own {
			data = append(bytes.Clone(data), p.ni...)
		}
		if len(data) > 60000 {
			return
		}
		p.send(initNotify(m, wire.NotifyRedirect, string(data)))
		if e, ok := p.last(ikev2.EventRedirected); ok && fmt.Sprintf("%q", e.Gateway) != `"`+e.Gateway+`"` {
			t.Errorf("to %q", e.Gateway)
		}
	})
}

// FuzzTicket: whatever is presented as a ticket, an engine stays sound and lets
// in none but its own.
func FuzzTicket(f *testing.F) {
	n, a, b := resumable()
	connectFor(time.Second)(n, a, b)
	good := ticketOf(f, n, a)
	f.Add(good)
	f.Add(good[:17])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, opaque []byte) {
		if len(opaque) > 60000 {
			return
		}
		p := presenting(t, n, a, opaque)
		if sent := p.deliver(p.path, p.initReq); !bytes.Equal(opaque, good) && len(sent) == 1 && !refusedTicket(t, sent) {
			t.Errorf("%x is taken", opaque)
		}
		p.wait(31 * time.Second)
	})
}
