package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// manager is the service manager that started this process, where there is one
// that wants to know how it does: sd_notify(3), datagrams to a socket that the
// environment names. The nil manager wants to know nothing.
type manager struct {
	socket   *net.UnixAddr
	watchdog time.Duration // a sign of life is due this often; 0: none
	boot     func() uint64 // µs of CLOCK_MONOTONIC
}

// serviceManager is the one of this environment, nil where there is none.
func serviceManager(getenv func(string) string) *manager {
	name := getenv("NOTIFY_SOCKET") // a leading @ stands for the abstract namespace, to package net as well
	if name == "" {
		return nil
	}
	m := &manager{socket: &net.UnixAddr{Name: name, Net: "unixgram"}, boot: monotonicMicroseconds}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	pid := getenv("WATCHDOG_PID")
	if err == nil && usec > 0 && usec < int64(24*time.Hour/time.Microsecond) && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		m.watchdog = time.Duration(usec) * time.Microsecond
	}
	return m
}

// tell sends a state. A manager that is not there is no reason to stop.
func (m *manager) tell(state string) {
	if m == nil {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, m.socket)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte(state))
}

// reloading says that a reload begins; the function that it returns, that it
// has ended, whatever came of it: the gateway goes on in either case.
func (m *manager) reloading() (ended func()) {
	if m == nil {
		return func() {}
	}
	m.tell(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", m.boot()))
	return func() { m.tell("READY=1") }
}

// watch says READY when answers does for the first time, which waits for a
// start; STOPPING when ctx ends; and in between, as often as the manager wants
// it, that the gateway still answers. One that hangs says nothing, and is
// restarted. stop waits for the last word.
func (m *manager) watch(ctx context.Context, answers func(context.Context) bool) (stop func()) {
	if m == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var loop sync.WaitGroup
	loop.Go(func() {
		if answers(ctx) {
			m.tell("READY=1")
			m.signs(ctx, answers)
		}
	})
	loop.Go(func() { <-ctx.Done(); m.tell("STOPPING=1") })
	return func() { cancel(); loop.Wait() }
}

// signs are of life, twice as often as they are due.
func (m *manager) signs(ctx context.Context, answers func(context.Context) bool) {
	if m.watchdog == 0 {
		return
	}
	due := time.NewTicker(m.watchdog / 2)
	defer due.Stop()
	for {
		select {
		case <-due.C:
			if answers(ctx) {
				m.tell("WATCHDOG=1")
			}
		case <-ctx.Done():
			return
		}
	}
}
