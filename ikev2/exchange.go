package ikev2

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"time"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// task is one elementary operation of a request: it adds its payloads, and
// takes its part of the answer.
type task interface {
	request(sa *ikeSA, req *draft) error
	response(sa *ikeSA, m *message) error
}

// perishable is a task that may have lost its object by the time its turn
// comes: a child to replace that is gone. Its exchange is left out.
type perishable interface{ obsolete(sa *ikeSA) bool }

// answerer is one elementary operation of a response.
type answerer func(sa *ikeSA, req *message, resp *draft) error

// answerers of each exchange, in the order in which they see the request. Those
// of a first exchange add to the answer what is beside proposal, key exchange and
// nonce, and cannot fail.
var answerers = map[wire.ExchangeType][]answerer{
	wire.ExchangeIKESAInit:        {answerNATDetection, answerFragmentation, answerIntermediateSupported, answerUsePPK, answerChildless, answerRedirectable},
	wire.ExchangeIKESessionResume: {answerNATDetection, answerFragmentation, answerChildless, answerRedirectable},
	wire.ExchangeIKEIntermediate:  {answerIntermediate},
	wire.ExchangeIKEAuth:          {answerAuth, answerMOBIKE, answerFirstChild, answerTicket, answerToken},
	wire.ExchangeCreateChildSA:    {answerCreateChildSA},
	wire.ExchangeIKEFollowupKE:    {answerFollowup},
	wire.ExchangeInformational:    {answerPeerFailure, answerRoaming, answerTicket, answerToken, answerInvalidSPI, answerRedirect, answerDelete},
}

// message is a received message that passed integrity, format and legality. raw
// is the datagram of an unprotected one; of a protected one, inner is the
// decrypted chain of payloads and first the type of the first of them.
type message struct {
	header   wire.Header
	path     Path
	raw      []byte
	first    wire.PayloadType
	inner    []byte
	payloads []wire.Payload
	detoured bool // of a response: the request went to several addresses
}

// draft is a message of ours being written. What then holds is done after it
// is transmitted.
type draft struct {
	payloads []wire.Payload
	then     []func()
}

func (d *draft) add(ps ...wire.Payload) { d.payloads = append(d.payloads, ps...) }

func (d *draft) notify(t wire.NotifyType, data []byte) {
	d.add(&wire.Notify{NotifyType: t, Data: data})
}

func (d *draft) after(f func()) { d.then = append(d.then, f) }

// exchange is a request of ours.
type exchange struct {
	kind     wire.ExchangeType
	tasks    []task
	parcel   *parcel
	then     []func()
	tries    int
	started  time.Time
	sent     time.Time // last
	detoured bool      // the path has changed since it was first sent
}

// refusal is a local decision against the peer: the answer carries Notify
// alone, and the SA ends when that is sent.
type refusal struct {
	notify wire.NotifyType
	data   []byte
	reason Reason
}

func (r *refusal) Error() string { return r.reason.String() }

// errIgnore keeps an exchange waiting as if its answer had not come.
var errIgnore = errors.New("ignored")

// start sends a request, or queues it behind the outstanding one: our window
// is one (RFC 7296 section 2.3).
func (sa *ikeSA) start(kind wire.ExchangeType, tasks ...task) {
	sa.queue = append(sa.queue, &exchange{kind: kind, tasks: tasks, started: sa.e.now})
	sa.pump()
}

// startNext sends a request that continues the one whose answer is at hand,
// before all that waits.
func (sa *ikeSA) startNext(kind wire.ExchangeType, t task) {
	sa.queue = slices.Insert(sa.queue, 0, &exchange{kind: kind, tasks: []task{t}, started: sa.e.now})
	sa.pump()
}

func (sa *ikeSA) pump() {
	for sa.active == nil && len(sa.queue) > 0 {
		x := sa.queue[0]
		sa.queue = sa.queue[1:]
		if x.obsolete(sa) {
			continue
		}
		sa.active = x
		if err := sa.write(x); err != nil {
			sa.e.drop(dropRandom)
			sa.end(ReasonNone)
			return
		}
		sa.resend(x)
		for _, f := range x.then {
			f()
		}
	}
}

func (x *exchange) obsolete(sa *ikeSA) bool {
	t, ok := x.tasks[0].(perishable)
	return ok && t.obsolete(sa)
}

// plans says that a request with a task like this is out or waits.
func (sa *ikeSA) plans(like func(task) bool) bool {
	has := func(x *exchange) bool { return x.has(like) }
	return sa.active != nil && has(sa.active) || slices.ContainsFunc(sa.queue, has)
}

// busyWith says that a request with a task like this is out.
func (sa *ikeSA) busyWith(like func(task) bool) bool {
	return sa.active != nil && sa.active.has(like)
}

// has counts a follow-up as what it follows up.
func (x *exchange) has(like func(task) bool) bool {
	return slices.ContainsFunc(x.tasks, func(t task) bool {
		if f, is := t.(*followupTask); is {
			t = f.of
		}
		return like(t)
	})
}

// write builds the active request's message from its tasks.
func (sa *ikeSA) write(x *exchange) error {
	var d draft
	for _, t := range x.tasks {
		if err := t.request(sa, &d); err != nil {
			return err
		}
	}
	var err error
	x.then = d.then
	if x.parcel, err = sa.encode(x.kind, 0, sa.nextID, d.payloads); err != nil {
		return err
	}
	if opens(x.kind) {
		sa.initReq = x.parcel.datagrams[0]
	}
	return nil
}

// opens says that an exchange is the first of an IKE SA, in the clear.
func opens(x wire.ExchangeType) bool {
	return x == wire.ExchangeIKESAInit || x == wire.ExchangeIKESessionResume
}

// encode writes a message, protected but for the first.
func (sa *ikeSA) encode(kind wire.ExchangeType, flags wire.Flags, id uint32, ps []wire.Payload) (*parcel, error) {
	if sa.initiator {
		flags |= wire.FlagInitiator
	}
	h := wire.Header{InitiatorSPI: sa.spii, ResponderSPI: sa.spir, Major: 2, Exchange: kind, Flags: flags, MessageID: id}
	if opens(kind) {
		m := wire.Message{Header: h, Payloads: ps}
		return &parcel{header: h, datagrams: [][]byte{m.Append(nil)}}, nil
	}
	m := &parcel{header: h, out: sa.out}
	m.first, m.inner = wire.AppendPayloads(nil, ps)
	sa.cover(h, m.first, m.inner)
	return m, sa.seal(m)
}

func (sa *ikeSA) send(p Path, b []byte) {
	sa.sent = sa.e.now
	sa.e.transmit(p, b)
}

// resend transmits the active request and sets the time for the next try.
func (sa *ikeSA) resend(x *exchange) {
	x.tries++
	x.sent = sa.e.now
	sa.post(sa.path, x.parcel)
	t := sa.timing()
	sa.e.setTimer(&sa.timers, timerRetransmit, sa.e.now.Add(backoff(t.Retransmit, t.RetransmitMax, x.tries)))
	if x.tries == doubtTries {
		sa.despair()
	}
}

func (sa *ikeSA) retransmit() {
	x := sa.active
	tries := sa.timing().Tries
	switch {
	case x == nil:
		return
	case opens(x.kind):
		tries = sa.timing().InitialTries
	case sa.state == stateClosing:
		tries = min(tries, 3)
	case sa.contested.After(sa.heard):
		tries = min(tries, contestedTries)
	}
	if sa.espHeld.Encap && x.tries == provingTries {
		sa.goBack()
	}
	if x.tries < tries {
		sa.resend(x)
		return
	}
	if sa.state != stateClosing && sa.state != stateReplaced {
		sa.report(Event{Kind: EventGaveUp, Exchange: x.kind, Attempt: x.tries, Wait: sa.e.now.Sub(x.started), Notify: sa.complaint})
	}
	sa.end(ReasonDead)
}

// handleRequest is the responder's half of the window (RFC 7296 section 2.3):
// the next message ID is worked on, the one before is answered from the cache,
// all others are not there.
func (sa *ikeSA) handleRequest(h wire.Header, d Datagram) {
	digest := sha256.Sum256(d.Payload)
	switch {
	case h.MessageID == sa.expectID-1 && sa.repeats(h, d, digest):
		sa.answerAgain(d.Path)
		return
	case h.MessageID != sa.expectID:
		sa.e.drop(dropMessageID)
		return
	case !sa.takes(h.Exchange):
		sa.e.drop(dropState)
		return
	}
	m, err := sa.open(h, d)
	if errors.Is(err, errIgnore) {
		return
	}
	sa.hear(d.Path)
	var resp draft
	if err == nil {
		err = sa.work(m, &resp)
	}
	if err != nil {
		sa.refuse(err, &resp)
	}
	answer, err := sa.encode(h.Exchange, wire.FlagResponse, h.MessageID, resp.payloads)
	if err != nil {
		sa.e.drop(dropRandom)
		sa.end(ReasonNone)
		return
	}
	sa.expectID, sa.last, sa.lastIn, sa.answer = sa.expectID+1, digest, sa.in, answer
	sa.post(d.Path, answer)
	for _, f := range resp.then {
		f()
	}
}

func (sa *ikeSA) work(m *message, resp *draft) error {
	sa.claim(m)
	for _, answer := range answerers[m.header.Exchange] {
		if err := answer(sa, m, resp); err != nil {
			return err
		}
	}
	return nil
}

// refuse turns a response into the one notify that says no. Both a failed
// authentication and a malformed message end the IKE SA; an authenticated peer
// that wants a payload we do not know keeps it (RFC 7296 sections 2.21.2 and
// 2.21.3).
func (sa *ikeSA) refuse(err error, resp *draft) {
	r := &refusal{notify: wire.NotifyInvalidSyntax, reason: ReasonMalformed}
	var bad *wire.Error
	if errors.As(err, &bad) {
		r.notify, r.data = bad.Notify, bad.Data
		sa.e.drop(dropMalformed)
		sa.report(Event{Kind: EventRefused, Reason: ReasonMalformed, Notify: bad.Notify})
	}
	errors.As(err, &r)
	*resp = draft{}
	resp.notify(r.notify, r.data)
	if sa.state != stateUp || r.notify != wire.NotifyUnsupportedCriticalPayload {
		resp.after(func() { sa.linger(r.reason) })
	}
}

// open decrypts, parses and checks a protected message. errIgnore says that
// it is not the peer's; any other error is a *wire.Error of the peer's.
func (sa *ikeSA) open(h wire.Header, d Datagram) (*message, error) {
	first, inner, ok := sa.decrypt(h, d)
	if !ok {
		return nil, errIgnore
	}
	sa.cover(h, first, inner)
	ps, err := wire.ParsePayloads(first, inner)
	if err == nil {
		err = wire.Check(h.Exchange, h.Flags&wire.FlagResponse != 0, ps)
	}
	if err != nil {
		return nil, err
	}
	return &message{header: h, path: d.Path, first: first, inner: inner, payloads: ps}, nil
}

// decrypt gives the chain of payloads inside a datagram, or inside the fragments
// that it makes complete. What is not the peer's is counted.
func (sa *ikeSA) decrypt(h wire.Header, d Datagram) (first wire.PayloadType, inner []byte, ok bool) {
	outer, err := wire.Parse(d.Payload)
	if err != nil {
		sa.e.drop(dropMalformed)
		return 0, nil, false
	}
	sk, whole := wire.Find[*wire.Encrypted](outer.Payloads)
	skf, part := wire.Find[*wire.EncryptedFragment](outer.Payloads)
	if !whole && !(part && sa.fragments) {
		sa.e.drop(dropMalformed)
		return 0, nil, false
	}
	if sa.in == nil && sa.agree() != nil {
		sa.e.drop(dropMalformed)
		sa.end(ReasonMalformed) // its key exchange value can never work
		return 0, nil, false
	}
	if part {
		return sa.reassemble(h, d, skf)
	}
	if inner, err = sa.in.Open(d.Payload, sk.BodyOffset); err != nil {
		sa.e.drop(dropIntegrity)
		return 0, nil, false
	}
	*sa.partial(h) = assembly{}
	return sk.First, inner, true
}

// handleResponse is the initiator's half of the window.
func (sa *ikeSA) handleResponse(h wire.Header, d Datagram) {
	x := sa.active
	if x == nil || h.Exchange != x.kind || h.MessageID != sa.nextID {
		sa.e.drop(dropUnexpected)
		return
	}
	if opens(x.kind) {
		sa.handleInitResponse(h, d, x)
		return
	}
	m, err := sa.open(h, d)
	if errors.Is(err, errIgnore) {
		return
	}
	sa.hear(d.Path)
	sa.measure(x)
	sa.completed()
	sa.answered()
	if err != nil {
		sa.e.drop(dropMalformed)
		sa.report(Event{Kind: EventRefused, Reason: ReasonMalformed})
		sa.breakOff()
		return
	}
	m.detoured = x.detoured
	sa.conclude(x, m)
}

// breakOff leaves a peer whose answer made no sense, telling it so.
func (sa *ikeSA) breakOff() {
	if sa.state == stateAuth {
		sa.giveUp(&refusal{notify: wire.NotifyInvalidSyntax, reason: ReasonMalformed})
		return
	}
	sa.close(ReasonMalformed)
}

// completed closes the window behind the active exchange.
func (sa *ikeSA) completed() {
	sa.active = nil
	sa.nextID++
	sa.e.setTimer(&sa.timers, timerRetransmit, time.Time{})
}

// conclude gives the answer to the exchange's tasks. A peer that could not
// read an authenticated request has ended the SA with its answer (RFC 7296
// section 2.21.3).
func (sa *ikeSA) conclude(x *exchange, m *message) {
	if sa.state == stateUp && wire.FindNotify(m.payloads, wire.NotifyInvalidSyntax) != nil {
		sa.report(Event{Kind: EventRefusedByPeer, Reason: ReasonMalformed, Notify: wire.NotifyInvalidSyntax})
		sa.end(ReasonMalformed)
		return
	}
	for _, t := range x.tasks {
		if err := t.response(sa, m); err != nil {
			sa.giveUp(err)
			return
		}
		if sa.state == stateGone {
			return
		}
	}
	sa.pump()
}

// giveUp ends an SA whose peer's answer we cannot accept. The peer holds the
// SA for good, so it is told (RFC 7296 section 2.21.2); one that refused us
// has already let go.
func (sa *ikeSA) giveUp(err error) {
	var r *refusal
	if !errors.As(err, &r) || r.notify == 0 {
		sa.end(reasonOf(r))
		return
	}
	sa.setState(stateClosing)
	sa.queue = nil
	sa.start(wire.ExchangeInformational, &failureTask{r.notify})
	sa.leavePeer()
}

func reasonOf(r *refusal) Reason {
	if r == nil {
		return ReasonNone
	}
	return r.reason
}

// agree is the responder's key exchange. It is put off to the first protected
// request, so that a spoofed IKE_SA_INIT costs nothing.
func (sa *ikeSA) agree() error {
	shared, err := sa.ke.Shared(sa.peerKE)
	if err != nil {
		return err
	}
	return sa.deriveKeys(shared)
}

// deriveKeys computes the SA's keys (RFC 7296 section 2.14).
func (sa *ikeSA) deriveKeys(shared []byte) (err error) {
	keys, err := keymat.DeriveIKE(sa.suite, sa.ni, sa.nr, shared, sa.spii, sa.spir)
	if err != nil {
		return err
	}
	sa.ke, sa.peerKE = nil, nil
	return sa.useKeys(keys)
}

// useKeys makes the ciphers of both directions.
func (sa *ikeSA) useKeys(keys keymat.IKEKeys) (err error) {
	if sa.prf, err = keymat.NewPRF(sa.suite.PRF); err != nil {
		return err
	}
	sa.keys = keys
	toResponder, err := keymat.NewCipher(sa.suite.Encr, sa.suite.KeyBits, sa.suite.Integ, sa.keys.SKei, sa.keys.SKai)
	if err != nil {
		return err
	}
	toInitiator, err := keymat.NewCipher(sa.suite.Encr, sa.suite.KeyBits, sa.suite.Integ, sa.keys.SKer, sa.keys.SKar)
	if err != nil {
		return err
	}
	sa.in, sa.out = toResponder, toInitiator
	if sa.initiator {
		sa.in, sa.out = toInitiator, toResponder
	}
	if sa.e.cfg.KeyLog {
		sa.reveal()
	}
	return nil
}

func (sa *ikeSA) reveal() { sa.e.emit(IKEKeys{sa.id(), sa.suite, sa.keys}) }

// reveal emits the keys that there are, in the order of the SAs' first messages.
func (e *Engine) reveal(on bool) {
	e.cfg.KeyLog = on
	if !on {
		return
	}
	for _, sa := range slices.SortedFunc(maps.Values(e.sas), func(a, b *ikeSA) int { return cmp.Compare(a.born, b.born) }) {
		if sa.in != nil {
			sa.reveal()
		}
	}
}
