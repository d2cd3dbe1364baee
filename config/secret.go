package config

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
)

// redactedText is what a Secret shows of itself, everywhere.
const redactedText = "(secret)"

// Secret is a pre-shared key and where it came from. However it is printed,
// marshalled or logged, it shows "(secret)". The bytes are behind two pointers:
// package fmt looks through one when it prints somebody's unexported field,
// where it cannot call methods.
type Secret struct{ *secret }

type secret struct {
	key    *[]byte
	source keySource
	ref    string // file name or variable as written
}

// keySource is the end of the setting's name that gave the key: psk, psk_file, ...
type keySource string

const (
	keyInline keySource = ""
	keyBase64 keySource = "_base64"
	keyFile   keySource = "_file"
	keyEnv    keySource = "_env"
)

// Bytes is the key itself, nil for no key. It is not to be changed.
func (s Secret) Bytes() []byte {
	if s.secret == nil {
		return nil
	}
	return *s.key
}

// Equal compares keys and where they come from.
func (s Secret) Equal(o Secret) bool {
	if s.secret == nil || o.secret == nil {
		return s.secret == o.secret
	}
	return bytes.Equal(*s.key, *o.key) && s.source == o.source && s.ref == o.ref
}

// String is "(secret)".
func (s Secret) String() string { return redactedText }

// GoString is "(secret)".
func (s Secret) GoString() string { return redactedText }

// Format writes "(secret)" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redactedText) }

// MarshalText gives "(secret)".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redactedText), nil }

// MarshalJSON gives "(secret)".
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redactedText + `"`), nil }

// LogValue is "(secret)".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redactedText) }
