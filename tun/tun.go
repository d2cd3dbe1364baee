// Package tun is the edge between a gateway and the hosts it protects: a
// network device that hands over whole IP packets, and what is done to those
// packets on their way through.
//
// Where the kernel offers it, packets cross as super-packets: a run of TCP or
// UDP segments of one flow under a single header, up to 64 KB in one system
// call. Nothing here copies a payload byte:
//
//	host -> tunnel    Device.Read -> Super -> Splitter -> (head, body) per segment
//	tunnel -> host    packet -> Coalescer.Add ... Flush -> Device.Write, gathered
//
// On Linux each packet on the device's file is preceded by a virtio header,
// which only this package sees (little endian, 10 bytes):
//
//	0        1          2          4           6            8            10
//	+--------+----------+----------+-----------+------------+------------+------
//	| flags  | gso_type | hdr_len  | gso_size  | csum_start | csum_offs. | IP ...
//	+--------+----------+----------+-----------+------------+------------+------
//
// Devices are made by Open (Linux TUN, macOS utun), by package netstack (a
// user-space network stack, no privileges needed) and by package tuntest
// (channels, for tests).
package tun

import "errors"

// SlabLen is the least length in bytes of the slab given to Device.Read: the
// longest IP packet and the header that a kernel puts in front of it.
const SlabLen = 1<<16 + 64

// ErrWouldBlock is TryRead's answer when no packet is waiting.
var ErrWouldBlock = errors.New("tun: no packet waiting")

// Super is an IP packet at the device, whole or as a run of segments.
//
// With SegmentSize 0 it is one packet. Otherwise it is a TCP or UDP packet
// whose transport payload stands for a run of packets with SegmentSize payload
// bytes each, the last one perhaps shorter, all under the one header in Packet.
type Super struct {
	// Packet starts with the IP header. Device.Read returns everything here,
	// inside the slab.
	Packet []byte
	// Rest, used only when writing, holds the payload bytes that follow
	// Packet, in order and where they already are in memory.
	Rest [][]byte
	// SegmentSize is the number of transport payload bytes in a segment.
	SegmentSize int
	// ChecksumStart and ChecksumOffset, when ChecksumStart > 0, say that the
	// transport checksum at Packet[ChecksumStart+ChecksumOffset:] holds no
	// more than the sum of the pseudo-header; the bytes from ChecksumStart on
	// are still to be summed into it.
	ChecksumStart, ChecksumOffset int
}

// Len is the number of bytes in Packet and Rest.
func (s Super) Len() int {
	n := len(s.Packet)
	for _, b := range s.Rest {
		n += len(b)
	}
	return n
}

// Offload says which runs a device accepts in Write (and may return from Read).
type Offload struct {
	TCP bool // TCP over IPv4 and IPv6
	UDP bool // UDP over IPv4 and IPv6 (Linux 6.2)
}

// String names the offloads for a status line: "tcp+udp", "tcp", "none".
func (o Offload) String() string {
	switch {
	case o.TCP && o.UDP:
		return "tcp+udp"
	case o.TCP:
		return "tcp"
	case o.UDP:
		return "udp"
	}
	return "none"
}

// Event is a change of the device.
type Event uint8

// The events of a device. After EventMTU, Device.MTU has the new value.
const (
	EventUp Event = iota + 1
	EventDown
	EventMTU
)

func (e Event) String() string {
	switch e {
	case EventUp:
		return "up"
	case EventDown:
		return "down"
	case EventMTU:
		return "mtu changed"
	}
	return "unknown event"
}

// one is a device that has one queue.
func one(d Device, err error) ([]Device, error) {
	if err != nil {
		return nil, err
	}
	return []Device{d}, nil
}

// Device is a network interface without a link layer.
//
// One goroutine at a time may use Read and TryRead; Write, Close and the rest
// are safe for concurrent use. After Close every method that moves packets
// returns an error that wraps os.ErrClosed.
type Device interface {
	// Name is the interface's name as the operating system shows it.
	Name() string
	// MTU is the largest packet in bytes that the host puts on the device
	// (a run's segments; a run itself may be longer).
	MTU() int
	// Offload says which runs Write accepts.
	Offload() Offload
	// Read waits for a packet and returns it inside slab, which must have at
	// least SlabLen bytes and belongs to the caller. Feed it to a Splitter.
	// An error that is not os.ErrClosed is about one packet: count it, go on.
	Read(slab []byte) (Super, error)
	// TryRead is Read without waiting: ErrWouldBlock when nothing is there.
	TryRead(slab []byte) (Super, error)
	// Write hands a packet or, as far as Offload allows, a run to the host.
	// Nothing of s is retained or changed. Use a Coalescer for traffic, Write
	// itself for a packet made here (an ICMP error).
	Write(s Super) error
	// Close ends the device and makes a waiting Read return.
	Close() error
	// Events tells of changes; it is closed by Close. An event is dropped
	// when nobody listens.
	Events() <-chan Event
}
