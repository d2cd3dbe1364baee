package ikev2

// DuplicatePolicy says what becomes of an IKE SA that is up when the same peer
// authenticates another (RFC 7296 section 2.4).
type DuplicatePolicy uint8

// The policies.
const (
	DuplicatesReplace DuplicatePolicy = iota // the new SA takes the place of the old one
	DuplicatesKeep                           // the old one stays, and the new one is refused, unless INITIAL_CONTACT says that the peer lost the old one
	DuplicatesNever                          // the old one stays, whatever the peer says, until it is dead
)
