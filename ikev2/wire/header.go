package wire

import (
	"encoding/hex"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// SPI names an IKE SA on one side; zero is "not chosen yet".
type SPI [8]byte

func (s SPI) String() string { return hex.EncodeToString(s[:]) }

// ExchangeType is a header's Exchange Type.
type ExchangeType uint8

// The exchange types of RFC 7296 section 3.1, RFC 5723, RFC 9242 and RFC 9370.
const (
	ExchangeIKESAInit        ExchangeType = 34
	ExchangeIKEAuth          ExchangeType = 35
	ExchangeCreateChildSA    ExchangeType = 36
	ExchangeInformational    ExchangeType = 37
	ExchangeIKESessionResume ExchangeType = 38
	ExchangeIKEIntermediate  ExchangeType = 43
	ExchangeIKEFollowupKE    ExchangeType = 44
)

var exchangeNames = map[ExchangeType]string{
	ExchangeIKESAInit:        "IKE_SA_INIT",
	ExchangeIKEAuth:          "IKE_AUTH",
	ExchangeCreateChildSA:    "CREATE_CHILD_SA",
	ExchangeInformational:    "INFORMATIONAL",
	ExchangeIKESessionResume: "IKE_SESSION_RESUME",
	ExchangeIKEIntermediate:  "IKE_INTERMEDIATE",
	ExchangeIKEFollowupKE:    "IKE_FOLLOWUP_KE",
}

func (t ExchangeType) String() string { return nameOf(exchangeNames, t, "EXCHANGE") }

// Flags are a header's flags.
type Flags uint8

const (
	FlagInitiator Flags = 0x08 // sent by the side that started the IKE SA
	FlagVersion   Flags = 0x10 // never sent, ignored when received (RFC 7296 section 3.1)
	FlagResponse  Flags = 0x20

	meaningfulFlags = FlagInitiator | FlagResponse
)

// String is the RFC's letters of the flags that are set: "I", "RI", "-".
func (f Flags) String() string {
	var s strings.Builder
	for _, x := range []struct {
		flag Flags
		name byte
	}{{FlagResponse, 'R'}, {FlagVersion, 'V'}, {FlagInitiator, 'I'}} {
		if f&x.flag != 0 {
			s.WriteByte(x.name)
		}
	}
	if s.Len() == 0 {
		return "-"
	}
	return s.String()
}

// HeaderLen is the length of the IKE header in bytes.
const HeaderLen = 28

// Header is the IKE header. NextPayload and Length are what was received; a
// message being written gets its own.
type Header struct {
	InitiatorSPI, ResponderSPI SPI
	NextPayload                PayloadType
	Major, Minor               uint8
	Exchange                   ExchangeType
	Flags                      Flags // reserved bits and FlagVersion come back as zero
	MessageID, Length          uint32
}

// ParseHeader reads the header at the start of b. It fails only when b is
// shorter than a header: whether version and length can be accepted is for
// Parse, or for a caller that answers INVALID_MAJOR_VERSION.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	var version, exchange, flags uint8
	s := cryptobyte.String(b)
	if !s.CopyBytes(h.InitiatorSPI[:]) || !s.CopyBytes(h.ResponderSPI[:]) ||
		!s.ReadUint8((*uint8)(&h.NextPayload)) || !s.ReadUint8(&version) ||
		!s.ReadUint8(&exchange) || !s.ReadUint8(&flags) ||
		!s.ReadUint32(&h.MessageID) || !s.ReadUint32(&h.Length) {
		return Header{}, malformed("%d bytes are less than an IKE header", len(b))
	}
	h.Major, h.Minor = version>>4, version&0x0f
	h.Exchange, h.Flags = ExchangeType(exchange), Flags(flags)&meaningfulFlags
	return h, nil
}

func (h Header) add(b *cryptobyte.Builder) {
	b.AddBytes(h.InitiatorSPI[:])
	b.AddBytes(h.ResponderSPI[:])
	b.AddUint8(uint8(h.NextPayload))
	b.AddUint8(h.Major<<4 | h.Minor&0x0f)
	b.AddUint8(uint8(h.Exchange))
	b.AddUint8(uint8(h.Flags & meaningfulFlags))
	b.AddUint32(h.MessageID)
	b.AddUint32(h.Length)
}
