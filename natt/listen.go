package natt

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
)

// Hints for the two refusals that users meet. The commands are those of the usual daemons.
const (
	hintInUse  = "another IKE daemon is probably running here (charon of strongSwan, pluto of libreswan, iked): stop it, or choose other ports"
	hintDenied = "ports below 1024 need root or CAP_NET_BIND_SERVICE"
)

func listenError(addr netip.AddrPort, err error) error {
	err = bare(err)
	where := fmt.Sprintf("UDP port %d", addr.Port())
	if addr.Addr().IsValid() && !addr.Addr().IsUnspecified() {
		where += " of " + addr.Addr().String()
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is taken; %s: %w", where, hintInUse, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot open %s: no interface of this machine has that address: %w", where, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("cannot open %s; %s: %w", where, hintDenied, err)
	}
	return fmt.Errorf("cannot open %s: %w", where, err)
}

// bare takes the net package's own wording off an error, because listenError says it better.
func bare(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
