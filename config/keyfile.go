//go:build unix

package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// errKeyFileOpen is a key file that others than its owner can read.
var errKeyFileOpen = errors.New("others than its owner have access to it")

// readKeyFile reads a key of at most 4096 bytes from a regular file that is
// ours or root's and that nobody else can read. A symbolic link is refused:
// what it points to is for others to change.
func readKeyFile(name string) ([]byte, error) {
	// O_NONBLOCK keeps the open from waiting on a FIFO.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s: is a symbolic link", name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkKeyFile(f); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return io.ReadAll(io.LimitReader(f, maxKey+2+1)) // a line end, and one byte to notice more by
}

func checkKeyFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case !info.Mode().IsRegular():
		return errors.New("is not a regular file")
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%w (mode %04o)", errKeyFileOpen, info.Mode().Perm())
	case owner != 0 && owner != uint32(os.Geteuid()):
		return fmt.Errorf("belongs to another user (%d)", owner)
	}
	return nil
}
