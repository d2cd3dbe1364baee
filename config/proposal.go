package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// The algorithms by the keywords of strongSwan's proposals, which are the
// ones in use: aes128gcm16-prfsha256-x25519. The first name of an algorithm
// is the one that is printed.
var keywords = []struct {
	names     []string
	transform wire.Transform
}{
	{[]string{"aes128gcm16", "aes128gcm128", "aesgcm16", "aesgcm128"}, encr(wire.EncrAESGCM16, 128)},
	{[]string{"aes192gcm16", "aes192gcm128"}, encr(wire.EncrAESGCM16, 192)},
	{[]string{"aes256gcm16", "aes256gcm128"}, encr(wire.EncrAESGCM16, 256)},
	{[]string{"chacha20poly1305"}, encr(wire.EncrChaCha20Poly1305, 0)},
	{[]string{"aes128", "aes"}, encr(wire.EncrAESCBC, 128)},
	{[]string{"aes192"}, encr(wire.EncrAESCBC, 192)},
	{[]string{"aes256"}, encr(wire.EncrAESCBC, 256)},
	{[]string{"sha256", "sha2_256"}, transform(wire.TransformInteg, wire.IntegHMACSHA2256128)},
	{[]string{"sha384", "sha2_384"}, transform(wire.TransformInteg, wire.IntegHMACSHA2384192)},
	{[]string{"sha512", "sha2_512"}, transform(wire.TransformInteg, wire.IntegHMACSHA2512256)},
	{[]string{"prfsha256"}, transform(wire.TransformPRF, wire.PRFHMACSHA2256)},
	{[]string{"prfsha384"}, transform(wire.TransformPRF, wire.PRFHMACSHA2384)},
	{[]string{"prfsha512"}, transform(wire.TransformPRF, wire.PRFHMACSHA2512)},
	{[]string{"x25519", "curve25519"}, transform(wire.TransformKE, wire.GroupX25519)},
	{[]string{"ecp256"}, transform(wire.TransformKE, wire.GroupECP256)},
	{[]string{"ecp384"}, transform(wire.TransformKE, wire.GroupECP384)},
	{[]string{"ecp521"}, transform(wire.TransformKE, wire.GroupECP521)},
	{[]string{"modp2048"}, transform(wire.TransformKE, wire.GroupMODP2048)},
	{[]string{"modp3072"}, transform(wire.TransformKE, wire.GroupMODP3072)},
	{[]string{"modp4096"}, transform(wire.TransformKE, wire.GroupMODP4096)},
	{[]string{"esn"}, transform(wire.TransformESN, wire.ESNYes)},
	{[]string{"noesn"}, transform(wire.TransformESN, wire.ESNNo)},
}

// methods are the additional key exchanges (RFC 9370) that are none else: their
// keywords begin with ke1_ to ke7_, the ones above can follow too.
var methods = []method{{"mlkem768", wire.GroupMLKEM768}, {"mlkem1024", wire.GroupMLKEM1024}, {"mlkem512", wire.GroupMLKEM512}, {"none", wire.GroupNone}}

type method struct {
	name string
	id   uint16
}

// additional parts the keyword of an additional key exchange.
var additional = regexp.MustCompile(`^ke([1-7])_(.+)$`)

func transform(t wire.TransformType, id uint16) wire.Transform {
	return wire.Transform{Type: t, ID: id}
}

func encr(id, bits uint16) wire.Transform {
	return wire.Transform{Type: wire.TransformEncr, ID: id, KeyBits: bits}
}

// implied is the pseudorandom function that goes with a hash where no other
// is named, as strongSwan and VyOS have it.
var implied = map[uint16]uint16{
	wire.IntegHMACSHA2256128: wire.PRFHMACSHA2256,
	wire.IntegHMACSHA2384192: wire.PRFHMACSHA2384,
	wire.IntegHMACSHA2512256: wire.PRFHMACSHA2512,
}

// refusals are keywords that peers know and culvert does not take, with the
// reason and what to write instead.
var refusals = []struct {
	pattern     *regexp.Regexp
	why, remedy string
}{
	{re(`3?des|blowfish.*|cast128|serpent.*|twofish.*`), "is too weak or out of use (RFC 8221, RFC 8247)", "use aes256gcm16, or aes256 with sha256"},
	{re(`null`), "encrypts nothing", "use aes128gcm16"},
	{re(`(prf)?(md5|sha1?|sha1_160|md5_128)`), "is out of use (RFC 8221, RFC 8247)", "use sha256 here and at the peer"},
	{re(`modp(768|1024|1536|1024s160|2048s224|2048s256)|ecp192|ecp224`), "is too weak (RFC 8247)", "use x25519, ecp256 or modp2048 here and at the peer"},
	{re(`mlkem(512|768|1024)`), "is made beside a classical key exchange", "write it as x25519-ke1_mlkem768"},
	{re(`kyber\w*`), "is a draft of ML-KEM", "use ke1_mlkem768"},
	{re(`modp(6144|8192)|ecp\w+bp|curve448|x448|newhope\w*|ntru\w*`), "is not supported", "use x25519, ecp384 or modp4096"},
	{re(`aes\d*(ctr|ccm\d*|gcm8|gcm12|gcm64|gcm96|gmac)|aes\d*gcm|camellia.*|chacha20poly1305compat`), "is not supported", "use aes128gcm16 or aes256gcm16"},
	{re(`sha256_96|sha2_256_96`), "is not the truncation of RFC 4868 and not supported", "use sha256 here and at the peer"},
	{re(`(prf)?aes(xcbc|cmac)|aes\d+gmac`), "is not supported", "use sha256, or prfsha256 with aes128gcm16"},
}

func re(pattern string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + pattern + `)$`) }

// findKeyword is the algorithm of that name. Names of the kinds are suggested
// where there is none.
func findKeyword(name string, kinds ...wire.TransformType) (wire.Transform, *fault) {
	if parts := additional.FindStringSubmatch(name); parts != nil {
		return findAdditional(name, wire.TransformADDKE1+wire.TransformType(parts[1][0]-'1'), parts[2])
	}
	var known []string
	for _, k := range keywords {
		if slices.Contains(k.names, name) {
			return k.transform, nil
		}
		if slices.Contains(kinds, k.transform.Type) {
			known = append(known, k.names[0])
		}
	}
	if f := refusal(name); f != nil {
		return wire.Transform{}, f
	}
	return wire.Transform{}, faultf(didYouMean(name, known), "unknown algorithm %q", name)
}

func findAdditional(name string, t wire.TransformType, method string) (wire.Transform, *fault) {
	var known []string
	for _, m := range methods {
		if m.name == method {
			return transform(t, m.id), nil
		}
		known = append(known, m.name)
	}
	classical, f := findKeyword(method, wire.TransformKE)
	switch {
	case f == nil && classical.Type == wire.TransformKE:
		return transform(t, classical.ID), nil
	case refusal(method) != nil:
		return wire.Transform{}, refusal(method)
	}
	return wire.Transform{}, faultf(didYouMean(method, known), "unknown key exchange %q", name)
}

func isAdditional(t wire.Transform) bool {
	return t.Type >= wire.TransformADDKE1 && t.Type <= wire.TransformADDKE7
}

// additionalOf are a proposal's additional key exchanges.
func additionalOf(p ikev2.Proposal) ikev2.Proposal {
	return slices.DeleteFunc(slices.Clone(p), func(t wire.Transform) bool { return !isAdditional(t) })
}

func refusal(name string) *fault {
	for _, r := range refusals {
		if r.pattern.MatchString(name) {
			return faultf(r.remedy, "algorithm %q %s", name, r.why)
		}
	}
	return nil
}

// protocolUse is what distinguishes a proposal for the IKE SA from one for a
// child SA.
type protocolUse struct {
	name  string
	types []wire.TransformType // that may be in it, beside additional key exchanges
}

var (
	forIKE = protocolUse{"IKE", []wire.TransformType{wire.TransformEncr, wire.TransformInteg, wire.TransformPRF, wire.TransformKE}}
	forESP = protocolUse{"ESP", []wire.TransformType{wire.TransformEncr, wire.TransformInteg, wire.TransformKE, wire.TransformESN}}
)

var transformNouns = map[wire.TransformType]string{
	wire.TransformPRF: "a pseudorandom function",
	wire.TransformESN: "a choice of sequence numbers",
}

// parseProposal reads keywords joined by '-'. Keywords of one kind are
// alternatives, most wanted first.
func parseProposal(s string, use protocolUse) (ikev2.Proposal, *fault) {
	var p ikev2.Proposal
	offset := 0
	for word := range strings.SplitSeq(s, "-") {
		t, f := findKeyword(word, use.types...)
		switch {
		case f != nil:
		case !slices.Contains(use.types, t.Type) && !isAdditional(t):
			f = faultf("leave it out", "%q is %s, which an %s proposal does not have", word, transformNouns[t.Type], use.name)
		case slices.Contains(p, t):
			f = faultf("write it once", "algorithm %q is in the proposal twice", word)
		}
		if f != nil {
			f.offset = offset
			return nil, f
		}
		p = append(p, t)
		offset += len(word) + 1
	}
	return completeProposal(p, s, use)
}

// completeProposal brings a proposal to the form that goes on the wire (RFC
// 7296 section 3.3.3): ordered by type, with what keywords imply, integrity
// only beside a cipher that has none of its own.
func completeProposal(p ikev2.Proposal, s string, use protocolUse) (ikev2.Proposal, *fault) {
	ciphers, integs := ofType(p, wire.TransformEncr), ofType(p, wire.TransformInteg)
	if len(ciphers) == 0 {
		return nil, faultf("begin it with aes128gcm16 or aes256", "proposal %q has no cipher", s)
	}
	if len(additionalOf(p)) > 0 && len(ofType(p, wire.TransformKE)) == 0 {
		return nil, faultf("add x25519, or another classical key exchange", "proposal %q has an additional key exchange beside none", s)
	}
	aead := isAEAD(ciphers[0])
	if slices.ContainsFunc(ciphers, func(t wire.Transform) bool { return isAEAD(t) != aead }) {
		return nil, faultf("make two proposals of it", "proposal %q mixes ciphers with and without integrity of their own", s)
	}
	if !aead && len(integs) == 0 {
		return nil, faultf("add -sha256", "proposal %q has no integrity algorithm, which its cipher needs", s)
	}
	rest, f := completeIKE(p, integs, s)
	if use.name == forESP.name {
		rest, f = completeESP(p), nil
	}
	if aead {
		integs = nil
	}
	return slices.Concat(ciphers, integs, rest), f
}

func completeIKE(p ikev2.Proposal, integs ikev2.Proposal, s string) (ikev2.Proposal, *fault) {
	prfs, groups := ofType(p, wire.TransformPRF), ofType(p, wire.TransformKE)
	if len(prfs) == 0 {
		prfs = impliedPRFs(integs)
	}
	switch {
	case len(prfs) == 0:
		return nil, faultf("add -prfsha256", "IKE proposal %q has no pseudorandom function", s)
	case len(groups) == 0:
		return nil, faultf("add -x25519", "IKE proposal %q has no key exchange", s)
	}
	return slices.Concat(prfs, groups, sortedAdditional(p)), nil
}

// completeESP offers both kinds of sequence number where none is asked for.
func completeESP(p ikev2.Proposal) ikev2.Proposal {
	esn := ofType(p, wire.TransformESN)
	if len(esn) == 0 {
		esn = ikev2.Proposal{transform(wire.TransformESN, wire.ESNYes), transform(wire.TransformESN, wire.ESNNo)}
	}
	return slices.Concat(ofType(p, wire.TransformKE), esn, sortedAdditional(p))
}

// sortedAdditional are in the order in which they take place.
func sortedAdditional(p ikev2.Proposal) ikev2.Proposal {
	return slices.SortedStableFunc(slices.Values(additionalOf(p)), func(a, b wire.Transform) int { return cmp.Compare(a.Type, b.Type) })
}

func impliedPRFs(integs ikev2.Proposal) ikev2.Proposal {
	var prfs ikev2.Proposal
	for _, t := range integs {
		prfs = append(prfs, transform(wire.TransformPRF, implied[t.ID]))
	}
	return prfs
}

func ofType(p ikev2.Proposal, t wire.TransformType) ikev2.Proposal {
	return slices.DeleteFunc(slices.Clone(p), func(x wire.Transform) bool { return x.Type != t })
}

func isAEAD(t wire.Transform) bool {
	return t.ID == wire.EncrAESGCM16 || t.ID == wire.EncrChaCha20Poly1305
}

// withKE gives an ESP proposal key exchanges. They count only where a child SA
// is made later or replaced: the first one takes its keys from the IKE SA's
// (RFC 7296 section 1.2).
func withKE(p, groups ikev2.Proposal) ikev2.Proposal {
	rest := slices.DeleteFunc(slices.Clone(p), func(t wire.Transform) bool { return t.Type == wire.TransformKE })
	at := slices.IndexFunc(rest, func(t wire.Transform) bool { return t.Type == wire.TransformESN })
	return slices.Insert(rest, max(at, 0), groups...)
}

// proposalKeywords is what parseProposal reads. What a proposal's keywords
// imply is left out.
func proposalKeywords(p ikev2.Proposal) string {
	skip := impliedPRFs(ofType(p, wire.TransformInteg))
	if !slices.Equal(skip, ofType(p, wire.TransformPRF)) {
		skip = nil
	}
	var words []string
	for _, t := range p {
		if !slices.Contains(skip, t) {
			words = append(words, Keyword(t))
		}
	}
	return strings.Join(words, "-")
}

// Keyword is how a proposal in a configuration writes the algorithm; "" for
// one that it cannot have.
func Keyword(t wire.Transform) string {
	if isAdditional(t) {
		return fmt.Sprintf("ke%d_%s", t.Type-wire.TransformADDKE1+1, methodText(t.ID))
	}
	for _, k := range keywords {
		if k.transform == t {
			return k.names[0]
		}
	}
	return ""
}
