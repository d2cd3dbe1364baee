package ikev2

import "time"

// Limits bound what peers that have not authenticated can claim. A zero field
// means its default; a negative one switches the limit off.
type Limits struct {
	// CookieThreshold is the number of half-open SAs above which a responder
	// asks for a cookie first (RFC 7296 section 2.6).
	CookieThreshold int
	// HalfOpen is the number above which IKE_SA_INIT is dropped, HalfOpenPerSource the
	// same for one source address.
	HalfOpen, HalfOpenPerSource int
	// HalfOpenLifetime is how long a responder waits for a valid IKE_AUTH.
	HalfOpenLifetime time.Duration
}
