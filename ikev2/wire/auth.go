package wire

import "golang.org/x/crypto/cryptobyte"

// AuthMethod is how an Authentication payload was computed.
type AuthMethod uint8

// The authentication methods of the IANA registry.
const (
	AuthRSASignature     AuthMethod = 1
	AuthSharedKey        AuthMethod = 2
	AuthDSSSignature     AuthMethod = 3
	AuthECDSA256         AuthMethod = 9
	AuthECDSA384         AuthMethod = 10
	AuthECDSA521         AuthMethod = 11
	AuthGSPM             AuthMethod = 12
	AuthNull             AuthMethod = 13
	AuthDigitalSignature AuthMethod = 14
)

var authNames = map[AuthMethod]string{
	AuthRSASignature:     "RSA Digital Signature",
	AuthSharedKey:        "Shared Key Message Integrity Code",
	AuthDSSSignature:     "DSS Digital Signature",
	AuthECDSA256:         "ECDSA with SHA-256 on the P-256 curve",
	AuthECDSA384:         "ECDSA with SHA-384 on the P-384 curve",
	AuthECDSA521:         "ECDSA with SHA-512 on the P-521 curve",
	AuthGSPM:             "Generic Secure Password Authentication Method",
	AuthNull:             "NULL Authentication",
	AuthDigitalSignature: "Digital Signature",
}

func (m AuthMethod) String() string { return nameOf(authNames, m, "AUTH_METHOD") }

// Auth is an Authentication payload (RFC 7296 section 3.8). Data may have any
// length: a wrong one fails authentication, not parsing.
type Auth struct {
	Method AuthMethod
	Data   []byte
}

func (*Auth) Type() PayloadType { return PayloadAuth }

func (p *Auth) add(b *cryptobyte.Builder) {
	b.AddUint8(uint8(p.Method))
	addReserved(b, 3)
	b.AddBytes(p.Data)
}

func parseAuth(s cryptobyte.String) (Payload, error) {
	var p Auth
	if !s.ReadUint8((*uint8)(&p.Method)) || !s.Skip(3) {
		return nil, malformed("AUTH payload: too short")
	}
	p.Data = s
	return &p, nil
}
