package ikev2

import (
	"encoding/binary"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// intermediate is what the IKE_INTERMEDIATE exchanges of an SA leave for AUTH to
// sign (RFC 9242 section 3.3): IntAuth_i and IntAuth_r, a chain of PRFs over each
// side's messages, and how many exchanges there were.
type intermediate struct {
	i, r []byte
	done int
}

// octets is IntAuth: IntAuth_iN | IntAuth_rN | IKE_AUTH_MID, nil where there was
// no such exchange. Message IDs begin with IKE_SA_INIT at 0.
func (x *intermediate) octets() []byte {
	if x.done == 0 {
		return nil
	}
	b := append(append([]byte(nil), x.i...), x.r...)
	return binary.BigEndian.AppendUint32(b, uint32(1+x.done))
}

// cover chains a message of IKE_INTERMEDIATE, as if it were not encrypted: the
// header and the generic header of the Encrypted payload with lengths that leave
// encryption out, and the payloads (RFC 9242 section 3.3.2). Its key is the one
// that holds while the message goes by.
func (sa *ikeSA) cover(h wire.Header, first wire.PayloadType, inner []byte) {
	if h.Exchange != wire.ExchangeIKEIntermediate {
		return
	}
	chain, key := &sa.intermediate.r, sa.keys.SKpr
	if h.Flags&wire.FlagInitiator != 0 {
		chain, key = &sa.intermediate.i, sa.keys.SKpi
	}
	*chain = sa.prf.Sum(key, *chain, wire.AppendProtected(nil, h, first, len(inner)), inner)
}

// nextMethod is the additional key exchange that is to be made before IKE_AUTH,
// 0 where none is left (RFC 9370 section 2.2.2). A resumed SA has the secrets of
// those before in its keys.
func (sa *ikeSA) nextMethod() uint16 {
	if sa.resumed != nil {
		return wire.GroupNone
	}
	if ids := addKEMethods(sa.suite); sa.intermediate.done < len(ids) {
		return ids[sa.intermediate.done]
	}
	return wire.GroupNone
}

// intermediateSupported is the promise in IKE_SA_INIT without which no
// additional key exchange can be chosen (RFC 9242 section 3.1). Whether the peer
// made it is seen to where its choice is.
type intermediateSupported struct{}

func (intermediateSupported) request(sa *ikeSA, req *draft) error {
	if len(classical(sa.peer.IKE)) < len(sa.peer.IKE) {
		req.notify(wire.NotifyIntermediateExchangeSupported, nil)
	}
	return nil
}

func (intermediateSupported) response(*ikeSA, *message) error { return nil }

func supportsIntermediate(ps []wire.Payload) bool {
	return wire.FindNotify(ps, wire.NotifyIntermediateExchangeSupported) != nil
}

func answerIntermediateSupported(sa *ikeSA, _ *message, resp *draft) error {
	if sa.nextMethod() != 0 {
		resp.notify(wire.NotifyIntermediateExchangeSupported, nil)
	}
	return nil
}

// intermediateTask is one additional key exchange between IKE_SA_INIT and
// IKE_AUTH (RFC 9370 section 2.2.2). Its answer still comes under the old keys.
// Nobody is authenticated, but only who has seen the IKE_SA_INIT of both sides
// and its secrets can write such a message, so that one that does not fit ends
// the attempt.
type intermediateTask struct{ ke keymat.KeyExchange }

func (t *intermediateTask) request(sa *ikeSA, req *draft) (err error) {
	if t.ke, err = keymat.NewKeyExchange(sa.nextMethod(), sa.e.rand); err != nil {
		return err
	}
	req.add(&wire.KE{Group: t.ke.Group(), Data: t.ke.Public()})
	return nil
}

func (t *intermediateTask) response(sa *ikeSA, m *message) error {
	ke, ok := wire.Find[*wire.KE](m.payloads)
	if !ok {
		return sa.refusedByPeer(m.payloads)
	}
	shared, err := t.ke.Shared(ke.Data)
	if err != nil || ke.Group != t.ke.Group() || sa.nextKeys(shared) != nil {
		sa.report(Event{Kind: EventRefused, Reason: ReasonMalformed})
		return &refusal{reason: ReasonMalformed}
	}
	sa.startAuth()
	return nil
}

// answerIntermediate answers under the old keys; the new ones hold from the next
// request on.
func answerIntermediate(sa *ikeSA, req *message, resp *draft) error {
	shared, err := answerKE(sa.e, req.payloads, resp, sa.nextMethod())
	if err != nil {
		return err
	}
	resp.after(func() {
		if sa.nextKeys(shared) != nil {
			sa.end(ReasonNone)
		}
	})
	return nil
}

// nextKeys derives the keys after an additional key exchange (RFC 9370 section
// 2.2.2).
func (sa *ikeSA) nextKeys(shared []byte) error {
	keys, err := keymat.DeriveIKENext(sa.suite, sa.keys.SKd, sa.ni, sa.nr, shared, sa.spii, sa.spir)
	if err != nil {
		return err
	}
	sa.intermediate.done++
	return sa.useKeys(keys)
}
