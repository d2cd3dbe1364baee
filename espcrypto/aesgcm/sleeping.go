package aesgcm

import "bytes"

// sleepyPackets is how many packets a key has to have seen before it gets tables:
// few against what a busy SA sees in a second, many against what keeps an idle
// one alive until its next key.
const sleepyPackets = 256

// sleeping does without the tables of its path until it has had some work. They
// are more than all else that an SA needs, and a gateway may have thousands that
// carry next to nothing.
type sleeping struct {
	engine               // the standard library's, then the path's
	wake   func() engine // nil when it is awake
	left   int           // packets until then
}

func (p *path) sleeping(key []byte, salt [4]byte) (*AEAD, error) {
	s, err := newStdlib(key, salt)
	if err != nil {
		return nil, err
	}
	key = bytes.Clone(key)
	wake := func() engine {
		defer clear(key)
		e, err := p.new(key, salt)
		if err != nil {
			return s // which has taken the key
		}
		return e
	}
	return &AEAD{&sleeping{engine: s, wake: wake, left: sleepyPackets}}, nil
}

func (s *sleeping) seal(batch []Packet) { s.awake(len(batch)).seal(batch) }
func (s *sleeping) open(batch []Packet) { s.awake(len(batch)).open(batch) }

// awake is the engine for so many packets more.
func (s *sleeping) awake(packets int) engine {
	if s.wake != nil {
		if s.left -= packets; s.left < 0 {
			s.engine, s.wake = s.wake(), nil
		}
	}
	return s.engine
}
