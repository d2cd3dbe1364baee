package tun

import (
	"encoding/binary"
	"net/netip"
)

// What macOS is asked to do to an interface's addresses (netinet/in_var.h,
// netinet6/in6_var.h), in the host's byte order, which is little endian on all
// of them:
//
//	       0        16        32          48       64
//	IPv4   +--------+---------+-----------+--------+
//	       | device | address | other end | mask   |
//	       +--------+---------+-----------+--------+
//	       0        16        44          72       100     104        128
//	IPv6   +--------+---------+-----------+--------+-------+----------+
//	       | device | address | other end | mask   | flags | lifetime |
//	       +--------+---------+-----------+--------+-------+----------+
//
// To remove it, the device and the address, in 32 or 288 bytes.
const (
	siocAddAddr4 = 0x8040691a // _IOW('i', 26, struct ifaliasreq)
	siocAddAddr6 = 0x8080691a // _IOW('i', 26, struct in6_aliasreq)
	siocDelAddr4 = 0x80206919 // _IOW('i', 25, struct ifreq)
	siocDelAddr6 = 0x81206919 // _IOW('i', 25, struct in6_ifreq)

	in6NoDAD = 0x20
)

// addAddrRequest is an ioctl and its argument that give a device an address.
func addAddrRequest(device string, a netip.Addr) (request uintptr, arg []byte) {
	mask := netmask(netip.PrefixFrom(a, a.BitLen()))
	arg = deviceName(device)
	if a.Is4() {
		for _, x := range []netip.Addr{a, a, mask} {
			arg = appendSockaddr(arg, x)
		}
		return siocAddAddr4, arg
	}
	arg = appendSockaddr(arg, a)
	arg = append(arg, make([]byte, 28)...) // the other end: none
	arg = appendSockaddr(arg, mask)
	arg = binary.LittleEndian.AppendUint32(arg, in6NoDAD)
	arg = append(arg, make([]byte, 16)...)
	for range 2 { // valid and preferred for ever
		arg = binary.LittleEndian.AppendUint32(arg, ^uint32(0))
	}
	return siocAddAddr6, arg
}

// delAddrRequest is an ioctl and its argument that take an address back.
func delAddrRequest(device string, a netip.Addr) (request uintptr, arg []byte) {
	arg = appendSockaddr(deviceName(device), a)
	if a.Is4() {
		return siocDelAddr4, arg
	}
	return siocDelAddr6, append(arg, make([]byte, 288-len(arg))...)
}

func deviceName(device string) []byte {
	b := make([]byte, 16)
	copy(b[:15], device)
	return b
}
