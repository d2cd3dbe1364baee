package wire

import "golang.org/x/crypto/cryptobyte"

// PayloadType is the type of a payload, as a Next Payload field names it.
type PayloadType uint8

// The payload types of RFC 7296 section 3.2 and RFC 7383 section 2.5.
const (
	PayloadNone    PayloadType = 0
	PayloadSA      PayloadType = 33
	PayloadKE      PayloadType = 34
	PayloadIDi     PayloadType = 35
	PayloadIDr     PayloadType = 36
	PayloadCert    PayloadType = 37
	PayloadCertReq PayloadType = 38
	PayloadAuth    PayloadType = 39
	PayloadNonce   PayloadType = 40
	PayloadNotify  PayloadType = 41
	PayloadDelete  PayloadType = 42
	PayloadVendor  PayloadType = 43
	PayloadTSi     PayloadType = 44
	PayloadTSr     PayloadType = 45
	PayloadSK      PayloadType = 46
	PayloadCP      PayloadType = 47
	PayloadEAP     PayloadType = 48
	PayloadSKF     PayloadType = 53
)

var payloadNames = map[PayloadType]string{
	PayloadNone:    "none",
	PayloadSA:      "SA",
	PayloadKE:      "KE",
	PayloadIDi:     "IDi",
	PayloadIDr:     "IDr",
	PayloadCert:    "CERT",
	PayloadCertReq: "CERTREQ",
	PayloadAuth:    "AUTH",
	PayloadNonce:   "Nonce",
	PayloadNotify:  "N",
	PayloadDelete:  "D",
	PayloadVendor:  "V",
	PayloadTSi:     "TSi",
	PayloadTSr:     "TSr",
	PayloadSK:      "SK",
	PayloadCP:      "CP",
	PayloadEAP:     "EAP",
	PayloadSKF:     "SKF",
}

func (t PayloadType) String() string { return nameOf(payloadNames, t, "PAYLOAD") }

// Payload is one of this package's payload structs, by pointer: *SA, *KE, *ID,
// *Cert, *CertReq, *Auth, *Nonce, *Notify, *Delete, *VendorID, *TS, *Config,
// *EAP, *Encrypted, *EncryptedFragment or *Unknown.
type Payload interface {
	Type() PayloadType
	add(*cryptobyte.Builder) // the body, without the generic header
}

// parsers read a payload's body, all of it.
var parsers = map[PayloadType]func(cryptobyte.String) (Payload, error){
	PayloadSA:      parseSA,
	PayloadKE:      parseKE,
	PayloadIDi:     parseID(false),
	PayloadIDr:     parseID(true),
	PayloadCert:    parseCert,
	PayloadCertReq: parseCertReq,
	PayloadAuth:    parseAuth,
	PayloadNonce:   parseNonce,
	PayloadNotify:  parseNotify,
	PayloadDelete:  parseDelete,
	PayloadVendor:  parseVendorID,
	PayloadTSi:     parseTS(false),
	PayloadTSr:     parseTS(true),
	PayloadCP:      parseConfig,
	PayloadEAP:     parseEAP,
}

// Find is the first payload of one kind: Find[*wire.SA](ps).
func Find[T Payload](ps []Payload) (T, bool) {
	for _, p := range ps {
		if t, ok := p.(T); ok {
			return t, true
		}
	}
	var none T
	return none, false
}

// FindNotify is the first notification of type t, nil if there is none.
func FindNotify(ps []Payload, t NotifyType) *Notify {
	for _, p := range ps {
		if n, ok := p.(*Notify); ok && n.NotifyType == t {
			return n
		}
	}
	return nil
}

// FindID is IDr if responder, else IDi; nil if there is none.
func FindID(ps []Payload, responder bool) *ID {
	for _, p := range ps {
		if id, ok := p.(*ID); ok && id.Responder == responder {
			return id
		}
	}
	return nil
}

// FindTS is TSr if responder, else TSi; nil if there is none.
func FindTS(ps []Payload, responder bool) *TS {
	for _, p := range ps {
		if ts, ok := p.(*TS); ok && ts.Responder == responder {
			return ts
		}
	}
	return nil
}
