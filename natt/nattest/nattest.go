// Package nattest is a network in memory with a NAT in it, for tests: a public host, a host behind the NAT, and natt.Conn sockets on both.
//
//	A 203.0.113.1 ---- internet ---- 192.0.2.10 NAT 172.16.0.1 B
//
// Nothing is real: no socket, no route, no clock of its own. A network made inside a testing/synctest bubble stays in it.
package nattest

import (
	"errors"
	"net/netip"
	"time"

	"culvert/natt"
)

// Kind is how the NAT maps and filters (RFC 4787).
type Kind uint8

const (
	OneToOne          Kind = iota // static, ports kept: a cloud VM's public address
	FullCone                      // one mapping a socket, open to all
	AddressRestricted             // one mapping a socket, open to addresses that it sent to
	PortRestricted                // one mapping a socket, open to addresses and ports that it sent to
	Symmetric                     // a mapping for each destination, open to it alone
)

// Kinds lists them all.
var Kinds = []Kind{OneToOne, FullCone, AddressRestricted, PortRestricted, Symmetric}

// String names the kind.
func (k Kind) String() string {
	return [...]string{"1:1", "full cone", "address restricted", "port restricted", "symmetric"}[k]
}

// The addresses of the situation.
var (
	PublicA  = netip.MustParseAddr("203.0.113.1") // A, not behind anything
	PrivateB = netip.MustParseAddr("172.16.0.1")  // B, as its own interface has it
	PublicB  = netip.MustParseAddr("192.0.2.10")  // B, as A sees it
	PublicB2 = netip.MustParseAddr("192.0.2.11")  // B, as A sees it after Rebind to it
)

// Datagram is what a Filter sees: one datagram as its sender sent it, before any NAT.
type Datagram struct {
	Number   int // 0, 1, 2 ... over the whole network
	From, To netip.AddrPort
	TOS      uint8
	Bytes    []byte // read only
}

// Verdict is a Filter's answer.
type Verdict struct {
	Drop   bool
	Copies int           // more copies to deliver
	Delay  time.Duration // before it enters the network
}

// Filter decides the fate of each datagram. Calls never overlap.
type Filter func(Datagram) Verdict

// Config describes the network.
type Config struct {
	NAT             Kind
	Filter          Filter        // nil passes everything
	Latency         time.Duration // of every hop
	MappingLifetime time.Duration // of an idle mapping; 0: 30 s. OneToOne keeps its for ever
}

// Network is the situation.
type Network struct {
	A, B *Host
}

// Host is a machine on the network.
type Host struct{}

// New builds the network and starts it.
func New(c Config) (*Network, error) { return nil, errors.ErrUnsupported }

// Rebind makes the NAT forget B's mappings, as after a restart of it: from now on B's sockets appear at public with new ports.
// public is PublicB or PublicB2.
func (n *Network) Rebind(public netip.Addr) error { return errors.ErrUnsupported }

// Close stops the network and closes what listens on it.
func (n *Network) Close() error { return nil }

// Addr is the address that the host's own interface has.
func (h *Host) Addr() netip.Addr { return netip.Addr{} }

// Listen opens a socket on the host; it stands in for natt.Listen. The address of addr may be invalid or unspecified.
func (h *Host) Listen(addr netip.AddrPort, opts natt.Options) (natt.Conn, error) {
	return nil, errors.ErrUnsupported
}
