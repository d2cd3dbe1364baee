package tun

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetUp sets the device's MTU (0: leaves it) and brings it up.
func SetUp(device string, mtu int) error {
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("bring %s up: %w", device, err)
	}
	defer unix.Close(sock)
	if mtu > 0 {
		ifr := unix.IfreqMTU{MTU: int32(mtu)}
		copy(ifr.Name[:], device)
		if err := unix.IoctlSetIfreqMTU(sock, &ifr); err != nil {
			return fmt.Errorf("set MTU of %s to %d: %w", device, mtu, err)
		}
	}
	if err := setInterfaceUp(sock, device); err != nil {
		return fmt.Errorf("bring %s up: %w", device, err)
	}
	return nil
}

// ifreqFlags is struct ifreq with the flags of its union.
type ifreqFlags struct {
	name  [unix.IFNAMSIZ]byte
	flags int16
	_     [14]byte
}

func setInterfaceUp(sock int, device string) error {
	var ifr ifreqFlags
	if copy(ifr.name[:unix.IFNAMSIZ-1], device) < len(device) {
		return unix.ENAMETOOLONG
	}
	if err := ioctl(sock, unix.SIOCGIFFLAGS, &ifr); err != nil {
		return err
	}
	ifr.flags |= unix.IFF_UP
	return ioctl(sock, unix.SIOCSIFFLAGS, &ifr)
}

func ioctl(fd int, request uintptr, ifr *ifreqFlags) error {
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(ifr))); e != 0 {
		return e
	}
	return nil
}

// AddRoute sends prefix into the device. It fails with ErrRouteExists when the
// host has a route to that prefix already, over whatever interface.
func AddRoute(device string, prefix netip.Prefix, opts RouteOptions) error {
	err := changeRoute(rtAdd, device, prefix, opts.Source)
	if errors.Is(err, unix.EEXIST) {
		err = ErrRouteExists
	}
	if err != nil {
		return fmt.Errorf("route to %s through %s: %w", prefix, device, err)
	}
	return nil
}

// ChangeRoute gives a route that AddRoute made other options, with no moment in
// which there is none.
func ChangeRoute(device string, prefix netip.Prefix, opts RouteOptions) error {
	if err := changeRoute(rtChange, device, prefix, opts.Source); err != nil {
		return fmt.Errorf("change route to %s through %s: %w", prefix, device, err)
	}
	return nil
}

// DelRoute removes the route to prefix through the device. That there is none
// (any more), or no such device, is no error.
func DelRoute(device string, prefix netip.Prefix) error {
	if _, err := net.InterfaceByName(device); err != nil {
		return nil // the routes went with it
	}
	err := changeRoute(rtDelete, device, prefix, netip.Addr{})
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route to %s through %s: %w", prefix, device, err)
	}
	return nil
}

var routeSeq atomic.Uint32

// changeRoute sends one message on a routing socket. The kernel's answer is
// the result of the write.
func changeRoute(kind uint8, device string, prefix netip.Prefix, source netip.Addr) error {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	message, err := routeMessage(kind, routeSeq.Add(1), link.Index, prefix, source)
	if err != nil {
		return err
	}
	sock, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW, unix.AF_UNSPEC)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(sock)
	_, err = unix.Write(sock, message)
	return err
}
