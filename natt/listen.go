package natt

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

func listenError(addr netip.AddrPort, err error) error {
	err = bare(err)
	where := fmt.Sprintf("UDP port %d", addr.Port())
	if addr.Addr().IsValid() && !addr.Addr().IsUnspecified() {
		where += " of " + addr.Addr().String()
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is taken: %w", where, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot open %s: no interface of this machine has that address: %w", where, err)
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
