package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

const familyLen = 4 // see appendFamily

// Open makes a utun device with an MTU in bytes; any name but utunN takes the
// next free one (ask Device.Name). Missing rights come back as an error that
// says what to do and wraps fs.ErrPermission.
func Open(name string, mtu int) (Device, error) {
	wg, err := wgtun.CreateTUN(utunName(name), mtu)
	if err != nil {
		return nil, openError(name, err)
	}
	return adopt(wg)
}

func openError(name string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		hint = ": this needs root; run it with sudo"
	case errors.Is(err, unix.EBUSY):
		hint = ": another process has this device"
	}
	return fmt.Errorf("open utun device %s: %w%s", name, err, hint)
}

// adopt: a utun has no runs, and four bytes before each packet.
func adopt(wg wgtun.Device) (Device, error) {
	raw, err := wg.File().SyscallConn()
	if err != nil {
		discard(wg)
		return nil, fmt.Errorf("file of the tunnel device: %w", err)
	}
	return newFileDevice(wg, polled{raw}, familyLen, Offload{}, wg.MTU, func() {})
}

// polled is a door at which Go's poller waits; to close the file ends it.
type polled struct{ syscall.RawConn }

func (polled) Close() error { return nil }

func decodePrefix(b []byte, prefix int) (Super, error) {
	if len(b) <= prefix {
		return Super{}, ErrTruncated
	}
	return Super{Packet: b[prefix:]}, nil
}

func readFile(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// gather is one writev: address family, packet, and the pieces behind it.
type gather struct {
	family [familyLen]byte
	iov    [][]byte
}

func (g *gather) load(s Super, _ int) error {
	if _, err := appendFamily(g.family[:0], s.Packet); err != nil {
		return err
	}
	g.iov = append(append(g.iov[:0], g.family[:], s.Packet), s.Rest...)
	return nil
}

func (g *gather) write(fd int) error {
	for {
		_, err := unix.Writev(fd, g.iov)
		if err != unix.EINTR {
			return err
		}
	}
}

func isGone(err error) bool { return errors.Is(err, unix.EBADF) || errors.Is(err, unix.ENXIO) }

// OpenPrepared is for Linux: a utun device ends with the process that made it.
func OpenPrepared(name string) (Device, error) {
	return nil, fmt.Errorf("%s: macOS has no devices that outlive their maker: leave device_prepared out", name)
}
