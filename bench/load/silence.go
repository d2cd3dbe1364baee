package load

import (
	"os"
	"sync"

	"culvert/tun"
)

// silence is a device on which nothing happens: idle tunnels.
type silence struct {
	end    sync.Once
	closed chan struct{}
	events chan tun.Event
}

func newSilence() *silence {
	return &silence{closed: make(chan struct{}), events: make(chan tun.Event)}
}

func (*silence) Name() string               { return "silence" }
func (*silence) MTU() int                   { return 1400 }
func (*silence) Offload() tun.Offload       { return tun.Offload{} }
func (*silence) Write(tun.Super) error      { return nil }
func (s *silence) Events() <-chan tun.Event { return s.events }

func (s *silence) Read([]byte) (tun.Super, error) {
	<-s.closed
	return tun.Super{}, os.ErrClosed
}

func (s *silence) TryRead([]byte) (tun.Super, error) { return tun.Super{}, tun.ErrWouldBlock }

func (s *silence) Close() error {
	s.end.Do(func() { close(s.closed); close(s.events) })
	return nil
}
