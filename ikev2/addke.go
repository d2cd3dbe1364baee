package ikev2

import (
	"slices"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// PostQuantum is a peer's policy for additional key exchanges (RFC 9370).
type PostQuantum struct {
	// Mode: ModePrefer by default. ModeOff does not offer them, but takes them of
	// a peer that wants them, where another peer of the gateway may have them:
	// when they are chosen, nobody knows yet who the peer is.
	Mode Mode
	// Methods are the key exchange methods to offer as ADDKE1, most wanted first;
	// empty means ML-KEM-768, then ML-KEM-1024.
	Methods []uint16
}

// maxAddKE is how many additional key exchanges there may be (RFC 9370 section
// 2.2.1).
const maxAddKE = 7

// addKETypes are ADDKE1 to ADDKE7, in the order in which they take place.
var addKETypes = func() (ts []wire.TransformType) {
	for t := wire.TransformADDKE1; t <= wire.TransformADDKE7; t++ {
		ts = append(ts, t)
	}
	return ts
}()

func isAddKE(x wire.Transform) bool { return slices.Contains(addKETypes, x.Type) }

// additional says that the proposal asks for an additional key exchange, be it
// optional.
func (p Proposal) additional() bool {
	return slices.ContainsFunc(p, func(x wire.Transform) bool { return isAddKE(x) && x.ID != 0 })
}

// methods are the additional key exchanges of a choice, in order. NONE is none
// (RFC 9370 section 2.2.1).
func (c *choice) methods() (ids []uint16) {
	for _, x := range c.addKE {
		if x.ID != 0 {
			ids = append(ids, x.ID)
		}
	}
	return ids
}

// repeatsMethod: a method may be chosen but once (RFC 9370 section 2.2.1).
func (c *choice) repeatsMethod() bool {
	all := append(c.methods(), c.group.ID)
	slices.Sort(all)
	return len(slices.Compact(slices.Clone(all))) != len(all)
}

// proposals are what a peer's IKE SAs may have; an empty list stands for the
// defaults.
func (q PostQuantum) proposals(ps []Proposal) []Proposal {
	switch {
	case len(ps) > 0:
		return q.among(ps)
	case len(q.Methods) > 0:
		return q.among(DefaultIKEProposals())
	}
	return defaultIKE[q.Mode]
}

// among puts a proposal with an additional key exchange in front for each
// without one. A peer that knows none passes over what it does not understand
// and takes one of the others (RFC 7296 section 3.3.6), which NONE beside the
// method would not allow. A list that has some already says itself what it wants.
func (q PostQuantum) among(ps []Proposal) []Proposal {
	more := ps
	if !slices.ContainsFunc(ps, Proposal.additional) {
		more = append(q.extended(ps), ps...)
	}
	switch q.Mode {
	case ModeOff:
		return classical(ps)
	case ModeRequire:
		return slices.DeleteFunc(slices.Clone(more), func(p Proposal) bool { return !p.additional() })
	}
	return more
}

// extended gives the same proposals, each with an additional key exchange.
func (q PostQuantum) extended(ps []Proposal) (out []Proposal) {
	methods := q.Methods
	if len(methods) == 0 {
		methods = []uint16{wire.GroupMLKEM768, wire.GroupMLKEM1024}
	}
	for _, p := range ps {
		p = slices.Clone(p)
		for _, id := range methods {
			p = append(p, wire.Transform{Type: wire.TransformADDKE1, ID: id})
		}
		out = append(out, p)
	}
	return out
}

// acceptable adds to what is offered for a child SA what a peer may ask for
// beyond it: its keys come of SK_d, which an additional key exchange made, but a
// peer may want another one for each child.
func (q PostQuantum) acceptable(ps []Proposal) []Proposal {
	withKE := slices.DeleteFunc(slices.Clone(ps), func(p Proposal) bool { return p.additional() || len(p.of(wire.TransformKE)) == 0 })
	if q.Mode == ModeOff {
		return ps
	}
	return slices.Concat(ps, q.extended(withKE))
}

// classical leaves out the proposals with additional key exchanges.
func classical(ps []Proposal) []Proposal {
	return slices.DeleteFunc(slices.Clone(ps), Proposal.additional)
}

// mostlyClassical is what an event says of our proposals: those with an
// additional key exchange are the same again, where there are others.
func mostlyClassical(ps []Proposal) []Proposal {
	if c := classical(ps); len(c) > 0 {
		return c
	}
	return ps
}

// withoutAddKE drops the additional key exchanges of proposals.
func withoutAddKE(ps []Proposal) (out []Proposal) {
	for _, p := range ps {
		out = append(out, slices.DeleteFunc(slices.Clone(p), isAddKE))
	}
	return out
}

// additionalFirst orders what all peers accept, so that a peer with one more
// key exchange to offer gets it whoever else is configured.
func additionalFirst(ps []Proposal) []Proposal {
	return append(slices.DeleteFunc(slices.Clone(ps), func(p Proposal) bool { return !p.additional() }), classical(ps)...)
}

// allowsAddKE: the proposal lets an IKE SA have these additional key exchanges.
// One without any has nothing against them.
func (p Proposal) allowsAddKE(chosen [maxAddKE]uint16) bool {
	if !p.additional() {
		return true
	}
	for i, t := range addKETypes {
		own := p.of(t)
		if len(own) > 0 && !slices.Contains(own, wire.Transform{Type: t, ID: chosen[i]}) {
			return false
		}
	}
	return true
}

// addKEMethods are the additional key exchanges of a suite, in order.
func addKEMethods(s keymat.IKESuite) (ids []uint16) {
	for _, id := range s.AddKE {
		if id != 0 {
			ids = append(ids, id)
		}
	}
	return ids
}
