package wire

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func FuzzHeader(f *testing.F) {
	f.Add(unhex(clearRequest)[:HeaderLen])
	f.Add(bytes.Repeat([]byte{0xff}, HeaderLen))
	f.Add(make([]byte, HeaderLen-1))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if (err == nil) != (len(b) >= HeaderLen) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if err != nil {
			return
		}
		again, err := ParseHeader(build(h.add))
		if err != nil || again != h {
			t.Fatalf("parsed %+v, then %+v, %v", h, again, err)
		}
	})
}

func FuzzMessageClear(f *testing.F) {
	f.Add(unhex(clearRequest))
	f.Add(unhex(protectedRequest))
	f.Add(clear(35, PayloadSKF, "0001 0002 c0ffee"))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		m, err := Parse(b)
		if !bytes.Equal(b, before) {
			t.Fatal("Parse wrote into the datagram")
		}
		if err != nil {
			checkFuzzError(t, err)
			return
		}
		out := m.Append(nil)
		again, err := Parse(out)
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("parsed\n%#v, then\n%#v, %v", m, again, err)
		}
		if len(out) != len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(out))
		}
		for _, response := range []bool{false, true} {
			if err := Check(m.Exchange, response, m.Payloads); err != nil {
				checkFuzzError(t, err)
			}
		}
	})
}

// checkFuzzError: every refusal names what it answers.
func checkFuzzError(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || !e.Notify.IsError() || e.Reason == "" {
		t.Fatalf("error %#v", err)
	}
	if e.Notify == NotifyUnsupportedCriticalPayload && len(e.Data) != 1 {
		t.Fatalf("%v without the payload's type", err)
	}
}

func FuzzMessageDecrypted(f *testing.F) {
	f.Add(uint8(PayloadNone), []byte{})
	for _, x := range bodies {
		first, b := in(x.payload.Type(), x.body, PayloadVendor, "00")
		f.Add(uint8(first), b)
	}
	f.Fuzz(func(t *testing.T, first uint8, b []byte) {
		ps, err := ParsePayloads(PayloadType(first), b)
		if err != nil {
			checkFuzzError(t, err)
			return
		}
		checkIdempotent(t, ps)
		if len(ps) > maxPayloads {
			t.Fatalf("%d payloads", len(ps))
		}
		for kind := range legality {
			if err := Check(kind.exchange, kind.response, ps); err != nil {
				checkFuzzError(t, err)
			}
		}
	})
}

func FuzzProposal(f *testing.F) {
	for _, x := range bodies {
		if x.payload.Type() == PayloadSA {
			f.Add(unhex(x.body)[blockHeadLen:])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseProposal(b)
		if err != nil {
			checkFuzzError(t, err)
			return
		}
		again, err := parseProposal(build(p.add))
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("parsed %+v, then %+v, %v", p, again, err)
		}
		if len(p.Transforms) > 0 && p.String() == "" {
			t.Fatalf("%+v has no name", p)
		}
	})
}

func FuzzTS(f *testing.F) {
	seed(f, PayloadTSi)
	seed(f, PayloadTSr)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseBody(PayloadTSi, b)
		if err != nil {
			checkFuzzError(t, err)
			return
		}
		checkIdempotent(t, []Payload{p})
		for _, s := range p.(*TS).Selectors {
			if s.End.Less(s.Start) || s.Start.BitLen() != s.End.BitLen() || s.String() == "" {
				t.Fatalf("accepted %#v", s)
			}
		}
	})
}

func seed(f *testing.F, kind PayloadType) {
	for _, x := range bodies {
		if x.payload.Type() == kind {
			f.Add(unhex(x.body))
		}
	}
}

// fuzzBody is the target of the payloads that need no more than the contract of
// all: a named error, or what survives writing and parsing.
func fuzzBody(f *testing.F, kind PayloadType) {
	seed(f, kind)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0xffff-blockHeadLen {
			return
		}
		p, err := parseBody(kind, b)
		if err != nil {
			checkFuzzError(t, err)
			return
		}
		if p.Type() != kind {
			t.Fatalf("a body of %v parsed as %v", kind, p.Type())
		}
		checkIdempotent(t, []Payload{p})
	})
}

func FuzzSA(f *testing.F)      { fuzzBody(f, PayloadSA) }
func FuzzKE(f *testing.F)      { fuzzBody(f, PayloadKE) }
func FuzzIDi(f *testing.F)     { fuzzBody(f, PayloadIDi) }
func FuzzIDr(f *testing.F)     { fuzzBody(f, PayloadIDr) }
func FuzzCert(f *testing.F)    { fuzzBody(f, PayloadCert) }
func FuzzCertReq(f *testing.F) { fuzzBody(f, PayloadCertReq) }
func FuzzAuth(f *testing.F)    { fuzzBody(f, PayloadAuth) }
func FuzzNonce(f *testing.F)   { fuzzBody(f, PayloadNonce) }
func FuzzNotify(f *testing.F)  { fuzzBody(f, PayloadNotify) }
func FuzzDelete(f *testing.F)  { fuzzBody(f, PayloadDelete) }
func FuzzVendor(f *testing.F)  { fuzzBody(f, PayloadVendor) }
func FuzzConfig(f *testing.F)  { fuzzBody(f, PayloadCP) }
func FuzzEAP(f *testing.F)     { fuzzBody(f, PayloadEAP) }

func FuzzUnknown(f *testing.F) { fuzzBody(f, 200) }

func FuzzFragment(f *testing.F) {
	f.Add(uint8(PayloadIDi), unhex("0001 0002 c0ffee"))
	f.Add(uint8(0), unhex("0002 0002 c0"))
	f.Fuzz(func(t *testing.T, first uint8, b []byte) {
		p, err := parseEncryptedFragment(PayloadType(first), b, len(b))
		if err != nil {
			checkFuzzError(t, err)
			return
		}
		frag := p.(*EncryptedFragment)
		if frag.Number < 1 || frag.Number > frag.Total || len(frag.Body) == 0 || !bytes.Equal(b[frag.BodyOffset:], frag.Body) {
			t.Fatalf("accepted %+v", frag)
		}
		if again, err := parseEncryptedFragment(frag.First, build(frag.add), len(b)); err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("parsed %+v, then %+v, %v", p, again, err)
		}
	})
}
