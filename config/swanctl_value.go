package config

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

var swanBools = map[string]bool{
	"yes": true, "true": true, "enabled": true, "1": true,
	"no": false, "false": false, "disabled": false, "0": false,
}

func parseSwanBool(s string) (bool, *fault) {
	v, ok := swanBools[strings.ToLower(s)]
	if !ok {
		return false, faultf("write yes or no", "%q is neither yes nor no", s)
	}
	return v, nil
}

// swanNumber cuts a number off its unit, which may stand apart from it.
func swanNumber(s string) (n uint64, unit string, ok bool) {
	end := len(strings.TrimRightFunc(s, func(r rune) bool { return r < '0' || r > '9' }))
	digits, base := s[:end], 10
	if hexadecimal, isHex := strings.CutPrefix(strings.ToLower(digits), "0x"); isHex {
		digits, base = hexadecimal, 16
	}
	n, err := strconv.ParseUint(digits, base, 64)
	return n, strings.ToLower(strings.TrimSpace(s[end:])), err == nil
}

var swanTimes = map[string]time.Duration{"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

// parseSwanTime reads seconds, or a number with s, m, h or d behind it; 0 is
// never.
func parseSwanTime(s string) (time.Duration, *fault) {
	n, unit, ok := swanNumber(s)
	scale, known := swanTimes[unit]
	const most = 30 * 24 * time.Hour
	switch {
	case !ok || !known:
		return 0, faultf("write seconds, or a number with a unit such as 30s, 10m, 4h or 1d", "%q is not a time", s)
	case n > uint64(most/scale):
		return 0, faultf("write at most 30d, or 0 for never", "%q is longer than 30 days", s)
	}
	return time.Duration(n) * scale, nil
}

var swanSizes = map[string]uint64{"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

// parseSwanBytes reads a number of bytes, with k, m or g behind it for powers
// of 1024; 0 is no limit.
func parseSwanBytes(s string) (uint64, *fault) {
	n, unit, ok := swanNumber(s)
	scale, known := swanSizes[unit]
	if !ok || !known || n > maxCount/scale {
		return 0, faultf("write a number, or one with k, m or g behind it", "%q is not a number of bytes", s)
	}
	return n * scale, nil
}

// parseSwanCount reads a number of packets; 0 is no limit.
func parseSwanCount(s string) (uint64, *fault) {
	n, unit, ok := swanNumber(s)
	if !ok || unit != "" || n > maxCount {
		return 0, faultf("write a number", "%q is not a number", s)
	}
	return n, nil
}

var swanAnyID = []string{"%any", "%any6", "0.0.0.0", "::", "*", "0::0"}

// swanIDTypes are the prefixes that say what an identity is.
var swanIDTypes = map[string]wire.IDType{
	"ipv4": wire.IDIPv4Addr, "ipv6": wire.IDIPv6Addr, "fqdn": wire.IDFQDN, "dns": wire.IDFQDN,
	"rfc822": wire.IDRFC822Addr, "email": wire.IDRFC822Addr, "userfqdn": wire.IDRFC822Addr, "keyid": wire.IDKeyID,
}

const swanIDHint = "write an address, @name, user@name, or keyid: with text or # and hexadecimal digits"

// parseSwanID reads an identity as strongSwan does:
//
//	203.0.113.1, 2001:db8::1    ID_IPV4_ADDR, ID_IPV6_ADDR
//	foo, foo.example, @foo      ID_FQDN
//	admin@foo, @@admin@foo      ID_RFC822_ADDR
//	@#0102, a:b                 ID_KEY_ID
//	fqdn:foo, keyid:#0102       the type, and its octets as text or hexadecimal
func parseSwanID(s string) (ikev2.Identity, *fault) {
	switch {
	case slices.Contains(swanAnyID, s) || strings.Contains(s, "*"):
		return ikev2.Identity{}, faultf("name the one identity that the peer presents", "identity %q stands for more than one; a key belongs to one pair of identities", s)
	case strings.HasPrefix(s, "@#"):
		return swanOctets(s, wire.IDKeyID, s[2:])
	case strings.HasPrefix(s, "@@"):
		return typedID(s, wire.IDRFC822Addr, s[2:])
	case strings.HasPrefix(s, "@"):
		return plainID(s, s)
	}
	kind, rest, prefixed := strings.Cut(s, ":")
	if t, known := swanIDTypes[kind]; prefixed && known {
		return typedID(s, t, rest)
	}
	if strings.Contains(s, "=") || prefixed && strings.HasPrefix(kind, "asn1") {
		return ikev2.Identity{}, faultf(swanIDHint, "identity %q is a distinguished name; those need certificates, which are not supported", s)
	}
	if _, err := netip.ParseAddr(s); err != nil && prefixed {
		return plainID(s, "keyid:0x"+hex.EncodeToString([]byte(s)))
	}
	return plainID(s, s)
}

// typedID takes the octets behind the type as they are.
func typedID(s string, t wire.IDType, rest string) (ikev2.Identity, *fault) {
	if digits, isHex := strings.CutPrefix(rest, "#"); isHex {
		return swanOctets(s, t, digits)
	}
	switch t {
	case wire.IDFQDN:
		return plainID(s, "@"+rest)
	case wire.IDKeyID:
		return plainID(s, "keyid:0x"+hex.EncodeToString([]byte(rest)))
	case wire.IDRFC822Addr:
		id, f := plainID(s, rest)
		if f == nil && id.Type != t {
			f = faultf(swanIDHint, "identity %q has no '@' in its name", s)
		}
		return id, f
	}
	return ikev2.Identity{}, faultf("write the address alone, without the prefix", "identity %q: strongSwan takes what follows the prefix for octets, not for an address", s)
}

func swanOctets(s string, t wire.IDType, digits string) (ikev2.Identity, *fault) {
	raw, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	if err != nil {
		return ikev2.Identity{}, faultf(swanIDHint, "identity %q: not hexadecimal behind #", s)
	}
	return plainID(s, (ikev2.Identity{Type: t, Data: string(raw)}).String())
}

// plainID is parseIdentity that speaks of the identity as it is written.
func plainID(written, plain string) (ikev2.Identity, *fault) {
	id, f := parseIdentity(plain)
	if f != nil {
		f.message = strings.ReplaceAll(f.message, strconv.Quote(plain), strconv.Quote(written))
		f.hint = strings.ReplaceAll(f.hint, identityHint, swanIDHint)
	}
	return id, f
}

// swanPPKID is the octets that name a key, which strongSwan writes like an
// identity; ours are text.
func swanPPKID(s string) (string, *fault) {
	name := strings.TrimPrefix(strings.TrimPrefix(s, "@"), "@")
	kind, rest, prefixed := strings.Cut(s, ":")
	if _, known := swanIDTypes[kind]; prefixed && known {
		name = rest
	}
	digits, isHex := strings.CutPrefix(name, "#")
	raw, err := hex.DecodeString(digits)
	if _, addrErr := netip.ParseAddr(s); isHex && err != nil || addrErr == nil {
		return "", faultf("write a name", "ppk_id %q is no text", s)
	}
	if isHex {
		name = string(raw)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }) {
		return "", faultf("write a name", "ppk_id %q is no text", s)
	}
	return parsePPKID(name)
}

// swanText is how swanctl.conf writes an identity.
func swanText(id ikev2.Identity) string {
	if id.Type == wire.IDKeyID {
		return "keyid:#" + hex.EncodeToString([]byte(id.Data))
	}
	return id.String()
}
