//go:build linux || darwin

package tun

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestOpenErrorSaysWhatToDo: the two that a user meets first.
func TestOpenErrorSaysWhatToDo(t *testing.T) {
	err := openError("culvert0", os.NewSyscallError("ioctl", syscall.EPERM))
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "culvert0") {
		t.Errorf("without rights: %v", err)
	}
	err = openError("culvert0", syscall.EBUSY)
	if !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("in use: %v", err)
	}
}
