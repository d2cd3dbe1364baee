package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"slices"
)

var keySources = []keySource{keyFile, keyEnv, keyInline}

// minKey and minKeyBits are what a key has to have to pass without a warning.
// The bits are an upper bound, from the length and the number of different
// bytes; a sentence can pass.
const (
	minKey     = 16
	minKeyBits = 56
	maxKey     = 4096
)

// secret gets the key from where it is. Nothing of an inline key, and nothing
// that looks like one in the wrong place, is reported.
func (r *reader) secret(source keySource, text string, at Pos) Secret {
	var key []byte
	switch source {
	case keyFile:
		key = r.keyFromFile(text, at)
	case keyEnv:
		key = r.keyFromEnv(text, at)
	default:
		key, text = []byte(text), ""
		r.checkKey(key, at)
	}
	return Secret{&secret{key: &key, source: source, ref: text}}
}

func (r *reader) keyFromFile(name string, at Pos) []byte {
	if r.lookups.KeyFile == nil {
		r.error(at, "", "key files are not available here")
		return nil
	}
	key, err := r.lookups.KeyFile(name)
	if err != nil {
		r.error(at, keyFileHint(name, err), "psk_file: %v", err)
		return nil
	}
	key = trimLineEnd(key)
	r.checkKey(key, at)
	return key
}

func keyFileHint(name string, err error) string {
	switch {
	case errors.Is(err, ErrKeyFileOpen):
		return fmt.Sprintf("chmod 600 %s, and make a new key if others may have read this one", quoteVyOS(name))
	case errors.Is(err, fs.ErrPermission):
		return "run this as the user that runs the gateway"
	case errors.Is(err, fs.ErrNotExist):
		return "the name is relative to the configuration file; make a key with: (umask 077; openssl rand -base64 32 > FILE)"
	}
	return ""
}

var envName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// keyFromEnv does not repeat a name that may be the key itself.
func (r *reader) keyFromEnv(name string, at Pos) []byte {
	if !envName.MatchString(name) {
		r.error(at, "write the variable's name; a key itself goes into psk", "psk_env does not name an environment variable (A-Z, 0-9, _)")
		return nil
	}
	if r.lookups.Env == nil {
		r.error(at, "", "environment variables are not available here")
		return nil
	}
	value, ok := r.lookups.Env(name)
	if !ok {
		r.error(at, "set it in the environment of the gateway", "environment variable %s is not set", name)
		return nil
	}
	r.checkKey([]byte(value), at)
	return []byte(value)
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

const keyHint = "use a random one on both sides, for example from: openssl rand -base64 32"

// checkKey refuses what is no key and warns of a weak one. The initiator
// proves that it has the key before the responder does, under keys agreed with
// whoever answered; so who answers in the responder's place can try keys
// against that proof at leisure (RFC 7296 section 2.15).
func (r *reader) checkKey(key []byte, at Pos) {
	const guess = "an active attacker who answers the initiator in the responder's place can guess it offline (RFC 7296 section 2.15)"
	switch {
	case len(key) == 0:
		r.error(at, keyHint, "the pre-shared key is empty")
	case len(key) > maxKey:
		r.error(at, keyHint, "the pre-shared key is longer than %d bytes", maxKey)
	case len(key) < minKey:
		r.warn(at, keyHint, "the pre-shared key is shorter than %d bytes: %s", minKey, guess)
	case bitsAtMost(key) < minKeyBits:
		r.warn(at, keyHint, "the pre-shared key repeats few characters: %s", guess)
	}
}

func bitsAtMost(key []byte) float64 {
	distinct := slices.Compact(slices.Sorted(slices.Values(key)))
	return float64(len(key)) * math.Log2(float64(len(distinct)))
}
