// Package keymat turns a key exchange, two nonces and a pre-shared key into the keys of an IKE SA and its children, and
// seals and opens the Encrypted payload with them.
//
// It knows algorithms by their IANA transform numbers and everything else by byte slices of fixed length; it knows no
// payload. Randomness comes from the io.Reader it is given, so that the same bytes give the same keys.
//
//	KE of both sides --> g^ir -+
//	Ni | Nr --------------------+-> prf --> SKEYSEED --> prf+ --> SK_d  SK_ai SK_ar  SK_ei SK_er  SK_pi SK_pr
//	SPIi | SPIr ---------------------------------------------/       |        |            |           |
//	                                                            |        +-- Cipher --+          PSKAuth
//	                                                       DeriveChild
//
// The body of an Encrypted payload (RFC 7296 3.14), which ends the datagram:
//
//	AEAD   IV 8  | payloads                 | pad length 0 | ICV 16         authenticated: header .. generic payload header
//	CBC    IV 16 | payloads | padding 0..15 | pad length   | ICV 16/24/32   authenticated: the datagram up to the ICV
//
// No error of this package holds a key, a nonce, a private value or plaintext, and no type of it prints one.
package keymat

import (
	"errors"
	"fmt"
	"io"
)

var (
	// ErrUnsupported says that a transform number, or a combination of them, is none that this package implements.
	ErrUnsupported = errors.New("keymat: algorithm not supported")
	// ErrPeerKey says that the peer's key exchange value has the wrong length or is no acceptable element of the group (RFC 6989 2).
	ErrPeerKey = errors.New("keymat: the peer's key exchange value is not acceptable")
	// ErrNonce says that a nonce is shorter than half the PRF's key (RFC 7296 2.10).
	ErrNonce = errors.New("keymat: nonce too short for the PRF")
	// ErrKeyLength says that a key does not have the length its algorithm takes.
	ErrKeyLength = errors.New("keymat: key has the wrong length")
	// ErrAuth is the one answer to every Encrypted payload that does not open.
	ErrAuth = errors.New("keymat: encrypted payload does not authenticate")
	// ErrExhausted says that a Cipher has used every IV it may use.
	ErrExhausted = errors.New("keymat: no IV left for this key")
	// ErrRandom says that a source of randomness gave no usable bytes.
	ErrRandom = errors.New("keymat: the source of randomness failed")
)

// redacted is embedded in what holds secrets, so that no format verb prints them.
type redacted struct{}

// Format prints "(secret)" for every verb.
func (redacted) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(secret)") }
