package patience

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// yield lets other goroutines run, and other threads. The former also brings
// this one to a processor that is free, if there is one.
func yield() {
	runtime.Gosched()
	_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
}
