package aesgcm

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
)

// Variable is the environment variable that forces a path, by its name.
const Variable = "CULVERT_AESGCM"

// path is one way to do AES-GCM.
type path struct {
	name string
	able bool // whether this processor can
	new  func(key []byte, salt [4]byte) (engine, error)
}

// paths are all there are, the best first. The last is always able.
var paths = []path{
	{"vaes-avx512", ableAVX512, newAVX512},
	{"vaes-avx2", ableVAES, newVAES},
	{"stdlib", true, func(key []byte, salt [4]byte) (engine, error) { return newStdlib(key, salt) }},
}

// chosen is found when it is first wanted: the check of a path is not for a
// command that does no AES-GCM.
var chosen = sync.OnceValues(func() (*path, error) { return choose(paths, os.Getenv(Variable)) })

// Path names the path that every AEAD of this process takes. An error says
// that the best there is was taken, and why it is not what was to be expected:
// the environment asks for one that is not to be had, or a path fails its check
// on this processor.
func Path() (string, error) {
	p, err := chosen()
	return p.name, err
}

// choose takes the path of the name, or the first that is able and right.
func choose(from []path, forced string) (*path, error) {
	var able []*path
	var names []string
	for i := range from {
		if p := &from[i]; p.able {
			able, names = append(able, p), append(names, p.name)
		}
	}
	if i := slices.Index(names, forced); i >= 0 {
		return able[i], nil
	}
	var failed error
	if forced != "" {
		failed = fmt.Errorf("%s=%q: this machine has no such path; it has %s", Variable, forced, strings.Join(names, ", "))
	}
	last := len(able) - 1 // what the others are held to
	for _, p := range able[:last] {
		if p.right() {
			return p, failed
		}
		failed = errors.Join(failed, fmt.Errorf("the path %s computes wrongly on this processor; please report it", p.name))
	}
	return able[last], failed
}

func (p *path) aead(key []byte, salt [4]byte) (*AEAD, error) {
	e, err := p.new(key, salt)
	if err != nil {
		return nil, err
	}
	return &AEAD{e}, nil
}
