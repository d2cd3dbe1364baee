package natt

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// PathMTU returns what the kernel holds for the MTU of the path to remote, the whole IP packet counted: that of the interface, or less
// where ICMP said so. local may be invalid. It sends nothing.
func PathMTU(local, remote netip.Addr) (int, error) {
	local, remote = local.Unmap(), remote.Unmap()
	family, level, name := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU
	if !remote.Is4() {
		family, level, name = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if local.IsValid() && !local.IsUnspecified() {
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(local, 0))); err != nil {
			return 0, os.NewSyscallError("bind", err)
		}
	}
	// The port is of no matter: connecting a UDP socket only looks up the route.
	if err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(remote, 4500))); err != nil {
		return 0, os.NewSyscallError("connect", err)
	}
	mtu, err := unix.GetsockoptInt(fd, level, name)
	return mtu, os.NewSyscallError("getsockopt", err)
}
