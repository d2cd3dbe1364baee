package config

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// fault is what is wrong with one value. offset counts the characters of the
// value before the part that is wrong.
type fault struct {
	message, hint string
	offset        int
}

func faultf(hint, format string, args ...any) *fault {
	return &fault{message: fmt.Sprintf(format, args...), hint: hint}
}

// take parses a value into dst, or reports its fault and leaves dst alone.
func take[T any](r *reports, text string, at Pos, dst *T, parse func(string) (T, *fault)) {
	v, f := parse(text)
	if f != nil {
		at.Column += f.offset
		r.error(at, f.hint, "%s", f.message)
		return
	}
	*dst = v
}

// anyAddress are the words for an address that is left open.
var anyAddress = []string{"any", "%any", "0.0.0.0", "::"}

// parseLocal reads an address of ours; the invalid address is any.
func parseLocal(s string) (netip.Addr, *fault) {
	if slices.Contains(anyAddress, s) {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, faultf(`write an IPv4 or IPv6 address, or "any"`, "%q is not an address", s)
	case a.IsMulticast() || a.Is4In6():
		return a, faultf(`write the address of an interface, or "any"`, "%q cannot be an address of this machine", s)
	}
	return a, nil
}

// parseRemote reads the peer's address or host name; "" is any.
func parseRemote(s string) (string, *fault) {
	if slices.Contains(anyAddress, s) {
		return "", nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if a.IsMulticast() || a.Is4In6() {
			return "", faultf("write the peer's address or host name, or \"any\"", "%q cannot be a peer's address", s)
		}
		return a.String(), nil
	}
	if !isHostName(s) {
		return "", faultf(`write an address, a host name, or "any" for a peer that calls from anywhere`, "%q is neither an address nor a host name", s)
	}
	return s, nil
}

// isHostName goes by RFC 1123 section 2.1: a name of digits and dots alone is
// an address that went wrong.
func isHostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 || looksLikeAddr(s) {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, hostNameChars) != "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
	}
	return true
}

const hostNameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func looksLikeAddr(s string) bool { return strings.Trim(s, "0123456789.") == "" }

const identityHint = `write an address, "@name", "user@name", or "keyid:" with text or 0x and hexadecimal digits`

// parseIdentity is ikev2.ParseIdentity with the traps closed: what a person
// certainly did not mean as a name is refused.
func parseIdentity(s string) (ikev2.Identity, *fault) {
	id, err := ikev2.ParseIdentity(s)
	switch addr, isAddr := id.Addr(); {
	case err != nil:
		return id, faultf(identityHint, "%v", err)
	case s == "any" || s == "%any" || isAddr && addr.IsUnspecified():
		return id, faultf("name the one identity that the peer presents", "identity %q stands for anybody; a key belongs to one pair of identities", s)
	case id.Type == wire.IDFQDN && strings.Contains(s, "="):
		return id, faultf(identityHint, "identity %q is a distinguished name; those need certificates, which are not supported", s)
	case id.Type == wire.IDFQDN && !strings.HasPrefix(s, "@") && looksLikeAddr(s):
		return id, faultf(`write the whole address, or "@`+s+`" if it is a name`, "identity %q looks like an address and is none", s)
	case id.Type == wire.IDFQDN || id.Type == wire.IDRFC822Addr:
		return id, checkName(s, id.Data)
	}
	return id, nil
}

// checkName keeps names to what every peer compares alike: printable ASCII
// without the characters that mean something else in some notation of
// identities.
func checkName(s, name string) *fault {
	bad := strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"'`\\:,/#%*=", r) })
	if bad < 0 {
		return nil
	}
	return faultf(identityHint, "identity %q: a name has no %q", s, []rune(name[bad:])[0])
}

// parsePort reads a UDP port.
func parsePort(n int64) (uint16, *fault) {
	if n < 1 || n > 65535 {
		return 0, faultf("write a number from 1 to 65535", "%d is not a port", n)
	}
	return uint16(n), nil
}

// parseMTU reads a size of inner packets in bytes; 576 is what every IPv4 host
// takes (RFC 791).
func parseMTU(n int64) (int, *fault) {
	if n < 576 || n > 65535 {
		return 0, faultf("leave mtu out to derive it from the path, or write 576 to 65535 bytes", "%d is not a usable MTU", n)
	}
	return int(n), nil
}

func parseLanes(n int64) (int, *fault) {
	if n < 1 || n > MaxLanes {
		return 0, faultf(fmt.Sprintf("leave lanes out for 1, or write as many as there are processors to spare, up to %d", MaxLanes), "%d is no number of lanes", n)
	}
	return int(n), nil
}

// parseDevice reads the name of a network device (at most 15 bytes on Linux).
func parseDevice(s string) (string, *fault) {
	if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' || r == '%' }) {
		return "", faultf(`write 1 to 15 letters and digits, such as "culvert0"`, "%q cannot be a device's name", s)
	}
	return s, nil
}

const durationHint = `write a number with a unit, such as "30s", "10m" or "4h"`

func parseDuration(s string) (time.Duration, *fault) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, faultf(durationHint, "%q is not a duration", s)
	}
	if d < time.Second || d > 30*24*time.Hour {
		return 0, faultf(durationHint, "%q is not between one second and 30 days", s)
	}
	return d, nil
}

// parseWait is a duration of less than a second too.
func parseWait(s string) (time.Duration, *fault) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 10*time.Millisecond || d > time.Hour {
		return 0, faultf(`write a number with a unit, such as "500ms", "2s" or "1m"`, "%q is not between 10ms and one hour", s)
	}
	return d, nil
}

// parseFileName reads the name of a file, which is not looked at.
func parseFileName(s string) (string, *fault) {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return "", faultf("write the name of a file", "%q cannot be a file's name", s)
	}
	return s, nil
}

// parseListener reads the address of a TCP port of this machine.
func parseListener(s string) (netip.AddrPort, *fault) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 || a.Addr().IsMulticast() || a.Addr().Is4In6() {
		return netip.AddrPort{}, faultf(`write address and port, such as "127.0.0.1:9115"; "0.0.0.0:9115" is every IPv4 address of this machine`, "%q is not a TCP address of this machine", s)
	}
	return a, nil
}

// parseLoopback reads the address of a TCP port that only this machine reaches.
func parseLoopback(s string) (netip.AddrPort, *fault) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 || !a.Addr().IsLoopback() || a.Addr().Is4In6() {
		return netip.AddrPort{}, faultf(`write one such as "127.0.0.1:9116"; from elsewhere it is reached through "ssh -L 9116:127.0.0.1:9116 GATEWAY"`, "%q is not a loopback address and port", s)
	}
	return a, nil
}

// parseTries reads how often something is sent.
func parseTries(n int64) (int, *fault) {
	if n < 1 || n > 100 {
		return 0, faultf("write a number from 1 to 100", "%d is not a number of tries", n)
	}
	return int(n), nil
}

// parseLimit reads how many half-open IKE SAs there may be.
func parseLimit(n int64) (int, *fault) {
	if n < 1 || n > 1_000_000 {
		return 0, faultf(`write a number from 1 to 1000000, or "off"`, "%d is not a limit", n)
	}
	return int(n), nil
}

// maxCount is the greatest number that TOML has.
const maxCount = math.MaxInt64

// parseCount reads a number of bytes or packets.
func parseCount(n int64) (uint64, *fault) {
	if n < 1 {
		return 0, faultf("write a number from 1 on, or leave it out for no limit", "%d is not a limit", n)
	}
	return uint64(n), nil
}

// parseFragmentSize reads the size of IP packets; 576 is what every IPv4 host
// takes (RFC 791).
func parseFragmentSize(n int64) (int, *fault) {
	if n < 576 || n > 65535 {
		return 0, faultf("write 576 to 65535 bytes", "%d is not a usable size of packets", n)
	}
	return int(n), nil
}

// parseMethod reads an additional key exchange (RFC 9370).
func parseMethod(s string) (uint16, *fault) {
	t, f := findAdditional(s, wire.TransformADDKE1, s)
	if f == nil && (t.ID == wire.GroupNone || !slices.ContainsFunc(methods, func(m method) bool { return m.id == t.ID })) {
		f = faultf("write mlkem768, mlkem1024 or mlkem512", "%q is no key exchange with ML-KEM", s)
	}
	return t.ID, f
}

// methodText is what parseMethod reads.
func methodText(id uint16) string {
	for _, m := range methods {
		if m.id == id {
			return m.name
		}
	}
	return Keyword(transform(wire.TransformKE, id))
}

// parsePPKID reads the name of a key, which is any text.
func parsePPKID(s string) (string, *fault) {
	if s == "" || len(s) > 255 {
		return "", faultf("write 1 to 255 characters", "ppk_id is empty or too long")
	}
	return s, nil
}

// parseInterval is a duration that "off" switches off.
func parseInterval(s string) (time.Duration, *fault) {
	if s == "off" {
		return 0, nil
	}
	return parseDuration(s)
}

// parseSeconds reads a VyOS lifetime or interval.
func parseSeconds(s string) (time.Duration, *fault) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 || n > 30*24*3600 {
		return 0, faultf("write seconds, from 1 to 2592000", "%q is not a number of seconds", s)
	}
	return time.Duration(n) * time.Second, nil
}

// parseSelector reads
//
//	10.103.0.0/24   10.103.0.7   10.0.0.1-10.0.0.9   2001:db8::/48
//
// each followed, if it is narrowed, by [protocol] or [protocol/port] or
// [protocol/first-last], the notation of swanctl.conf.
func parseSelector(s string) (wire.Selector, *fault) {
	addrs, narrowing, narrowed := strings.Cut(s, "[")
	sel, f := parseAddrs(addrs)
	if f != nil || !narrowed {
		return sel, f
	}
	narrowing, closed := strings.CutSuffix(narrowing, "]")
	if !closed {
		return sel, faultf("write for example 10.103.0.0/24[tcp/443]", "%q has no closing bracket", s)
	}
	protocol, ports, hasPorts := strings.Cut(narrowing, "/")
	sel.Protocol, f = parseProtocol(protocol)
	if f == nil && hasPorts {
		f = narrowPorts(&sel, ports)
	}
	if f != nil {
		f.offset += len(addrs) + 1
	}
	return sel, f
}

func parseAddrs(s string) (wire.Selector, *fault) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		p, f := parsePrefix(s)
		if f != nil {
			return wire.Selector{}, f
		}
		return wire.SelectorFromPrefix(p), nil
	}
	a, errA := netip.ParseAddr(first)
	b, errB := netip.ParseAddr(last)
	if errA != nil || errB != nil || a.Zone()+b.Zone() != "" || a.BitLen() != b.BitLen() || a.Is4In6() || b.Is4In6() || b.Less(a) {
		return wire.Selector{}, faultf("write the first and the last address, such as 10.0.0.1-10.0.0.9", "%q is not a range of addresses", s)
	}
	return wire.Selector{EndPort: 65535, Start: a, End: b}, nil
}

// parsePrefix reads a network; a lone address is a network of one.
func parsePrefix(s string) (netip.Prefix, *fault) {
	p, err := netip.ParsePrefix(s)
	if a, errAddr := netip.ParseAddr(s); errAddr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return p, faultf("write a network such as 10.103.0.0/24 or 2001:db8::/48", "%q is not a network", s)
	case p.Addr().Is4In6():
		return p, faultf("write the IPv4 network itself", "%q is IPv4 in IPv6's clothes", s)
	case p != p.Masked():
		return p, faultf(fmt.Sprintf("did you mean %v, or the one host %v/%d?", p.Masked(), p.Addr(), p.Addr().BitLen()), "network %q has bits set beyond its /%d", s, p.Bits())
	}
	return p, nil
}

// protocolNumbers are the names of wire.Selector.String and of VyOS.
var protocolNumbers = map[string]uint8{"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "ipv6-icmp": 58, "icmpv6": 58, "sctp": 132}

// portProtocols have ports.
var portProtocols = []uint8{6, 17, 132}

func parseProtocol(s string) (uint8, *fault) {
	if n, ok := protocolNumbers[strings.ToLower(s)]; ok {
		return n, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		return 0, faultf("write tcp, udp, icmp, ipv6-icmp, sctp, gre, or a number from 1 to 255", "%q is not an IP protocol", s)
	}
	return uint8(n), nil
}

func narrowPorts(sel *wire.Selector, s string) *fault {
	if !slices.Contains(portProtocols, sel.Protocol) {
		return faultf("name the protocol too: tcp, udp or sctp", "port %q belongs to no protocol with ports", s)
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := strconv.ParseUint(last, 10, 16)
	if errA != nil || errB != nil || b < a {
		return faultf("write a number such as 443, or a range such as 8000-8100", "%q is not a port", s)
	}
	sel.StartPort, sel.EndPort = uint16(a), uint16(b)
	return nil
}

// checkLabel is for the names of peers and tunnels, which appear in logs and
// on the command line.
func checkLabel(s string) *fault {
	if s == "" || len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"'\\", r) }) {
		return faultf("write 1 to 64 printable characters without spaces and quotes", "%q cannot be a name", s)
	}
	return nil
}
