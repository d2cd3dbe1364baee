package tun

import (
	"net/netip"
	"os"
)

// Open makes a TUN device of the given name and MTU (in bytes) in the network
// namespace of the calling thread. The device is down until SetUp. On macOS,
// where devices are called utunN, any other name takes the next free one; ask
// Device.Name. Missing rights come back as an error that says what to do and
// wraps fs.ErrPermission or fs.ErrNotExist.
func Open(name string, mtu int) (Device, error) { return nil, ErrUnsupported }

// FromFile makes a Device of a TUN file that was opened elsewhere (inherited,
// persistent). Without a virtio header on it, packets cross one at a time.
func FromFile(f *os.File, mtu int) (Device, error) { return nil, ErrUnsupported }

// SetUp sets the device's MTU (0: leaves it) and queue length and brings it up.
func SetUp(device string, mtu int) error { return ErrUnsupported }

// AddRoute sends prefix into the device. It fails with ErrRouteExists when the
// host has a route to that prefix already, over whatever interface.
func AddRoute(device string, prefix netip.Prefix, opts RouteOptions) error { return ErrUnsupported }

// DelRoute removes the route to prefix through the device. That there is none
// (any more), or no such device, is no error.
func DelRoute(device string, prefix netip.Prefix) error { return ErrUnsupported }
