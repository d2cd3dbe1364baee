package wire

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"golang.org/x/crypto/cryptobyte"
)

// rawPayload is a body on its way into a block.
type rawPayload struct{ body []byte }

func (p *rawPayload) block(b *cryptobyte.Builder) { addBlock(b, 0, 0, p.body) }

// clearRequest is an IKE_SA_INIT request, by hand: a COOKIE, SA, KE, Nonce,
// NAT_DETECTION_SOURCE_IP, a payload of the unknown type 200 and a Vendor ID.
// The last Next Payload and all reserved bits are as the RFC wants them.
const clearRequest = `
	0102030405060708 0000000000000000
	29 20 22 08  00000000  000000b4
	21 00 000c   00 00 4006  c00c1e01
	22 00 0028   00 00 0024  01 01 00 03
	                03 00 000c  01 00 0014  800e 0100
	                03 00 0008  02 00 0007
	                00 00 0008  04 00 001f
	28 00 0028   001f 0000  000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f
	29 00 0014   f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff
	c8 00 001c   00 00 4004  000102030405060708090a0b0c0d0e0f10111213
	2b 00 0006   abcd
	00 00 0006   5644`

var clearMessage = &Message{
	Header: Header{
		InitiatorSPI: SPI{1, 2, 3, 4, 5, 6, 7, 8}, NextPayload: PayloadNotify, Major: 2,
		Exchange: ExchangeIKESAInit, Flags: FlagInitiator, Length: 180,
	},
	Payloads: []Payload{
		&Notify{SPI: []byte{}, NotifyType: NotifyCookie, Data: unhex("c00c1e01")},
		&SA{[]Proposal{{Number: 1, Protocol: ProtocolIKE, SPI: []byte{}, Transforms: []Transform{
			{Type: TransformEncr, ID: EncrAESGCM16, KeyBits: 256},
			{Type: TransformPRF, ID: PRFHMACSHA2512},
			{Type: TransformKE, ID: GroupX25519},
		}}}},
		&KE{Group: GroupX25519, Data: unhex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")},
		&Nonce{unhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")},
		&Notify{SPI: []byte{}, NotifyType: NotifyNATDetectionSourceIP, Data: unhex("000102030405060708090a0b0c0d0e0f10111213")},
		&Unknown{PayloadType: 200, Body: []byte{0xab, 0xcd}},
		&VendorID{[]byte("VD")},
	},
}

// protectedRequest is an INFORMATIONAL request of the original responder: a
// Vendor ID in the clear, then an SK payload that starts with a Notify.
const protectedRequest = `
	0102030405060708 1112131415161718
	2b 20 25 00  00000007  00000030
	2e 00 0006   5644
	29 00 000e   c1c2c3c4c5c6c7c8c9ca`

func TestClearMessage(t *testing.T) {
	in := unhex(clearRequest)
	m, err := Parse(in)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, clearMessage) {
		t.Errorf("parsed\n%#v, want\n%#v", m, clearMessage)
	}
	if out := m.Append([]byte("before")); !bytes.Equal(out, append([]byte("before"), in...)) {
		t.Errorf("wrote\n%x, want\n%x", out, in)
	}
	if err := Check(m.Exchange, false, m.Payloads); err != nil {
		t.Error(err)
	}
}

func TestAppendFillsNextPayloadAndLength(t *testing.T) {
	m := *clearMessage
	m.NextPayload, m.Length = 0, 0
	if out := m.Append(nil); !bytes.Equal(out, unhex(clearRequest)) {
		t.Errorf("wrote %x", out)
	}
	empty := Message{Header: Header{NextPayload: PayloadSA, Major: 2, Length: 9}}
	got, err := Parse(empty.Append(nil))
	if err != nil || got.NextPayload != PayloadNone || got.Length != HeaderLen {
		t.Errorf("empty message: %+v, %v", got, err)
	}
}

func TestProtectedMessage(t *testing.T) {
	in := unhex(protectedRequest)
	m, err := Parse(in)
	if err != nil {
		t.Fatal(err)
	}
	sk, ok := Find[*Encrypted](m.Payloads)
	want := &Encrypted{First: PayloadNotify, Body: unhex("c1c2c3c4c5c6c7c8c9ca"), BodyOffset: 38}
	if !ok || !reflect.DeepEqual(sk, want) {
		t.Fatalf("%+v, want %+v", sk, want)
	}
	if !bytes.Equal(in[sk.BodyOffset:], sk.Body) {
		t.Error("BodyOffset does not point to Body")
	}
	if out := m.Append(nil); !bytes.Equal(out, in) {
		t.Errorf("wrote\n%x, want\n%x", out, in)
	}
}

func TestFragment(t *testing.T) {
	h := Header{Major: 2, Exchange: ExchangeIKEAuth, MessageID: 1}
	p := &EncryptedFragment{First: PayloadIDi, Number: 1, Total: 2, Body: []byte{9, 8, 7}, BodyOffset: 36}
	m, err := Parse((&Message{h, []Payload{p}}).Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Payloads) != 1 || !reflect.DeepEqual(m.Payloads[0], p) {
		t.Errorf("%+v, want %+v", m.Payloads, p)
	}
}

func TestAppendProtected(t *testing.T) {
	h := Header{InitiatorSPI: SPI{1}, ResponderSPI: SPI{2}, Major: 2, Exchange: ExchangeIKEAuth, Flags: FlagInitiator, MessageID: 1}
	body := []byte("IV, ciphertext, padding, ICV")
	datagram := append(AppendProtected(nil, h, PayloadIDi, len(body)), body...)
	m, err := Parse(datagram)
	if err != nil {
		t.Fatal(err)
	}
	h.NextPayload, h.Length = PayloadSK, uint32(len(datagram))
	want := &Message{h, []Payload{&Encrypted{PayloadIDi, body, 32}}}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("parsed\n%#v, want\n%#v", m, want)
	}
	if out := AppendProtected([]byte{0, 0, 0, 0}, h, PayloadNone, 0); len(out) != 4+HeaderLen+blockHeadLen {
		t.Errorf("after other bytes: %x", out)
	}
}

// A datagram cut short fails as it is, and with the header's length corrected.
func TestTruncatedMessages(t *testing.T) {
	for _, in := range [][]byte{unhex(clearRequest), unhex(protectedRequest)} {
		for n := range in {
			if _, err := Parse(in[:n]); err == nil {
				t.Errorf("%d of %d bytes parsed", n, len(in))
			}
			if n < HeaderLen {
				continue
			}
			cut := withLength(in[:n])
			if m, err := Parse(cut); err == nil {
				t.Errorf("%d of %d bytes parsed as %v", n, len(in), m.Payloads)
			}
		}
	}
}

// withLength is a copy of a datagram whose header says how long it is.
func withLength(datagram []byte) []byte {
	b := bytes.Clone(datagram)
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	return b
}

func TestHeaderIgnoresReservedBits(t *testing.T) {
	b := unhex(clearRequest)
	b[17] |= 0x0f // minor version
	b[19] |= 0xd7 // every flag but R, and the I that is there
	h, err := ParseHeader(b)
	want := clearMessage.Header
	want.Minor = 15
	if err != nil || h != want {
		t.Errorf("%+v, %v, want %+v", h, err, want)
	}
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if out := m.Append(nil); out[19] != byte(FlagInitiator) {
		t.Errorf("wrote flags %#x", out[19])
	}
}

// RFC 7296 section 3.1: V and the reserved bits are sent as zero.
func TestReservedFlagsAreNotWritten(t *testing.T) {
	m := Message{Header: Header{Major: 2, Flags: 0xff}}
	if out := m.Append(nil); out[19] != byte(FlagInitiator|FlagResponse) {
		t.Errorf("wrote flags %#x", out[19])
	}
}

func TestParseHeaderChecksOnlyTheLengthOfItsInput(t *testing.T) {
	b := bytes.Repeat([]byte{0xff}, HeaderLen)
	if h, err := ParseHeader(b); err != nil || h.Major != 15 || h.Length != 0xffffffff {
		t.Errorf("%+v, %v", h, err)
	}
}
