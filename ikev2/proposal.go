package ikev2

import (
	"slices"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// Proposal is one proposal of an SA payload: for each transform type the
// alternatives, most wanted first (RFC 7296 section 3.3).
type Proposal []wire.Transform

// String lists the transforms as wire does: AES_GCM_16_128/PRF_HMAC_SHA2_256/...
func (p Proposal) String() string {
	return wire.Proposal{Transforms: p}.String()
}

func (p Proposal) of(t wire.TransformType) []wire.Transform {
	return slices.DeleteFunc(slices.Clone(p), func(x wire.Transform) bool { return x.Type != t })
}

func encr(id uint16, bits uint16) wire.Transform {
	return wire.Transform{Type: wire.TransformEncr, ID: id, KeyBits: bits}
}
func prf(id uint16) wire.Transform   { return wire.Transform{Type: wire.TransformPRF, ID: id} }
func integ(id uint16) wire.Transform { return wire.Transform{Type: wire.TransformInteg, ID: id} }
func group(id uint16) wire.Transform { return wire.Transform{Type: wire.TransformKE, ID: id} }
func esn(id uint16) wire.Transform   { return wire.Transform{Type: wire.TransformESN, ID: id} }

var defaultGroups = []wire.Transform{
	group(wire.GroupX25519), group(wire.GroupECP256), group(wire.GroupECP384), group(wire.GroupECP521),
	group(wire.GroupMODP2048), group(wire.GroupMODP3072), group(wire.GroupMODP4096),
}

var defaultAEADs = Proposal{encr(wire.EncrAESGCM16, 128), encr(wire.EncrAESGCM16, 256), encr(wire.EncrChaCha20Poly1305, 0)}

var defaultPRFs = []wire.Transform{prf(wire.PRFHMACSHA2256), prf(wire.PRFHMACSHA2384), prf(wire.PRFHMACSHA2512)}

var defaultIntegs = []wire.Transform{integ(wire.IntegHMACSHA2256128), integ(wire.IntegHMACSHA2384192), integ(wire.IntegHMACSHA2512256)}

var defaultESNs = []wire.Transform{esn(wire.ESNYes), esn(wire.ESNNo)}

// DefaultIKEProposals is what culvert offers and accepts for an IKE SA when
// the configuration names nothing: RFC 8247's algorithms that are neither
// SHA-1 nor shorter than 2048-bit MODP, AEAD before CBC. AES-GCM comes before
// ChaCha20-Poly1305 (RFC 7634), which is the faster one only where the processor
// has no AES.
func DefaultIKEProposals() []Proposal {
	return []Proposal{
		slices.Concat(defaultAEADs, defaultPRFs, defaultGroups),
		slices.Concat(Proposal{encr(wire.EncrAESCBC, 128), encr(wire.EncrAESCBC, 256)}, defaultIntegs, defaultPRFs, defaultGroups),
	}
}

// DefaultESPProposals is the same for a child SA (RFC 8221). Both kinds of
// sequence number are offered: a peer that knows no ESN takes the short one.
// A key exchange is made whenever the peer makes one too.
func DefaultESPProposals() []Proposal {
	cbc := slices.Concat(Proposal{encr(wire.EncrAESCBC, 128), encr(wire.EncrAESCBC, 256)}, defaultIntegs)
	return []Proposal{
		slices.Concat(defaultAEADs, defaultGroups, defaultESNs), slices.Concat(defaultAEADs, defaultESNs),
		slices.Concat(cbc, defaultGroups, defaultESNs), slices.Concat(cbc, defaultESNs),
	}
}

// defaultIKE and defaultESP are one copy for all peers; nobody changes them.
var (
	defaultIKE = func() map[Mode][]Proposal {
		of := map[Mode][]Proposal{}
		for m := ModeDefault; m <= ModeRequire; m++ {
			of[m] = PostQuantum{Mode: m}.among(DefaultIKEProposals())
		}
		return of
	}()
	defaultESP = DefaultESPProposals()
)

// withoutKE drops the key exchanges of ESP proposals for IKE_AUTH, where none
// can be made (RFC 7296 section 1.2).
func withoutKE(ps []Proposal) (out []Proposal) {
	for _, p := range ps {
		p = slices.DeleteFunc(slices.Clone(p), func(t wire.Transform) bool { return t.Type == wire.TransformKE || isAddKE(t) })
		if !slices.ContainsFunc(out, func(o Proposal) bool { return slices.Equal(o, p) }) {
			out = append(out, p)
		}
	}
	return out
}

// firstGroup is the group to try a key exchange with; 0 where none is wanted.
func firstGroup(ps []Proposal) uint16 {
	for _, p := range ps {
		if gs := p.of(wire.TransformKE); len(gs) > 0 {
			return gs[0].ID
		}
	}
	return 0
}

// eitherWay: a key exchange may be made, and need not be.
func eitherWay(ps []Proposal) bool {
	without := func(p Proposal) bool { return len(p.of(wire.TransformKE)) == 0 }
	return slices.ContainsFunc(ps, without) && slices.ContainsFunc(ps, func(p Proposal) bool { return !without(p) })
}

func proposesGroup(ps []Proposal, g uint16) bool {
	return g != 0 && slices.ContainsFunc(ps, func(p Proposal) bool { return slices.Contains(p, group(g)) })
}

// ikeTypes and espTypes say which transform types one choice must hold (RFC
// 7296 section 3.3.3). Integrity is there exactly when the cipher has none of
// its own.
var (
	ikeTypes = append([]wire.TransformType{wire.TransformEncr, wire.TransformPRF, wire.TransformInteg, wire.TransformKE}, addKETypes...)
	espTypes = append([]wire.TransformType{wire.TransformEncr, wire.TransformInteg, wire.TransformKE, wire.TransformESN}, addKETypes...)
)

// choice is the outcome of a negotiation: one transform a type, zero where
// the type has none.
type choice struct {
	number                       uint8
	spi                          []byte
	encr, prf, integ, group, esn wire.Transform
	addKE                        [maxAddKE]wire.Transform
}

func (c *choice) slot(t wire.TransformType) *wire.Transform {
	switch t {
	case wire.TransformEncr:
		return &c.encr
	case wire.TransformPRF:
		return &c.prf
	case wire.TransformInteg:
		return &c.integ
	case wire.TransformKE:
		return &c.group
	case wire.TransformESN:
		return &c.esn
	}
	return &c.addKE[t-wire.TransformADDKE1]
}

func (c choice) transforms(types []wire.TransformType) []wire.Transform {
	var ts []wire.Transform
	for _, t := range types {
		if x := *c.slot(t); x.Type != 0 {
			ts = append(ts, x)
		}
	}
	return ts
}

func (c choice) ikeSuite() keymat.IKESuite {
	s := keymat.IKESuite{Encr: c.encr.ID, KeyBits: c.encr.KeyBits, PRF: c.prf.ID, Integ: c.integ.ID, Group: c.group.ID}
	for i, x := range c.addKE {
		s.AddKE[i] = x.ID
	}
	return s
}

func (c choice) espSuite() ESPSuite {
	return ESPSuite{Encr: c.encr.ID, KeyBits: c.encr.KeyBits, Integ: c.integ.ID, ESN: c.esn.ID == wire.ESNYes}
}

// selectProposal takes the first of our proposals that one of the peer's
// satisfies: for every type, our first alternative that the peer lists too
// (RFC 7296 section 3.3.6). preferGroup, when not zero, wins over our order
// among the groups both sides have, so that a KE payload that can be used is.
func selectProposal(ours []Proposal, theirs []wire.Proposal, proto wire.Protocol, types []wire.TransformType, preferGroup uint16) (choice, bool) {
	for _, own := range ours {
		for _, their := range theirs {
			if their.Protocol != proto {
				continue
			}
			if c, ok := matchProposal(own, their, types, preferGroup); ok {
				return c, true
			}
		}
	}
	return choice{}, false
}

func matchProposal(own Proposal, their wire.Proposal, types []wire.TransformType, preferGroup uint16) (choice, bool) {
	c := choice{number: their.Number, spi: their.SPI}
	for _, t := range types {
		x, ok := matchType(own.of(t), Proposal(their.Transforms).of(t), preferGroup)
		if !ok {
			return choice{}, false
		}
		*c.slot(t) = x
	}
	if keymat.IsAEAD(c.encr.ID) != (c.integ.ID == wire.IntegNone) || hasForeignType(their, types) || c.repeatsMethod() {
		return choice{}, false
	}
	return c, true
}

// matchType takes our first alternative that the peer lists. A type that the
// peer leaves out counts as NONE (RFC 7296 section 3.3.3), and so does one that
// we leave out: then the answer repeats the peer's NONE, or is silent with it.
func matchType(own, their []wire.Transform, preferGroup uint16) (wire.Transform, bool) {
	if len(own) == 0 {
		return matchNone(their)
	}
	if len(their) == 0 {
		return wire.Transform{}, slices.ContainsFunc(own, isNone)
	}
	if i := slices.IndexFunc(own, func(x wire.Transform) bool { return x.Type == wire.TransformKE && x.ID == preferGroup }); i >= 0 && slices.Contains(their, own[i]) {
		return own[i], true
	}
	i := slices.IndexFunc(own, func(x wire.Transform) bool { return slices.Contains(their, x) })
	if i < 0 {
		return wire.Transform{}, false
	}
	return own[i], true
}

func isNone(x wire.Transform) bool { return x.ID == 0 }

func matchNone(their []wire.Transform) (wire.Transform, bool) {
	if len(their) == 0 {
		return wire.Transform{}, true
	}
	i := slices.IndexFunc(their, isNone)
	if i < 0 {
		return wire.Transform{}, false
	}
	return their[i], true
}

// isChoice: an answer holds one proposal with one transform a type (RFC 7296
// section 3.3).
func isChoice(sa *wire.SA) bool {
	seen := map[wire.TransformType]bool{}
	for _, p := range sa.Proposals {
		for _, t := range p.Transforms {
			if seen[t.Type] {
				return false
			}
			seen[t.Type] = true
		}
	}
	return len(sa.Proposals) == 1
}

// hasForeignType: a proposal with a transform type that we do not know, or
// that has no place in this protocol, cannot be accepted (RFC 7296 section
// 3.3.6), unless its only value is NONE.
func hasForeignType(p wire.Proposal, types []wire.TransformType) bool {
	return slices.ContainsFunc(p.Transforms, func(x wire.Transform) bool {
		return !slices.Contains(types, x.Type) && x.ID != 0
	})
}
