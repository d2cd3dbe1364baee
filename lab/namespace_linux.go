package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func supported() error { return nil }

// namespaceDir is where iproute2 keeps its names; tests of the fallback change it.
var namespaceDir = "/run/netns"

// namespace is a network namespace, held by a locked descriptor and, where that
// is possible, by a bind mount.
type namespace struct {
	name string
	path string // the bind mount; empty without one

	mu     sync.RWMutex // held for reading while fd is in use
	fd     int
	closed bool // after close, which is called once
}

func newNamespace(name string) (*namespace, error) {
	n := &namespace{name: name, fd: -1}
	if err := onThread(n.create); err != nil {
		n.close()
		return nil, err
	}
	n.path = bind(n.fd, name)
	return n, nil
}

// create runs on a thread that it moves into the new namespace.
func (n *namespace) create() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the new namespace: %w", err)
	}
	n.fd = fd
	// The lock goes with this process, however it ends; Sweep asks for it.
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock the new namespace: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return writeSysctls(routerSysctls)
}

// onThread runs fn on a thread of its own. The goroutine never unlocks it, so
// the runtime ends the thread instead of reusing it with its changed state.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("lab: the function ended its goroutine")
		defer func() { done <- err }() // also when fn calls runtime.Goexit, as t.FailNow does
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end; hold it while another one works.
			defer runtime.UnlockOSThread()
			err = onThread(fn)
			return
		}
		err = fn()
	}()
	return <-done
}

// hold calls fn with the descriptor, which stays open meanwhile.
func (n *namespace) hold(fn func(fd int) error) error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.closed {
		return errClosed
	}
	return fn(n.fd)
}

// enterThread moves the calling thread into the namespace, for good.
func (n *namespace) enterThread() error {
	return n.hold(func(fd int) error {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("lab: enter %s: %w", n.name, err)
		}
		return nil
	})
}

func (n *namespace) do(fn func() error) error {
	return onThread(func() error {
		if err := n.enterThread(); err != nil {
			return err
		}
		return fn()
	})
}

func (n *namespace) close() error {
	if n.fd < 0 {
		return nil
	}
	err := n.do(removeLinks)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.path != "" {
		err = errors.Join(err, unbind(n.path))
	}
	return errors.Join(err, unix.Close(n.fd))
}

// removeLinks deletes what would otherwise live as long as the last foreign
// reference to the namespace, such as a shell that a user left in it.
func removeLinks() error {
	links, err := netlink.LinkList()
	for i := 0; i < 10 && errors.Is(err, netlink.ErrDumpInterrupted); i++ { // a device went meanwhile
		links, err = netlink.LinkList()
	}
	if err != nil {
		return fmt.Errorf("lab: list links: %w", err)
	}
	var errs []error
	for _, link := range links {
		if link.Type() != "veth" {
			continue
		}
		err := netlink.LinkDel(link)
		if _, gone := err.(netlink.LinkNotFoundError); err != nil && !gone && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("lab: delete %s: %w", link.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// bind gives the namespace a name that `ip netns` knows and returns its path, or
// "" where that is not allowed: the descriptor then keeps the namespace alone.
func bind(fd int, name string) string {
	if !namespaceDirReady() {
		return ""
	}
	path := filepath.Join(namespaceDir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return ""
	}
	f.Close()
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), path, "", unix.MS_BIND, ""); err != nil {
		os.Remove(path)
		return ""
	}
	return path
}

// namespaceDirReady makes the directory. In a user namespace /run belongs to
// somebody else, and a tmpfs over it, seen by this mount namespace alone, makes
// it ours.
func namespaceDirReady() bool {
	if writable(namespaceDir) {
		return true
	}
	if !inUserNamespace() {
		return false
	}
	if err := unix.Mount("tmpfs", filepath.Dir(namespaceDir), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return false
	}
	return writable(namespaceDir)
}

func writable(dir string) bool {
	return os.MkdirAll(dir, 0o755) == nil && unix.Access(dir, unix.W_OK) == nil
}

func unbind(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("lab: unmount %s: %w", path, err)
	}
	return os.Remove(path)
}

// enter: see Host.Enter.
func (n *namespace) enter() string {
	if n.path != "" && !inUserNamespace() {
		return "ip netns exec " + n.name + " sh"
	}
	user := ""
	if inUserNamespace() {
		user = fmt.Sprintf(" --target=%d --user --preserve-credentials", os.Getpid())
	}
	return fmt.Sprintf("nsenter%s --net=/proc/%d/fd/%d sh", user, os.Getpid(), n.fd)
}

// Sweep removes the namespaces, and strongSwan's files, that labs with this prefix
// left behind when their process died without Close, and returns their names.
// Those of processes that still run, and everything else, stay.
func Sweep(prefix string) ([]string, error) {
	name := "^" + regexp.QuoteMeta(prefix) + "[0-9a-f]{8}-"
	namespaces, err := sweepDir(namespaceDir, regexp.MustCompile(name))
	files, errFiles := sweepDir(os.TempDir(), regexp.MustCompile(name+".*"+strongSwanSuffix))
	return append(namespaces, files...), errors.Join(err, errFiles)
}

func sweepDir(dir string, ours *regexp.Regexp) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	var removed []string
	var errs []error
	for _, entry := range entries {
		if !ours.MatchString(entry.Name()) {
			continue
		}
		gone, err := sweepOne(filepath.Join(dir, entry.Name()))
		if gone {
			removed = append(removed, entry.Name())
		}
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}

// sweepOne removes what nobody has locked: a namespace, or a directory of files.
func sweepOne(path string) (bool, error) {
	fd, err := lock(path)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil // its process lives
	}
	if err != nil {
		return false, ignoreMissing(err)
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return false, err
	}
	if fs.Type == unix.NSFS_MAGIC {
		left := &namespace{name: filepath.Base(path), fd: fd}
		return true, errors.Join(left.do(removeLinks), unbind(path))
	}
	if young(path) {
		return false, nil
	}
	return true, os.RemoveAll(path)
}

// lock opens what only this user can have made and locks it for the life of the
// descriptor.
func lock(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && int(st.Uid) != os.Geteuid() {
		err = unix.EPERM
	}
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// young: this name has no mount or files yet, and may be about to get them.
func young(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || time.Since(info.ModTime()) > time.Minute {
		return false
	}
	entries, err := os.ReadDir(path)
	return err != nil || len(entries) == 0
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("lab: %w", err)
}

// inUserNamespace reports whether this process lives in a user namespace other
// than the machine's: there not all user IDs map to themselves.
func inUserNamespace() bool {
	m, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(m)), " ") != "0 0 4294967295"
}
