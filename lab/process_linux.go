package lab

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

func processGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
}

// awaitExit returns when the child has ended, leaving it to be waited for.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// privateMounts gives the calling thread, and what it starts, a mount namespace
// of its own with these mounts on top.
func privateMounts(mounts []Mount) error {
	if len(mounts) == 0 {
		return nil
	}
	if err := privateMountNamespace(); err != nil {
		return err
	}
	for _, m := range mounts {
		if err := m.do(); err != nil {
			return fmt.Errorf("mount %q on %s: %w", m.Source, m.Target, err)
		}
	}
	return nil
}

// privateMountNamespace moves the calling thread to a copy of all mounts, of which
// nobody else sees the changes.
func privateMountNamespace() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

func (m Mount) do() error {
	if m.Source == "" {
		return unix.Mount("tmpfs", m.Target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755")
	}
	return unix.Mount(m.Source, m.Target, "", unix.MS_BIND|unix.MS_REC, "")
}
