package gateway

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleptTime is for how long the machine has slept since it was started: one of its
// clocks goes on then, the other one, which is Go's, does not.
func sleptTime() time.Duration { return between(unix.CLOCK_UPTIME_RAW, unix.CLOCK_MONOTONIC) }
