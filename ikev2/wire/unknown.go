package wire

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// Unknown is a payload of a type that this package does not know. Critical is
// false in all that Parse returns.
type Unknown struct {
	PayloadType PayloadType
	Critical    bool
	Body        []byte
}

func (p *Unknown) Type() PayloadType { return p.PayloadType }

func (p *Unknown) add(b *cryptobyte.Builder) { b.AddBytes(p.Body) }

// parseUnknown refuses a critical payload by its type (RFC 7296 section 2.5)
// and keeps any other unread.
func parseUnknown(t PayloadType, critical bool, s cryptobyte.String) (Payload, error) {
	if critical {
		return nil, &Error{
			Notify: NotifyUnsupportedCriticalPayload,
			Data:   []byte{uint8(t)},
			Reason: fmt.Sprintf("critical payload of unknown type %d", uint8(t)),
		}
	}
	return &Unknown{PayloadType: t, Body: s}, nil
}
