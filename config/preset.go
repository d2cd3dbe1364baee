package config

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// A preset is what one kind of peer wants: settings, in the words that a
// configuration has for them, and rules that its peers keep to.
type preset struct {
	title string
	// settings are the peer's, and below [tunnel] those of each tunnel. What the
	// configuration says itself goes before.
	settings string
	mtu      int // of inner packets, if no peer's is less; 0 is none
	peerRules
}

// peerRules are what the peer refuses. What is zero is no rule.
type peerRules struct {
	algorithms         []string // it takes no others
	key                *regexp.Regexp
	keyRule            string
	ikeEnds, childEnds time.Duration // the ages at which it ends an SA
	onePair            bool          // one child SA with one pair of networks, in all
	oneChild           bool          // all networks are in one child SA
	oneProposal        bool          // one proposal, of one algorithm each
	addressed          bool          // it knows itself and us by addresses
	calls              bool          // it calls us and is not called
}

// presets are from the peers' own documentation; docs/howto has
// what to set there.
var presets = map[string]preset{
	"aws": {
		title: "AWS site-to-site VPN",
		settings: `
ike = "aes256gcm16-prfsha384-ecp384"
ike_lifetime = "7h30m"
dpd = "10s"
[tunnel]
esp = "aes256gcm16-ecp384"
lifetime = "50m"
single_pair = true
`,
		mtu: 1399,
		peerRules: peerRules{
			algorithms: []string{"aes128gcm16", "aes256gcm16", "aes128", "aes256", "sha256", "sha384", "sha512", "prfsha256", "prfsha384", "prfsha512",
				"modp2048", "modp3072", "modp4096", "ecp256", "ecp384", "ecp521", "esn", "noesn"},
			key: regexp.MustCompile(`^[A-Za-z1-9._][A-Za-z0-9._]{7,63}$`), keyRule: "8 to 64 of letters, digits, '.' and '_', of which the first is not 0",
			ikeEnds: 8 * time.Hour, childEnds: time.Hour, onePair: true, addressed: true,
		},
	},
	"azure": {
		title: "Azure VPN gateway with a custom policy",
		settings: `
ike = "aes256gcm16-prfsha384-ecp384"
ike_lifetime = "7h30m"
dpd = "45s"
[tunnel]
esp = "aes256gcm16"
lifetime = "7h"
lifetime_bytes = 94371840000
`,
		mtu: 1400,
		peerRules: peerRules{
			algorithms: []string{"aes128gcm16", "aes192gcm16", "aes256gcm16", "aes128", "aes192", "aes256", "sha256", "sha384", "prfsha256", "prfsha384",
				"modp2048", "ecp256", "ecp384", "esn", "noesn"},
			ikeEnds: 8 * time.Hour, childEnds: 7*time.Hour + 30*time.Minute,
		},
	},
	"gcp": {
		title: "Google Cloud VPN",
		settings: `
ike = "aes256gcm16-prfsha256-x25519"
ike_lifetime = "9h30m"
post_quantum = "off"
[tunnel]
esp = "aes256gcm16-x25519"
lifetime = "2h50m"
`,
		mtu:       1400,
		peerRules: peerRules{ikeEnds: 10 * time.Hour, childEnds: 3 * time.Hour, oneChild: true, oneProposal: true, addressed: true},
	},
	"vyos": {
		title: "VyOS",
		settings: `
ike = ["aes256gcm16-prfsha256-x25519", "aes256gcm16-prfsha256-ecp256", "aes256-sha256-modp2048"]
ike_lifetime = "7h30m"
dpd = "30s"
[tunnel]
esp = ["aes256gcm16-x25519", "aes256gcm16-ecp256", "aes256-sha256-modp2048", "aes256gcm16"]
lifetime = "50m"
`,
	},
	"strongswan": {
		title: "strongSwan",
		settings: `
ike_lifetime = "4h"
dpd = "30s"
mobike = true
[tunnel]
lifetime = "1h"
`,
	},
	"macos": {
		title: "the IKEv2 client of macOS and iOS",
		settings: `
ike = ["aes256gcm16-prfsha384-ecp384", "aes256-sha256-modp2048"]
initiate = false
[tunnel]
esp = ["aes256gcm16", "aes256-sha256"]
`,
		peerRules: peerRules{calls: true, algorithms: []string{"aes128gcm16", "aes256gcm16", "chacha20poly1305", "aes128", "aes256", "sha256", "sha384", "sha512",
			"prfsha256", "prfsha384", "prfsha512", "modp2048", "modp3072", "modp4096", "ecp256", "ecp384", "ecp521", "x25519", "esn", "noesn"}},
	},
}

// Presets are the names of kinds of peers.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

func parsePreset(s string) (string, *fault) {
	if _, ok := presets[s]; !ok {
		return "", faultf(strings.TrimPrefix(didYouMean(s, Presets())+"; there are ", "; ")+strings.Join(Presets(), ", "), "no preset is called %q", s)
	}
	return s, nil
}

// preset sets what the peer's own table t does not, from the preset that it names.
func (n native) preset(t *tomlTable, known settings) (name string) {
	it := t.find("preset")
	if it == nil {
		return ""
	}
	if s, ok := it.value.(string); ok && presets[s].title != "" {
		applyPreset(n, s, "", t, known)
		return s
	}
	return ""
}

// applyPreset hands the preset's settings, those of the peer or the ones of its
// part "tunnel", to their readers, but for what own has.
func applyPreset(n native, name, part string, own *tomlTable, known settings) {
	for _, it := range presetItems(name, part) {
		if own.find(it.key) == nil {
			known[it.key](it)
		}
	}
}

// presetTables are the presets' settings as read, once for all peers.
var presetTables = sync.OnceValue(func() map[string]*tomlTable {
	tables := make(map[string]*tomlTable, len(presets))
	for name, p := range presets {
		var r reports
		tables[name] = parseTOML(&r, "preset "+name, []byte(p.settings))
	}
	return tables
})

func presetItems(name, part string) (items []*tomlItem) {
	table := presetTables()[name]
	if part != "" {
		table = table.find(part).value.(*tomlTable)
	}
	for _, it := range table.items {
		if _, isTable := it.value.(*tomlTable); !isTable {
			items = append(items, it)
		}
	}
	return items
}

// PresetLines are what the peer's preset set, as lines of culvert's own form: of
// the peer and of one of its tunnels.
func (p *Peer) PresetLines() (lines []string) {
	if p.Preset == "" {
		return nil
	}
	for line := range strings.Lines(strings.TrimSpace(presets[p.Preset].settings)) {
		key, _, _ := strings.Cut(line, " ")
		given := p.Where.At(key).Given
		for _, t := range p.Tunnels {
			given = given || t.Where.At(key).Given
		}
		if !given && !strings.HasPrefix(line, "[") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// presetMTU gives the gateway the least MTU of its presets.
func presetMTU(r *reader) {
	for _, p := range r.cfg.Peers {
		mtu := presets[p.Preset].mtu
		if g := &r.cfg.Gateway; mtu != 0 && !g.Where.At("mtu").Given && (g.MTU == 0 || mtu < g.MTU) {
			g.MTU = mtu
		}
	}
}

// lintPreset warns of what the preset's peer refuses.
func lintPreset(r *reader, p *Peer) {
	ps, ok := presets[p.Preset]
	if !ok {
		return
	}
	lintPresetKey(r, p, ps)
	lintPresetIdentities(r, p, ps)
	lintPresetAlgorithms(r, ps, p.Where.At("ike").Pos, p.IKE, p.Where)
	lintPresetLifetime(r, ps, p.Where.At("ike_lifetime"), p.IKELifetime, ps.ikeEnds)
	pairs := 0
	for i := range p.Tunnels {
		t := &p.Tunnels[i]
		pairs += len(t.Local) * len(t.Remote)
		lintPresetAlgorithms(r, ps, t.Where.At("esp").Pos, t.ESP, t.Where)
		lintPresetLifetime(r, ps, t.Where.At("lifetime"), t.Lifetime, ps.childEnds)
		if ps.oneChild && t.SinglePair {
			r.warn(t.Where.At("single_pair").Pos, "leave it out", "%s has all networks in one child SA, and single_pair makes several", ps.title)
		}
	}
	if ps.onePair && pairs > 1 {
		r.warn(p.Where[""].Pos, "make one pair of larger networks, the same on both sides", "%s has room for one pair of networks, and peer %q has %d", ps.title, p.Name, pairs)
	}
	if ps.oneChild && len(p.Tunnels) > 1 {
		r.warn(p.Where[""].Pos, "list the networks of each side in one tunnel", "%s has all networks in one child SA, and peer %q has %d tunnels", ps.title, p.Name, len(p.Tunnels))
	}
	if ps.calls && p.Remote != "" {
		r.warn(p.Where.At("remote").Pos, `write remote = "any"`, "%s calls from anywhere, and is not called", ps.title)
	}
}

func lintPresetKey(r *reader, p *Peer, ps preset) {
	if key := p.PSK.Bytes(); ps.key != nil && len(key) > 0 && !ps.key.Match(key) {
		r.warn(p.Where.At("psk").Pos, "make one with: culvert psk --for "+p.Preset, "%s takes no such key: it wants %s", ps.title, ps.keyRule)
	}
}

func lintPresetIdentities(r *reader, p *Peer, ps preset) {
	if !ps.addressed {
		return
	}
	for key, id := range map[string]ikev2.Identity{"local_id": p.LocalID, "remote_id": p.RemoteID} {
		addr, isAddr := id.Addr()
		switch where := p.Where.At(key).Pos; {
		case id == (ikev2.Identity{}):
		case !isAddr:
			r.warn(where, "write the public address", "%s knows both sides by their public addresses, and %s is %v", ps.title, key, id)
		case hidden(addr):
			r.warn(where, "write the public one, which the NAT shows", "%s knows both sides by their public addresses, and %v is a private one", ps.title, addr)
		}
	}
}

// hidden: an address that the internet never sees.
func hidden(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback() || carrierNAT.Contains(a)
}

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

func lintPresetAlgorithms(r *reader, ps preset, at Pos, proposals []ikev2.Proposal, where Places) {
	taken := 0
	for _, p := range proposals {
		refused := slices.IndexFunc(p, func(t wire.Transform) bool {
			return ps.algorithms != nil && t.Type < wire.TransformADDKE1 && !slices.Contains(ps.algorithms, Keyword(t))
		})
		if refused < 0 {
			taken++
			continue
		}
		r.warn(at, fmt.Sprintf("it takes %s", strings.Join(ps.algorithms, ", ")), "%s refuses %s", ps.title, Keyword(p[refused]))
	}
	if ps.oneProposal && (len(proposals) > 1 || slices.ContainsFunc(proposals, choices)) {
		r.warn(at, "keep one proposal, with one algorithm of each kind", "%s chooses by an order of its own, and another one at each rekey", ps.title)
	}
}

// choices: a proposal with several algorithms of one kind.
func choices(p ikev2.Proposal) bool {
	seen := map[wire.TransformType]bool{}
	for _, t := range p {
		if t.Type != wire.TransformESN && seen[t.Type] {
			return true
		}
		seen[t.Type] = true
	}
	return false
}

func lintPresetLifetime(r *reader, ps preset, at Place, ours, theirs time.Duration) {
	if theirs != 0 && (ours == 0 || ours >= theirs) {
		r.warn(at.Pos, "make it a tenth less, so that new keys are there before", "%s ends an SA after %s, and this one is to be replaced no sooner", ps.title, strings.Trim(durationText(theirs), `"`))
	}
}
