//go:build !linux

package main

// monotonicMicroseconds is for a service manager that only Linux has.
func monotonicMicroseconds() uint64 { return 0 }
