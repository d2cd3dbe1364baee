package wire

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

const (
	syntax   = NotifyInvalidSyntax
	critical = NotifyUnsupportedCriticalPayload
	version  = NotifyInvalidMajorVersion
	accepted = NotifyType(0)
)

// in builds a decrypted chain of blocks: type, body in hexadecimal, and so on.
func in(chain ...any) (PayloadType, []byte) {
	var b []byte
	for i := 0; i < len(chain); i += 2 {
		next := PayloadNone
		if i+2 < len(chain) {
			next = chain[i+2].(PayloadType)
		}
		body := unhex(chain[i+1].(string))
		b = append(b, byte(next), 0, byte((4+len(body))>>8), byte(4+len(body)))
		b = append(b, body...)
	}
	return chain[0].(PayloadType), b
}

// clear makes a datagram of a chain.
func clear(exchange byte, chain ...any) []byte {
	first, b := in(chain...)
	return withLength(append(unhex(fmt.Sprintf("0102030405060708 0000000000000000 %02x20%02x08 00000000 00000000", byte(first), exchange)), b...))
}

const nonce16 = "000102030405060708090a0b0c0d0e0f"

func repeat(n int, chain ...any) []any {
	var out []any
	for range n {
		out = append(out, chain...)
	}
	return out
}

// transforms are n of them, correctly marked.
func transforms(n int) string {
	s := strings.Repeat("03 00 0008 04 00 001f", max(n-1, 0))
	if n > 0 {
		s += "00 00 0008 04 00 001f"
	}
	return s
}

// proposals are n empty ones, correctly marked.
func proposals(n int) string {
	return strings.Repeat("02 00 0008 01 01 00 00", n-1) + "00 00 0008 01 01 00 00"
}

const anySelector = "07 00 0010 0000 ffff 00000000 ffffffff"

// The datagrams of the hostile-input table's rows A1 to A9, A14 and A15 that
// come in the clear: what the parser says. Row A3 is about the marker in front
// of the datagram, which is none of this package's.
func TestHostileDatagrams(t *testing.T) {
	good := unhex(clearRequest)
	edit := func(at int, bytes ...byte) []byte {
		b := unhex(clearRequest)
		copy(b[at:], bytes)
		return b
	}
	for _, x := range []struct {
		name     string
		datagram []byte
		want     NotifyType
	}{
		{"A1 nothing", nil, syntax},
		{"A1 27 bytes", good[:27], syntax},
		{"A2 keepalive", []byte{0xff}, syntax},
		{"A3 non-ESP marker left in place", append(make([]byte, 4), good...), version},
		{"A4 length too small", edit(24, 0, 0, 0, 179), syntax},
		{"A4 length too large", edit(24, 0, 0, 0, 181), syntax},
		{"A4 length 0", edit(24, 0, 0, 0, 0), syntax},
		{"A4 length 0xFFFFFFFF", edit(24, 0xff, 0xff, 0xff, 0xff), syntax},
		{"A4 header alone, more promised", withLength(good[:28]), syntax},
		{"A5 major version 3", edit(17, 0x30), version},
		{"A5 IKEv1", edit(17, 0x10), version},
		{"A5 minor version 15", edit(17, 0x2f), accepted},
		{"A6 payload length 0", edit(30, 0, 0), syntax},
		{"A6 payload length 3", edit(30, 0, 3), syntax},
		{"A6 payload past the end", edit(30, 0xff, 0xff), syntax},
		{"A6 last payload past the end", edit(176, 0, 7), syntax},
		{"A6 last payload too short for what is left", edit(176, 0, 5), syntax},
		{"A6 Next Payload ends the chain early", edit(28, 0), syntax},
		{"A6 Next Payload goes on after the end", edit(174, 41), syntax},
		{"A6 first Next Payload zero", edit(16, 0), syntax},
		{"A6 IKEv1 payload types", clear(34, PayloadType(1), "00", PayloadType(32), "00"), accepted},
		{"A7 critical bit on payloads we know", edit(29, 0x80), accepted},
		{"A8 reserved bits of a generic header", edit(29, 0x7f), accepted},
		{"A8 reserved flags", edit(19, 0xdf), accepted},
		{"A9 64 payloads", clear(34, repeat(64, PayloadVendor, "00")...), accepted},
		{"A9 65 payloads", clear(34, repeat(65, PayloadVendor, "00")...), syntax},
		{"A9 65 unknown payloads before SKF", clear(35, append(repeat(65, PayloadType(255), ""), PayloadSKF, "0001 0001 00")...), syntax},
		{"A9 32 notifies", clear(34, repeat(32, PayloadNotify, "00 00 4000")...), accepted},
		{"A9 33 notifies", clear(34, repeat(33, PayloadNotify, "00 00 4000")...), syntax},
		{"A15 SK last", clear(35, PayloadVendor, "00", PayloadSK, "00"), accepted},
		{"A15 SK not last", append(clear(35, PayloadSK, "00"), 0, 0, 0, 4), syntax},
		{"A15 SK not last, length agrees", withLength(append(clear(35, PayloadSK, "00"), 0, 0, 0, 4)), syntax},
		{"A15 empty SK", clear(35, PayloadSK, ""), syntax},
		{"A15 empty SKF", clear(35, PayloadSKF, "0001 0001"), syntax},
		{"A15 fragment 0", clear(35, PayloadSKF, "0000 0001 00"), syntax},
		{"A15 fragment 2 of 1", clear(35, PayloadSKF, "0002 0001 00"), syntax},
		{"A15 fragment 0 of 0", clear(35, PayloadSKF, "0000 0000 00"), syntax},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := Parse(x.datagram)
			checkNotify(t, err, x.want)
		})
	}
}

func checkNotify(t *testing.T, err error, want NotifyType) {
	t.Helper()
	if want == accepted {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if err == nil {
		t.Fatalf("accepted, want %v", want)
	}
	if e := asError(t, err); e.Notify != want {
		t.Errorf("%v, want %v", err, want)
	}
}

// Rows A6 and A9 to A15 inside the Encrypted payload.
func TestHostileChains(t *testing.T) {
	type chain = []any
	for _, x := range []struct {
		name  string
		chain chain
		want  NotifyType
	}{
		{"A9 16 proposals", chain{PayloadSA, proposals(16)}, accepted},
		{"A9 17 proposals", chain{PayloadSA, proposals(17)}, syntax},
		{"A9 64 transforms", chain{PayloadSA, "00 00 0208 01 01 00 40" + transforms(64)}, accepted},
		{"A9 65 transforms", chain{PayloadSA, "00 00 0210 01 01 00 41" + transforms(65)}, syntax},
		{"A9 255 selectors", chain{PayloadTSi, "ff 000000" + strings.Repeat(anySelector, 255)}, accepted},
		{"A9 256 selectors, 255 said", chain{PayloadTSi, "ff 000000" + strings.Repeat(anySelector, 256)}, syntax},
		{"A11 KE without data", chain{PayloadKE, "001f 0000"}, syntax},
		{"A11 KE cut short", chain{PayloadKE, "001f 00"}, syntax},
		{"nonce of 15 bytes", chain{PayloadNonce, nonce16[2:]}, syntax},
		{"nonce of 16 bytes", chain{PayloadNonce, nonce16}, accepted},
		{"nonce of 256 bytes", chain{PayloadNonce, strings.Repeat(nonce16, 16)}, accepted},
		{"nonce of 257 bytes", chain{PayloadNonce, strings.Repeat(nonce16, 16) + "00"}, syntax},
		{"SA without proposal", chain{PayloadSA, ""}, syntax},
		{"SA, proposal length 3", chain{PayloadSA, "00 00 0003 01 01 00 00"}, syntax},
		{"SA, proposal past the end", chain{PayloadSA, "00 00 0009 01 01 00 00"}, syntax},
		{"SA, more proposals promised", chain{PayloadSA, "02 00 0008 01 01 00 00"}, syntax},
		{"SA, proposals after the last", chain{PayloadSA, "00 00 0008 01 01 00 00" + proposals(1)}, syntax},
		{"SA, SPI past the end", chain{PayloadSA, "00 00 000a 01 01 08 00 0102"}, syntax},
		{"SA, IKE SPI of 4 bytes", chain{PayloadSA, "00 00 000c 01 01 04 00 01020304"}, syntax},
		{"SA, ESP without SPI", chain{PayloadSA, "00 00 0008 01 03 00 00"}, syntax},
		{"SA, ESP SPI of 8 bytes", chain{PayloadSA, "00 00 0010 01 03 08 00 0102030405060708"}, syntax},
		{"SA, more transforms than said", chain{PayloadSA, "00 00 0018 01 01 00 01" + transforms(2)}, syntax},
		{"SA, fewer transforms than said", chain{PayloadSA, "00 00 0018 01 01 00 03" + transforms(2)}, syntax},
		{"SA, transform marked last too early", chain{PayloadSA, "00 00 0018 01 01 00 02" + transforms(1) + transforms(1)}, syntax},
		{"SA, transform length 7", chain{PayloadSA, "00 00 0010 01 01 00 01 00 00 0007 04 00 001f"}, syntax},
		{"SA, attribute cut short", chain{PayloadSA, "00 00 0012 01 01 00 01 00 00 000a 01 00 0014 800e"}, syntax},
		{"SA, attribute past the end", chain{PayloadSA, "00 00 0014 01 01 00 01 00 00 000c 01 00 0014 000e 0002"}, syntax},
		{"A13 N, ESP SPI of 8 bytes", chain{PayloadNotify, "03 08 4009 0102030405060708"}, syntax},
		{"A13 N, AH SPI of 3 bytes", chain{PayloadNotify, "02 03 4009 010203"}, syntax},
		{"A13 N, IKE with an SPI", chain{PayloadNotify, "01 08 4000 0102030405060708"}, syntax},
		{"A13 N, no protocol but an SPI", chain{PayloadNotify, "00 04 4009 01020304"}, syntax},
		{"A13 N, SPI past the end", chain{PayloadNotify, "03 04 4009 010203"}, syntax},
		{"A13 NAT-D source of 19 bytes", chain{PayloadNotify, "00 00 4004" + nonce16 + "010203"}, syntax},
		{"A13 NAT-D destination of 21 bytes", chain{PayloadNotify, "00 00 4005" + nonce16 + "0102030405"}, syntax},
		{"A13 NAT-D destination of 20 bytes", chain{PayloadNotify, "00 00 4005" + nonce16 + "01020304"}, accepted},
		{"COOKIE, empty", chain{PayloadNotify, "00 00 4006"}, syntax},
		{"COOKIE of 64 bytes", chain{PayloadNotify, "00 00 4006" + strings.Repeat(nonce16, 4)}, accepted},
		{"COOKIE of 65 bytes", chain{PayloadNotify, "00 00 4006" + strings.Repeat(nonce16, 4) + "00"}, syntax},
		{"INVALID_KE_PAYLOAD without group", chain{PayloadNotify, "00 00 0011"}, syntax},
		{"A13 TS, no selector", chain{PayloadTSi, "00 000000"}, syntax},
		{"A13 TS, addresses the wrong way round", chain{PayloadTSr, "01 000000 07 00 0010 0000 ffff 0a000002 0a000001"}, syntax},
		{"A13 TS, ports the wrong way round", chain{PayloadTSr, "01 000000 07 06 0010 0051 0050 0a000001 0a000002"}, syntax},
		{"A13 TS, OPAQUE ports", chain{PayloadTSr, "01 000000 07 06 0010 ffff 0000 0a000001 0a000002"}, accepted},
		{"A13 TS, IPv4 selector of 15 bytes", chain{PayloadTSi, "01 000000 07 00 000f 0000 ffff 000000 ffffffff"}, syntax},
		{"A13 TS, IPv4 selector as long as an IPv6 one", chain{PayloadTSi, "01 000000 07 00 0028 0000 ffff" + nonce16 + nonce16}, syntax},
		{"A13 TS, IPv6 selector as long as an IPv4 one", chain{PayloadTSi, "01 000000 08 00 0010 0000 ffff 00000000 ffffffff"}, syntax},
		{"A13 TS, selector length 0", chain{PayloadTSi, "01 000000 07 00 0000 0000 ffff 00000000 ffffffff"}, syntax},
		{"A13 TS of unknown type", chain{PayloadTSi, "01 000000 0a 00 0008 41424344"}, syntax},
		{"A13 TS, fewer than said", chain{PayloadTSi, "02 000000" + anySelector}, syntax},
		{"A13 TS, more than said", chain{PayloadTSi, "01 000000" + anySelector + anySelector}, syntax},
		{"A14 ID, empty", chain{PayloadIDi, "0b 000000"}, syntax},
		{"A14 ID of 1024 bytes", chain{PayloadIDi, "0b 000000" + strings.Repeat(nonce16, 64)}, accepted},
		{"A14 ID of 1025 bytes", chain{PayloadIDi, "0b 000000" + strings.Repeat(nonce16, 64) + "00"}, syntax},
		{"A14 FQDN with NUL", chain{PayloadIDi, "02 000000 666f00"}, syntax},
		{"A14 FQDN with newline", chain{PayloadIDr, "02 000000 0a666f"}, syntax},
		{"A14 FQDN with DEL", chain{PayloadIDr, "02 000000 7f"}, syntax},
		{"A14 FQDN with C1 control", chain{PayloadIDr, "02 000000 c285"}, syntax},
		{"A14 RFC822 with escape", chain{PayloadIDi, "03 000000 611b40"}, syntax},
		{"A14 key ID with NUL", chain{PayloadIDi, "0b 000000 00"}, accepted},
		{"A14 IPv4 ID of 3 bytes", chain{PayloadIDi, "01 000000 0a0000"}, syntax},
		{"A14 IPv4 ID of 16 bytes", chain{PayloadIDi, "01 000000" + nonce16}, syntax},
		{"A14 IPv6 ID of 4 bytes", chain{PayloadIDi, "05 000000 0a000001"}, syntax},
		{"A15 SK inside SK", chain{PayloadVendor, "00", PayloadSK, "00"}, syntax},
		{"A15 SKF inside SK", chain{PayloadSKF, "0001 0001 00"}, syntax},
		{"D of IKE with an SPI", chain{PayloadDelete, "01 08 0001 0102030405060708"}, syntax},
		{"D of ESP, SPIs of 3 bytes", chain{PayloadDelete, "03 03 0001 010203"}, syntax},
		{"D of ESP, SPIs of no bytes", chain{PayloadDelete, "03 00 ffff"}, syntax},
		{"D of ESP, fewer than said", chain{PayloadDelete, "03 04 ffff 01020304"}, syntax},
		{"D of ESP, more than said", chain{PayloadDelete, "03 04 0001 0102030405060708"}, syntax},
		{"D of ESP, 1000", chain{PayloadDelete, "03 04 03e8" + strings.Repeat("01020304", 1000)}, accepted},
		{"D of an unknown protocol", chain{PayloadDelete, "c8 04 0001 01020304"}, syntax},
		{"CP, 255 attributes", chain{PayloadCP, "01 000000" + strings.Repeat("00010000", 255)}, accepted},
		{"CP, 256 attributes", chain{PayloadCP, "01 000000" + strings.Repeat("00010000", 256)}, syntax},
		{"CP, attribute past the end", chain{PayloadCP, "01 000000 0001 0004 0a0000"}, syntax},
		{"CERT, empty", chain{PayloadCert, ""}, syntax},
		{"CERTREQ, empty", chain{PayloadCertReq, ""}, syntax},
		{"AUTH of 3 bytes", chain{PayloadAuth, "02 0000"}, syntax},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := ParsePayloads(in(x.chain...))
			checkNotify(t, err, x.want)
		})
	}
}

// A7: an unknown payload is passed over, or refused by its type if critical.
func TestUnknownPayloads(t *testing.T) {
	for _, kind := range []PayloadType{1, 32, 49, 54, 127, 128, 255} {
		first, b := in(kind, "abcd", PayloadVendor, "00")
		ps, err := ParsePayloads(first, b)
		if err != nil || len(ps) != 2 {
			t.Fatalf("type %d: %v, %v", kind, ps, err)
		}
		if u, ok := ps[0].(*Unknown); !ok || u.PayloadType != kind || !bytes.Equal(u.Body, unhex("abcd")) {
			t.Errorf("type %d: kept %#v", kind, ps[0])
		}
		b[1] = 0x7f // reserved bits are not the critical bit
		if _, err := ParsePayloads(first, b); err != nil {
			t.Errorf("type %d: %v", kind, err)
		}
		b[1] = criticalBit
		_, err = ParsePayloads(first, b)
		checkNotify(t, err, critical)
		if e := asError(t, err); !bytes.Equal(e.Data, []byte{byte(kind)}) {
			t.Errorf("type %d: error data %x", kind, e.Data)
		}
	}
}

func TestWritingACriticalPayload(t *testing.T) {
	_, err := ParsePayloads(AppendPayloads(nil, []Payload{&Unknown{PayloadType: 49, Critical: true}}))
	checkNotify(t, err, critical)
}

// A7: the critical bit of payloads we know means nothing, whichever they are.
func TestCriticalBitOfKnownPayloads(t *testing.T) {
	for _, x := range bodies {
		if _, unknown := x.payload.(*Unknown); unknown {
			continue
		}
		first, b := in(x.payload.Type(), x.body)
		b[1] = 0xff
		if _, err := ParsePayloads(first, b); err != nil {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

// A12: a transform whose attributes are odd equals none that we would choose.
func TestOddTransforms(t *testing.T) {
	aes128 := Transform{Type: TransformEncr, ID: EncrAESGCM16, KeyBits: 128}
	chacha := Transform{Type: TransformEncr, ID: EncrChaCha20Poly1305}
	for _, x := range []struct {
		name, transform string
		same            Transform
		want            bool
	}{
		{"AES-128", "01 00 0014 800e 0080", aes128, true},
		{"AES, reserved octet set", "01 ff 0014 800e 0080", aes128, true},
		{"ChaCha20", "01 00 001c", chacha, true},
		{"AES without length", "01 00 0014", aes128, false},
		{"AES with length 0", "01 00 0014 800e 0000", aes128, false},
		{"AES with length 129", "01 00 0014 800e 0081", aes128, false},
		{"AES with an attribute nobody knows for its length", "01 00 0014 8012 0080", aes128, false},
		{"AES with two lengths", "01 00 0014 800e 0080 800e 0080", aes128, false},
		{"AES with its length in the long form", "01 00 0014 000e 0002 0080", aes128, false},
		{"AES with an attribute nobody knows after its length", "01 00 0014 800e 0080 8012 0000", aes128, false},
		{"AES with an attribute nobody knows before its length", "01 00 0014 0012 0000 800e 0080", aes128, false},
		{"ChaCha20 with a length", "01 00 001c 800e 0100", chacha, false},
		{"ChaCha20 with length 0", "01 00 001c 800e 0000", chacha, false},
		{"ChaCha20 with an attribute nobody knows", "01 00 001c 8012 0000", chacha, false},
	} {
		got, err := parseTransform(unhex(x.transform))
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
		}
		if (got == x.same) != x.want {
			t.Errorf("%s: %+v == %+v is %v", x.name, got, x.same, !x.want)
		}
	}
}

// A4, A6: memory is bounded by the datagram, whatever its lengths say, and so
// is time, for which allocation stands here.
func TestParsingCostsNoMoreThanTheDatagram(t *testing.T) {
	const factor, slack = 32, 4096
	fill := func(unit []byte) []byte { return bytes.Repeat(unit, 64000/len(unit)) }
	deletion := fill(unhex("01020304"))
	worst := map[string][]byte{
		"lying header": append(unhex(clearRequest)[:24], fill([]byte{0xff})...),
		"deletions":    clear(37, PayloadDelete, fmt.Sprintf("03 04 %04x %x", len(deletion)/4, deletion)),
		"attributes":   clear(37, repeat(60, PayloadCP, "01 000000"+strings.Repeat("00010000", 255))...),
		"odd transforms": clear(34, PayloadSA, fmt.Sprintf("00 00 fa14 01 01 00 01 00 00 fa0c 01 00 0014 %x",
			fill(unhex("800e0080"))[:64000])),
		"selectors":    clear(35, repeat(15, PayloadTSi, "ff 000000"+strings.Repeat(anySelector, 255))...),
		"lying counts": clear(35, repeat(64, PayloadDelete, "03 04 ffff")...),
	}
	for name, datagram := range worst {
		if got := allocated(func() { Parse(datagram) }); got > factor*uint64(len(datagram))+slack {
			t.Errorf("%s: %d bytes allocated for a datagram of %d", name, got, len(datagram))
		}
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
