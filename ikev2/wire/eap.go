package wire

import "golang.org/x/crypto/cryptobyte"

// EAP is an EAP payload (RFC 7296 section 3.16), unread: culvert has no EAP.
type EAP struct{ Data []byte }

func (*EAP) Type() PayloadType { return PayloadEAP }

func (p *EAP) add(b *cryptobyte.Builder) { b.AddBytes(p.Data) }

func parseEAP(s cryptobyte.String) (Payload, error) { return &EAP{s}, nil }
