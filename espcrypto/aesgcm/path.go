package aesgcm

import (
	"fmt"
	"os"
	"strings"
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

var chosen, errChosen = choose(os.Getenv(Variable))

// Path names the path that every AEAD of this process takes. An error says
// that the environment asks for one that is not to be had; the best there is
// is taken then.
func Path() (string, error) { return chosen.name, errChosen }

// choose takes the first path that is able, or that of the name.
func choose(forced string) (*path, error) {
	var best *path
	var names []string
	for i := range paths {
		p := &paths[i]
		if p.able && p.name == forced {
			return p, nil
		}
		if p.able && best == nil {
			best = p
		}
		if p.able {
			names = append(names, p.name)
		}
	}
	if forced == "" {
		return best, nil
	}
	return best, fmt.Errorf("%s=%q: this machine has no such path; it has %s", Variable, forced, strings.Join(names, ", "))
}

func (p *path) aead(key []byte, salt [4]byte) (*AEAD, error) {
	e, err := p.new(key, salt)
	if err != nil {
		return nil, err
	}
	return &AEAD{e}, nil
}
