package wire

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"
)

// IDType is the type of an identity.
type IDType uint8

// The identification types of RFC 7296 section 3.5 and RFC 7619.
const (
	IDIPv4Addr   IDType = 1
	IDFQDN       IDType = 2
	IDRFC822Addr IDType = 3
	IDIPv6Addr   IDType = 5
	IDDERASN1DN  IDType = 9
	IDDERASN1GN  IDType = 10
	IDKeyID      IDType = 11
	IDNull       IDType = 13
)

var idNames = map[IDType]string{
	IDIPv4Addr:   "ID_IPV4_ADDR",
	IDFQDN:       "ID_FQDN",
	IDRFC822Addr: "ID_RFC822_ADDR",
	IDIPv6Addr:   "ID_IPV6_ADDR",
	IDDERASN1DN:  "ID_DER_ASN1_DN",
	IDDERASN1GN:  "ID_DER_ASN1_GN",
	IDKeyID:      "ID_KEY_ID",
	IDNull:       "ID_NULL",
}

func (t IDType) String() string { return nameOf(idNames, t, "ID") }

// maxID bounds Identification Data in bytes.
const maxID = 1024

// idLengths are the types whose data has one length.
var idLengths = map[IDType]int{IDIPv4Addr: 4, IDIPv6Addr: 16}

// ID is an Identification payload (RFC 7296 section 3.5), IDr if Responder,
// else IDi. Data as parsed has 1 to 1024 bytes: 4 or 16 for an address, no
// control characters in a name.
type ID struct {
	Responder bool
	IDType    IDType
	Data      []byte
	// reserved are the octets after IDType. AUTH covers them as received.
	reserved [3]byte
}

func (p *ID) Type() PayloadType {
	if p.Responder {
		return PayloadIDr
	}
	return PayloadIDi
}

// Body is the payload without its generic header, exactly as received or as it
// will be sent: RestOfInitIDPayload and RestOfRespIDPayload of RFC 7296 section
// 2.15.
func (p *ID) Body() []byte { return build(p.add) }

func (p *ID) add(b *cryptobyte.Builder) {
	b.AddUint8(uint8(p.IDType))
	b.AddBytes(p.reserved[:])
	b.AddBytes(p.Data)
}

func parseID(responder bool) func(cryptobyte.String) (Payload, error) {
	return func(s cryptobyte.String) (Payload, error) {
		p := &ID{Responder: responder}
		if !s.ReadUint8((*uint8)(&p.IDType)) || !s.CopyBytes(p.reserved[:]) {
			return nil, malformed("%v payload: too short", p.Type())
		}
		p.Data = s
		if err := p.check(); err != nil {
			return nil, err
		}
		return p, nil
	}
}

func (p *ID) check() error {
	n, fixed := idLengths[p.IDType]
	switch {
	case len(p.Data) == 0 || len(p.Data) > maxID || fixed && len(p.Data) != n:
		return malformed("%v payload: %v of %d bytes", p.Type(), p.IDType, len(p.Data))
	case p.isName() && bytes.ContainsFunc(p.Data, isControl):
		return malformed("%v payload: control character in %v", p.Type(), p.IDType)
	}
	return nil
}

func (p *ID) isName() bool { return p.IDType == IDFQDN || p.IDType == IDRFC822Addr }

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }
