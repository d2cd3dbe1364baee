package ikev2

// PPK is a post-quantum pre-shared key that is mixed into the keys of an IKE
// SA (RFC 8784).
type PPK struct {
	// ID names the key to the peer, as opaque octets. Empty: there is none.
	ID     string
	Secret []byte
	// Required: there is no SA without it.
	Required bool
}
