// Package aesgcm seals and opens batches of ESP payloads with AES-GCM
// (RFC 4106), one call for as many packets as the data path has in hand.
//
//	            Head         len(Body)                        TagLen
//	Text   ┌───────────┬─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─┬───────────┬─────────────┐
//	before │ head      │ room for the body   │ tail      │ room        │
//	       └───────────┴─ ─ ─ ─ ─ ▲ ─ ─ ─ ─ ─┴───────────┴─────────────┘
//	Body                   ┌──────┴──────────┐
//	elsewhere, only read   │ body            │
//	                       └─────────────────┘
//	       ┌─────────────────────────────────────────────┬─────────────┐
//	after  │ ciphertext                                  │ tag         │
//	       └─────────────────────────────────────────────┴─────────────┘
//
// A caller counts on nothing but that picture, so that a path may read the
// body from where it lies and let the encryption be the only move of its
// bytes, and may load and store whole blocks where the text ends in a part of
// one, for the tag's place follows it.
//
// Which path does the work is decided once, at start, by what the processor
// has: see Path. Neither has a branch or an index that depends on a secret.
package aesgcm

// TagLen is the length of the tag in bytes: the 16-byte ICV of RFC 4106
// section 6.
const TagLen = 16

// Packet is one packet of a batch.
type Packet struct {
	// Text is worked on in place. Seal: head, room for the body, tail, room for
	// the tag; then ciphertext and tag. Open: ciphertext and tag; then
	// plaintext, and the tag's bytes are of no meaning. At least TagLen bytes.
	Text []byte
	// Head is how many bytes of plaintext stand in front of the body. Seal only.
	Head int
	// Body is never written to and does not overlap Text. Seal only.
	Body []byte
	// IV is the half of the nonce that differs from packet to packet
	// (RFC 4106 section 3.1). One key never seals twice with one value.
	IV uint64
	// AAD is authenticated and not encrypted: the first AADLen bytes, 8 or 12
	// (RFC 4106 section 5).
	AAD    [12]byte
	AADLen int
	// OK is Open's verdict. Where it is false, Text is nothing but zeros.
	OK bool
}

// Gather copies the body to its place in Text and returns the whole plaintext.
func (p *Packet) Gather() []byte {
	copy(p.Text[p.Head:], p.Body)
	return p.Text[:len(p.Text)-TagLen]
}

// AEAD is one key and its salt. One goroutine at a time uses it.
type AEAD struct{ engine }

// engine is an AEAD on one path.
type engine interface {
	seal([]Packet)
	open([]Packet)
}

// New takes an AES key of 16, 24 or 32 bytes and the salt that stands behind
// it in the keying material (RFC 4106 section 8.1).
func New(key []byte, salt [4]byte) (*AEAD, error) {
	p, _ := chosen() // Path tells of the error
	return p.sleeping(key, salt)
}

// Seal encrypts every packet of the batch.
func (a *AEAD) Seal(batch []Packet) { a.seal(batch) }

// Open authenticates and decrypts every packet of the batch, each with a
// verdict of its own.
func (a *AEAD) Open(batch []Packet) { a.open(batch) }
