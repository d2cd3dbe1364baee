//go:build !linux

package lab

import (
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Where there are no network namespaces New fails, so that nothing below has a
// host to be called on; it lets programs compile.

type namespace struct{ name string }

// Capture is a running capture of an interface of a host.
type Capture struct{}

// PortMapping is how a masquerading NAT chooses the source port it shows.
type PortMapping int

const (
	KeepPort   PortMapping = iota // the sender's own where it is free
	RandomPort                    // another for each destination, as symmetric NATs do
)

func supported() error { return ErrUnsupported }

// Sweep has nothing to remove.
func Sweep(string) ([]string, error) { return nil, nil }

// CheckRights reports that there are none.
func CheckRights() Rights {
	return Rights{Kind: NoRights, Reason: ErrUnsupported.Error(), Device: ErrUnsupported}
}

// ReexecInUserNamespace fails.
func ReexecInUserNamespace([]string) (int, error) { return 0, ErrUnsupported }

func newNamespace(string) (*namespace, error) { return nil, ErrUnsupported }
func lock(string) (int, error)                { return -1, ErrUnsupported }
func onThread(fn func() error) error          { return fn() }
func (*namespace) enterThread() error         { return ErrUnsupported }
func (*namespace) do(func() error) error      { return ErrUnsupported }
func (*namespace) close() error               { return nil }
func (*namespace) enter() string              { return "" }

func processGroup() *syscall.SysProcAttr         { return nil }
func limitSegments(syscall.RawConn, int) error   { return ErrUnsupported }
func awaitExit(int)                              {}
func forceReceiveBuffer(*net.UDPConn, int)       {}
func privateMounts([]Mount) error                { return ErrUnsupported }
func dontFragment(*net.IPConn, netip.Addr) error { return ErrUnsupported }

// Link fails.
func (*Lab) Link(a, b End, mtu int) error { return ErrUnsupported }

// Route fails.
func (*Host) Route(dst netip.Prefix, via netip.Addr) error { return ErrUnsupported }

// SetMTU fails.
func (*Host) SetMTU(iface string, mtu int) error { return ErrUnsupported }

// Sysctl fails.
func (*Host) Sysctl(key, value string) error { return ErrUnsupported }

// Attach fails.
func (*Host) Attach(iface string, mtu int, networks ...netip.Prefix) error { return ErrUnsupported }

// ProcessorTime fails.
func (*Host) ProcessorTime() (time.Duration, error) { return 0, ErrUnsupported }

// Processes fails.
func (*Host) Processes() ([]int, error) { return nil, ErrUnsupported }

// BusyTime fails.
func BusyTime() (time.Duration, error) { return 0, ErrUnsupported }

// NAT1to1 fails.
func (*Host) NAT1to1(public, private netip.Addr) error { return ErrUnsupported }

// Masquerade fails.
func (*Host) Masquerade(out string, ports PortMapping) error { return ErrUnsupported }

// DropForward fails.
func (*Host) DropForward(prefixes ...netip.Prefix) error { return ErrUnsupported }

// DropUDP fails.
func (*Host) DropUDP(port uint16) error { return ErrUnsupported }

// DropLong fails.
func (*Host) DropLong(bytes uint16) error { return ErrUnsupported }

// ForgetNAT fails.
func (*Host) ForgetNAT() error { return ErrUnsupported }

// Capture fails.
func (*Host) Capture(iface string, w io.Writer) (*Capture, error) { return nil, ErrUnsupported }

// Stop does nothing.
func (*Capture) Stop() (CaptureStats, error) { return CaptureStats{}, nil }
