package tun

// ClampMSS lowers the maximum segment size announced in a TCP SYN to what fits
// an inner packet of mtu bytes (mtu minus 40 for IPv4, 60 for IPv6), updating
// the checksum incrementally. It reports whether it changed the packet. Every
// other packet, and a malformed one, is left alone. The packet's checksum must
// be complete: call it after Splitter.Load.
func ClampMSS(packet []byte, mtu int) bool { return false }
