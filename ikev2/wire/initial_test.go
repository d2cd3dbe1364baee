package wire

import (
	"bytes"
	"testing"
)

func initial(ps ...Payload) []byte {
	m := Message{Header: Header{InitiatorSPI: SPI{1}, Major: 2, Exchange: ExchangeIKESAInit, Flags: FlagInitiator}, Payloads: ps}
	return m.Append(nil)
}

var (
	aNonce  = &Nonce{Data: bytes.Repeat([]byte{7}, 32)}
	aCookie = &Notify{NotifyType: NotifyCookie, Data: []byte("biscuit")}
)

func TestScanInitial(t *testing.T) {
	for name, c := range map[string]struct {
		b      []byte
		cookie string
		ok     bool
	}{
		"nonce":                {initial(aNonce), "", true},
		"cookie first":         {initial(aCookie, &KE{Group: 31, Data: make([]byte, 32)}, aNonce), "biscuit", true},
		"cookie last":          {initial(aNonce, aCookie), "biscuit", true},
		"other notify":         {initial(&Notify{NotifyType: NotifyCookie2, Data: []byte("12345678")}, aNonce), "", true},
		"cookie with an SPI":   {initial(&Notify{Protocol: ProtocolESP, SPI: []byte{1, 2, 3, 4}, NotifyType: NotifyCookie, Data: []byte("biscuit")}, aNonce), "biscuit", true},
		"notify of two bytes":  {initial(&Unknown{PayloadType: PayloadNotify, Body: []byte{0, 0}}, aNonce), "", true},
		"SPI past the end":     {initial(&Unknown{PayloadType: PayloadNotify, Body: []byte{0, 9, 0x40, 0x06, 1}}, aNonce), "", true},
		"no nonce":             {initial(aCookie), "biscuit", false},
		"nonce of 15":          {initial(&Nonce{Data: make([]byte, 15)}), "", false},
		"nonce of 257":         {initial(&Nonce{Data: make([]byte, 257)}), "", false},
		"65 payloads":          {initial(append([]Payload{aNonce}, make65()...)...), "", false},
		"an endless circle":    {append(initial(aNonce)[:HeaderLen], 40, 0, 0, 0), "", false},
		"bytes after the last": {append(initial(aNonce), 0), "", false},
		"less than a header":   {initial(aNonce)[:HeaderLen-1], "", false},
	} {
		got, ok := ScanInitial(c.b)
		if ok != c.ok || ok && (string(got.Cookie) != c.cookie || !bytes.Equal(got.Nonce, aNonce.Data)) {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	whole := initial(aCookie, aNonce)
	for n := range whole {
		if _, ok := ScanInitial(whole[:n]); ok {
			t.Errorf("%d of %d bytes are enough", n, len(whole))
		}
	}
	if n := testing.AllocsPerRun(100, func() { ScanInitial(whole) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func make65() (ps []Payload) {
	for range maxPayloads {
		ps = append(ps, &VendorID{Data: []byte("x")})
	}
	return ps
}

// FuzzScanInitial: what Parse reads is read the same, and what Check lets pass is
// never refused.
func FuzzScanInitial(f *testing.F) {
	f.Add(initial(aCookie, aNonce))
	f.Add(unhex(clearRequest))
	f.Add(initial(&Unknown{PayloadType: PayloadNotify, Body: []byte{0, 9, 0x40, 0x06, 1}}, aNonce))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := ScanInitial(b)
		m, err := Parse(b)
		if err != nil || Check(ExchangeIKESAInit, false, m.Payloads) != nil {
			return
		}
		nonce, _ := Find[*Nonce](m.Payloads)
		if !ok || !bytes.Equal(got.Nonce, nonce.Data) {
			t.Fatalf("%+v, %v", got, ok)
		}
		if c := FindNotify(m.Payloads, NotifyCookie); (c != nil) != (got.Cookie != nil) {
			t.Fatalf("cookie %v, %q", c, got.Cookie)
		}
	})
}

func TestAppendFragment(t *testing.T) {
	h := Header{InitiatorSPI: SPI{1}, ResponderSPI: SPI{2}, Major: 2, Exchange: ExchangeIKEAuth, Flags: FlagInitiator, MessageID: 1}
	for number, first := range map[uint16]PayloadType{1: PayloadIDi, 2: PayloadNone, 3: PayloadNone} {
		b := append(AppendFragment(nil, h, PayloadIDi, number, 3, 20), make([]byte, 20)...)
		m, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		f, ok := Find[*EncryptedFragment](m.Payloads)
		if !ok || f.Number != number || f.Total != 3 || f.First != first || f.BodyOffset != FragmentHeadLen || len(f.Body) != 20 || m.MessageID != 1 {
			t.Errorf("%+v of %x", f, b)
		}
	}
	if b := AppendProtected(nil, h, PayloadIDi, 9); len(b) != ProtectedHeadLen {
		t.Errorf("%d bytes before the body of SK", len(b))
	}
}
