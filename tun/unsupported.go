//go:build !linux && !darwin

package tun

import (
	"net/netip"
	"os"
)

// Open is not supported here.
func Open(name string, mtu int) (Device, error) { return nil, ErrUnsupported }

// FromFile is not supported here.
func FromFile(f *os.File, mtu int) (Device, error) { return nil, ErrUnsupported }

// SetUp is not supported here.
func SetUp(device string, mtu int) error { return ErrUnsupported }

// AddRoute is not supported here.
func AddRoute(device string, prefix netip.Prefix, opts RouteOptions) error { return ErrUnsupported }

// DelRoute is not supported here.
func DelRoute(device string, prefix netip.Prefix) error { return ErrUnsupported }

// ChangeRoute is not supported here.
func ChangeRoute(device string, prefix netip.Prefix, opts RouteOptions) error { return ErrUnsupported }

// AddAddr is not supported here.
func AddAddr(device string, a netip.Addr) error { return ErrUnsupported }

// DelAddr is not supported here.
func DelAddr(device string, a netip.Addr) error { return ErrUnsupported }

// OpenPrepared is not supported here.
func OpenPrepared(name string) (Device, error) { return nil, ErrUnsupported }
