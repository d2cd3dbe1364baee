// Package natt is the UDP edge of the gateway: it moves IKE on port 500, and IKE, ESP and keepalives together on port 4500, in
// batches, with the kernel's segmentation offload where there is one.
//
// On port 4500 the first bytes of a datagram say what it is (RFC 3948 section 2):
//
//	                 0                   1                   2                   3
//	                 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	IKE             +---------------------------------------------------------------+
//	                |          non-ESP marker: four zero bytes                      |
//	                +---------------------------------------------------------------+
//	                |          IKE header, 28 bytes, and payloads                   |
//	ESP             +---------------------------------------------------------------+
//	                |          SPI, 256 or more                                     |
//	                +---------------------------------------------------------------+
//	                |          sequence number, and the rest of ESP                 |
//	NAT keepalive   +---------------+-----------------------------------------------+
//	                |     0xFF      |   nothing else
//	                +---------------+
//
// # Runs
//
// The unit of work is a [Run]: datagrams of one path laid end to end, all of SegmentSize bytes but the last, which may be shorter.
// Linux delivers such runs (UDP_GRO) and takes them (UDP_SEGMENT), so that forty packets cost one pass through the stack.
// Elsewhere, and where the kernel refuses, a run travels as single datagrams; the caller sees no difference.
//
// # Fragments
//
// ESP is sent with don't-fragment, because tunnels whose outer packets depend on reassembly fail on real networks, and the path
// MTU that ICMP reports is never applied to what is sent, because anyone can forge ICMP: only the MTU of our own interface
// refuses a datagram. IKE messages are sent without don't-fragment, so that one larger than the path still arrives; on port 4500
// the non-ESP marker tells which is which. Run.Whole is for those by which a path is probed. ([PathMTU] says what the kernel
// believes about a path, for a caller with a policy.)
package natt

import (
	"net/netip"
)

// Path is where a datagram came from or goes to.
type Path struct {
	Local  netip.AddrPort // our end; on Send an invalid or unspecified address leaves the choice to the kernel
	Remote netip.AddrPort // the peer's end
	Encap  bool           // on the NAT traversal socket: port 4500 by default, where IKE has the non-ESP marker
}

// Run is one datagram, or several of one path laid end to end.
type Run struct {
	Bytes       []byte
	SegmentSize int   // bytes a datagram, the last one may be shorter; 0: Bytes is one datagram
	Whole       bool  // on the NAT traversal socket, with don't-fragment even if it is IKE
	TOS         uint8 // DSCP and ECN of the outer header (IPv4 TOS, IPv6 traffic class)
	Path        Path
}

// Segments returns how many datagrams the run holds.
func (r *Run) Segments() int {
	if r.SegmentSize <= 0 || len(r.Bytes) <= r.SegmentSize {
		return 1
	}
	return (len(r.Bytes) + r.SegmentSize - 1) / r.SegmentSize
}

// Segment returns datagram i of the run, 0 <= i < Segments().
func (r *Run) Segment(i int) []byte {
	if r.SegmentSize <= 0 {
		return r.Bytes
	}
	start := i * r.SegmentSize
	return r.Bytes[start:min(start+r.SegmentSize, len(r.Bytes))]
}

// Conn is a UDP socket that moves runs.
type Conn interface {
	// LocalAddr is the address that the socket is bound to; its address is unspecified when the socket takes any.
	LocalAddr() netip.AddrPort

	// Receive waits for a datagram, then takes what else is there without waiting, and returns how many of runs it filled.
	// Bytes belong to the Conn and live until the next Receive; they may be changed in place. Path.Local holds the address that the
	// datagram was sent to, and IPv4 addresses are never in their IPv4-mapped form. One goroutine may receive at a time.
	// The error is net.ErrClosed after Close, or what broke the socket for good; anything passing is counted and swallowed.
	Receive(runs []Run) (int, error)

	// Send sends runs in order and returns how many the kernel took whole. A run that it refuses is dropped and counted by
	// the name of the error, and the rest go on: UDP promises no more. The only errors are net.ErrClosed and a socket broken for good.
	// Nothing of runs is kept. It never waits, and goroutines may call it at once: a mutex orders their batches.
	Send(runs []Run) (int, error)

	// Offload says in a few words which offloads are in use, for status.
	Offload() string

	// Counters returns the counts since Listen of everything that did not go its usual way, by name. Names are always all there.
	Counters() map[string]uint64

	// Close closes the socket and wakes a waiting Receive.
	Close() error
}

// Options are the choices of Listen.
type Options struct {
	// NATT makes this the NAT traversal socket: segmentation offload, buffers for bulk traffic, Path.Encap set.
	NATT bool

	join bool // the sockets that have the port already
}

// Listen opens a UDP socket at addr. An invalid or unspecified address takes any: IPv6 and IPv4 in one socket, IPv4 alone where the
// machine has no IPv6. The error names the port, and wraps what the system said.
func Listen(addr netip.AddrPort, opts Options) (Conn, error) {
	c, err := listen(addr, opts)
	if err != nil {
		return nil, listenError(addr, err)
	}
	return c, nil
}

// unmap gives IPv4 addresses their own form.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
