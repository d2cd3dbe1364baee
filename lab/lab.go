package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// Lab is a set of hosts and links on this machine. All of it is gone after
// Close, and, but for names under /run/netns that Sweep finds, after a crash.
// Its methods may be called from several goroutines.
type Lab struct {
	name string

	mu      sync.Mutex
	closed  bool
	hosts   map[string]*Host
	running map[activity]struct{}
}

// activity is what goes on in a lab and must end before its hosts go.
type activity interface{ halt() error }

// Host is one network namespace with its loopback up and forwarding on.
type Host struct {
	Name string // as given to Lab.Host

	lab *Lab
	ns  *namespace
}

// End is one end of a link: an interface to make on a host, with its address.
type End struct {
	Host      *Host
	Interface string       // at most 15 bytes
	Address   netip.Prefix // the address and the length of its network
}

var errClosed = errors.New("lab: closed")

// New makes an empty lab. Its namespaces are named
// <prefix><8 random hex digits>-<host>. It fails, with ErrUnsupported in the
// chain, anywhere but on Linux; CheckRights tells beforehand whether hosts can
// be made.
func New(prefix string) (*Lab, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	var unique [4]byte
	rand.Read(unique[:]) // never fails since Go 1.24
	return &Lab{
		name:    fmt.Sprintf("%s%x", prefix, unique),
		hosts:   map[string]*Host{},
		running: map[activity]struct{}{},
	}, nil
}

// Host returns the host of that name, making it when it is not there yet.
func (l *Lab) Host(name string) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if h := l.hosts[name]; h != nil {
		return h, nil
	}
	ns, err := newNamespace(l.name + "-" + name)
	if err != nil {
		return nil, fmt.Errorf("lab: host %s: %w", name, err)
	}
	h := &Host{Name: name, lab: l, ns: ns}
	l.hosts[name] = h
	return h, nil
}

// Close ends every process and capture of the lab, then removes its links and
// namespaces. It may be called again, and at any stage of construction.
func (l *Lab) Close() error {
	l.mu.Lock()
	l.closed = true
	running, hosts := l.running, l.hosts
	l.running, l.hosts = nil, nil
	l.mu.Unlock()

	errs := make([]error, 0, len(running)+len(hosts))
	errs = append(errs, haltAll(running)...)
	for _, h := range hosts {
		errs = append(errs, h.ns.close())
	}
	return errors.Join(errs...)
}

// haltAll halts side by side, since each may take its grace period.
func haltAll(running map[activity]struct{}) []error {
	var wg sync.WaitGroup
	errs := make([]error, len(running))
	i := 0
	for a := range running {
		slot := &errs[i]
		wg.Go(func() { *slot = a.halt() })
		i++
	}
	wg.Wait()
	return errs
}

// adopt makes the lab answerable for the end of a.
func (l *Lab) adopt(a activity) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	l.running[a] = struct{}{}
	return nil
}

func (l *Lab) disown(a activity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.running, a)
}

// Namespace returns the name under /run/netns, or what it would have been when
// the namespace could not be bound there.
func (h *Host) Namespace() string { return h.ns.name }

// Do runs fn on an operating system thread inside the host's namespace: sockets
// and devices that fn opens, and files of /proc/sys/net that it reads, are the
// host's. The thread ends with fn and is never used for anything else. Sockets
// opened in fn stay in the namespace and may be used from anywhere; goroutines
// that fn starts are not inside.
func (h *Host) Do(fn func() error) error { return h.ns.do(fn) }

// Enter returns the command line by which a user of this machine gets a shell
// inside the host while the lab is up.
func (h *Host) Enter() string { return h.ns.enter() }
