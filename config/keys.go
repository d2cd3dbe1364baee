package config

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"slices"
	"strings"
)

// keyKind is what a key is for.
type keyKind struct {
	// setting is its name without the source, noun what people call it.
	setting, noun string
	// minLen and minBits are what a key has to have to pass without a warning,
	// which says the danger. The bits are an upper bound, from the length and the number
	// of different bytes; a sentence can pass.
	minLen  int
	minBits float64
	danger  string
	// sources are where it may come from, the ones to prefer first.
	sources []keySource
}

var (
	// The initiator proves that it has the key before the responder does, under
	// keys agreed with whoever answered; so who answers in the responder's place
	// can try keys against that proof at leisure.
	pskKey = &keyKind{
		"psk", "pre-shared key", 16, 56,
		"an active attacker who answers the initiator in the responder's place can guess it offline (RFC 7296 section 2.15)",
		[]keySource{keyFile, keyEnv, keyInline, keyBase64},
	}
	// 256 bits are 128 against a quantum computer.
	ppkKey = &keyKind{
		"ppk", "post-quantum pre-shared key", 32, 128,
		"whoever has a quantum computer some day can guess it (RFC 8784 section 6)",
		[]keySource{keyFile, keyEnv, keyInline, keyBase64},
	}
)

const maxKey = 4096

// secret gets the key from where it is. Nothing of an inline key, and nothing
// that looks like one in the wrong place, is reported.
func (r *reader) secret(kind *keyKind, source keySource, text string, at Pos) Secret {
	var key []byte
	ok := true
	switch source {
	case keyFile:
		key, ok = r.keyFromFile(kind, text, at)
	case keyEnv:
		key, ok = r.keyFromEnv(kind, text, at)
	case keyBase64:
		key, ok = r.keyFromBase64(kind, text, at)
		text = ""
	default:
		key, text = []byte(text), ""
	}
	if ok {
		r.checkKey(kind, key, at)
	}
	return Secret{&secret{key: &key, source: source, ref: text}}
}

// swanSecret reads a key as strongSwan does: text, or behind 0x and 0s its
// hexadecimal digits or base64.
func (r *reader) swanSecret(kind *keyKind, text string, at Pos) Secret {
	if digits, isHex := strings.CutPrefix(text, "0x"); isHex {
		raw, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
		if err != nil {
			r.error(at, "write an even number of hexadecimal digits behind 0x", "the secret is not hexadecimal")
			return Secret{&secret{key: new([]byte)}}
		}
		return r.secret(kind, keyBase64, base64.StdEncoding.EncodeToString(raw), at)
	}
	if encoded, isBase64 := strings.CutPrefix(text, "0s"); isBase64 {
		return r.secret(kind, keyBase64, encoded, at)
	}
	return r.secret(kind, keyInline, text, at)
}

func (r *reader) keyFromBase64(kind *keyKind, text string, at Pos) ([]byte, bool) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		r.error(at, "a key that is plain text goes into "+kind.setting, "%s_base64 is not base64", kind.setting)
	}
	return key, err == nil
}

func (r *reader) keyFromFile(kind *keyKind, name string, at Pos) ([]byte, bool) {
	if _, f := parseFileName(name); f != nil {
		r.error(at, f.hint, "%s_file: %s", kind.setting, f.message)
		return nil, false
	}
	if r.lookups.KeyFile == nil {
		r.error(at, "", "key files are not available here")
		return nil, false
	}
	key, err := r.lookups.KeyFile(name)
	if err != nil {
		r.error(at, keyFileHint(name, err), "%s_file: %v", kind.setting, err)
		return nil, false
	}
	return trimLineEnd(key), true
}

func keyFileHint(name string, err error) string {
	switch {
	case errors.Is(err, errKeyFileOpen):
		return fmt.Sprintf("chmod 600 %s, and make a new key if others may have read this one", quoteVyOS(name))
	case errors.Is(err, fs.ErrPermission):
		return "run this as the user that runs the gateway"
	case errors.Is(err, fs.ErrNotExist):
		return "the name is relative to the configuration file; make a key with: (umask 077; culvert psk > FILE)"
	}
	return ""
}

var envName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// keyFromEnv does not repeat a name that may be the key itself.
func (r *reader) keyFromEnv(kind *keyKind, name string, at Pos) ([]byte, bool) {
	switch {
	case !envName.MatchString(name):
		r.error(at, "write the variable's name; a key itself goes into "+kind.setting, "%s_env does not name an environment variable (A-Z, 0-9, _)", kind.setting)
		return nil, false
	case r.lookups.Env == nil:
		r.error(at, "", "environment variables are not available here")
		return nil, false
	}
	value, ok := r.lookups.Env(name)
	if !ok {
		r.error(at, "set it in the environment of the gateway", "environment variable %s is not set", name)
	}
	return []byte(value), ok
}

// trimLineEnd takes off the end of line that editors and echo leave.
func trimLineEnd(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}

const keyHint = "use a random one on both sides; make it with: culvert psk"

// checkKey refuses what is no key and warns of a weak one.
func (r *reader) checkKey(kind *keyKind, key []byte, at Pos) {
	switch {
	case len(key) == 0:
		r.error(at, keyHint, "the %s is empty", kind.noun)
	case len(key) > maxKey:
		r.error(at, keyHint, "the %s is longer than %d bytes", kind.noun, maxKey)
	case len(key) < kind.minLen:
		r.warn(at, keyHint, "the %s is shorter than %d bytes: %s", kind.noun, kind.minLen, kind.danger)
	case bitsAtMost(key) < kind.minBits:
		r.warn(at, keyHint, "the %s repeats few characters: %s", kind.noun, kind.danger)
	}
}

func bitsAtMost(key []byte) float64 {
	distinct := slices.Compact(slices.Sorted(slices.Values(key)))
	return float64(len(key)) * math.Log2(float64(len(distinct)))
}
