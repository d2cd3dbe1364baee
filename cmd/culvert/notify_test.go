package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// hearing is a service manager of the test's own: what it is told, in order.
func hearing(t *testing.T) (socket string, next func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // short: a socket's path has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return socket, func() string {
		t.Helper()
		b := make([]byte, 512)
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func environment(m map[string]string) func(string) string {
	return func(k string) string { return m[k] }
}

// TestServiceManagerHears: ready when the gateway answers and not before, signs
// of life only while it does, reloading, stopping.
func TestServiceManagerHears(t *testing.T) {
	socket, next := hearing(t)
	m := serviceManager(environment(map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": "2000", "WATCHDOG_PID": strconv.Itoa(os.Getpid())}))
	ctx, end := context.WithCancel(t.Context())
	var started atomic.Bool
	start := make(chan struct{})
	stop := m.watch(ctx, func(context.Context) bool { <-start; started.Store(true); return true })
	m.tell("first")
	close(start)
	if got := next(); got != "first" {
		t.Fatalf("%q before the start", got)
	}
	if got := next(); got != "READY=1" || !started.Load() {
		t.Fatalf("%q, want READY=1", got)
	}
	for range 3 {
		if got := next(); got != "WATCHDOG=1" {
			t.Fatalf("%q, want WATCHDOG=1", got)
		}
	}
	m.reloading()()
	told := nextUntil(next, "RELOADING=1")
	if _, at, _ := strings.Cut(told, "MONOTONIC_USEC="); at == "" || strings.Trim(at, "0123456789") != "" {
		t.Errorf("%q has no time", told)
	}
	nextUntil(next, "READY=1")
	end()
	nextUntil(next, "STOPPING=1")
	stop()
}

func nextUntil(next func() string, prefix string) string {
	for {
		if s := next(); strings.HasPrefix(s, prefix) {
			return s
		}
	}
}

// TestWatchdogOfOneThatHangs: the gateway that answers no more gives no sign.
func TestWatchdogOfOneThatHangs(t *testing.T) {
	socket, next := hearing(t)
	m := serviceManager(environment(map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": "2000"}))
	asked, calls := make(chan struct{}), 0
	stop := m.watch(t.Context(), func(context.Context) bool {
		if calls++; calls == 3 {
			close(asked)
		}
		return calls == 1
	})
	<-asked
	stop()
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		if got := next(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestNoServiceManager: without one, or with one that is gone, nothing happens.
func TestNoServiceManager(t *testing.T) {
	m := serviceManager(environment(nil))
	if m != nil {
		t.Fatal("there is one")
	}
	m.tell("READY=1")
	m.reloading()()
	m.watch(t.Context(), nil)()
	gone := serviceManager(environment(map[string]string{"NOTIFY_SOCKET": filepath.Join(t.TempDir(), "gone")}))
	gone.tell("READY=1")
	for usec, pid := range map[string]string{"": "", "x": "", "-5": "", "0": "", "9223372036854775807": "", "1000": "1"} {
		if w := serviceManager(environment(map[string]string{"NOTIFY_SOCKET": "x", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid})).watchdog; w != 0 {
			t.Errorf("WATCHDOG_USEC=%q, WATCHDOG_PID=%q: %v", usec, pid, w)
		}
	}
}
