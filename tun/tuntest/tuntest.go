// Package tuntest is a tun.Device made of channels, for tests: what the test
// injects is read by the code under test, and what that writes is handed to
// the test as single packets.
package tuntest

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"culvert/tun"
)

// Device is a tun.Device without a kernel. All methods are safe for concurrent
// use. It blocks only on channels, so that it can be used in testing/synctest.
type Device struct {
	name    string
	mtu     atomic.Int64
	offload tun.Offload

	toRead  chan tun.Super
	written chan []byte
	dropped atomic.Int64
	events  chan tun.Event
	closed  chan struct{}
	mu      sync.Mutex // orders Emit and Close
}

var _ tun.Device = (*Device)(nil)

// Options of New. The zero value is a device named "tuntest0" with MTU 1500
// that takes and gives no runs.
type Options struct {
	Name    string
	MTU     int
	Offload tun.Offload
	Queue   int // packets waiting in each direction, 1024 if 0
}

// New makes a Device.
func New(opts Options) *Device {
	if opts.Name == "" {
		opts.Name = "tuntest0"
	}
	if opts.MTU == 0 {
		opts.MTU = 1500
	}
	if opts.Queue == 0 {
		opts.Queue = 1024
	}
	d := &Device{
		name:    opts.Name,
		offload: opts.Offload,
		toRead:  make(chan tun.Super, opts.Queue),
		written: make(chan []byte, opts.Queue),
		events:  make(chan tun.Event, 16),
		closed:  make(chan struct{}),
	}
	d.mtu.Store(int64(opts.MTU))
	return d
}

// Inject makes s the next packet (or run) to be read. The bytes are copied. It
// waits for room in the queue until the device is closed; false then.
func (d *Device) Inject(s tun.Super) bool {
	s.Packet, s.Rest = join(s), nil
	select {
	case <-d.closed:
		return false
	default:
	}
	select {
	case d.toRead <- s:
		return true
	case <-d.closed:
		return false
	}
}

// InjectPacket is Inject for one finished packet.
func (d *Device) InjectPacket(packet []byte) bool { return d.Inject(tun.Super{Packet: packet}) }

func join(s tun.Super) []byte { return slices.Concat(append([][]byte{s.Packet}, s.Rest...)...) }

// Next waits for the next packet written to the device; runs come apart into
// their packets. The error is ctx's or os.ErrClosed.
func (d *Device) Next(ctx context.Context) ([]byte, error) {
	select {
	case b := <-d.written:
		return b, nil
	default:
	}
	select {
	case b := <-d.written:
		return b, nil
	case <-d.closed:
		return nil, os.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Drain returns the packets written so far, without waiting.
func (d *Device) Drain() [][]byte {
	var out [][]byte
	for {
		select {
		case b := <-d.written:
			out = append(out, b)
		default:
			return out
		}
	}
}

// Dropped is the number of written packets that found the queue full.
func (d *Device) Dropped() int { return int(d.dropped.Load()) }

// SetMTU changes the MTU and emits tun.EventMTU.
func (d *Device) SetMTU(mtu int) {
	d.mtu.Store(int64(mtu))
	d.Emit(tun.EventMTU)
}

// Emit sends an event to the listener, if there is room for it.
func (d *Device) Emit(e tun.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isClosed() {
		return
	}
	select {
	case d.events <- e:
	default:
	}
}

func (d *Device) isClosed() bool {
	select {
	case <-d.closed:
		return true
	default:
		return false
	}
}

// Name is Options.Name.
func (d *Device) Name() string { return d.name }

// MTU is Options.MTU, or what SetMTU made of it.
func (d *Device) MTU() int { return int(d.mtu.Load()) }

// Offload is Options.Offload.
func (d *Device) Offload() tun.Offload { return d.offload }

// Events gives what Emit was given.
func (d *Device) Events() <-chan tun.Event { return d.events }

// Read gives what was injected.
func (d *Device) Read(slab []byte) (tun.Super, error) {
	if d.isClosed() {
		return tun.Super{}, d.closedError("read")
	}
	select {
	case s := <-d.toRead:
		return into(slab, s)
	case <-d.closed:
		return tun.Super{}, d.closedError("read")
	}
}

// TryRead gives what was injected, without waiting.
func (d *Device) TryRead(slab []byte) (tun.Super, error) {
	if d.isClosed() {
		return tun.Super{}, d.closedError("read")
	}
	select {
	case s := <-d.toRead:
		return into(slab, s)
	default:
		return tun.Super{}, tun.ErrWouldBlock
	}
}

func into(slab []byte, s tun.Super) (tun.Super, error) {
	if len(slab) < tun.SlabLen {
		return tun.Super{}, io.ErrShortBuffer
	}
	s.Packet = slab[:copy(slab, s.Packet)]
	return s, nil
}

// Write takes s apart and queues its packets for Next. When the queue is full
// a packet is dropped, as a kernel would, and counted.
func (d *Device) Write(s tun.Super) error {
	if d.isClosed() {
		return d.closedError("write")
	}
	if s.SegmentSize > 0 && d.offload == (tun.Offload{}) {
		return fmt.Errorf("write %s: a run on a device without offload", d.name)
	}
	s.Packet, s.Rest = join(s), nil
	var p tun.Splitter
	if err := p.Load(&s); err != nil {
		return fmt.Errorf("write %s: %w", d.name, err)
	}
	for i := range p.Count() {
		b := make([]byte, p.HeadLen(), p.InnerLen(i))
		p.Head(i, b)
		select {
		case d.written <- append(b, p.Body(i)...):
		default:
			d.dropped.Add(1)
		}
	}
	return nil
}

// Close ends the device.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.isClosed() {
		close(d.closed)
		close(d.events)
	}
	return nil
}

func (d *Device) closedError(op string) error {
	return &os.PathError{Op: op, Path: d.name, Err: os.ErrClosed}
}
