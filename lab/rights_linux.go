package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// CheckRights tries out, leaving nothing behind, whether this process can build
// labs itself, could in a user namespace of its own, or neither.
func CheckRights() Rights {
	r := Rights{Device: openTUN()}
	direct := probeNamespace()
	if direct == nil {
		r.Kind, r.Reason = Direct, "this process may make network namespaces"
		if inUserNamespace() {
			r.Reason += " (inside a user namespace)"
		}
		return r
	}
	user := probeUserNamespace()
	if user == nil {
		r.Kind = UserNamespace
		r.Reason = fmt.Sprintf("this process may not make network namespaces itself (%v), but may in a user namespace of its own", direct)
		return r
	}
	r.Kind = NoRights
	r.Reason = fmt.Sprintf("this process may make neither network namespaces (%v) nor a user namespace to make them in (%v)%s", direct, user, userNamespaceHint())
	return r
}

// probeNamespace makes a host's namespace, nameless and for a moment.
func probeNamespace() error {
	n := &namespace{fd: -1}
	err := onThread(n.create)
	if n.fd >= 0 {
		unix.Close(n.fd)
	}
	return err
}

// probeUserNamespace starts a program that does not exist in new namespaces. The
// kernel gets as far as not finding it only when it has granted all of them, and
// a mount in them, which also tries the capabilities that some distributions
// take away inside user namespaces.
func probeUserNamespace() error {
	cmd := exec.Command("/proc/self/no-such-program")
	cmd.SysProcAttr = mappedRoot(unix.CLONE_NEWUSER)
	cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNET | unix.CLONE_NEWNS
	err := cmd.Start()
	if err == nil {
		cmd.Wait()
		return errors.New("lab: a program ran that does not exist")
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if pathErr := (*os.PathError)(nil); errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// mappedRoot asks for new namespaces in which this user is user 0.
func mappedRoot(cloneflags uintptr) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  cloneflags,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
}

// userNamespaceHint names the switch that forbids user namespaces, if one does.
func userNamespaceHint() string {
	for _, s := range []struct{ file, forbids, hint string }{
		{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces is 0"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns is 1"},
	} {
		if v, err := os.ReadFile(s.file); err == nil && strings.TrimSpace(string(v)) == s.forbids {
			return ": " + s.hint
		}
	}
	return ""
}

func openTUN() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	return unix.Close(fd)
}

// ReexecInUserNamespace runs this program again with the given arguments (without
// the program's name), as user 0 of new user, network and mount namespaces, where
// CheckRights says Direct. It passes on standard input and output, the
// environment and signals, waits, and returns the exit code, 128 plus the signal
// when one ended it. The error says that it could not start.
func ReexecInUserNamespace(args []string) (int, error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = mappedRoot(unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS)
	// A group of its own, so that Ctrl-C reaches it once, through this process.
	cmd.SysProcAttr.Setpgid = true

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)

	exited := make(chan error, 1)
	started := make(chan error, 1)
	go onThread(func() error { // the death signal is the thread's: keep it while the child lives
		cmd.SysProcAttr.Pdeathsig = unix.SIGTERM
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
		return nil
	})
	if err := <-started; err != nil {
		return 0, fmt.Errorf("lab: start again in a user namespace: %w", err)
	}
	for {
		select {
		case s := <-signals:
			cmd.Process.Signal(s)
		case <-exited:
			return exitCode(cmd.ProcessState), nil
		}
	}
}

func exitCode(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}
