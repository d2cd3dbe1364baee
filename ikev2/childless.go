package ikev2

import "culvert/ikev2/wire"

// childlessTask learns whether the responder takes an IKE_AUTH without a child
// SA (RFC 6023 section 3): one that does says so in IKE_SA_INIT. answerFirstChild
// passes over a request that asks for none.
type childlessTask struct{}

func (childlessTask) request(*ikeSA, *draft) error { return nil }

func (childlessTask) response(sa *ikeSA, m *message) error {
	sa.childless = wire.FindNotify(m.payloads, wire.NotifyChildlessIKEv2Supported) != nil
	return nil
}

func answerChildless(_ *ikeSA, _ *message, resp *draft) error {
	resp.notify(wire.NotifyChildlessIKEv2Supported, nil)
	return nil
}
