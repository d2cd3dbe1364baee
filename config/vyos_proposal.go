package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// dhGroups are strongSwan's keywords for the numbers of VyOS.
var dhGroups = map[string]string{
	"1": "modp768", "2": "modp1024", "5": "modp1536", "14": "modp2048", "15": "modp3072", "16": "modp4096", "17": "modp6144", "18": "modp8192",
	"19": "ecp256", "20": "ecp384", "21": "ecp521", "22": "modp1024s160", "23": "modp2048s224", "24": "modp2048s256", "25": "ecp192",
	"26": "ecp224", "27": "ecp224bp", "28": "ecp256bp", "29": "ecp384bp", "30": "ecp512bp", "31": "curve25519", "32": "curve448",
}

// inVyOS says hints in VyOS's words.
var inVyOS = strings.NewReplacer("gcm16", "gcm128", "modp2048", "dh-group 14", "modp4096", "dh-group 16", "ecp256", "dh-group 19", "ecp384", "dh-group 20", "x25519", "dh-group 31")

// vyosDefaults are what VyOS takes for a part of a proposal that is not there.
var vyosDefaults = map[string]string{"encryption": "aes128", "hash": "sha1", "dh-group": "2"}

// proposals reads a group's proposals once, in the order of their numbers. One
// that cannot be used is left out with a warning, as long as another remains.
func (v *vyos) proposals(group *node, g *vyosGroup, use protocolUse) func(*node) {
	return func(n *node) {
		var found reports
		tags := slices.SortedStableFunc(slices.Values(n.kids), func(a, b *node) int {
			x, _ := strconv.Atoi(a.word)
			y, _ := strconv.Atoi(b.word)
			return cmp.Compare(x, y)
		})
		for _, tag := range tags {
			p := v.proposal(tag, use, &found)
			if p != nil && len(g.proposals) < maxProposals && !slices.ContainsFunc(g.proposals, func(o ikev2.Proposal) bool { return slices.Equal(o, p) }) {
				g.proposals = append(g.proposals, p)
			}
		}
		for _, d := range found.list {
			if len(g.proposals) > 0 && d.Severity == SeverityError {
				d.Severity = SeverityWarning
				d.Message += "; the proposal is left out"
			}
			v.add(d)
		}
	}
}

// proposal is nil where found says why.
func (v *vyos) proposal(tag *node, use protocolUse, found *reports) ikev2.Proposal {
	in := vyosProposal{found: found, tag: tag, use: use}
	before := v.errors
	v.each(tag, rules{"encryption": in.part(v), "hash": in.part(v), "prf": in.part(v), "dh-group": in.part(v)})
	if v.errors > before {
		return nil
	}
	return in.build()
}

type vyosProposal struct {
	found *reports
	tag   *node
	use   protocolUse
	parts map[string]*node
}

func (p *vyosProposal) part(v *vyos) func(*node) {
	return func(n *node) {
		if p.parts == nil {
			p.parts = map[string]*node{}
		}
		p.parts[n.word] = v.value(n)
	}
}

func (p *vyosProposal) build() ikev2.Proposal {
	before := p.found.errors
	cipher := p.transform("encryption")
	words := ikev2.Proposal{cipher}
	if p.parts["prf"] != nil && p.use.name == forIKE.name {
		words = append(words, p.transform("prf"))
	}
	// Beside an AEAD the hash is only the pseudorandom function's.
	if !isAEAD(cipher) || p.use.name == forIKE.name && p.parts["prf"] == nil {
		words = append(words, p.transform("hash"))
	}
	if p.use.name == forIKE.name {
		words = append(words, p.transform("dh-group"))
	}
	if p.found.errors > before {
		return nil
	}
	done, f := completeProposal(words, p.tag.word, p.use)
	if f != nil {
		p.found.error(p.tag.pos, inVyOS.Replace(f.hint), "%s", f.message)
		return nil
	}
	return done
}

// partTypes are the kinds of algorithms that the parts may name.
var partTypes = map[string]wire.TransformType{
	"encryption": wire.TransformEncr, "hash": wire.TransformInteg, "prf": wire.TransformPRF, "dh-group": wire.TransformKE,
}

// transform is the algorithm that a part of the proposal names.
func (p *vyosProposal) transform(part string) wire.Transform {
	name, at, said := vyosDefaults[part], p.tag.pos, part+" is not given, which in VyOS means "+vyosDefaults[part]+": "
	if n := p.parts[part]; n != nil {
		name, at, said = n.word, n.pos, part+" "+quoteVyOS(n.word)+": "
	}
	keyword := name
	if part == "dh-group" {
		if keyword = dhGroups[name]; keyword == "" {
			p.found.error(at, "known here: "+strings.Join(numbers(dhGroups), ", "), "unknown dh-group %q", name)
			return wire.Transform{}
		}
	}
	t, f := findKeyword(keyword, partTypes[part])
	if f == nil && t.Type != partTypes[part] {
		f = faultf("", "%q does not belong here", name)
	}
	if f != nil {
		p.found.error(at, inVyOS.Replace(f.hint), "%s%s", said, f.message)
	}
	return t
}

func numbers(m map[string]string) []string {
	return slices.SortedFunc(slices.Values(keysOf(m)), func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return cmp.Compare(x, y)
	})
}
