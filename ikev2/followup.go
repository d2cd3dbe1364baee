package ikev2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// Where a CREATE_CHILD_SA negotiates additional key exchanges, the new SA waits
// until each is made, in an IKE_FOLLOWUP_KE of its own (RFC 9370 section 2.2.4):
//
//	initiator                                        responder
//	CREATE_CHILD_SA  SA Ni KEi              ------->
//	                                        <-------  SA Nr KEr  N(ADDITIONAL_KEY_EXCHANGE)(link)
//	IKE_FOLLOWUP_KE  KEi(1)  N(...)(link)   ------->  installs the new SA
//	installs the new SA                     <-------  KEr(1)
//
// Where both sides begin at once, the nonces decide as soon as the first answer
// is there, as they do without additional key exchanges when the new SA is: who
// has lost does not go on, and who has won forgets the other's beginning. Who
// goes on already refuses for now what the other begins then.

// followupTime is how long a responder waits for the next of the key exchanges
// (RFC 9370 section 2.2.4 says 5 to 20 s).
const followupTime = 20 * time.Second

// maker is the task of a CREATE_CHILD_SA, whose answer may leave additional key
// exchanges to do before its new SA can be made.
type maker interface {
	task
	// chosen is the responder's choice.
	chosen() *choice
	// rivalNonce is the lower nonce of what the peer has made to the same end, nil
	// where it has made nothing; begun says that m is to become such a thing.
	rivalNonce(sa *ikeSA) []byte
	begun(m *making) bool
	// finish makes the SA of all secrets, or does what there is to do when it
	// came to nothing; ReasonRekeyed says that the peer's own one stays.
	finish(sa *ikeSA, m *message, s secrets, reason Reason)
}

// followUp goes on from the answer to t's CREATE_CHILD_SA, which gave s unless
// there is a reason why not.
func (sa *ikeSA) followUp(t maker, m *message, s secrets, reason Reason) {
	rest := t.chosen().methods()
	if reason != ReasonNone || len(rest) == 0 {
		t.finish(sa, m, s, reason)
		return
	}
	if sa.loses(t, lower(s.ni, s.nr)) {
		t.finish(sa, m, s, ReasonRekeyed)
		return
	}
	sa.nextFollowup(&followupTask{of: t, rest: rest, secrets: s}, m)
}

// loses says that the peer's own SA to the same end stays, and not the one of t,
// whose lower nonce is low (RFC 7296 sections 2.8.1 and 2.25.2). Otherwise what
// the peer has only begun is forgotten.
func (sa *ikeSA) loses(t maker, low []byte) bool {
	rival, begun := t.rivalNonce(sa), sa.making != nil && t.begun(sa.making)
	if begun {
		rival = sa.making.low()
	}
	if rival != nil && bytes.Compare(low, rival) < 0 {
		return true
	}
	if begun {
		sa.unmake()
	}
	return false
}

// followupTask is the first of the additional key exchanges that are left.
type followupTask struct {
	of      maker
	rest    []uint16
	secrets secrets
	link    []byte
	ke      keymat.KeyExchange
}

// nextFollowup goes on if m says how.
func (sa *ikeSA) nextFollowup(t *followupTask, m *message) {
	n := wire.FindNotify(m.payloads, wire.NotifyAdditionalKeyExchange)
	switch {
	case sa.state != stateUp:
	case n == nil:
		t.of.finish(sa, m, t.secrets, ReasonMalformed)
	default:
		t.link = bytes.Clone(n.Data)
		sa.startNext(wire.ExchangeIKEFollowupKE, t)
	}
}

func (t *followupTask) request(sa *ikeSA, req *draft) (err error) {
	if t.ke, err = keymat.NewKeyExchange(t.rest[0], sa.e.rand); err != nil {
		return err
	}
	req.add(&wire.KE{Group: t.ke.Group(), Data: t.ke.Public()})
	req.notify(wire.NotifyAdditionalKeyExchange, t.link)
	return nil
}

func (t *followupTask) response(sa *ikeSA, m *message) error {
	ke, ok := wire.Find[*wire.KE](m.payloads)
	if !ok || ke.Group != t.ke.Group() {
		t.of.finish(sa, m, t.secrets, ReasonNotify)
		return nil
	}
	shared, err := t.ke.Shared(ke.Data)
	if err != nil {
		t.of.finish(sa, m, t.secrets, ReasonMalformed)
		return nil
	}
	s := t.secrets
	s.more = append(s.more, shared...)
	if rest := t.rest[1:]; len(rest) > 0 {
		sa.nextFollowup(&followupTask{of: t.of, rest: rest, secrets: s}, m)
		return nil
	}
	t.of.finish(sa, m, s, ReasonNone)
	return nil
}

// followsUp says that a request for additional key exchanges of a task like this
// is out.
func (sa *ikeSA) followsUp(like func(task) bool) bool {
	return sa.busyWith(like) && sa.active.kind == wire.ExchangeIKEFollowupKE
}

// making is what a peer's CREATE_CHILD_SA asks for. It is one at a time, for so
// is the peer's window.
type making struct {
	rest    []uint16 // key exchanges that are left
	secrets secrets
	link    []byte
	child   *childSA // its inbound SPI is reserved; nil: an IKE SA
	old     *childSA // that the child replaces
	// finish makes the new SA of all secrets; what it has to do after that is
	// sent is left to the draft.
	finish func(s secrets, resp *draft) error
}

func (m *making) low() []byte { return lower(m.secrets.ni, m.secrets.nr) }

// replaces says that the SA will take the place of c; of the IKE SA where that is
// nil.
func (m *making) replaces(c *childSA) bool {
	return m != nil && m.old == c && (c != nil || m.child == nil)
}

// errOvertaken says that what was asked for has no place any more.
var errOvertaken = errors.New("overtaken")

// makeOrAwait makes the new SA at once where no key exchange is left, and else
// invites the peer to the next one.
func (sa *ikeSA) makeOrAwait(m *making, resp *draft) error {
	if len(m.rest) == 0 {
		return m.finish(m.secrets, resp)
	}
	m.secrets.ni = bytes.Clone(m.secrets.ni)
	sa.making = m
	sa.await(resp)
	return nil
}

// await names the exchange that is to follow by a number that no other has.
func (sa *ikeSA) await(resp *draft) {
	sa.making.link = binary.BigEndian.AppendUint64(nil, sa.e.tick())
	resp.notify(wire.NotifyAdditionalKeyExchange, sa.making.link)
	sa.e.setTimer(&sa.timers, timerFollowup, sa.e.now.Add(followupTime))
}

// unmake forgets what the peer has begun to ask for.
func (sa *ikeSA) unmake() {
	m := sa.making
	sa.making = nil
	sa.e.setTimer(&sa.timers, timerFollowup, time.Time{})
	if m != nil && m.child != nil {
		sa.e.spis.release(m.child.in)
		m.child.setState(childGone)
	}
}

// answerFollowup takes the next key exchange of what the peer asks for. An SA
// that is on its way out has forgotten what that was.
func answerFollowup(sa *ikeSA, req *message, resp *draft) error {
	m := sa.making
	link := wire.FindNotify(req.payloads, wire.NotifyAdditionalKeyExchange)
	if m == nil || link == nil || !bytes.Equal(link.Data, m.link) {
		resp.notify(wire.NotifyStateNotFound, nil)
		return nil
	}
	shared, err := answerKE(sa.e, req.payloads, resp, m.rest[0])
	if err != nil {
		sa.unmake()
		return resp.orNotify(err)
	}
	m.secrets.more = append(m.secrets.more, shared...)
	if m.rest = m.rest[1:]; len(m.rest) > 0 {
		sa.await(resp)
		return nil
	}
	if err = m.finish(m.secrets, resp); err == nil {
		m.child = nil // it has its place
	}
	sa.unmake()
	return resp.orNotify(err)
}

// orNotify leaves in the draft, where there is an error, nothing but the notify
// that says so; only one that ends the IKE SA is given back.
func (d *draft) orNotify(err error) error {
	var r *refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r) && r.notify == wire.NotifyInvalidSyntax:
		return r
	case errors.As(err, &r):
		*d = draft{}
		d.notify(r.notify, r.data)
	default:
		*d = draft{}
		d.notify(wire.NotifyTemporaryFailure, nil)
	}
	return nil
}
