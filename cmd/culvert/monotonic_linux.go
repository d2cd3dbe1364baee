package main

import "golang.org/x/sys/unix"

// monotonicMicroseconds is CLOCK_MONOTONIC, by which the service manager tells
// a reload from the one before.
func monotonicMicroseconds() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano()) / 1000
}
