package wire

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// TransformType is what a transform is for.
type TransformType uint8

// The transform types of RFC 7296 section 3.3.2 and RFC 9370.
const (
	TransformEncr   TransformType = 1
	TransformPRF    TransformType = 2
	TransformInteg  TransformType = 3
	TransformKE     TransformType = 4
	TransformESN    TransformType = 5
	TransformADDKE1 TransformType = 6
	TransformADDKE7 TransformType = 12
)

var transformTypeNames = map[TransformType]string{
	TransformEncr:   "ENCR",
	TransformPRF:    "PRF",
	TransformInteg:  "INTEG",
	TransformKE:     "KE",
	TransformESN:    "ESN",
	TransformADDKE1: "ADDKE1",
	7:               "ADDKE2",
	8:               "ADDKE3",
	9:               "ADDKE4",
	10:              "ADDKE5",
	11:              "ADDKE6",
	TransformADDKE7: "ADDKE7",
}

func (t TransformType) String() string { return nameOf(transformTypeNames, t, "TRANSFORM") }

// Encryption algorithms (transform type 1).
const (
	Encr3DES             uint16 = 3
	EncrNULL             uint16 = 11
	EncrAESCBC           uint16 = 12
	EncrAESCTR           uint16 = 13
	EncrAESCCM8          uint16 = 14
	EncrAESCCM12         uint16 = 15
	EncrAESCCM16         uint16 = 16
	EncrAESGCM8          uint16 = 18
	EncrAESGCM12         uint16 = 19
	EncrAESGCM16         uint16 = 20
	EncrNULLAESGMAC      uint16 = 21
	EncrCamelliaCBC      uint16 = 23
	EncrChaCha20Poly1305 uint16 = 28
)

// Pseudorandom functions (transform type 2).
const (
	PRFHMACMD5     uint16 = 1
	PRFHMACSHA1    uint16 = 2
	PRFAES128XCBC  uint16 = 4
	PRFHMACSHA2256 uint16 = 5
	PRFHMACSHA2384 uint16 = 6
	PRFHMACSHA2512 uint16 = 7
	PRFAES128CMAC  uint16 = 8
)

// Integrity algorithms (transform type 3).
const (
	IntegNone           uint16 = 0
	IntegHMACMD596      uint16 = 1
	IntegHMACSHA196     uint16 = 2
	IntegAESXCBC96      uint16 = 5
	IntegAESCMAC96      uint16 = 8
	IntegHMACSHA2256128 uint16 = 12
	IntegHMACSHA2384192 uint16 = 13
	IntegHMACSHA2512256 uint16 = 14
)

// Key exchange methods (transform type 4, and the group of a KE payload).
const (
	GroupNone         uint16 = 0
	GroupMODP768      uint16 = 1
	GroupMODP1024     uint16 = 2
	GroupMODP1536     uint16 = 5
	GroupMODP2048     uint16 = 14
	GroupMODP3072     uint16 = 15
	GroupMODP4096     uint16 = 16
	GroupMODP6144     uint16 = 17
	GroupMODP8192     uint16 = 18
	GroupECP256       uint16 = 19
	GroupECP384       uint16 = 20
	GroupECP521       uint16 = 21
	GroupMODP1024S160 uint16 = 22
	GroupMODP2048S224 uint16 = 23
	GroupMODP2048S256 uint16 = 24
	GroupECP192       uint16 = 25
	GroupECP224       uint16 = 26
	GroupBrainpool224 uint16 = 27
	GroupBrainpool256 uint16 = 28
	GroupBrainpool384 uint16 = 29
	GroupBrainpool512 uint16 = 30
	GroupX25519       uint16 = 31
	GroupX448         uint16 = 32
	GroupMLKEM512     uint16 = 35
	GroupMLKEM768     uint16 = 36
	GroupMLKEM1024    uint16 = 37
)

// Extended sequence numbers (transform type 5).
const (
	ESNNo  uint16 = 0
	ESNYes uint16 = 1
)

// transformNames are IANA's names, without the prefix that repeats the type
// where peers' logs leave it out as well.
var transformNames = map[TransformType]map[uint16]string{
	TransformEncr: {
		Encr3DES:             "3DES",
		EncrNULL:             "NULL",
		EncrAESCBC:           "AES_CBC",
		EncrAESCTR:           "AES_CTR",
		EncrAESCCM8:          "AES_CCM_8",
		EncrAESCCM12:         "AES_CCM_12",
		EncrAESCCM16:         "AES_CCM_16",
		EncrAESGCM8:          "AES_GCM_8",
		EncrAESGCM12:         "AES_GCM_12",
		EncrAESGCM16:         "AES_GCM_16",
		EncrNULLAESGMAC:      "NULL_AUTH_AES_GMAC",
		EncrCamelliaCBC:      "CAMELLIA_CBC",
		EncrChaCha20Poly1305: "CHACHA20_POLY1305",
	},
	TransformPRF: {
		PRFHMACMD5:     "PRF_HMAC_MD5",
		PRFHMACSHA1:    "PRF_HMAC_SHA1",
		PRFAES128XCBC:  "PRF_AES128_XCBC",
		PRFHMACSHA2256: "PRF_HMAC_SHA2_256",
		PRFHMACSHA2384: "PRF_HMAC_SHA2_384",
		PRFHMACSHA2512: "PRF_HMAC_SHA2_512",
		PRFAES128CMAC:  "PRF_AES128_CMAC",
	},
	TransformInteg: {
		IntegNone:           "NONE",
		IntegHMACMD596:      "HMAC_MD5_96",
		IntegHMACSHA196:     "HMAC_SHA1_96",
		IntegAESXCBC96:      "AES_XCBC_96",
		IntegAESCMAC96:      "AES_CMAC_96",
		IntegHMACSHA2256128: "HMAC_SHA2_256_128",
		IntegHMACSHA2384192: "HMAC_SHA2_384_192",
		IntegHMACSHA2512256: "HMAC_SHA2_512_256",
	},
	TransformKE: {
		GroupNone:         "NONE",
		GroupMODP768:      "MODP_768",
		GroupMODP1024:     "MODP_1024",
		GroupMODP1536:     "MODP_1536",
		GroupMODP2048:     "MODP_2048",
		GroupMODP3072:     "MODP_3072",
		GroupMODP4096:     "MODP_4096",
		GroupMODP6144:     "MODP_6144",
		GroupMODP8192:     "MODP_8192",
		GroupECP256:       "ECP_256",
		GroupECP384:       "ECP_384",
		GroupECP521:       "ECP_521",
		GroupMODP1024S160: "MODP_1024_160",
		GroupMODP2048S224: "MODP_2048_224",
		GroupMODP2048S256: "MODP_2048_256",
		GroupECP192:       "ECP_192",
		GroupECP224:       "ECP_224",
		GroupBrainpool224: "ECP_224_BP",
		GroupBrainpool256: "ECP_256_BP",
		GroupBrainpool384: "ECP_384_BP",
		GroupBrainpool512: "ECP_512_BP",
		GroupX25519:       "CURVE_25519",
		GroupX448:         "CURVE_448",
		GroupMLKEM512:     "ML_KEM_512",
		GroupMLKEM768:     "ML_KEM_768",
		GroupMLKEM1024:    "ML_KEM_1024",
	},
	TransformESN: {
		ESNNo:  "NO_ESN",
		ESNYes: "ESN",
	},
}

// Transform is one algorithm (RFC 7296 section 3.3.2). Transforms are compared
// with ==; one with a non-empty Odd equals none of ours and so is never chosen.
type Transform struct {
	Type TransformType
	ID   uint16
	// KeyBits is the Key Length attribute in bits, 0 if there is none.
	KeyBits uint16
	// Odd holds the attributes as received when they are anything else than at
	// most one Key Length: an unknown one, a second one, a length of zero (RFC
	// 7296 section 3.3.6: a transform whose attribute is not understood must
	// not be chosen).
	Odd string
}

// String is the algorithm's name: "AES_GCM_16_128", "CURVE_25519", "NO_ESN".
func (t Transform) String() string {
	s := t.name()
	if t.KeyBits != 0 {
		s += fmt.Sprintf("_%d", t.KeyBits)
	}
	if t.Odd != "" {
		s += fmt.Sprintf("(attributes %x)", t.Odd)
	}
	return s
}

func (t Transform) name() string {
	names := t.Type
	if t.Type >= TransformADDKE1 && t.Type <= TransformADDKE7 {
		names = TransformKE // RFC 9370: the same registry
	}
	s := nameOf(transformNames[names], t.ID, t.Type.String())
	if names != t.Type {
		s = t.Type.String() + "_" + s
	}
	return s
}

// keyLength is the Key Length attribute with the bit that says that its value
// stands in place of a length (RFC 7296 section 3.3.5).
const keyLength = 0x8000 | 14

func parseTransform(s cryptobyte.String) (Transform, error) {
	var t Transform
	if !s.ReadUint8((*uint8)(&t.Type)) || !s.Skip(1) || !s.ReadUint16(&t.ID) {
		return t, malformed("SA payload: transform too short")
	}
	attributes := s
	var seen, odd bool
	for !s.Empty() {
		kind, value, ok := readAttribute(&s)
		if !ok {
			return t, malformed("SA payload: transform attribute length does not fit")
		}
		odd = odd || kind != keyLength || value == 0 || seen
		seen, t.KeyBits = true, value
	}
	if odd {
		t.KeyBits, t.Odd = 0, string(attributes)
	}
	return t, nil
}

// readAttribute reads one attribute; value is for the short form alone.
func readAttribute(s *cryptobyte.String) (kind, value uint16, ok bool) {
	if !s.ReadUint16(&kind) || !s.ReadUint16(&value) {
		return 0, 0, false
	}
	if kind&0x8000 == 0 && !s.Skip(int(value)) {
		return 0, 0, false
	}
	return kind, value, true
}

func (t Transform) add(b *cryptobyte.Builder) {
	b.AddUint8(uint8(t.Type))
	addReserved(b, 1)
	b.AddUint16(t.ID)
	if t.KeyBits != 0 {
		b.AddUint16(keyLength)
		b.AddUint16(t.KeyBits)
	}
	b.AddBytes([]byte(t.Odd))
}
