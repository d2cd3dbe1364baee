//go:build linux || darwin

package gateway

import (
	"errors"
	"os"
)

// routingSocket is a socket on which the system tells of every change of
// addresses, routes and links. What it says is not read: whoever wants to know
// looks.
type routingSocket struct {
	file    *os.File
	changed chan struct{}
	done    chan struct{}
}

// watchNetwork opens one in the network namespace of the calling thread.
func watchNetwork() (Network, error) {
	fd, err := openRoutingSocket()
	if err != nil {
		return nil, os.NewSyscallError("routing socket", err)
	}
	s := &routingSocket{os.NewFile(uintptr(fd), "routing socket"), make(chan struct{}, 1), make(chan struct{})}
	go s.read()
	return s, nil
}

// read ends when the socket is closed. Messages that did not fit its buffer
// (ENOBUFS) are changes too.
func (s *routingSocket) read() {
	defer close(s.done)
	b := make([]byte, 1<<16)
	for failures := 0; failures < maxFailures; failures++ {
		n, err := s.file.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if n > 0 {
			failures = 0
		}
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}

func (s *routingSocket) Changed() <-chan struct{} { return s.changed }

func (s *routingSocket) Close() error {
	err := s.file.Close()
	<-s.done
	return err
}
