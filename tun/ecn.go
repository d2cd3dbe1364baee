package tun

// TOS is the IPv4 TOS or IPv6 traffic class byte of a packet: DSCP in the upper six bits,
// ECN in the lower two. It is 0 for what is no IP packet.
func TOS(packet []byte) uint8 { return 0 }

// Encapsulate is the TOS byte of the outer header for a packet whose own is
// inner: DSCP copied (RFC 4301, section 5.1.2.1), ECN by the normal mode of
// RFC 6040, section 4.1, which copies too.
func Encapsulate(inner uint8) uint8 { return inner }

// Decapsulate carries a congestion mark of the outer header over to the inner
// packet (RFC 6040, section 4.2), mending the IPv4 header checksum. The DSCP of
// the inner packet stays as it is. drop means that the packet must be dropped:
// the outer header says "congestion experienced" and the inner transport
// would not understand it.
func Decapsulate(outer uint8, packet []byte) (drop bool) { return false }
