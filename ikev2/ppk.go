package ikev2

import (
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// PPK is a post-quantum pre-shared key that is mixed into the keys of an IKE
// SA (RFC 8784).
type PPK struct {
	// ID names the key to the peer (PPK_ID_FIXED). Empty: there is none.
	ID     string
	Secret []byte
	// Required: there is no SA without it.
	Required bool
}

// The type octets of a PPK_ID (RFC 8784 section 5.1). Our keys are fixed ones,
// and so are all that strongSwan knows.
const (
	ppkIDOpaque = 1
	ppkIDFixed  = 2
)

// named says that the data of a PPK_IDENTITY notify is about this key.
func (k PPK) named(data []byte) bool {
	return k.ID != "" && len(data) > 1 && (data[0] == ppkIDOpaque || data[0] == ppkIDFixed) && string(data[1:]) == k.ID
}

// peerPPK is the name of the key that the peer wants, in its words.
func peerPPK(ps []wire.Payload) string {
	if n := wire.FindNotify(ps, wire.NotifyPPKIdentity); n != nil && len(n.Data) > 1 {
		return string(n.Data[1:])
	}
	return ""
}

// ppkTask asks in IKE_SA_INIT whether the peer knows of PPKs (RFC 8784 section
// 3). That answer is not protected; whether a key is shared shows in IKE_AUTH.
type ppkTask struct{}

func (ppkTask) request(sa *ikeSA, req *draft) error {
	if sa.peer.PPK.ID != "" {
		req.notify(wire.NotifyUsePPK, nil)
	}
	return nil
}

func (ppkTask) response(sa *ikeSA, m *message) error {
	sa.usePPK = sa.peer.PPK.ID != "" && wire.FindNotify(m.payloads, wire.NotifyUsePPK) != nil
	if sa.peer.PPK.Required && !sa.usePPK {
		sa.report(Event{Kind: EventRefused, Reason: ReasonPPK})
		return &refusal{reason: ReasonPPK}
	}
	return nil
}

// answerUsePPK: who the peer is, and with it which key, is not known yet.
func answerUsePPK(sa *ikeSA, req *message, resp *draft) error {
	if wire.FindNotify(req.payloads, wire.NotifyUsePPK) == nil {
		return nil
	}
	for _, p := range sa.e.peers {
		if p.PPK.ID != "" {
			sa.usePPK = true
			resp.notify(wire.NotifyUsePPK, nil)
			return nil
		}
	}
	return nil
}

// offeredKeys are those that the initiator signs with: its PPK is in them where
// both sides know of PPKs.
func (sa *ikeSA) offeredKeys() keymat.IKEKeys {
	if sa.usePPK {
		return sa.keys.WithPPK(sa.prf, sa.peer.PPK.Secret)
	}
	return sa.keys
}

// offerPPK names the key, and signs without it too where the peer may do without
// (RFC 8784 section 3).
func (sa *ikeSA) offerPPK(req *draft, idBody []byte) {
	if !sa.usePPK {
		return
	}
	req.notify(wire.NotifyPPKIdentity, append([]byte{ppkIDFixed}, sa.peer.PPK.ID...))
	if !sa.peer.PPK.Required {
		req.notify(wire.NotifyNoPPKAuth, sa.authValue(sa.keys, sa.initiator, sa.peer.PSK, idBody))
	}
}

// takePPK: the responder says with PPK_IDENTITY that it has used the key. A
// resumed SA has it in its keys, or has not.
func (sa *ikeSA) takePPK(ps []wire.Payload) Reason {
	if sa.resumed != nil {
		return ReasonNone
	}
	sa.ppk = sa.usePPK && wire.FindNotify(ps, wire.NotifyPPKIdentity) != nil
	if sa.ppk {
		sa.keys = sa.offeredKeys()
	} else if sa.peer.PPK.Required {
		return ReasonPPK
	}
	return ReasonNone
}

// keysOf are the keys with which a responder judges the initiator, and the AUTH
// value to judge: of a PPK that it does not have it takes NO_PPK_AUTH instead.
// It is not usable where one of the sides wants a PPK that the other has not.
func (sa *ikeSA) keysOf(p *peer, ps []wire.Payload) (keys keymat.IKEKeys, value []byte, usable bool) {
	if auth, ok := wire.Find[*wire.Auth](ps); ok {
		value = auth.Data
	}
	switch n := wire.FindNotify(ps, wire.NotifyPPKIdentity); {
	case sa.resumed != nil:
		return sa.keys, value, true
	case sa.sharesPPK(p, ps):
		return sa.keys.WithPPK(sa.prf, p.PPK.Secret), value, true
	case n == nil:
		return sa.keys, value, p == nil || !p.PPK.Required
	}
	without := wire.FindNotify(ps, wire.NotifyNoPPKAuth)
	if without == nil {
		return sa.keys, nil, false
	}
	return sa.keys, without.Data, p == nil || !p.PPK.Required
}

func (sa *ikeSA) sharesPPK(p *peer, ps []wire.Payload) bool {
	n := wire.FindNotify(ps, wire.NotifyPPKIdentity)
	return p != nil && sa.usePPK && n != nil && p.PPK.named(n.Data)
}

// answerPPK goes on with the PPK, if it is shared, and says so.
func (sa *ikeSA) answerPPK(p *peer, ps []wire.Payload, resp *draft) {
	if sa.sharesPPK(p, ps) {
		sa.keys, sa.ppk = sa.keys.WithPPK(sa.prf, p.PPK.Secret), true
		resp.notify(wire.NotifyPPKIdentity, nil)
	}
}
