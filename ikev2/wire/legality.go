package wire

// occurs is how often a payload may be in a message.
type occurs struct{ min, max int }

var (
	once     = occurs{1, 1}
	optional = occurs{0, 1}
	anyTimes = occurs{0, maxPayloads}
)

// messageKind is the kind of message that a row of legality is about.
type messageKind struct {
	exchange ExchangeType
	response bool
}

// legality is what each message may hold (RFC 7296 sections 1.2 to 1.4 and
// appendix C; IKE_INTERMEDIATE and IKE_FOLLOWUP_KE carry additional key
// exchanges here, RFC 9370 sections 2.2.2 and 2.2.4). A payload that is not named is forbidden, but unknown payloads
// are always passed over. An exchange that is not named is not spoken here.
//
// AUTH is optional in a request so that a peer that wants EAP is answered
// AUTHENTICATION_FAILED, and SA, TSi and TSr so that an IKE SA may come without
// a child (RFC 6023) or survive the refusal of one.
var legality = map[messageKind]map[PayloadType]occurs{
	{ExchangeIKESAInit, false}: {
		PayloadSA: once, PayloadKE: once, PayloadNonce: once,
		PayloadNotify: anyTimes, PayloadVendor: anyTimes,
	},
	{ExchangeIKESAInit, true}: {
		PayloadSA: once, PayloadKE: once, PayloadNonce: once,
		PayloadCertReq: anyTimes, PayloadNotify: anyTimes, PayloadVendor: anyTimes,
	},
	{ExchangeIKESessionResume, false}: { // RFC 5723 section 4.3.1
		PayloadNonce: once, PayloadNotify: anyTimes, PayloadVendor: anyTimes,
	},
	{ExchangeIKESessionResume, true}: {
		PayloadNonce: once, PayloadNotify: anyTimes, PayloadVendor: anyTimes,
	},
	{ExchangeIKEAuth, false}: {
		PayloadIDi: once, PayloadIDr: optional, PayloadAuth: optional, PayloadEAP: optional,
		PayloadSA: optional, PayloadTSi: optional, PayloadTSr: optional, PayloadCP: optional,
		PayloadCert: anyTimes, PayloadCertReq: anyTimes, PayloadNotify: anyTimes, PayloadVendor: anyTimes,
	},
	{ExchangeIKEAuth, true}: {
		PayloadIDr: once, PayloadAuth: once, PayloadEAP: optional,
		PayloadSA: optional, PayloadTSi: optional, PayloadTSr: optional, PayloadCP: optional,
		PayloadCert: anyTimes, PayloadNotify: anyTimes, PayloadVendor: anyTimes,
	},
	{ExchangeIKEIntermediate, false}: {PayloadKE: once, PayloadNotify: anyTimes, PayloadVendor: anyTimes},
	{ExchangeIKEIntermediate, true}:  {PayloadKE: once, PayloadNotify: anyTimes, PayloadVendor: anyTimes},
	{ExchangeCreateChildSA, false}: {
		PayloadSA: once, PayloadNonce: once, PayloadKE: optional,
		PayloadTSi: optional, PayloadTSr: optional, PayloadCP: optional,
		PayloadNotify: anyTimes, PayloadVendor: anyTimes,
	},
	{ExchangeCreateChildSA, true}: {
		PayloadSA: once, PayloadNonce: once, PayloadKE: optional,
		PayloadTSi: optional, PayloadTSr: optional, PayloadCP: optional,
		PayloadNotify: anyTimes, PayloadVendor: anyTimes,
	},
	{ExchangeIKEFollowupKE, false}: {PayloadKE: once, PayloadNotify: anyTimes, PayloadVendor: anyTimes},
	{ExchangeIKEFollowupKE, true}:  {PayloadKE: once, PayloadNotify: anyTimes, PayloadVendor: anyTimes},
	{ExchangeInformational, false}: {
		PayloadNotify: anyTimes, PayloadDelete: anyTimes, PayloadCP: optional, PayloadVendor: anyTimes,
	},
	{ExchangeInformational, true}: {
		PayloadNotify: anyTimes, PayloadDelete: anyTimes, PayloadCP: optional, PayloadVendor: anyTimes,
	},
}

// Check compares the payloads of one message, decrypted where they came
// encrypted, with what RFC 7296 lets its exchange hold. A response that refuses
// may hold notifications alone. The error is an *Error.
func Check(exchange ExchangeType, response bool, ps []Payload) error {
	rule, ok := legality[messageKind{exchange, response}]
	if !ok {
		return malformed("%v is not spoken here", exchange)
	}
	counts := map[PayloadType]int{}
	for _, p := range ps {
		t := p.Type()
		if _, unknown := p.(*Unknown); unknown {
			continue
		}
		counts[t]++
		if counts[t] > rule[t].max {
			return malformed("%v: more than %d %v payloads", exchange, rule[t].max, t)
		}
	}
	if response && isRefusal(ps) {
		return nil
	}
	for _, t := range requiredOrder {
		if counts[t] < rule[t].min {
			return malformed("%v: no %v payload", exchange, t)
		}
	}
	return checkSelectors(exchange, counts)
}

// requiredOrder are the payloads that some message must have, in the order in
// which their absence is reported.
var requiredOrder = []PayloadType{PayloadSA, PayloadKE, PayloadNonce, PayloadIDi, PayloadIDr, PayloadAuth}

// checkSelectors: TSi and TSr come together. In IKE_AUTH they come with an SA
// or not at all; in CREATE_CHILD_SA the SA, which is required, may be an IKE
// SA's and without them (RFC 7296 section 1.3.2).
func checkSelectors(exchange ExchangeType, counts map[PayloadType]int) error {
	sa, tsi, tsr := counts[PayloadSA], counts[PayloadTSi], counts[PayloadTSr]
	if tsi != tsr || exchange == ExchangeIKEAuth && sa != tsi {
		return malformed("%v: SA, TSi and TSr payloads do not belong together", exchange)
	}
	return nil
}

// refusals are the status notifications that take the place of an answer as an
// error does: try again with this cookie (RFC 7296 section 2.6), elsewhere (RFC
// 5685), without a ticket (RFC 5723).
var refusals = map[NotifyType]bool{NotifyCookie: true, NotifyRedirect: true, NotifyTicketNACK: true}

// isRefusal: nothing but notifications, one of which refuses.
func isRefusal(ps []Payload) bool {
	refused := false
	for _, p := range ps {
		switch p := p.(type) {
		case *Notify:
			refused = refused || p.NotifyType.IsError() || refusals[p.NotifyType]
		case *VendorID, *Unknown:
		default:
			return false
		}
	}
	return refused
}
