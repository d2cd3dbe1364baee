package gateway

// What fits: the largest inner packet of a path.
//
//	1500  outer path MTU
//	 -20  IPv4 header (40 for IPv6)
//	  -8  UDP header                                        RFC 3948 section 2.1
//	----
//	1472  ESP
//	  -8  SPI, sequence number                              RFC 4303 section 2
//	  -8  IV                                                RFC 4106 section 3.1
//	 -16  ICV
//	----
//	1440  inner packet, padding, pad length, next header: a multiple of 4 bytes,
//	  -2  of which the last two are the least there is
//	----
//	1438  inner packet, AES-GCM over IPv4, no padding
//
// The same sum gives 1418 over IPv6, and 1422 for AES-CBC with
// HMAC-SHA2-256-128 over IPv4 (IV 16, ICV 16, whole blocks of 16). A TCP segment
// of an inner packet of 1438 bytes carries 1398 bytes over IPv4, 1378 over IPv6.

import (
	"encoding/binary"
	"fmt"

	"culvert/config"
	"culvert/espcrypto"
	"culvert/espcrypto/sad"
	"culvert/ikev2/wire"
	"culvert/tun"
)

const (
	defaultPathMTU = 1500
	ipv4HeaderLen  = 20
	ipv6HeaderLen  = 40
	udpHeaderLen   = 8
)

// innerMTU is the largest inner packet in bytes whose ESP in UDP fits an outer
// path MTU of so many bytes.
func innerMTU(pathMTU int, outerIPv6 bool, s espcrypto.Suite) int {
	return s.MaxInner(pathMTU - outerHeaders(outerIPv6))
}

// outerHeaders is the length in bytes of IP and UDP around ESP.
func outerHeaders(six bool) int {
	if six {
		return ipv6HeaderLen + udpHeaderLen
	}
	return ipv4HeaderLen + udpHeaderLen
}

// childMTU is innerMTU on the child's present path, and no more than limit if
// that is not 0.
func childMTU(c *sad.Child, path sad.Path, limit int) int {
	pathMTU := c.PathMTU()
	if pathMTU == 0 {
		pathMTU = defaultPathMTU
	}
	mtu := innerMTU(pathMTU, path.Remote.Addr().Is6(), c.Suite)
	if limit != 0 {
		return min(mtu, limit)
	}
	return mtu
}

// MTUText is the arithmetic of what fits, in words.
func MTUText(cfg *config.Config) string {
	mtu := deviceMTU(cfg)
	const tcp = 20
	if cfg.Gateway.MTU != 0 {
		needs := mtu
		for innerMTU(needs, false, usualSuite) < mtu {
			needs++
		}
		return fmt.Sprintf("MTU: %d inside, as set; with AES-GCM that is %d outside over IPv4 (IP 20, UDP 8, ESP 34 and padding), %d over IPv6; a TCP segment carries %d", mtu, needs, needs+20, mtu-ipv4HeaderLen-tcp)
	}
	ip := defaultPathMTU - mtu - udpHeaderLen - 34
	return fmt.Sprintf("MTU: %d inside = %d outside - IP %d - UDP %d - ESP 34 (header 8, IV 8, ICV 16, trailer 2) with AES-GCM; a TCP segment carries %d; a path that takes less is found, or set mtu", mtu, defaultPathMTU, ip, udpHeaderLen, mtu-ipv4HeaderLen-tcp)
}

// usualSuite is what most peers agree on.
var usualSuite = espcrypto.Suite{Encr: wire.EncrAESGCM16, KeyBits: 128}

// mayFragment says whether a router may fragment the packet: IPv4 without DF.
func mayFragment(head []byte) bool { return head[0]>>4 == 4 && head[6]&0x40 == 0 }

// fragmenter cuts an IPv4 packet into fragments of at most mtu bytes (RFC 791
// section 3.2) without moving its payload.
//
//	head: IP header, options, the start of the payload if any │ body: the rest
type fragmenter struct {
	head, body []byte
	ipLen      int // IP header with options
	room       int // payload bytes in every fragment but the last
	sent       int // payload bytes
}

// newFragmenter takes a validated packet in two parts, the first of which
// holds at least the IP header, and at most a fragment. mtu is at least 68,
// which every path has (RFC 791).
func newFragmenter(head, body []byte, mtu int) fragmenter {
	ipLen := int(head[0]&15) * 4
	return fragmenter{head: head, body: body, ipLen: ipLen, room: (mtu - ipLen) &^ 7}
}

// next describes the next fragment: headLen bytes that write makes, then body.
// ok is false after the last.
func (f *fragmenter) next() (headLen int, body []byte, ok bool) {
	lead := len(f.head) - f.ipLen
	total := lead + len(f.body)
	if f.sent >= total {
		return 0, nil, false
	}
	end := min(f.sent+f.room, total)
	if f.sent == 0 {
		return len(f.head), f.body[:end-lead], true
	}
	return f.ipLen, f.body[f.sent-lead : end-lead], true
}

// write puts the headers of the fragment that next described into dst and
// moves on.
func (f *fragmenter) write(dst []byte, headLen int, body []byte) {
	copy(dst, f.head[:headLen])
	payload := headLen - f.ipLen + len(body)
	field := binary.BigEndian.Uint16(f.head[6:]) + uint16(f.sent/8)
	if f.sent+payload < len(f.head)-f.ipLen+len(f.body) {
		field |= 0x2000 // more fragments
	}
	if f.sent > 0 {
		blankUncopied(dst[ipv4HeaderLen:f.ipLen])
	}
	f.sent += payload
	binary.BigEndian.PutUint16(dst[2:], uint16(f.ipLen+payload))
	binary.BigEndian.PutUint16(dst[6:], field)
	tun.PutHeaderChecksum(dst[:f.ipLen])
}

// blankUncopied overwrites with no-operations the options that only the first
// fragment may carry: those without the copied flag (RFC 791 section 3.1).
func blankUncopied(options []byte) {
	for len(options) > 0 && options[0] != 0 {
		n := 1
		if options[0] != 1 {
			if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
				return
			}
			n = int(options[1])
		}
		if options[0]&0x80 == 0 {
			for i := range n {
				options[i] = 1
			}
		}
		options = options[n:]
	}
}
