package natt

import "golang.org/x/sys/unix"

// socketBuffer is what the socket may hold in each direction while its reader sleeps: some 100 full runs.
const socketBuffer = 8 << 20

// setFragmentation lets the socket's datagrams be fragmented, or forbids it.
//
// Forbidden is IP_PMTUDISC_PROBE: don't-fragment is set and the limit is our interface's MTU, whatever ICMP claims. Allowed is, for IPv4,
// OMIT: no don't-fragment, no belief in ICMP. IPv6 routers do not fragment, so there the sender must, to what ICMP says: DONT.
func setFragmentation(fd uintptr, six, allow bool) {
	four, sixth := unix.IP_PMTUDISC_PROBE, unix.IPV6_PMTUDISC_PROBE
	if allow {
		four, sixth = unix.IP_PMTUDISC_OMIT, unix.IPV6_PMTUDISC_DONT
	}
	// Neither value can be refused by a kernel that Go runs on, but for OMIT before Linux 3.15, where the default serves.
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, four)
	if six {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, sixth)
	}
}

// setBuffers has the portable implementation's socket buffers be those of the other.
func setBuffers(fd uintptr) {
	on := machine()
	on.setBuffers(int(fd))
}

// enableTOS has IPv4 datagrams delivered with their TOS; golang.org/x/net knows only IPv6's traffic class.
func enableTOS(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
}

const tosMessage = unix.IP_TOS

// setTOS sets the TOS of the IPv4 datagrams that follow.
func setTOS(fd uintptr, tos uint8) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, int(tos))
}
