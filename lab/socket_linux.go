package lab

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitSegments bounds the payload of TCP segments both ways, in bytes.
func limitSegments(c syscall.RawConn, size int) error {
	var set error
	err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, size) })
	if err != nil {
		return err
	}
	return set
}

// forceReceiveBuffer makes a socket's buffer larger than the system's limit
// where that is allowed.
func forceReceiveBuffer(conn *net.UDPConn, size int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		}
	})
}
