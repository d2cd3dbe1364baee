package natt

import (
	"errors"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// joinLanes adds sockets to the first, which has bound the port alone: so a port that another process has is taken, as ever, also where that
// would share it.
func joinLanes(first Conn, addr netip.AddrPort, lanes int, opts Options) (all []Conn, err error) {
	all = []Conn{first}
	share := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }
	if err = first.(*conn).control(share); err != nil {
		return all, err
	}
	opts.join = true
	addr = netip.AddrPortFrom(addr.Addr(), first.LocalAddr().Port())
	for len(all) < lanes {
		c, err := listenBatch(addr, opts, machine())
		if err != nil {
			return all, err
		}
		all = append(all, c)
	}
	// Without it each sender has one socket for all of its datagrams, which is slower and not wrong.
	c := first.(*conn)
	c.lanes = strconv.Itoa(lanes) + " sockets by SPI"
	if c.control(func(fd int) error { return steer(fd, lanes) }) != nil {
		c.lanes = strconv.Itoa(lanes) + " sockets by sender"
	}
	return all, nil
}

func (c *conn) control(f func(fd int) error) error {
	var err error
	return errors.Join(c.door.Control(func(fd uintptr) { err = f(int(fd)) }), err)
}

// steer has the kernel choose among the sockets of a port by Lane. The program begins at the datagram's first byte; one that is too short to
// have an SPI ends it with 0, and the four zero bytes before IKE come to that too.
func steer(fd, lanes int) error {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: spiIndexBits},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(lanes)},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}
