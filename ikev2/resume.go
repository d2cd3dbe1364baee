package ikev2

import "time"

// ResumePolicy is what the gateway's own tickets are made with (RFC 5723).
type ResumePolicy struct {
	// Key seals tickets, 32 octets, the same after a restart; empty: no tickets are
	// given.
	Key []byte
	// Lifetime of a ticket. 0 means 1 h.
	Lifetime time.Duration
}
