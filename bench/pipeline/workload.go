package pipeline

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"culvert/tun"
)

// Workload is a burst of traffic of one flow as a device hands it over. Its
// packets are all equally long.
type Workload struct {
	Name  string
	Burst []tun.Super

	packets, bytes int
}

// Packets is the number of packets in a burst.
func (w *Workload) Packets() int { return w.packets }

// PacketBytes is the length of an inner packet.
func (w *Workload) PacketBytes() int { return w.bytes }

// The networks on both sides, and the hosts in them that talk.
var (
	netA4, netB4 = netip.MustParsePrefix("10.103.0.0/24"), netip.MustParsePrefix("10.104.0.0/24")
	netA6, netB6 = netip.MustParsePrefix("2001:db8:103::/48"), netip.MustParsePrefix("2001:db8:104::/48")
)

// NetworksA and NetworksB are where workloads come from and go to.
func NetworksA() []netip.Prefix { return []netip.Prefix{netA4, netA6} }
func NetworksB() []netip.Prefix { return []netip.Prefix{netB4, netB6} }

// Workloads are those that the figures are about: bulk in super-packets of
// 64 KB at an inner MTU of 1420, and small packets that come one by one.
func Workloads() []*Workload {
	return []*Workload{
		Bulk("tcp4", 1420), Bulk("tcp6", 1420), Bulk("udp4", 1420), Bulk("udp6", 1420),
		Single("tcp4", 64), Single("udp4", 64),
	}
}

// shape is the protocol of a workload: "tcp4", "tcp6", "udp4" or "udp6".
type shape struct {
	tcp, v6       bool
	ipLen, header int // IP header, IP and transport header
}

func shapeOf(protocol string) shape {
	s := shape{tcp: protocol[:3] == "tcp", v6: protocol[3] == '6', ipLen: 20}
	if s.v6 {
		s.ipLen = 40
	}
	s.header = s.ipLen + 8
	if s.tcp {
		s.header = s.ipLen + 32 // with the timestamps that hosts send
	}
	return s
}

// Bulk is one super-packet of as many packets of mtu bytes as 64 KB hold.
func Bulk(protocol string, mtu int) *Workload {
	s := shapeOf(protocol)
	segment := mtu - s.header
	n := (1<<16 - 1 - s.header) / segment
	packet := s.packet(n*segment, 1)
	super := tun.Super{Packet: packet, SegmentSize: segment, ChecksumStart: s.ipLen, ChecksumOffset: s.checksum()}
	return &Workload{Name: fmt.Sprintf("%s/%d", protocol, mtu), Burst: []tun.Super{super}, packets: n, bytes: mtu}
}

// singles is how many packets there are when the gateway looks.
const singles = 128

// Single is packets of size bytes one by one, checksums complete.
func Single(protocol string, size int) *Workload {
	s := shapeOf(protocol)
	w := &Workload{Name: fmt.Sprintf("%s/%d", protocol, size), packets: singles, bytes: size}
	for i := range singles {
		payload := size - s.header
		super := tun.Super{Packet: s.packet(payload, uint32(1+i*payload)), ChecksumStart: s.ipLen, ChecksumOffset: s.checksum()}
		var split tun.Splitter
		if err := split.Load(&super); err != nil {
			panic(err) // the packet was made right above
		}
		w.Burst = append(w.Burst, tun.Super{Packet: super.Packet})
	}
	return w
}

func (s shape) checksum() int {
	if s.tcp {
		return 16
	}
	return 6
}

// packet is a packet whose transport checksum holds the pseudo-header's sum, as
// hosts hand them over.
func (s shape) packet(payload int, seq uint32) []byte {
	b := make([]byte, s.header+payload)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b[s.header:])
	protocol, t := byte(17), b[s.ipLen:]
	if s.tcp {
		protocol = 6
	}
	src, dst := netA4.Addr().Next(), netB4.Addr().Next()
	if s.v6 {
		src, dst = netA6.Addr().Next(), netB6.Addr().Next()
		copy(b, []byte{0x60, 0, 0, 0, byte(len(t) >> 8), byte(len(t)), protocol, 64})
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
	} else {
		copy(b, []byte{0x45, 0, byte(len(b) >> 8), byte(len(b)), 0, 1, 0x40, 0, 64, protocol})
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
		tun.PutHeaderChecksum(b[:20])
	}
	copy(t, []byte{0x9c, 0x40, 0x13, 0x89}) // ports 40000 and 5001
	if s.tcp {
		binary.BigEndian.PutUint32(t[4:], seq)
		copy(t[8:], []byte{0, 0, 0, 1, 8 << 4, 0x10, 0xff, 0xff})
		copy(t[20:], []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2})
	} else {
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	}
	binary.BigEndian.PutUint16(t[s.checksum():], pseudo(src, dst, protocol, len(t)))
	return b
}

// pseudo is the sum of the pseudo-header, not complemented.
func pseudo(src, dst netip.Addr, protocol byte, n int) uint16 {
	sum := uint32(protocol) + uint32(n)
	for _, a := range [][]byte{src.AsSlice(), dst.AsSlice()} {
		for i := 0; i < len(a); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(a[i:]))
		}
	}
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum&0xffff)
}
