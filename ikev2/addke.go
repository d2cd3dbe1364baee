package ikev2

// PostQuantum is a peer's policy for additional key exchanges (RFC 9370).
type PostQuantum struct {
	// Mode: ModePrefer by default.
	Mode Mode
	// Methods are the key exchange methods to offer as ADDKE1, most wanted first;
	// empty means ML-KEM-768.
	Methods []uint16
}
