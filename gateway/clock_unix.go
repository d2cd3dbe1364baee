//go:build linux || darwin

package gateway

import (
	"time"

	"golang.org/x/sys/unix"
)

// between is by how much one clock is ahead of another; 0 where there are none.
func between(behind, ahead int32) time.Duration {
	var b, a unix.Timespec
	if unix.ClockGettime(behind, &b) != nil || unix.ClockGettime(ahead, &a) != nil {
		return 0
	}
	return time.Duration(a.Nano() - b.Nano())
}
