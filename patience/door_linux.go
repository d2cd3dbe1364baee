package patience

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Door is a descriptor that does not block, for one goroutine that waits at it
// for input and any number that write. It is a syscall.RawConn, as Go's poller
// has them, for a descriptor that this poller does not know: it must not be
// registered there, or everybody is woken as before.
type Door struct {
	fd       int
	patience patience

	users  sync.RWMutex // held by who uses the descriptor; Close waits for them
	closed atomic.Bool

	// The alarm is an epoll descriptor that has fd, and that Go's poller knows.
	alarm    *os.File
	alarmRaw syscall.RawConn
	ring     func(alarm uintptr) bool // made once: a closure a call would be an allocation a call
	set      bool
	rung     unix.EpollEvent

	polled unix.PollFd
	left   unix.Timespec // of a nap, where the kernel writes it
}

// NewDoor makes a door of the descriptor, which stays the caller's.
func NewDoor(fd int) (*Door, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	blocking := unix.SetNonblock(epoll, true) // os.NewFile tells the poller of what does not block
	alarm := os.NewFile(uintptr(epoll), "epoll")
	alarmRaw, err := alarm.SyscallConn()
	if err = errors.Join(
		blocking, err,
		alarm.SetDeadline(time.Time{}), // an error where the poller does not know it
		os.NewSyscallError("epoll_ctl", unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT})),
	); err != nil {
		_ = alarm.Close()
		return nil, err
	}
	d := &Door{fd: fd, alarm: alarm, alarmRaw: alarmRaw, polled: unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}}
	d.ring = d.rings
	return d, nil
}

// Close wakes whoever waits and returns when nobody uses the descriptor, which
// may be closed then. All methods return os.ErrClosed from now on.
func (d *Door) Close() error {
	if d.closed.Swap(true) {
		return os.ErrClosed
	}
	err := d.alarm.Close()
	d.users.Lock() // a nap is soon over
	defer d.users.Unlock()
	return err
}

// Control calls f with the descriptor.
func (d *Door) Control(f func(fd uintptr)) error {
	return d.Write(func(fd uintptr) bool { f(fd); return true })
}

// Write calls f with the descriptor. It never waits: what f returns counts for
// nothing.
func (d *Door) Write(f func(fd uintptr) bool) error {
	d.users.RLock()
	defer d.users.RUnlock()
	if d.closed.Load() {
		return os.ErrClosed
	}
	f(uintptr(d.fd))
	return nil
}

// Read calls f with the descriptor until it returns true, and waits for input in
// between. One goroutine at a time may be in it.
func (d *Door) Read(f func(fd uintptr) bool) error {
	d.users.RLock()
	defer d.users.RUnlock()
	if d.closed.Load() {
		return os.ErrClosed
	}
	fd := uintptr(d.fd)
	if f(fd) {
		return nil
	}
	for d.patience.begin(); d.patience.look(); {
		yield()
		if f(fd) {
			return nil
		}
	}
	defer d.patience.slept()
	for !d.closed.Load() {
		d.wait()
		if f(fd) {
			return nil
		}
	}
	return os.ErrClosed
}

// wait waits for input, or for nothing now and then.
func (d *Door) wait() {
	if d.patience.expecting() && d.nap() {
		return
	}
	d.set = false
	_ = d.alarmRaw.Read(d.ring) // the only error is that of a closed file
}

// rings sets the alarm and reports whether it goes off, by which it is stopped: so
// that it goes off for who sleeps, once, and for nobody else. It is asked as soon as it
// is set, since the kernel tells nobody of input that was there before, if the alarm
// still stood from another time.
func (d *Door) rings(alarm uintptr) bool {
	if !d.set {
		d.set = true
		_ = unix.EpollCtl(int(alarm), unix.EPOLL_CTL_MOD, d.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT})
	}
	// A system call that the scheduler knows of would wake its monitor.
	n, _, _ := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, alarm, uintptr(unsafe.Pointer(&d.rung)), 1, 0, 0, 0)
	return int(n) == 1
}

// napping is how many goroutines of the process nap.
var napping atomic.Int32

// nap reports whether a nap was enough. Whoever naps keeps one of Go's processors
// from all others: so one is always left for who becomes ready meanwhile, and those
// who are ready go first. A garbage collection that wants all of them ends the nap,
// for it sends a signal.
//
// A system call that Go's scheduler knows of is no way to do this: its monitor would
// look every 20 µs for processors to take away from who waits, as long as that goes on.
func (d *Door) nap() (enough bool) {
	defer napping.Add(-1)
	if int(napping.Add(1)) >= runtime.GOMAXPROCS(0) {
		return false
	}
	runtime.Gosched()
	d.left = unix.NsecToTimespec(short.Nanoseconds())
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&d.polled)), 1, uintptr(unsafe.Pointer(&d.left)), 0, 0, 0)
	return n > 0 || errno != 0
}

// yield offers the processor to other threads. To offer it to other goroutines too
// would have Go wake a thread to look for them, between any two looks.
func yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
