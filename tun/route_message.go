package tun

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// A message on a macOS routing socket (route(4)), in the host's byte order,
// which is little endian on all of them; each address is a sockaddr padded to
// 4 bytes, in the order of the bits in addrs:
//
//	0      2   3    4     6      8     12    16   20  24    28       36       92
//	+------+---+----+-----+------+-----+-----+----+---+-----+--------+--------+-----
//	|length| 5 |type|index|      |flags|addrs|pid |seq|errno|use,inits| metrics| addresses
//	+------+---+----+-----+------+-----+-----+----+---+-----+--------+--------+-----
const (
	rtVersion   = 5
	rtHeaderLen = 92

	rtAdd    = 1
	rtDelete = 2
	rtChange = 3

	rtfUp, rtfStatic = 0x1, 0x800

	rtaDst, rtaGateway, rtaNetmask, rtaIfa = 0x1, 0x2, 0x4, 0x20

	darwinInet, darwinInet6, darwinLink = 2, 30, 18
)

// routeMessage asks the kernel to add or delete the route to prefix through
// the interface with the given index; with a valid source its traffic carries that address.
func routeMessage(kind uint8, seq uint32, index int, prefix netip.Prefix, source netip.Addr) ([]byte, error) {
	if !prefix.IsValid() {
		return nil, fmt.Errorf("route to %s: not a prefix", prefix)
	}
	if source.IsValid() && source.Is4() != prefix.Addr().Is4() {
		return nil, fmt.Errorf("route to %s: source %s is of the other address family", prefix, source)
	}
	prefix = prefix.Masked()
	addrs := uint32(rtaDst | rtaGateway | rtaNetmask)
	b := make([]byte, rtHeaderLen, rtHeaderLen+4*28)
	b = appendSockaddr(b, prefix.Addr())
	b = appendLinkAddr(b, index)
	b = appendSockaddr(b, netmask(prefix))
	if source.IsValid() {
		addrs |= rtaIfa
		b = appendSockaddr(b, source)
	}
	binary.LittleEndian.PutUint16(b, uint16(len(b)))
	b[2], b[3] = rtVersion, kind
	binary.LittleEndian.PutUint16(b[4:], uint16(index))
	binary.LittleEndian.PutUint32(b[8:], rtfUp|rtfStatic)
	binary.LittleEndian.PutUint32(b[12:], addrs)
	binary.LittleEndian.PutUint32(b[20:], seq)
	return b, nil
}

func appendSockaddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		b = append(b, 16, darwinInet, 0, 0)
		b = append(b, a.AsSlice()...)
		return append(b, make([]byte, 8)...)
	}
	b = append(b, 28, darwinInet6, 0, 0, 0, 0, 0, 0)
	b = append(b, a.AsSlice()...)
	return append(b, 0, 0, 0, 0)
}

// appendLinkAddr names an interface where a gateway would stand.
func appendLinkAddr(b []byte, index int) []byte {
	b = append(b, 20, darwinLink)
	b = binary.LittleEndian.AppendUint16(b, uint16(index))
	return append(b, make([]byte, 16)...)
}

func netmask(p netip.Prefix) netip.Addr {
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(mask)
	return a
}

// appendFamily is the 4 bytes before a packet on a macOS utun: the address
// family, most significant byte first.
func appendFamily(b []byte, packet []byte) ([]byte, error) {
	switch {
	case len(packet) == 0:
		return b, ErrTruncated
	case packet[0]>>4 == 4:
		return append(b, 0, 0, 0, darwinInet), nil
	case packet[0]>>4 == 6:
		return append(b, 0, 0, 0, darwinInet6), nil
	}
	return b, ErrVersion
}

// utunName is the name to ask macOS for: it has no other devices than utun0,
// utun1 and so on, and "utun" is the next free one.
func utunName(name string) string {
	var n uint16
	if _, err := fmt.Sscanf(name, "utun%d", &n); err == nil && name == fmt.Sprintf("utun%d", n) {
		return name
	}
	return "utun"
}
