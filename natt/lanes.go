package natt

import "net/netip"

// spiIndexBits are the low bits of an SPI that name no lane.
const spiIndexBits = 20

// Lane is which of so many sockets an ESP packet is to come by. All else comes by the first.
func Lane(spi uint32, lanes int) int { return int(spi>>spiIndexBits) % lanes }

// ListenLanes opens so many sockets, 1 or more, on one address and port. The kernel gives each datagram to one of them: ESP to that of its SPI's
// Lane, where it can, and the rest to the first. Who receives must not rely on it: datagrams that the kernel has joined go together. Sending is
// the same by any. On other systems than Linux there is one socket, and more are an error. Other errors are those of Listen.
func ListenLanes(addr netip.AddrPort, lanes int, opts Options) ([]Conn, error) {
	first, err := Listen(addr, opts)
	if err != nil {
		return nil, err
	}
	if lanes <= 1 {
		return []Conn{first}, nil
	}
	all, err := joinLanes(first, addr, lanes, opts)
	if err != nil {
		for _, c := range all {
			_ = c.Close()
		}
		return nil, listenError(addr, err)
	}
	return all, nil
}
