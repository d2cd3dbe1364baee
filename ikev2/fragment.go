package ikev2

// Fragmentation is a peer's policy for IKE messages that are larger than a
// packet should be (RFC 7383).
type Fragmentation struct {
	// Mode: ModePrefer by default. ModeRequire fragments every protected message that
	// can be, once the peer supports it, as strongSwan's "force" does.
	Mode Mode
	// Size bounds an IP packet that carries a fragment, in bytes. 0 means 1280,
	// and 576 of IPv4 is the least.
	Size int
}
