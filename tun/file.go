//go:build linux || darwin

package tun

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

// FromFile makes a Device of a TUN file, or on macOS of a utun socket, that was
// opened elsewhere (inherited, persistent), which it takes over. A TUN file has
// IFF_NO_PI, which the kernel does not tell; without a virtio header on it,
// packets cross one at a time.
func FromFile(f *os.File, mtu int) (Device, error) {
	wg, err := wgtun.CreateTUNFromFile(f, mtu)
	if err != nil {
		return nil, openError(f.Name(), err)
	}
	return adopt(wg)
}

// tunnel is a kernel's tunnel interface by its file: what the wireguard package
// makes and watches, or what is like it.
type tunnel interface {
	Name() (string, error)
	File() *os.File
	Events() <-chan wgtun.Event
	Close() error
}

// door is where the file's descriptor is used: Read waits between two calls of
// its function, Write does not, and Close ends both.
type door interface {
	Read(func(fd uintptr) bool) error
	Write(func(fd uintptr) bool) error
	Close() error
}

// fileDevice is a Device over the file of a tunnel. Packets cross it here, since
// the wireguard package's contract would copy each of them.
//
// The closures for the door are made once, and what they work on is passed
// through fields: no allocation in the steady state.
type fileDevice struct {
	wg      tunnel
	name    string
	door    door
	prefix  int // bytes before each packet on the file
	offload Offload
	mtuNow  func() (int, error)
	release func() // frees what mtuNow needs

	mtu    atomic.Int64
	events chan Event
	closed atomic.Bool

	rd struct {
		slab    []byte
		n       int
		err     error
		waitFn  func(fd uintptr) bool
		probeFn func(fd uintptr) bool
	}
	wr struct {
		sync.Mutex
		gather
		err error
		fn  func(fd uintptr) bool
	}
}

// newFileDevice takes wg and its door over; mtuNow asks for the current MTU from
// any thread.
func newFileDevice(wg tunnel, door door, prefix int, offload Offload, mtuNow func() (int, error), release func()) (*fileDevice, error) {
	d := &fileDevice{wg: wg, door: door, prefix: prefix, offload: offload, mtuNow: mtuNow, release: release, events: make(chan Event, 16)}
	err := d.attach()
	if err != nil {
		_ = door.Close()
		discard(wg)
		release()
		return nil, err
	}
	go d.watch()
	return d, nil
}

// discard closes a device that nobody listens to.
func discard(wg tunnel) {
	_ = wg.Close()
	for range wg.Events() { // its goroutines end when they are listened to
	}
}

func (d *fileDevice) attach() (err error) {
	if d.name, err = d.wg.Name(); err != nil {
		return fmt.Errorf("name of the tunnel device: %w", err)
	}
	mtu, err := d.mtuNow()
	if err != nil {
		return fmt.Errorf("MTU of %s: %w", d.name, err)
	}
	d.mtu.Store(int64(mtu))
	d.rd.probeFn = func(fd uintptr) bool {
		d.rd.n, d.rd.err = readFile(int(fd), d.rd.slab)
		return true
	}
	d.rd.waitFn = func(fd uintptr) bool {
		d.rd.n, d.rd.err = readFile(int(fd), d.rd.slab)
		return !errors.Is(d.rd.err, syscall.EAGAIN)
	}
	d.wr.fn = func(fd uintptr) bool {
		// No waiting when the host cannot take it: the packet is lost and counted.
		d.wr.err = d.wr.write(int(fd))
		return true
	}
	return nil
}

// watch passes the device's events on. It must never block: the goroutines
// that find events end only when they are listened to.
func (d *fileDevice) watch() {
	defer d.release()
	defer close(d.events)
	for e := range d.wg.Events() {
		switch {
		case e&wgtun.EventUp != 0:
			d.emit(EventUp)
		case e&wgtun.EventDown != 0:
			d.emit(EventDown)
		case e&wgtun.EventMTUUpdate != 0:
			// Sent for every change of the link.
			mtu, err := d.mtuNow()
			if err == nil && d.mtu.Swap(int64(mtu)) != int64(mtu) {
				d.emit(EventMTU)
			}
		}
	}
}

func (d *fileDevice) emit(e Event) {
	select {
	case d.events <- e:
	default:
	}
}

func (d *fileDevice) Name() string         { return d.name }
func (d *fileDevice) MTU() int             { return int(d.mtu.Load()) }
func (d *fileDevice) Offload() Offload     { return d.offload }
func (d *fileDevice) Events() <-chan Event { return d.events }

func (d *fileDevice) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	return errors.Join(d.door.Close(), d.wg.Close())
}

func (d *fileDevice) Read(slab []byte) (Super, error) { return d.read(slab, d.rd.waitFn) }

func (d *fileDevice) TryRead(slab []byte) (Super, error) { return d.read(slab, d.rd.probeFn) }

func (d *fileDevice) read(slab []byte, fn func(uintptr) bool) (Super, error) {
	if len(slab) < SlabLen {
		return Super{}, io.ErrShortBuffer
	}
	d.rd.slab = slab
	if d.door.Read(fn) != nil {
		return Super{}, d.gone("read")
	}
	if d.rd.err != nil {
		return Super{}, d.callError("read", d.rd.err)
	}
	return decodePrefix(slab[:d.rd.n], d.prefix)
}

func (d *fileDevice) Write(s Super) error {
	if (s.SegmentSize > 0 || s.ChecksumStart > 0) && d.offload == (Offload{}) {
		return d.callError("write", errors.ErrUnsupported)
	}
	d.wr.Lock()
	defer d.wr.Unlock()
	if err := d.wr.load(s, d.prefix); err != nil {
		return err
	}
	if d.door.Write(d.wr.fn) != nil {
		return d.gone("write")
	}
	if d.wr.err != nil {
		return d.callError("write", d.wr.err)
	}
	return nil
}

// gone: the file was closed, or the interface deleted under it. The door has no
// other errors, and words of its own for these.
func (d *fileDevice) gone(op string) error {
	return &os.PathError{Op: op, Path: d.name, Err: os.ErrClosed}
}

func (d *fileDevice) callError(op string, err error) error {
	switch {
	case errors.Is(err, syscall.EAGAIN) && op == "read":
		return ErrWouldBlock
	case isGone(err):
		return d.gone(op)
	}
	return &os.PathError{Op: op, Path: d.name, Err: err}
}
