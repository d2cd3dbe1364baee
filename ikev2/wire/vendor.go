package wire

import "golang.org/x/crypto/cryptobyte"

// VendorID is a Vendor ID payload (RFC 7296 section 3.12).
type VendorID struct{ Data []byte }

func (*VendorID) Type() PayloadType { return PayloadVendor }

func (p *VendorID) add(b *cryptobyte.Builder) { b.AddBytes(p.Data) }

func parseVendorID(s cryptobyte.String) (Payload, error) { return &VendorID{s}, nil }
