package ikev2

import "culvert/ikev2/wire"

// DuplicatePolicy says what becomes of an IKE SA that is up when the same peer
// authenticates another (RFC 7296 section 2.4). A newcomer that is refused gets
// TEMPORARY_FAILURE, and the old SA is asked at once whether it lives, so that
// a peer that lost its state is let in when it comes again.
type DuplicatePolicy uint8

// The policies. A peer that authenticates again by a new IKE SA, before it
// deletes the old one, needs the first.
const (
	DuplicatesReplace DuplicatePolicy = iota // the new SA takes the place of the old one
	DuplicatesKeep                           // the old one stays, and the new one is refused, unless INITIAL_CONTACT says that the peer lost the old one
	DuplicatesNever                          // the old one stays, whatever the peer says, until it is dead
)

// contestedTries is how often an SA is asked for life while another of the same
// peer waits for its place: 15 s in all.
const contestedTries = 5

// keepsOut: the peer has an IKE SA, which stays. One that was made meanwhile
// crossed with the newcomer, and is no duplicate.
func (p *peer) keepsOut(sa *ikeSA, req *message) bool {
	if p.up == nil || sa.born < p.up.proven {
		return false
	}
	lost := wire.FindNotify(req.payloads, wire.NotifyInitialContact) != nil
	return p.Duplicates == DuplicatesNever || p.Duplicates == DuplicatesKeep && !lost
}

// contest asks the SA's peer whether it lives. An answer to whatever is out
// says so too.
func (sa *ikeSA) contest() {
	sa.contested = sa.e.now
	if sa.active == nil {
		sa.start(wire.ExchangeInformational, livenessTask{})
	}
}
