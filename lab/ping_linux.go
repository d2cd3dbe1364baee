package lab

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// dontFragment makes the kernel set DF and refuse what it knows to be too big.
func dontFragment(conn *net.IPConn, dst netip.Addr) error {
	level, option, value := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	if dst.Is6() {
		level, option, value = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, option, value) })
	if err != nil {
		return err
	}
	return set
}
