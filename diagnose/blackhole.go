package diagnose

import (
	"fmt"
	"strconv"
)

// BlackHole is the view of a side whose path loses packets for their size, without a word of ICMP (RFC 2923 2.1). Sizes are in bytes, headers included.
type BlackHole struct {
	Peer       Peer
	Connection Connection
	// Size is the largest packet that has reached the peer, of those up to Most, on the outside; Inner is what it has room for.
	Size, Most, Inner int
	MTUAt             Setting
}

// Report says what the size is inside the tunnel, and that it is kept to.
func (f BlackHole) Report() Report {
	const headers = 20 + 20 // IPv4 and TCP
	return compose("mtu_black_hole",
		fmt.Sprintf("packets of more than %d bytes do not reach the peer at %v of %s, and no router says so: a path MTU black hole", f.Size, f.Peer, f.Connection),
		fmt.Sprintf("A request in one packet of %d bytes was answered; larger ones, of up to %d bytes, were not, whenever they were tried, and small ones were all the while. Through such a path pings pass, and TCP hangs with the first full segments.", f.Size, f.Most),
		fmt.Sprintf("This gateway has found it and keeps to it: packets of at most %d bytes go into the tunnels, the senders of longer ones are told so by ICMP, and TCP agrees on segments of at most %d bytes, both ways.", f.Inner, f.Inner-headers),
		fmt.Sprintf("To have it so from the start, %s and restart; it is for all connections, so let it be the lowest of theirs.", f.change()),
		"Only the way to the peer can be measured from here. The way back is the peer's to measure; one that does not needs the same limit, as the MTU of its tunnel's interface or route.",
		"The cause is a router that drops what its next link cannot take and does not tell, or a firewall that drops what it tells: ICMP type 3 code 4, in IPv6 packet too big.")
}

func (f BlackHole) change() string {
	written := code("mtu = " + strconv.Itoa(f.Inner))
	switch {
	case f.MTUAt.Key == "":
		return fmt.Sprintf("set %s for the gateway, which takes a configuration in culvert's own format (`culvert convert`),", written)
	case f.MTUAt.Line == 0:
		return fmt.Sprintf("add %s to [gateway] in %s", written, cleanTo(f.MTUAt.File, maxPath))
	}
	return f.MTUAt.rewrite(written)
}
