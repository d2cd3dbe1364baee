package wire

import "golang.org/x/crypto/cryptobyte"

// CertEncoding is the form of a certificate or of a request for one.
type CertEncoding uint8

// The encodings of RFC 7296 section 3.6 that peers use.
const (
	CertX509Signature CertEncoding = 4
	CertRawPublicKey  CertEncoding = 15
	CertHashAndURL    CertEncoding = 12
	CertOCSP          CertEncoding = 14
)

var certNames = map[CertEncoding]string{
	CertX509Signature: "X.509 Certificate - Signature",
	CertRawPublicKey:  "Raw Public Key",
	CertHashAndURL:    "Hash and URL of X.509 certificate",
	CertOCSP:          "OCSP Content",
}

func (e CertEncoding) String() string { return nameOf(certNames, e, "CERT") }

// Cert is a Certificate payload (RFC 7296 section 3.6), unread.
type Cert struct {
	Encoding CertEncoding
	Data     []byte
}

func (*Cert) Type() PayloadType { return PayloadCert }

func (p *Cert) add(b *cryptobyte.Builder) {
	b.AddUint8(uint8(p.Encoding))
	b.AddBytes(p.Data)
}

func parseCert(s cryptobyte.String) (Payload, error) {
	var p Cert
	if !s.ReadUint8((*uint8)(&p.Encoding)) {
		return nil, malformed("CERT payload: empty")
	}
	p.Data = s
	return &p, nil
}

// CertReq is a Certificate Request payload (RFC 7296 section 3.7), unread.
type CertReq struct {
	Encoding CertEncoding
	Data     []byte
}

func (*CertReq) Type() PayloadType { return PayloadCertReq }

func (p *CertReq) add(b *cryptobyte.Builder) {
	b.AddUint8(uint8(p.Encoding))
	b.AddBytes(p.Data)
}

func parseCertReq(s cryptobyte.String) (Payload, error) {
	var p CertReq
	if !s.ReadUint8((*uint8)(&p.Encoding)) {
		return nil, malformed("CERTREQ payload: empty")
	}
	p.Data = s
	return &p, nil
}
