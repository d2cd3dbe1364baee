package natt

import "golang.org/x/sys/unix"

// socketBuffer is what macOS allows by default (kern.ipc.maxsockbuf), in both directions together.
const socketBuffer = 4 << 20

// setFragmentation lets the socket's datagrams be fragmented, or forbids it. Before macOS 11 IPv4 has no such choice.
func setFragmentation(fd uintptr, six, allow bool) {
	forbid := 1
	if allow {
		forbid = 0
	}
	if six {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, forbid)
	}
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, ipDontFrag, forbid)
}

const ipDontFrag = 28 // IP_DONTFRAG of <netinet/in.h>

// setBuffers asks for big buffers. Small ones only cost speed, so errors do not count.
func setBuffers(fd uintptr) {
	_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
}

// enableTOS has IPv4 datagrams delivered with their TOS; golang.org/x/net knows only IPv6's traffic class.
func enableTOS(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
}

const tosMessage = unix.IP_RECVTOS

// setTOS sets the TOS of the IPv4 datagrams that follow.
func setTOS(fd uintptr, tos uint8) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, int(tos))
}
