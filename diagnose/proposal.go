package diagnose

import (
	"fmt"
	"slices"
	"strings"
)

// A Transform is one algorithm of a proposal.
type Transform struct {
	Type string // what it is for: "encryption", "key exchange"
	Name string // as the field names it: "AES_GCM_16_256"
	// Written is how the configuration writes it, empty where it is not an algorithm that we have.
	Written string
}

// A Proposal lists the alternatives of each type. One transform of each type must be common.
type Proposal []Transform

// NoProposal is a side's view of two lists of proposals that have nothing in common. An initiator that was told NO_PROPOSAL_CHOSEN does
// not know Theirs.
type NoProposal struct {
	Peer         Peer
	Connection   Connection // the zero one where the peer is not known yet
	For          string     // what was to be protected: "IKE" or "ESP"
	Ours, Theirs []Proposal
	// Renewal: the tunnel is up, and its keys were to be replaced.
	Renewal bool
	// At is where our proposals are configured, PlainAt where it is said that no post-quantum key exchange is made, if it is.
	At, PlainAt Setting
}

// Report shows both lists and the smallest change that makes them meet.
func (f NoProposal) Report() Report {
	summary := fmt.Sprintf("peer at %v and this side have no %s proposal in common", f.Peer, clean(f.For))
	if f.Connection.Name != "" {
		summary += " for " + f.Connection.String()
	}
	switch {
	case len(f.Theirs) == 0 && f.Renewal:
		return compose("pfs", fmt.Sprintf("peer at %v refuses to renew the keys of a tunnel of %s that it has let come up", f.Peer, f.Connection),
			fmt.Sprintf("This side offers %s. The peer took that when the tunnel came up, without the key exchange; so it is the key exchange that it wants otherwise.", proposals(f.Ours)),
			forwardSecrecy, f.otherSecrecy())
	case len(f.Theirs) == 0:
		return compose("refused_proposal", summary, fmt.Sprintf("The peer accepts nothing of what this side offers: %s.", proposals(f.Ours)), f.refused())
	}
	lists := fmt.Sprintf("Each side has a list of sets of algorithms, and one set has to be in both. The peer has %s. Here there is %s.", proposals(f.Theirs), proposals(f.Ours))
	if _, _, types, ok := f.nearest(); f.For == "ESP" && ok && slices.Equal(types, []string{"key exchange"}) {
		return compose("pfs", summary, lists, f.change(), forwardSecrecy)
	}
	return compose("no_proposal", summary, lists, f.change(), f.weakGroup())
}

// forwardSecrecy explains why a tunnel that came up is refused later.
const forwardSecrecy = "This is perfect forward secrecy (VyOS: `pfs`), which the two sides have set differently. The first keys of a tunnel come with the connection and have no key exchange of their own, so that it shows only when they are replaced: until both sides are the same, the tunnel carries packets, and ends with each lifetime."

// otherSecrecy is what an initiator can try without knowing the peer's list.
func (f NoProposal) otherSecrecy() string {
	makes := slices.ContainsFunc(f.Ours, func(p Proposal) bool { return len(p.of("key exchange")) > 0 })
	s := "Either the peer makes none: then take both ways here. Or it makes one with another group: then add that one, which its log or configuration names."
	if !makes {
		s = "This side makes none, so the peer wants one: add the group that the peer has, as in `aes256gcm16-x25519`."
	}
	if f.At.Key == "" {
		return s
	}
	var without []Proposal
	for _, p := range f.Ours {
		without = append(without, slices.DeleteFunc(slices.Clone(p), func(t Transform) bool { return t.Type == "key exchange" || t.Type == moreKeyExchange }))
	}
	if lists, ok := f.list(without...); ok && makes {
		return s + fmt.Sprintf(" For the first, here, %s.", f.changeTo(lists))
	}
	return s + fmt.Sprintf(" Here that is at %s.", f.At.place())
}

func (f NoProposal) refused() string {
	s := "The peer does not say what it would accept: its configuration or its log does."
	if f.At.Key != "" {
		s += fmt.Sprintf(" One set of algorithms from there has to be in the list here, at %s.", f.At.place())
	}
	if f.For == "ESP" {
		s += " Where the tunnel was up before, it is the group in it that differs (perfect forward secrecy): the first keys of a tunnel need none."
	}
	if f.PlainAt.Key != "" {
		s += fmt.Sprintf(" Or it requires a post-quantum key exchange, which this side does not offer: then, here, %s.", f.Connection.changePlain(f.PlainAt))
	}
	return s
}

func proposals(ps []Proposal) string {
	words := make([]string, len(ps))
	for i, p := range ps {
		words[i] = p.String()
	}
	return shortList(words)
}

// shortList is list for words that are long and clean.
func shortList(words []string) string {
	const most = 4
	if len(words) == 0 {
		return "nothing"
	}
	joined := strings.Join(words[:min(len(words), most)], "; ")
	if more := len(words) - most; more > 0 {
		joined += fmt.Sprintf("; and %d more", more)
	}
	return joined
}

// String is the proposal by types: "AES_GCM_16_256, AES_GCM_16_128 / CURVE_25519".
func (p Proposal) String() string {
	var parts []string
	for _, t := range p.types() {
		parts = append(parts, list(p.names(t)))
	}
	if len(parts) == 0 {
		return "an empty proposal"
	}
	const most = 8
	return strings.Join(parts[:min(len(parts), most)], " / ")
}

// types lists the proposal's types in their order.
func (p Proposal) types() (types []string) {
	for _, t := range p {
		if !slices.Contains(types, t.Type) {
			types = append(types, t.Type)
		}
	}
	return types
}

func (p Proposal) of(typ string) Proposal {
	return slices.DeleteFunc(slices.Clone(p), func(t Transform) bool { return t.Type != typ })
}

func (p Proposal) names(typ string) (names []string) {
	for _, t := range p.of(typ) {
		if !slices.Contains(names, t.Name) {
			names = append(names, t.Name)
		}
	}
	return names
}

// apart lists the types in which two proposals have nothing in common.
func apart(a, b Proposal) (types []string) {
	for _, t := range slices.Concat(a, b).types() {
		common := slices.ContainsFunc(a.names(t), func(n string) bool { return slices.Contains(b.names(t), n) })
		if !common {
			types = append(types, t)
		}
	}
	return types
}

// nearest is the pair of proposals that differ in the fewest types.
func (f NoProposal) nearest() (ours, theirs Proposal, types []string, ok bool) {
	for _, o := range f.Ours {
		for _, t := range f.Theirs {
			if d := apart(o, t); !ok || len(d) < len(types) {
				ours, theirs, types, ok = o, t, d, true
			}
		}
	}
	return ours, theirs, types, ok
}

// change tells what each side would have to add for the nearest pair to meet.
func (f NoProposal) change() string {
	ours, theirs, types, ok := f.nearest()
	if !ok || len(types) == 0 {
		return ""
	}
	var differ, lacking, offer []string
	for _, t := range types {
		differ = append(differ, fmt.Sprintf("%s (there %s, here %s)", clean(t), list(theirs.names(t)), list(ours.names(t))))
		if p := ours.of(t); len(p) > 0 {
			offer = append(offer, p[0].Name)
		}
		if theirs := theirs.of(t); len(theirs) > 0 && !slices.ContainsFunc(theirs, Transform.isWritten) {
			lacking = append(lacking, theirs[0].Name)
		}
	}
	s := "The nearest two differ in " + strings.Join(differ, " and ") + ". "
	theirsToo := fmt.Sprintf("let the peer offer %s too", list(offer))
	if len(offer) == 0 {
		theirsToo = "let the peer offer a proposal without"
	}
	switch {
	case f.PlainAt.Key != "" && slices.Equal(types, []string{moreKeyExchange}):
		return s + fmt.Sprintf("The peer requires a post-quantum key exchange. Either here, %s; or %s.", f.Connection.changePlain(f.PlainAt), theirsToo)
	case len(lacking) > 0:
		return s + fmt.Sprintf("There is no %s here, so the peer has to change: %s.", list(lacking), theirsToo)
	case f.At.Style == VyOS:
		return s + fmt.Sprintf("Either add a proposal of %s here, at %s; or %s.", list(theirs.meeting(ours).words()), f.At.place(), theirsToo)
	}
	add := theirs.meeting(ours)
	if lists, ok := f.list(add); ok && f.At.Key != "" {
		return s + fmt.Sprintf("Either here, %s; or %s.", f.changeTo(lists), theirsToo)
	}
	where := ""
	if f.At.Key != "" {
		where = ", at " + f.At.place()
	}
	return s + fmt.Sprintf("Either add %s here%s; or %s.", code(strings.Join(add.words(), "-")), where, theirsToo)
}

const moreKeyExchange = "additional key exchange"

func (p Proposal) isPostQuantum() bool { return len(p.of(moreKeyExchange)) > 0 }

func (t Transform) isWritten() bool { return t.Written != "" }

// meeting is the least of p that has something in common with both p and q, if q is given all of it.
func (p Proposal) meeting(q Proposal) (least Proposal) {
	for _, typ := range p.types() {
		of := slices.DeleteFunc(p.of(typ), func(t Transform) bool { return !t.isWritten() })
		i := slices.IndexFunc(of, func(t Transform) bool { return slices.Contains(q.names(typ), t.Name) })
		if len(of) > 0 && !(typ == sequenceNumbers && len(of) > 1) {
			least = append(least, of[max(i, 0)])
		}
	}
	return least
}

// sequenceNumbers of both lengths are what a proposal has that says nothing of them.
const sequenceNumbers = "sequence numbers"

// words are the proposal as a configuration writes it, which joins them by '-'.
func (p Proposal) words() (words []string) {
	for _, typ := range p.types() {
		of := p.of(typ)
		for _, t := range of {
			if !(typ == sequenceNumbers && len(of) > 1) {
				words = append(words, t.Written)
			}
		}
	}
	return words
}

// list is ours as a configuration writes it, with more behind it. Not ok: it is better not written out. What is not in the configuration yet is
// the default, which more takes the place of.
func (f NoProposal) list(more ...Proposal) (all []string, ok bool) {
	const most = 4
	var ours []Proposal
	for _, p := range f.Ours {
		plain := slices.DeleteFunc(slices.Clone(p), func(t Transform) bool { return t.Type == moreKeyExchange })
		added := p.isPostQuantum() && slices.ContainsFunc(f.Ours, func(q Proposal) bool { return slices.Equal(q, plain) }) // by `post_quantum`
		if !added && f.At.Line > 0 {
			ours = append(ours, p)
		}
	}
	for _, p := range append(ours, more...) {
		word := strings.Join(p.words(), "-")
		if slices.Contains(p.words(), "") || word == "" {
			return nil, false
		}
		if !slices.Contains(all, word) {
			all = append(all, word)
		}
	}
	return all, len(all) <= most
}

func (f NoProposal) changeTo(words []string) string {
	return f.Connection.change(f.At, f.At.assignList(words), "proposals", list(words))
}

func (c Connection) changePlain(s Setting) string {
	return c.change(s, s.assign("prefer"), "post-quantum key exchange", "prefer")
}

// weakGroup knows the one managed peer whose default cannot be met: Azure's gateways offer MODP-1024 alone.
func (f NoProposal) weakGroup() string {
	weak := func(t Transform) bool { return strings.Contains(t.Name, "MODP") && strings.HasSuffix(t.Name, "1024") }
	if !slices.ContainsFunc(slices.Concat(f.Theirs...), weak) {
		return ""
	}
	return "MODP-1024 is too weak to be offered here (RFC 8247); the default policy of Azure's VPN gateways has no other group and needs a custom IPsec policy there."
}
