package tun

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// AddAddr gives the device an address of its own, with no network around it.
// That another interface has it is ErrAddrExists.
func AddAddr(device string, a netip.Addr) error {
	err := addrElsewhere(device, a)
	if err == nil {
		request, arg := addAddrRequest(device, a)
		err = changeAddr(a, request, arg)
	}
	if err != nil {
		return fmt.Errorf("address %s for %s: %w", a, device, err)
	}
	return nil
}

// DelAddr takes the address back. That it is gone, or the device, is no error.
func DelAddr(device string, a netip.Addr) error {
	if _, err := net.InterfaceByName(device); err != nil {
		return nil // the addresses went with it
	}
	request, arg := delAddrRequest(device, a)
	if err := changeAddr(a, request, arg); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s from %s: %w", a, device, err)
	}
	return nil
}

func changeAddr(a netip.Addr, request uintptr, arg []byte) error {
	family := unix.AF_INET6
	if a.Is4() {
		family = unix.AF_INET
	}
	sock, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sock)
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(sock), request, uintptr(unsafe.Pointer(&arg[0]))); e != 0 {
		return e
	}
	return nil
}
