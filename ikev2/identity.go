package ikev2

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"culvert/ikev2/wire"
)

// Identity is who a side says it is: the content of an ID payload (RFC 7296
// section 3.5). Data is the field's bytes on the wire: 4 or 16 address octets,
// the name without '@', or raw bytes. Identities are compared by type and
// bytes; no name is ever resolved.
type Identity struct {
	Type wire.IDType
	Data string
}

// ParseIdentity reads an identity as a person writes it:
//
//	203.0.113.1, 2001:db8::1   ID_IPV4_ADDR, ID_IPV6_ADDR
//	@foo, foo.example          ID_FQDN (the '@' is not part of the name)
//	admin@foo.example          ID_RFC822_ADDR
//	keyid:branch-7, keyid:0x01ff  ID_KEY_ID, as text or as hex
func ParseIdentity(s string) (Identity, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return identityFromAddr(s, a)
	}
	id := Identity{wire.IDFQDN, s}
	switch {
	case strings.HasPrefix(s, "keyid:0x"):
		raw, err := hex.DecodeString(s[len("keyid:0x"):])
		if err != nil {
			return Identity{}, fmt.Errorf("identity %s: not hexadecimal after keyid:0x", strconv.Quote(s))
		}
		id = Identity{wire.IDKeyID, string(raw)}
	case strings.HasPrefix(s, "keyid:"):
		id = Identity{wire.IDKeyID, s[len("keyid:"):]}
	case strings.HasPrefix(s, "@"):
		id.Data = s[1:]
	case strings.Contains(s, "@"):
		id.Type = wire.IDRFC822Addr
	}
	return id, id.check()
}

func identityFromAddr(s string, a netip.Addr) (Identity, error) {
	switch {
	case a.Zone() != "":
		return Identity{}, fmt.Errorf("identity %s: an address with a zone cannot be an identity", strconv.Quote(s))
	case a.Is4():
		return Identity{wire.IDIPv4Addr, string(a.AsSlice())}, nil
	}
	return Identity{wire.IDIPv6Addr, string(a.AsSlice())}, nil
}

// maxIdentity bounds an identity in bytes, ours and the peer's alike.
const maxIdentity = 1024

func (id Identity) check() error {
	switch {
	case id.Data == "":
		return fmt.Errorf("identity is empty")
	case len(id.Data) > maxIdentity:
		return fmt.Errorf("identity is longer than %d bytes", maxIdentity)
	case id.Type != wire.IDKeyID && strings.ContainsFunc(id.Data, func(r rune) bool { return r <= ' ' || r >= 0x7f && r <= 0xa0 }):
		return fmt.Errorf("identity %s: a name has no spaces or control characters", strconv.Quote(id.Data))
	case id.Type == wire.IDFQDN && strings.Contains(id.Data, "@"):
		return fmt.Errorf("identity %s: one '@' in front marks a name, a second one has no meaning", strconv.Quote("@"+id.Data))
	}
	return nil
}

// Addr is the address of an address identity.
func (id Identity) Addr() (netip.Addr, bool) {
	if id.Type != wire.IDIPv4Addr && id.Type != wire.IDIPv6Addr {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice([]byte(id.Data))
}

// String is the form that ParseIdentity reads; bytes that cannot be printed
// are escaped, so that it is fit for logs.
func (id Identity) String() string {
	switch id.Type {
	case wire.IDIPv4Addr, wire.IDIPv6Addr:
		if a, ok := id.Addr(); ok {
			return a.String()
		}
	case wire.IDFQDN:
		return "@" + printable(id.Data)
	case wire.IDRFC822Addr:
		return printable(id.Data)
	case wire.IDKeyID:
		if printable(id.Data) == id.Data && !strings.HasPrefix(id.Data, "0x") {
			return "keyid:" + id.Data
		}
		return "keyid:0x" + hex.EncodeToString([]byte(id.Data))
	case 0:
		return "(none)"
	}
	return fmt.Sprintf("%v:0x%x", id.Type, id.Data)
}

// TypeName names the identity's type as people speak of it.
func (id Identity) TypeName() string {
	if name, ok := identityTypeNames[id.Type]; ok {
		return name
	}
	return id.Type.String()
}

var identityTypeNames = map[wire.IDType]string{
	wire.IDIPv4Addr:   "IPv4 address",
	wire.IDFQDN:       "FQDN",
	wire.IDRFC822Addr: "user@FQDN",
	wire.IDIPv6Addr:   "IPv6 address",
	wire.IDDERASN1DN:  "distinguished name",
	wire.IDKeyID:      "key ID",
}

func printable(s string) string {
	q := strconv.QuoteToASCII(s)
	return q[1 : len(q)-1]
}

func identityOf(p *wire.ID) Identity { return Identity{p.IDType, string(p.Data)} }

func (id Identity) payload(responder bool) *wire.ID {
	return &wire.ID{Responder: responder, IDType: id.Type, Data: []byte(id.Data)}
}
