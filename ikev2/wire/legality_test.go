package wire

import "testing"

// Payloads of each kind, by the RFC's notation.
var sample = map[string]Payload{
	"SA": &SA{}, "KE": &KE{}, "Nonce": &Nonce{}, "IDi": &ID{}, "IDr": &ID{Responder: true}, "AUTH": &Auth{},
	"CERT": &Cert{}, "CERTREQ": &CertReq{}, "TSi": &TS{}, "TSr": &TS{Responder: true}, "CP": &Config{},
	"EAP": &EAP{}, "V": &VendorID{}, "D": &Delete{}, "SK": &Encrypted{}, "SKF": &EncryptedFragment{}, "?": &Unknown{PayloadType: 200},
	"N(status)":              &Notify{NotifyType: NotifyInitialContact},
	"N(unknown status)":      &Notify{NotifyType: 40961},
	"N(unknown error)":       &Notify{NotifyType: 8191},
	"N(COOKIE)":              &Notify{NotifyType: NotifyCookie},
	"N(NO_PROPOSAL_CHOSEN)":  &Notify{NotifyType: NotifyNoProposalChosen},
	"N(AUTHENTICATION_FAIL)": &Notify{NotifyType: NotifyAuthenticationFailed},
	"N(TICKET_NACK)":         &Notify{NotifyType: NotifyTicketNACK},
	"N(TS_UNACCEPTABLE)":     &Notify{NotifyType: NotifyTSUnacceptable},
}

func payloads(names []string) []Payload {
	var ps []Payload
	for _, n := range names {
		p, ok := sample[n]
		if !ok {
			panic("no sample of " + n)
		}
		ps = append(ps, p)
	}
	return ps
}

func TestLegality(t *testing.T) {
	type list = []string
	const request, response, legal, illegal = false, true, true, false
	for _, x := range []struct {
		exchange ExchangeType
		response bool
		payloads list
		legal    bool
	}{
		{ExchangeIKESAInit, request, list{"SA", "KE", "Nonce"}, legal},
		{ExchangeIKESAInit, request, list{"N(COOKIE)", "SA", "KE", "Nonce", "N(status)", "N(unknown status)", "V", "V", "?", "?"}, legal},
		{ExchangeIKESAInit, request, list{"KE", "Nonce"}, illegal},
		{ExchangeIKESAInit, request, list{"SA", "Nonce"}, illegal},
		{ExchangeIKESAInit, request, list{"SA", "KE"}, illegal},
		{ExchangeIKESAInit, request, list{}, illegal},
		{ExchangeIKESAInit, request, list{"N(NO_PROPOSAL_CHOSEN)"}, illegal},
		{ExchangeIKESAInit, request, list{"SA", "KE", "Nonce", "IDi"}, illegal},
		{ExchangeIKESAInit, request, list{"SA", "KE", "Nonce", "SK"}, illegal},
		{ExchangeIKESAInit, request, list{"SA", "KE", "Nonce", "SKF"}, illegal},
		{ExchangeIKESAInit, response, list{"SA", "KE", "Nonce", "CERTREQ"}, legal},
		{ExchangeIKESAInit, response, list{"N(COOKIE)"}, legal},
		{ExchangeIKESAInit, response, list{"V", "N(NO_PROPOSAL_CHOSEN)", "?"}, legal},
		{ExchangeIKESAInit, response, list{"N(unknown error)"}, legal},
		{ExchangeIKESAInit, response, list{"N(status)"}, illegal},
		{ExchangeIKESAInit, response, list{"N(COOKIE)", "SA"}, illegal},
		{ExchangeIKESAInit, response, list{}, illegal},

		{ExchangeIKEAuth, request, list{"IDi", "CERT", "CERTREQ", "IDr", "AUTH", "CP", "SA", "TSi", "TSr", "N(status)", "V"}, legal},
		{ExchangeIKEAuth, request, list{"IDi", "AUTH"}, legal},
		{ExchangeIKEAuth, request, list{"IDi", "SA", "TSi", "TSr"}, legal},
		{ExchangeIKEAuth, request, list{"IDr", "AUTH"}, illegal},
		{ExchangeIKEAuth, request, list{"IDi", "AUTH", "SA"}, illegal},
		{ExchangeIKEAuth, request, list{"IDi", "AUTH", "SA", "TSi"}, illegal},
		{ExchangeIKEAuth, request, list{"IDi", "AUTH", "TSi", "TSr"}, illegal},
		{ExchangeIKEAuth, request, list{"IDi", "AUTH", "D"}, illegal},
		{ExchangeIKEAuth, request, list{"N(AUTHENTICATION_FAIL)"}, illegal},
		{ExchangeIKEAuth, response, list{"IDr", "AUTH", "SA", "TSi", "TSr"}, legal},
		{ExchangeIKEAuth, response, list{"IDr", "AUTH", "N(TS_UNACCEPTABLE)"}, legal},
		{ExchangeIKEAuth, response, list{"N(AUTHENTICATION_FAIL)"}, legal},
		{ExchangeIKEAuth, response, list{"IDr", "SA", "TSi", "TSr"}, illegal},
		{ExchangeIKEAuth, response, list{"AUTH", "SA", "TSi", "TSr"}, illegal},
		{ExchangeIKEAuth, response, list{"IDr", "N(AUTHENTICATION_FAIL)"}, illegal},
		{ExchangeIKEAuth, response, list{"IDi", "IDr", "AUTH"}, illegal},

		{ExchangeCreateChildSA, request, list{"N(status)", "SA", "Nonce", "KE", "TSi", "TSr"}, legal},
		{ExchangeCreateChildSA, request, list{"SA", "Nonce", "KE"}, legal},
		{ExchangeCreateChildSA, request, list{"SA", "Nonce", "TSr"}, illegal},
		{ExchangeCreateChildSA, request, list{"Nonce", "TSi", "TSr"}, illegal},
		{ExchangeCreateChildSA, request, list{"SA", "TSi", "TSr"}, illegal},
		{ExchangeCreateChildSA, response, list{"SA", "Nonce", "TSi", "TSr"}, legal},
		{ExchangeCreateChildSA, response, list{"N(NO_PROPOSAL_CHOSEN)"}, legal},
		{ExchangeCreateChildSA, response, list{"N(status)"}, illegal},

		{ExchangeInformational, request, list{}, legal},
		{ExchangeInformational, request, list{"D", "D", "N(status)", "CP", "?"}, legal},
		{ExchangeInformational, request, list{"CP", "CP"}, illegal},
		{ExchangeInformational, request, list{"SA"}, illegal},
		{ExchangeInformational, response, list{}, legal},
		{ExchangeInformational, response, list{"D"}, legal},
		{ExchangeInformational, response, list{"AUTH"}, illegal},

		{ExchangeIKEIntermediate, request, list{}, illegal},
		{ExchangeIKESessionResume, request, list{"Nonce", "N(status)", "N(status)"}, legal},
		{ExchangeIKESessionResume, request, list{"N(status)"}, illegal},
		{ExchangeIKESessionResume, request, list{"Nonce", "SA"}, illegal},
		{ExchangeIKESessionResume, response, list{"Nonce", "N(status)"}, legal},
		{ExchangeIKESessionResume, response, list{"N(TICKET_NACK)"}, legal},
		{ExchangeIKESessionResume, response, list{"N(status)"}, illegal},
		{0, request, list{}, illegal},
	} {
		err := Check(x.exchange, x.response, payloads(x.payloads))
		if (err == nil) != x.legal {
			t.Errorf("%v, response %v, %v: %v", x.exchange, x.response, x.payloads, err)
		}
		if err != nil && asError(t, err).Notify != NotifyInvalidSyntax {
			t.Errorf("%v: %v", x.payloads, err)
		}
	}
}

// A10: what may be there once may not be there twice, in any message.
func TestDuplicates(t *testing.T) {
	whole := map[messageKind][]string{
		{ExchangeIKESAInit, false}:     {"SA", "KE", "Nonce"},
		{ExchangeIKESAInit, true}:      {"SA", "KE", "Nonce"},
		{ExchangeIKEAuth, false}:       {"IDi", "IDr", "AUTH", "SA", "TSi", "TSr"},
		{ExchangeIKEAuth, true}:        {"IDr", "AUTH", "SA", "TSi", "TSr"},
		{ExchangeCreateChildSA, false}: {"SA", "Nonce", "KE", "TSi", "TSr"},
		{ExchangeCreateChildSA, true}:  {"SA", "Nonce", "KE", "TSi", "TSr"},
	}
	for kind, names := range whole {
		if err := Check(kind.exchange, kind.response, payloads(names)); err != nil {
			t.Errorf("%v: %v", names, err)
		}
		for _, twice := range names {
			ps := append(payloads(names), sample[twice])
			if Check(kind.exchange, kind.response, ps) == nil {
				t.Errorf("%v, response %v: two %s payloads are accepted", kind.exchange, kind.response, twice)
			}
		}
	}
}

// Every row of the table reports what it requires.
func TestRequiredPayloadsAreReported(t *testing.T) {
	reported := map[PayloadType]bool{}
	for _, kind := range requiredOrder {
		reported[kind] = true
	}
	for kind, rule := range legality {
		for payload, n := range rule {
			if n.min > 0 && !reported[payload] {
				t.Errorf("%v requires %v, which nothing checks", kind, payload)
			}
		}
	}
}
