package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

func TestNames(t *testing.T) {
	for want, v := range map[string]fmt.Stringer{
		"IKE_SA_INIT":                       ExchangeIKESAInit,
		"CREATE_CHILD_SA":                   ExchangeCreateChildSA,
		"IKE_FOLLOWUP_KE":                   ExchangeIKEFollowupKE,
		"EXCHANGE_240":                      ExchangeType(240),
		"IDi":                               PayloadIDi,
		"TSr":                               PayloadTSr,
		"SKF":                               PayloadSKF,
		"PAYLOAD_49":                        PayloadType(49),
		"RI":                                FlagInitiator | FlagResponse,
		"V":                                 FlagVersion,
		"-":                                 Flags(0),
		"ESP":                               ProtocolESP,
		"PROTOCOL_9":                        Protocol(9),
		"ID_FQDN":                           IDFQDN,
		"ID_201":                            IDType(201),
		"Shared Key Message Integrity Code": AuthSharedKey,
		"CFG_REPLY":                         CFGReply,
		"X.509 Certificate - Signature":     CertX509Signature,
		"NAT_DETECTION_DESTINATION_IP":      NotifyNATDetectionDestinationIP,
		"AUTHENTICATION_FAILED":             NotifyAuthenticationFailed,
		"NOTIFY_40961":                      NotifyType(40961),
		"INTEG":                             TransformInteg,
		"ADDKE3":                            TransformType(8),
		"0102030405060708":                  SPI{1, 2, 3, 4, 5, 6, 7, 8},

		"AES_GCM_16_128":           Transform{Type: TransformEncr, ID: EncrAESGCM16, KeyBits: 128},
		"CHACHA20_POLY1305":        Transform{Type: TransformEncr, ID: EncrChaCha20Poly1305},
		"ENCR_99_192":              Transform{Type: TransformEncr, ID: 99, KeyBits: 192},
		"PRF_HMAC_SHA2_256":        Transform{Type: TransformPRF, ID: PRFHMACSHA2256},
		"HMAC_SHA2_512_256":        Transform{Type: TransformInteg, ID: IntegHMACSHA2512256},
		"CURVE_25519":              Transform{Type: TransformKE, ID: GroupX25519},
		"KE_1035":                  Transform{Type: TransformKE, ID: 1035},
		"ADDKE2_ML_KEM_768":        Transform{Type: 7, ID: GroupMLKEM768},
		"NO_ESN":                   Transform{Type: TransformESN, ID: ESNNo},
		"ESN":                      Transform{Type: TransformESN, ID: ESNYes},
		"ESN_2":                    Transform{Type: TransformESN, ID: 2},
		"TRANSFORM_200_7":          Transform{Type: 200, ID: 7},
		"AES_CBC(attributes 8011)": Transform{Type: TransformEncr, ID: EncrAESCBC, Odd: "\x80\x11"},

		"AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519": Proposal{Transforms: []Transform{
			{Type: TransformEncr, ID: EncrAESGCM16, KeyBits: 128},
			{Type: TransformPRF, ID: PRFHMACSHA2256},
			{Type: TransformKE, ID: GroupX25519},
		}},
		"": Proposal{},
	} {
		if got := v.String(); got != want {
			t.Errorf("%#v is %q, want %q", v, got, want)
		}
	}
}

func TestSelectorNames(t *testing.T) {
	anyPort := func(protocol uint8, start, end string) Selector {
		return Selector{Protocol: protocol, EndPort: 65535, Start: addr(start), End: addr(end)}
	}
	port := func(protocol uint8, from, to uint16) Selector {
		return Selector{Protocol: protocol, StartPort: from, EndPort: to, Start: addr("10.0.0.0"), End: addr("10.0.0.255")}
	}
	for want, s := range map[string]Selector{
		"10.103.0.0/24":                    anyPort(0, "10.103.0.0", "10.103.0.255"),
		"0.0.0.0/0":                        anyPort(0, "0.0.0.0", "255.255.255.255"),
		"::/0":                             anyPort(0, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
		"10.0.0.1/32":                      anyPort(0, "10.0.0.1", "10.0.0.1"),
		"2001:db8::/127":                   anyPort(0, "2001:db8::", "2001:db8::1"),
		"10.0.0.1-10.0.0.2":                anyPort(0, "10.0.0.1", "10.0.0.2"),
		"10.0.0.1-10.0.0.3":                anyPort(0, "10.0.0.1", "10.0.0.3"),
		"10.0.0.0-10.0.0.254":              anyPort(0, "10.0.0.0", "10.0.0.254"),
		"10.0.1.0-10.0.2.255":              anyPort(0, "10.0.1.0", "10.0.2.255"),
		"10.0.0.0-2001:db8::":              anyPort(0, "10.0.0.0", "2001:db8::"),
		"invalid IP-invalid IP[any/0]":     {},
		"10.0.0.0/24[tcp]":                 port(6, 0, 65535),
		"10.0.0.0/24[tcp/80]":              port(6, 80, 80),
		"10.0.0.0/24[udp/5000-6000]":       port(17, 5000, 6000),
		"10.0.0.0/24[any/53]":              port(0, 53, 53),
		"10.0.0.0/24[any/0]":               port(0, 0, 0),
		"10.0.0.0/24[89]":                  port(89, 0, 65535),
		"10.0.0.0/24[icmp/8(0)]":           port(1, 0x0800, 0x0800),
		"10.0.0.0/24[ipv6-icmp/1(0)-2(4)]": port(58, 0x0100, 0x0204),
		"10.0.0.0/24[tcp/OPAQUE]":          port(6, 65535, 0),
	} {
		if got := s.String(); got != want {
			t.Errorf("%#v is %q, want %q", s, got, want)
		}
	}
}

// A prefix becomes a selector and its name again, for every length.
func TestSelectorFromPrefix(t *testing.T) {
	for _, a := range []netip.Addr{addr("203.0.113.77"), addr("2001:db8:a5a5:5a5a:1234:5678:9abc:def1"), addr("::ffff:192.0.2.1")} {
		for n := range a.BitLen() + 1 {
			p := netip.PrefixFrom(a, n)
			s := SelectorFromPrefix(p)
			if s.String() != p.Masked().String() {
				t.Errorf("%v became %v", p, s)
			}
			if !p.Contains(s.Start) || !p.Contains(s.End) || p.Contains(s.Start.Prev()) || p.Contains(s.End.Next()) {
				t.Errorf("%v: from %v to %v", p, s.Start, s.End)
			}
		}
	}
}

func TestErrorText(t *testing.T) {
	err := Check(ExchangeIKEAuth, false, nil)
	if got, want := fmt.Sprint(err), "INVALID_SYNTAX: IKE_AUTH: no IDi payload"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var e *Error
	if !errors.As(fmt.Errorf("outer: %w", err), &e) || e.Notify != NotifyInvalidSyntax {
		t.Errorf("%v is not found inside another error", err)
	}
}
