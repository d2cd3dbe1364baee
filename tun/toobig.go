package tun

import "net/netip"

// TooBig builds the answer to a packet that does not fit: ICMPv4 "fragmentation
// needed and DF set" (type 3 code 4, RFC 1191) or ICMPv6 "packet too big"
// (type 2, RFC 4443), from the given address to the packet's source, with the
// largest inner packet in bytes that would have fitted. It is appended to
// buf[:0]; 1280 bytes suffice.
//
// It is nil when no error may be sent: for an IPv4 packet without DF, a fragment other than
// the first, an ICMP error, a source that is not one host (RFC 1122 3.2.2,
// RFC 4443 2.4), a from address of the other family, a malformed packet.
// An invalid from stands for the packet's destination. The rate is the
// caller's to limit.
func TooBig(packet []byte, mtu int, from netip.Addr, buf []byte) []byte { return nil }
