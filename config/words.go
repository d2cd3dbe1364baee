package config

import (
	"strconv"
	"strings"

	"culvert/ikev2"
)

// word is a value that a setting can have: as it is written in culvert's own
// form, true and false without quotes, and what it means.
type word[T comparable] struct {
	written string
	means   T
}

// words are all the values of a setting.
type words[T comparable] []word[T]

var (
	onOff           = words[ikev2.Mode]{{"true", ikev2.ModePrefer}, {"false", ikev2.ModeOff}}
	fragmentations  = words[ikev2.Mode]{{"true", ikev2.ModePrefer}, {"false", ikev2.ModeOff}, {"force", ikev2.ModeRequire}}
	postQuantums    = words[ikev2.Mode]{{"prefer", ikev2.ModePrefer}, {"require", ikev2.ModeRequire}, {"off", ikev2.ModeOff}}
	duplicatesWords = words[ikev2.DuplicatePolicy]{{"replace", ikev2.DuplicatesReplace}, {"keep", ikev2.DuplicatesKeep}, {"never", ikev2.DuplicatesNever}}
	limitWords      = words[int]{{"off", 0}}
	cookieWords     = words[int]{{"always", cookiesAlways}, {"off", 0}}
	startWords      = words[ikev2.StartMode]{{"now", ikev2.StartNow}, {"traffic", ikev2.StartTraffic}, {"peer", ikev2.StartPeer}}
)

func (w words[T]) parse(s string) (v T, f *fault) {
	for _, one := range w {
		if one.written == s {
			return one.means, nil
		}
	}
	return v, faultf("write "+w.choice(), "%q is not one of the values here", s)
}

// text is the value as culvert's own form has it.
func (w words[T]) text(v T) string {
	for _, one := range w {
		if one.means == v {
			return one.toml()
		}
	}
	return ""
}

func (w word[T]) toml() string {
	if _, err := strconv.ParseBool(w.written); err == nil {
		return w.written
	}
	return quoteTOML(w.written)
}

// choice is `"replace", "keep" or "never"`.
func (w words[T]) choice() string {
	var all []string
	for _, one := range w {
		all = append(all, one.toml())
	}
	last := len(all) - 1
	if last == 0 {
		return all[0]
	}
	return strings.Join(all[:last], ", ") + " or " + all[last]
}
