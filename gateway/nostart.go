package gateway

import (
	"errors"
	"io/fs"
	"syscall"

	"culvert/config"
	"culvert/diagnose"
)

// noStart is an error in words, around the one that they are about.
type noStart struct {
	error
	report diagnose.Report
}

func (e noStart) Error() string { return e.report.Detail }
func (e noStart) Unwrap() error { return e.error }

// explained puts into words what the system refuses. Other errors stay as they
// are.
func explained(err error, f diagnose.NoStart) error {
	if f.Why == "" {
		return err
	}
	f.Error = err.Error()
	var system syscall.Errno
	if errors.As(err, &system) {
		f.Error = system.Error()
	}
	return noStart{err, f.Report()}
}

func noPort(cfg *config.Config, port uint16, key string, err error) error {
	f := diagnose.NoStart{Port: port, At: facts{cfg: cfg}.at(cfg.Gateway.Where, key)}
	if local := cfg.Gateway.Local; local.IsValid() && !local.IsUnspecified() {
		f.Addr = local.String()
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		f.Why = diagnose.PortTaken
	case errors.Is(err, fs.ErrPermission):
		f.Why = diagnose.PortDenied
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		f.Why, f.At = diagnose.NotOurs, facts{cfg: cfg}.at(cfg.Gateway.Where, "local")
	}
	return explained(err, f)
}

func noDevice(cfg *config.Config, err error) error {
	f := diagnose.NoStart{Device: cfg.Gateway.Device}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Why = diagnose.NoDeviceFile
	case errors.Is(err, fs.ErrPermission):
		f.Why = diagnose.NoRight
	}
	return explained(err, f)
}
