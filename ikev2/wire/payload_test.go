package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// unhex reads hexadecimal in which white space is for the eye.
func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// bodies are payload bodies, written by hand from RFC 7296 section 3, and what
// they mean. plain says that writing the payload gives these very bytes; the
// others hold reserved bits, which are ignored.
var bodies = []struct {
	name    string
	plain   bool
	body    string
	payload Payload
}{
	{"SA of an IKE_SA_INIT", true, `
		02 00 002c  01 01 00 04
		   03 00 000c  01 00 0014  800e 0080
		   03 00 0008  02 00 0005
		   03 00 0008  04 00 001f
		   00 00 0008  04 00 000e
		00 00 0014  02 01 00 01
		   00 00 000c  01 00 000c  800e 0100`,
		&SA{[]Proposal{
			{Number: 1, Protocol: ProtocolIKE, SPI: []byte{}, Transforms: []Transform{
				{Type: TransformEncr, ID: EncrAESGCM16, KeyBits: 128},
				{Type: TransformPRF, ID: PRFHMACSHA2256},
				{Type: TransformKE, ID: GroupX25519},
				{Type: TransformKE, ID: GroupMODP2048},
			}},
			{Number: 2, Protocol: ProtocolIKE, SPI: []byte{}, Transforms: []Transform{
				{Type: TransformEncr, ID: EncrAESCBC, KeyBits: 256},
			}},
		}},
	},
	{"SA of a child, reserved octets set", false, `
		00 ff 0020  01 03 04 02  c0000001
		   03 ee 000c  01 dd 0014  800e 0100
		   00 cc 0008  05 bb 0001`,
		&SA{[]Proposal{{Number: 1, Protocol: ProtocolESP, SPI: unhex("c0000001"), Transforms: []Transform{
			{Type: TransformEncr, ID: EncrAESGCM16, KeyBits: 256}, {Type: TransformESN, ID: ESNYes},
		}}}},
	},
	{"SA of an IKE SA's rekeying", true, `
		00 00 0018  01 01 08 01  0102030405060708
		   00 00 0008  04 00 0013`,
		&SA{[]Proposal{{Number: 1, Protocol: ProtocolIKE, SPI: unhex("0102030405060708"), Transforms: []Transform{
			{Type: TransformKE, ID: GroupECP256},
		}}}},
	},
	{"SA with attributes that nobody knows", true, `
		00 00 0024  01 03 04 01  c0000001
		   00 00 0018  01 00 000c  800e 0080  8011 0001  4005 0004 aabbccdd`,
		&SA{[]Proposal{{Number: 1, Protocol: ProtocolESP, SPI: unhex("c0000001"), Transforms: []Transform{
			{Type: TransformEncr, ID: EncrAESCBC, Odd: string(unhex("800e0080 80110001 40050004aabbccdd"))},
		}}}},
	},
	{"SA of an unknown protocol", true, `
		00 00 000b  01 c8 03 00  010203`,
		&SA{[]Proposal{{Number: 1, Protocol: 200, SPI: []byte{1, 2, 3}}}},
	},
	{"KE", true, `001f 0000 aabbcc`, &KE{Group: GroupX25519, Data: unhex("aabbcc")}},
	{"KE, reserved octets set", false, `001f ffff aabbcc`, &KE{Group: GroupX25519, Data: unhex("aabbcc")}},
	{"IDi FQDN", true, `02 000000 666f6f`, &ID{IDType: IDFQDN, Data: []byte("foo")}},
	{"IDi IPv4", true, `01 000000 cb007101`, &ID{IDType: IDIPv4Addr, Data: []byte{203, 0, 113, 1}}},
	{"IDi IPv6", true, `05 000000 20010db8000000000000000000000001`, &ID{IDType: IDIPv6Addr, Data: addr("2001:db8::1").AsSlice()}},
	{"IDr key ID, reserved octets kept for AUTH", true, `0b 112233 00ff0a`, &ID{Responder: true, IDType: IDKeyID, Data: []byte{0, 0xff, '\n'}, reserved: [3]byte{0x11, 0x22, 0x33}}},
	{"IDr of a type nobody knows", true, `c8 000000 00`, &ID{Responder: true, IDType: 200, Data: []byte{0}}},
	{"CERT", true, `04 3082`, &Cert{Encoding: CertX509Signature, Data: []byte{0x30, 0x82}}},
	{"CERTREQ", true, `04`, &CertReq{Encoding: CertX509Signature, Data: []byte{}}},
	{"AUTH", true, `02 000000 0102`, &Auth{Method: AuthSharedKey, Data: []byte{1, 2}}},
	{"AUTH, reserved octets set, empty", false, `0d ffffff`, &Auth{Method: AuthNull, Data: []byte{}}},
	{"Nonce", true, `000102030405060708090a0b0c0d0e0f`, &Nonce{unhex("000102030405060708090a0b0c0d0e0f")}},
	{"N", true, `00 00 4004 000102030405060708090a0b0c0d0e0f10111213`,
		&Notify{SPI: []byte{}, NotifyType: NotifyNATDetectionSourceIP, Data: unhex("000102030405060708090a0b0c0d0e0f10111213")}},
	{"N about a child", true, `03 04 4009 c0000001`,
		&Notify{Protocol: ProtocolESP, SPI: unhex("c0000001"), NotifyType: NotifyRekeySA, Data: []byte{}}},
	{"N, protocol without SPI", true, `03 00 0026`, &Notify{Protocol: ProtocolESP, SPI: []byte{}, NotifyType: NotifyTSUnacceptable, Data: []byte{}}},
	{"N of a type and a protocol nobody knows", true, `c8 03 a001 010203 ff`, &Notify{Protocol: 200, SPI: []byte{1, 2, 3}, NotifyType: 40961, Data: []byte{0xff}}},
	{"D of the IKE SA", true, `01 00 0000`, &Delete{Protocol: ProtocolIKE}},
	{"D of children, one twice", true, `03 04 0003 c0000001 c0000002 c0000001`,
		&Delete{Protocol: ProtocolESP, SPIs: [][]byte{unhex("c0000001"), unhex("c0000002"), unhex("c0000001")}}},
	{"D of no child", true, `03 04 0000`, &Delete{Protocol: ProtocolESP}},
	{"V", true, `afcad713`, &VendorID{unhex("afcad713")}},
	{"V, empty", true, ``, &VendorID{[]byte{}}},
	{"TSi", true, `
		02 000000
		07 00 0010  0000 ffff  0a670000 0a6700ff
		07 06 0010  0050 0050  0a000001 0a000009`,
		&TS{Selectors: []Selector{
			SelectorFromPrefix(netip.MustParsePrefix("10.103.0.0/24")),
			{Protocol: 6, StartPort: 80, EndPort: 80, Start: addr("10.0.0.1"), End: addr("10.0.0.9")},
		}}},
	{"TSr, OPAQUE ports, reserved octets set", false, `
		01 ffffff
		08 11 0028  ffff 0000  20010db8000000000000000000000000 20010db8ffffffffffffffffffffffff`,
		&TS{Responder: true, Selectors: []Selector{
			{Protocol: 17, StartPort: 65535, EndPort: 0, Start: addr("2001:db8::"), End: addr("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")},
		}}},
	{"CP", true, `01 000000  0001 0000  0019 0003 666f6f`,
		&Config{CFGType: CFGRequest, Attributes: []ConfigAttribute{{Type: 1, Value: []byte{}}, {Type: 25, Value: []byte("foo")}}}},
	{"CP, reserved bits set", false, `02 ffffff  8001 0004 0a000001`,
		&Config{CFGType: CFGReply, Attributes: []ConfigAttribute{{Type: 1, Value: []byte{10, 0, 0, 1}}}}},
	{"EAP", true, `01000004`, &EAP{unhex("01000004")}},
	{"unknown", true, `01020304`, &Unknown{PayloadType: 49, Body: unhex("01020304")}},
}

func TestBodies(t *testing.T) {
	for _, x := range bodies {
		t.Run(x.name, func(t *testing.T) {
			body := unhex(x.body)
			got, err := parseBody(x.payload.Type(), body)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, x.payload) {
				t.Errorf("parsed\n%#v, want\n%#v", got, x.payload)
			}
			if out := build(got.add); bytes.Equal(out, body) != x.plain {
				t.Errorf("wrote %x for %x", out, body)
			}
			checkIdempotent(t, []Payload{got})
		})
	}
}

// parseBody parses a body that came alone in a chain.
func parseBody(kind PayloadType, body []byte) (Payload, error) {
	ps, err := ParsePayloads(kind, build((&rawPayload{body}).block))
	if err != nil {
		return nil, err
	}
	return ps[0], nil
}

// checkIdempotent: what was parsed once survives writing and parsing.
func checkIdempotent(t *testing.T, ps []Payload) {
	t.Helper()
	first, b := AppendPayloads(nil, ps)
	again, err := ParsePayloads(first, b)
	if err != nil {
		t.Fatalf("cannot parse what was written for %v: %v", ps, err)
	}
	if !reflect.DeepEqual(ps, again) {
		t.Fatalf("parsed\n%#v, then\n%#v", ps, again)
	}
	if _, b2 := AppendPayloads(nil, again); !bytes.Equal(b, b2) {
		t.Fatalf("wrote\n%x, then\n%x", b, b2)
	}
}

// A payload cut short does not fit its length, wherever it is cut.
func TestTruncatedPayloads(t *testing.T) {
	for _, x := range bodies {
		chain := build((&rawPayload{unhex(x.body)}).block)
		for n := range chain {
			if ps, err := ParsePayloads(x.payload.Type(), chain[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes parsed as %v", x.name, n, len(chain), ps)
			}
		}
	}
}

// Inside a payload, too, what is counted or marked must be there: cutting the
// body and correcting the outer length does not help.
func TestTruncatedBodies(t *testing.T) {
	counted := map[PayloadType]bool{PayloadSA: true, PayloadTSi: true, PayloadTSr: true, PayloadDelete: true}
	fixed := map[PayloadType]int{PayloadKE: 5, PayloadIDi: 5, PayloadIDr: 5, PayloadAuth: 4, PayloadNotify: 4, PayloadNonce: 16, PayloadCP: 4, PayloadCert: 1, PayloadCertReq: 1}
	for _, x := range bodies {
		body := unhex(x.body)
		limit := fixed[x.payload.Type()]
		if counted[x.payload.Type()] {
			limit = len(body)
		}
		for n := range min(limit, len(body)) {
			if p, err := parseBody(x.payload.Type(), body[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes parsed as %v", x.name, n, len(body), p)
			}
		}
	}
}

// Every parsed slice may alias the datagram, so none has room to grow into it.
func TestParsedSlicesHaveNoRoom(t *testing.T) {
	for _, x := range bodies {
		p, err := parseBody(x.payload.Type(), unhex(x.body))
		if err != nil {
			t.Fatal(err)
		}
		walkBytes(reflect.ValueOf(p), func(b []byte) {
			if cap(b) != len(b) {
				t.Errorf("%s: %x has room for %d bytes", x.name, b, cap(b)-len(b))
			}
		})
	}
}

func walkBytes(v reflect.Value, f func([]byte)) {
	switch v.Kind() {
	case reflect.Pointer:
		walkBytes(v.Elem(), f)
	case reflect.Struct:
		for i := range v.NumField() {
			walkBytes(v.Field(i), f)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			f(v.Bytes())
			return
		}
		for i := range v.Len() {
			walkBytes(v.Index(i), f)
		}
	}
}

func TestIDBodyIsAsReceived(t *testing.T) {
	body := unhex("02 a1b2c3 666f6f")
	p, err := parseBody(PayloadIDi, body)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.(*ID).Body(); !bytes.Equal(got, body) {
		t.Errorf("Body = %x, received %x", got, body)
	}
	if got := (&ID{IDType: IDFQDN, Data: []byte("foo")}).Body(); !bytes.Equal(got, unhex("02 000000 666f6f")) {
		t.Errorf("Body of our own = %x", got)
	}
}

func TestFind(t *testing.T) {
	idi, idr := &ID{IDType: IDFQDN}, &ID{Responder: true}
	tsi, tsr := &TS{}, &TS{Responder: true}
	cookie := &Notify{NotifyType: NotifyCookie}
	ps := []Payload{&Notify{NotifyType: NotifyInitialContact}, cookie, idi, idr, tsi, tsr}
	if n, ok := Find[*Notify](ps); !ok || n.NotifyType != NotifyInitialContact {
		t.Errorf("Find[*Notify] = %v, %v", n, ok)
	}
	if sa, ok := Find[*SA](ps); ok || sa != nil {
		t.Errorf("Find[*SA] = %v, %v", sa, ok)
	}
	if FindNotify(ps, NotifyCookie) != cookie || FindNotify(ps, NotifyRedirect) != nil {
		t.Error("FindNotify")
	}
	if FindID(ps, false) != idi || FindID(ps, true) != idr || FindID(ps[:2], true) != nil {
		t.Error("FindID")
	}
	if FindTS(ps, false) != tsi || FindTS(ps, true) != tsr || FindTS(ps[:2], true) != nil {
		t.Error("FindTS")
	}
}

func asError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T), want an *Error", err, err)
	}
	return e
}
