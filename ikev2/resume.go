package ikev2

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// Session resumption (RFC 5723). A responder that has lost its state, or
// another one with the same key, makes the IKE SA anew out of a ticket that it
// gave the initiator, without a key exchange:
//
//	IKE_AUTH            N(TICKET_REQUEST) -->   <-- N(TICKET_LT_OPAQUE)
//	                    the SA is lost
//	IKE_SESSION_RESUME  Ni, N(TICKET_OPAQUE) -->   <-- Nr, or N(TICKET_NACK)
//	IKE_AUTH            as ever, but AUTH is made with SK_px
//
// The keys come from SK_d of the lost SA, so they are no safer than the key
// that seals tickets. PFS of the children is as it was.

// ResumePolicy is what the gateway's own tickets are sealed with, and the
// tokens by which peers learn that it has restarted (RFC 6290).
type ResumePolicy struct {
	// Key is secret, 32 octets, and the same after a restart. Empty: neither
	// tickets nor tokens are given.
	Key []byte
	// Lifetime of a ticket. 0 means as long as its IKE SA may live, at most a
	// day.
	Lifetime time.Duration
}

// resumeKey is a key of ResumePolicy.Key for one purpose.
func (e *Engine) resumeKey(purpose string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, e.cfg.Resume.Key)
	mac.Write([]byte("culvert " + purpose))
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

// ticket is what a resumed SA is made of. The initiator keeps it with the
// opaque octets that the responder gave it; the responder gets it out of them.
type ticket struct {
	opaque  []byte // of the initiator
	expires time.Time
	suite   keymat.IKESuite
	skd     []byte
	ppk     bool  // a PPK is in skd
	peer    *peer // of the responder: whom it was given to
	salt    ticketSalt
}

type ticketSalt [16]byte

// ticketTask asks for a ticket (RFC 5723 section 4.1).
type ticketTask struct{}

func (ticketTask) request(_ *ikeSA, req *draft) error {
	req.notify(wire.NotifyTicketRequest, nil)
	return nil
}

// maxTicket bounds what we keep for a peer.
const maxTicket = 4096

func (ticketTask) response(sa *ikeSA, m *message) error {
	n := wire.FindNotify(m.payloads, wire.NotifyTicketLTOpaque)
	if n == nil || len(n.Data) <= 4 || len(n.Data) > maxTicket || sa.state != stateUp {
		return nil
	}
	life := time.Duration(binary.BigEndian.Uint32(n.Data)) * time.Second
	sa.ticket = &ticket{opaque: bytes.Clone(n.Data[4:]), expires: sa.e.now.Add(life), suite: sa.suite, skd: sa.keys.SKd, ppk: sa.ppk}
	return nil
}

// answerTicket gives a ticket to whoever asks for one and is authenticated.
func answerTicket(sa *ikeSA, req *message, resp *draft) error {
	if wire.FindNotify(req.payloads, wire.NotifyTicketRequest) == nil || sa.state != stateUp || len(sa.e.cfg.Resume.Key) == 0 {
		return nil
	}
	life := sa.e.ticketLife(sa.peer)
	opaque, err := sa.sealTicket(sa.e.now.Add(life))
	if err != nil || sa.peer.Resumption == ModeOff {
		resp.notify(wire.NotifyTicketNACK, nil)
		return nil
	}
	sa.ticketed = true
	resp.notify(wire.NotifyTicketLTOpaque, append(binary.BigEndian.AppendUint32(nil, uint32(life/time.Second)), opaque...))
	return nil
}

// ticketLife: a ticket should not outlive its SA (RFC 5723 section 6.2).
func (e *Engine) ticketLife(p *peer) time.Duration {
	life := 24 * time.Hour
	for _, limit := range []time.Duration{p.IKELifetime, e.cfg.Resume.Lifetime} {
		if limit > 0 {
			life = min(life, limit)
		}
	}
	return life
}

// A ticket by value is a salt and what is sealed under a key of that salt
// alone, so that no nonce can repeat:
//
//	version 1 | salt 16 | AES-256-GCM { expiry 8 | suite | PPK 1 | IDi | IDr | policy 32 | SK_d }
const (
	ticketVersion = 1
	ticketClear   = 1 + len(ticketSalt{})
)

func (sa *ikeSA) sealTicket(expires time.Time) ([]byte, error) {
	salt, err := sa.e.random(len(ticketSalt{}))
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder(nil)
	b.AddUint64(uint64(expires.Unix()))
	for _, x := range suiteNumbers(&sa.suite) {
		b.AddUint16(*x)
	}
	b.AddUint8(flag(sa.ppk))
	addOctets(b, sa.peer.RemoteID.payload(false).Body(), sa.peer.LocalID.payload(true).Body(), sa.e.policyOf(sa.peer), sa.keys.SKd)
	clear := append([]byte{ticketVersion}, salt...)
	return sa.e.ticketCipher(salt).Seal(clear, make([]byte, 12), b.BytesOrPanic(), clear), nil
}

func suiteNumbers(s *keymat.IKESuite) []*uint16 {
	ns := []*uint16{&s.Encr, &s.KeyBits, &s.PRF, &s.Integ, &s.Group}
	for i := range s.AddKE {
		ns = append(ns, &s.AddKE[i])
	}
	return ns
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

func addOctets(b *cryptobyte.Builder, fields ...[]byte) {
	for _, f := range fields {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(f) })
	}
}

// ticketCipher never fails: the key has the length of a hash.
func (e *Engine) ticketCipher(salt []byte) cipher.AEAD {
	block, err := aes.NewCipher(e.resumeKey("ticket", salt))
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

// policyOf stands for what a peer has to prove, so that a ticket ends with the
// key or the rule that it was given under.
func (e *Engine) policyOf(p *peer) []byte {
	b := cryptobyte.NewBuilder(nil)
	addOctets(b, p.PSK, []byte(p.PPK.ID), p.PPK.Secret)
	b.AddUint8(flag(p.PPK.Required))
	return e.resumeKey("policy", b.BytesOrPanic())
}

// clockSkew is by how much the clocks of two gateways with one key may differ.
const clockSkew = time.Minute

// inTime: the ticket has not expired, and was not given later than now: a clock
// that was set back makes no ticket last longer than a fresh one does.
func (e *Engine) inTime(t *ticket) bool {
	left := t.expires.Sub(e.now)
	return left > 0 && left <= e.ticketLife(t.peer)+clockSkew
}

// openTicket is the ticket in what an initiator presents: nil when it is not
// ours, spent, expired, or of a peer that is no longer configured as it was.
func (e *Engine) openTicket(opaque []byte) *ticket {
	if len(e.cfg.Resume.Key) == 0 || len(opaque) < ticketClear || opaque[0] != ticketVersion {
		return nil
	}
	clear := opaque[:ticketClear]
	plain, err := e.ticketCipher(clear[1:]).Open(nil, make([]byte, 12), opaque[ticketClear:], clear)
	if err != nil {
		return nil
	}
	t := e.readTicket(plain)
	if t == nil || !e.inTime(t) || t.peer.Resumption == ModeOff || !allowsSuite(t.peer.IKE, t.suite) {
		return nil
	}
	t.salt = ticketSalt(clear[1:])
	if _, spent := e.spent[t.salt]; spent {
		return nil
	}
	return t
}

func (e *Engine) readTicket(plain []byte) *ticket {
	var t ticket
	var expires uint64
	var ppk uint8
	var idi, idr, policy, skd cryptobyte.String
	s := cryptobyte.String(plain)
	ok := s.ReadUint64(&expires)
	for _, x := range suiteNumbers(&t.suite) {
		ok = ok && s.ReadUint16(x)
	}
	ok = ok && s.ReadUint8(&ppk)
	for _, x := range []*cryptobyte.String{&idi, &idr, &policy, &skd} {
		ok = ok && s.ReadUint16LengthPrefixed(x)
	}
	if !ok || len(idi) < 4 || len(idr) < 4 {
		return nil
	}
	t.expires, t.skd, t.ppk = time.Unix(int64(expires), 0), skd, ppk == 1
	t.peer = e.findPeer(bodyIdentity(idi), bodyIdentity(idr))
	if t.peer == nil || !hmac.Equal(policy, e.policyOf(t.peer)) {
		return nil
	}
	return &t
}

// bodyIdentity reads the body of an ID payload (RFC 7296 section 3.5).
func bodyIdentity(b []byte) Identity { return Identity{wire.IDType(b[0]), string(b[4:])} }

// maxSpent bounds the memory of spent tickets. A replay costs a half-open SA and
// no more, for only who knows SK_d gets further (RFC 5723 section 9.2): when the
// memory is full of tickets that have not expired, it begins anew.
const maxSpent = 1 << 16

// spend remembers a ticket until it has expired: each is good for one SA.
func (e *Engine) spend(t *ticket) {
	if len(e.spent) >= maxSpent {
		for salt, expires := range e.spent {
			if !e.now.Before(expires) {
				delete(e.spent, salt)
			}
		}
		if len(e.spent) >= maxSpent {
			clear(e.spent)
		}
	}
	e.spent[t.salt] = t.expires
}

// resumeTask is IKE_SESSION_RESUME in the place of IKE_SA_INIT (RFC 5723
// section 4.3.1).
type resumeTask struct {
	initTask
	ticket *ticket
}

// resumeTasks are initTasks for a connection that begins with a ticket.
func resumeTasks(t *ticket) []task {
	return []task{&resumeTask{ticket: t}, natdTask{}, fragmentationTask{}, childlessTask{}, redirectableTask{}}
}

func (t *resumeTask) request(sa *ikeSA, req *draft) error {
	if err := t.begin(sa, req); err != nil {
		return err
	}
	req.add(&wire.Nonce{Data: sa.ni})
	req.notify(wire.NotifyTicketOpaque, t.ticket.opaque)
	return nil
}

// accept takes the responder's nonce; all else is known.
func (t *resumeTask) accept(sa *ikeSA, h wire.Header, ps []wire.Payload) bool {
	nonce, ok := wire.Find[*wire.Nonce](ps)
	return ok && h.ResponderSPI != (wire.SPI{}) && sa.resume(t.ticket, h.ResponderSPI, sa.ni, nonce.Data) == nil
}

// resume derives the keys of a resumed SA (RFC 5723 section 5.1).
func (sa *ikeSA) resume(t *ticket, spir wire.SPI, ni, nr []byte) error {
	keys, err := keymat.DeriveIKEResume(t.suite, t.skd, ni, nr, sa.spii, spir)
	if err != nil {
		return err
	}
	sa.spir, sa.suite, sa.ni, sa.nr = spir, t.suite, bytes.Clone(ni), bytes.Clone(nr)
	sa.resumed, sa.ppk = t, t.ppk
	return sa.useKeys(keys)
}

// ticketRefused begins again with IKE_SA_INIT where the responder does not
// take the ticket. That may be forged, and costs a key exchange.
func (sa *ikeSA) ticketRefused(x *exchange, ps []wire.Payload) bool {
	if x.kind != wire.ExchangeIKESessionResume || wire.FindNotify(ps, wire.NotifyTicketNACK) == nil {
		return false
	}
	sa.report(Event{Kind: EventTicketRefused})
	p := sa.peer
	p.abandon()
	p.connect()
	return true
}

// answerResume is the responder's IKE_SESSION_RESUME. A refusal leaves no
// state.
func (e *Engine) answerResume(m *wire.Message, d Datagram, key initKey) error {
	n := wire.FindNotify(m.Payloads, wire.NotifyTicketOpaque)
	var t *ticket
	if n != nil {
		t = e.openTicket(n.Data)
	}
	if t == nil {
		e.emit(Event{Kind: EventRefused, Reason: ReasonTicket, Path: d.Path, IKE: SAID{Initiator: m.InitiatorSPI}})
		e.refuseInit(m.Header, d, wire.NotifyTicketNACK, nil)
		return nil
	}
	spir, err := e.newSPI()
	if err != nil {
		return err
	}
	nr, err := e.random(nonceLen)
	if err != nil {
		return err
	}
	nonce, _ := wire.Find[*wire.Nonce](m.Payloads)
	sa := e.newHalfOpen(m, d, key, spir)
	if err = sa.resume(t, spir, nonce.Data, nr); err != nil {
		sa.end(ReasonMalformed)
		return nil
	}
	var resp draft
	resp.add(&wire.Nonce{Data: nr})
	return sa.answerFirst(m, d, key, &resp)
}

// takeTicket is the ticket for an attempt: each is presented once.
func (p *peer) takeTicket() *ticket {
	t := p.ticket
	p.ticket = nil
	if t == nil || !p.e.now.Before(t.expires) || p.Resumption == ModeOff {
		return nil
	}
	return t
}

// leaveTicket gives the ticket of an SA that the peer has lost, and of no
// other, to the next attempt: it dies with an SA that was deleted (RFC 5723
// section 6.2).
func (sa *ikeSA) leaveTicket(reason Reason) {
	if sa.ticket != nil && sa.peer.up == sa && sa.peer.attempt == nil && sa.peer.wanted && (reason == ReasonDead || reason == ReasonRestarted) {
		sa.peer.ticket = sa.ticket
	}
	sa.ticket = nil
}

// keepsakes are asked for and given in IKE_AUTH: what is of use when the SA is
// lost.
func (sa *ikeSA) keepsakes() (tasks []task) {
	if sa.peer.Resumption != ModeOff {
		tasks = append(tasks, ticketTask{})
	}
	return append(tasks, tokenTask{})
}

// renewKeepsakes replaces what was about the SA that this one takes the place
// of (RFC 5723 section 6.2, RFC 6290 section 4.3).
func (sa *ikeSA) renewKeepsakes(old *ikeSA) {
	var tasks []task
	if old.ticket != nil {
		old.ticket, tasks = nil, append(tasks, ticketTask{})
	}
	if sa.initiator && old.token != nil && sa.e.makesTokens() {
		tasks = append(tasks, tokenTask{})
	}
	if len(tasks) > 0 {
		sa.start(wire.ExchangeInformational, tasks...)
	}
}
