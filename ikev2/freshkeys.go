package ikev2

import (
	"encoding/binary"
	"errors"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// secrets are what keys are derived from beside SK_d: shared is nil without a
// key exchange, more without additional ones.
type secrets struct{ shared, ni, nr, more []byte }

// freshKeys are the initiator's nonce and key exchange in a CREATE_CHILD_SA
// (RFC 7296 section 1.3), and which group to try when the first was refused.
type freshKeys struct {
	nonce  []byte
	ke     keymat.KeyExchange
	tried  uint16
	group  uint16 // that the responder asked for
	rounds int
}

// request adds Ni and KEi.
func (f *freshKeys) request(e *Engine, req *draft, ps []Proposal) (err error) {
	if f.nonce, err = e.random(nonceLen); err != nil {
		return err
	}
	req.add(&wire.Nonce{Data: f.nonce})
	if f.tried = f.group; f.tried == 0 {
		f.tried = firstGroup(ps)
	}
	if f.tried == 0 {
		return nil
	}
	if f.ke, err = keymat.NewKeyExchange(f.tried, e.rand); err != nil {
		return err
	}
	req.add(&wire.KE{Group: f.tried, Data: f.ke.Public()})
	return nil
}

// response takes Nr and KEr of an answer that chose group, 0 for none.
func (f *freshKeys) response(ps []wire.Payload, group uint16) (s secrets, ok bool) {
	nr, ok := wire.Find[*wire.Nonce](ps)
	if !ok {
		return s, false
	}
	s.ni, s.nr = f.nonce, nr.Data
	if group == wire.GroupNone {
		return s, true
	}
	ke, ok := wire.Find[*wire.KE](ps)
	if !ok || f.ke == nil || ke.Group != group || f.tried != group {
		return s, false
	}
	var err error
	s.shared, err = f.ke.Shared(ke.Data)
	return s, err == nil
}

// wantedGroup is what INVALID_KE_PAYLOAD asks for: followed only to a group
// that we proposed and did not just try, so that nobody can talk us down (RFC
// 7296 sections 1.2 and 1.3).
func wantedGroup(answer []wire.Payload, ps []Proposal, tried uint16) (g uint16, ok bool) {
	n := wire.FindNotify(answer, wire.NotifyInvalidKEPayload)
	if n == nil || len(n.Data) != 2 {
		return 0, false
	}
	g = binary.BigEndian.Uint16(n.Data)
	return g, g != tried && proposesGroup(ps, g)
}

// again takes INVALID_KE_PAYLOAD, but not for ever.
func (f *freshKeys) again(answer []wire.Payload, ps []Proposal) bool {
	g, ok := wantedGroup(answer, ps, f.tried)
	if !ok || f.nonce == nil || f.rounds >= maxInitRounds {
		return false
	}
	*f = freshKeys{group: g, rounds: f.rounds + 1}
	return true
}

// groupOf is the group of a message's key exchange payload; 0 without one.
func groupOf(ps []wire.Payload) uint16 {
	if ke, ok := wire.Find[*wire.KE](ps); ok {
		return ke.Group
	}
	return wire.GroupNone
}

// answerFreshKeys adds Nr and KEr for the chosen group, 0 for none. The error
// is a *refusal, or that there are no random bytes.
func answerFreshKeys(e *Engine, ps []wire.Payload, resp *draft, group uint16) (s secrets, err error) {
	ni, _ := wire.Find[*wire.Nonce](ps)
	if s.ni = ni.Data; group != groupOf(ps) && group != wire.GroupNone {
		return s, &refusal{notify: wire.NotifyInvalidKEPayload, data: binary.BigEndian.AppendUint16(nil, group)}
	}
	if s.nr, err = e.random(nonceLen); err != nil {
		return s, err
	}
	resp.add(&wire.Nonce{Data: s.nr})
	if group == wire.GroupNone {
		return s, nil
	}
	s.shared, err = answerKE(e, ps, resp, group)
	return s, err
}

// answerKE adds KEr for the key exchange that the message begins. The error is a
// *refusal, or that there are no random bytes.
func answerKE(e *Engine, ps []wire.Payload, resp *draft, method uint16) (shared []byte, err error) {
	ke, _ := wire.Find[*wire.KE](ps)
	public, shared, err := keymat.Respond(method, ke.Data, e.rand)
	if ke.Group != method || errors.Is(err, keymat.ErrPeerKey) {
		return nil, &refusal{notify: wire.NotifyInvalidSyntax, reason: ReasonMalformed}
	}
	if err != nil {
		return nil, err
	}
	resp.add(&wire.KE{Group: method, Data: public})
	return shared, nil
}
