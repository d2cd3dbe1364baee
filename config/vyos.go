package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"culvert/ikev2"
)

// vyos makes a configuration of VyOS's "vpn ipsec", as VyOS 1.1 to 1.5 and
// Vyatta before them write it.
type vyos struct {
	*reader
	ipsec     *node
	ikeGroups map[string]*vyosGroup
	espGroups map[string]*vyosGroup
	keys      []*vyosKey
}

// vyosKey is a "vpn ipsec authentication psk" entry (VyOS 1.4), or one of ppk
// (1.5).
type vyosKey struct {
	kind   *keyKind
	name   *node
	ids    []ikev2.Identity
	ppkIDs []string
	any    bool // one of its ids is %any
	secret *node
	prefix string // of the secret, by its type
	used   bool
}

// rules are the words that may follow, each with its reader.
type rules map[string]func(*node)

func readVyOS(r *reader, root *node) bool {
	v := &vyos{reader: r, ikeGroups: map[string]*vyosGroup{}, espGroups: map[string]*vyosGroup{}}
	if root == nil || !v.graft(root) {
		return false
	}
	v.each(v.ipsec, v.sections())
	if site := v.ipsec.find("site-to-site"); site != nil {
		v.each(site, rules{"peer": func(n *node) {
			for _, tag := range n.kids {
				v.peer(tag)
			}
		}})
	}
	v.unused()
	return true
}

// sections are those of vpn ipsec. Keys come before the peers that need them;
// ike-groups and esp-groups are read by the peers that name them.
func (v *vyos) sections() rules {
	later := func(*node) {}
	return rules{
		"site-to-site":          later,
		"ike-group":             later,
		"esp-group":             later,
		"authentication":        func(n *node) { v.each(n, rules{"psk": v.eachKey(pskKey), "ppk": v.eachKey(ppkKey)}) },
		"nat-traversal":         v.agrees("NAT is always looked for", "enable"),
		"nat-networks":          v.ignored("tunnels take the networks that they name"),
		"ipsec-interfaces":      v.ignored("every interface is listened on; local-address chooses one"),
		"interface":             v.ignored("every interface is listened on; local-address chooses one"),
		"log":                   v.ignored("logging is set on the command line"),
		"logging":               v.ignored("logging is set on the command line"),
		"options":               v.ignored("it concerns VyOS's own daemon"),
		"auto-update":           v.ignored("a tunnel that goes down is brought up again anyway"),
		"disable-uniqreqids":    v.ignored("a newer connection of the same identities always replaces the older one"),
		"include-ipsec-conf":    v.unsupported("write the connections that it includes as peers"),
		"include-ipsec-secrets": v.unsupported("write the keys that it includes as pre-shared-secret"),
		"profile":               v.unsupported("DMVPN is left out"),
		"remote-access":         v.remoteAccess,
	}
}

// graft finds vpn ipsec in the tree, or whatever part of it was pasted.
func (v *vyos) graft(root *node) bool {
	v.ipsec = &node{word: "ipsec", pos: root.pos}
	peers := &node{word: "site-to-site", pos: root.pos}
	found := false
	for _, n := range root.kids {
		vpn := n.find("ipsec")
		switch {
		case n.word == "vpn":
			v.others(n)
			if vpn != nil {
				v.ipsec.adopt(vpn)
			}
		case n.word == "ipsec":
			v.ipsec.adopt(n)
		case n.word == "peer":
			peers.adoptKid(n)
			v.ipsec.adoptKid(peers)
		case v.sections()[n.word] != nil && n.word != "interface":
			v.ipsec.adoptKid(n)
		default:
			v.warn(n.pos, "", "%q is outside of vpn ipsec and not read", n.word)
			continue
		}
		found = true
	}
	if !found || len(v.ipsec.kids) == 0 {
		v.error(root.pos, "it begins with vpn, ipsec, site-to-site or peer; see culvert's examples", "there is no VyOS vpn ipsec configuration in this file")
		return false
	}
	return true
}

func (v *vyos) others(vpn *node) {
	for _, n := range vpn.kids {
		if n.word != "ipsec" {
			v.warn(n.pos, "only vpn ipsec is read", "%q is not supported and left out", "vpn "+n.word)
		}
	}
}

// unused names what nobody refers to, since it is not even looked at.
func (v *vyos) unused() {
	for word, used := range map[string]map[string]*vyosGroup{"ike-group": v.ikeGroups, "esp-group": v.espGroups} {
		groups := v.ipsec.find(word)
		if groups == nil {
			continue
		}
		for _, n := range groups.kids {
			if used[n.word] == nil {
				v.warn(n.pos, "", "%s %q is used by no peer and not read", word, n.word)
			}
		}
	}
	for _, k := range v.keys {
		if !k.used {
			v.warn(k.name.pos, k.unusedHint(), "%s %q is used by no peer", k.kind.setting, k.name.word)
		}
	}
}

// each hands the words below n to their readers.
func (v *vyos) each(n *node, known rules) {
	for _, k := range n.kids {
		if read := known[k.word]; read != nil {
			read(k)
			continue
		}
		v.unknown(k, keysOf(known))
	}
}

// unknown does not repeat a word that may be a key gone astray.
func (v *vyos) unknown(n *node, known []string) {
	name := fmt.Sprintf(" %q", n.word)
	if p := n.parent; p.word == "authentication" || p.parent != nil && p.parent.word == "psk" || strings.Contains(n.word, "secret") {
		name = ""
	}
	v.error(n.pos, didYouMean(n.word, known), "unknown setting%s", name)
}

// value is the one word that follows n.
func (v *vyos) value(n *node) *node {
	switch {
	case len(n.kids) == 0:
		v.error(n.pos, "write a value behind it", "%q has no value", n.word)
		return nil
	case len(n.kids) > 1:
		v.error(n.kids[1].pos, fmt.Sprintf("the first value is on line %d; keep one", n.kids[0].pos.Line), "%q has two values", n.word)
		return nil
	case len(n.kids[0].kids) > 0:
		v.error(n.kids[0].kids[0].pos, "put a value with spaces in quotes", "%q has more than one word as its value", n.word)
		return nil
	}
	return n.kids[0]
}

// leaf reads a setting with one value.
func leaf[T any](v *vyos, dst *T, parse func(string) (T, *fault)) func(*node) {
	return func(n *node) {
		if value := v.value(n); value != nil {
			take(&v.reports, value.word, value.pos, dst, parse)
		}
	}
}

// leaves reads a setting that may be there several times.
func (v *vyos) leaves(read func(*node)) func(*node) {
	return func(n *node) {
		for _, value := range n.kids {
			read(value)
		}
		if len(n.kids) == 0 {
			v.value(n)
		}
	}
}

// agrees is for settings that ask for what culvert does anyway, when they have
// one of these values; without any, just by being there.
func (v *vyos) agrees(otherwise string, values ...string) func(*node) {
	return func(n *node) {
		if len(values) == 0 && len(n.kids) == 0 {
			return
		}
		if value := v.value(n); value != nil && !slices.Contains(values, value.word) {
			v.warn(value.pos, otherwise, "%s %q is not supported", n.word, value.word)
		}
	}
}

func (v *vyos) ignored(why string) func(*node) {
	return func(n *node) { v.warn(n.pos, why, "%q has no effect here", n.word) }
}

func (v *vyos) unsupported(what string) func(*node) {
	return func(n *node) { v.warn(n.pos, what, "%q is not supported", n.word) }
}

// refused is for settings without which the peer would not be the same.
func (v *vyos) refused(remedy string) func(*node) {
	return func(n *node) { v.error(n.pos, remedy, "%q is not supported", n.word) }
}

// only is for settings with one value that means the same here as in VyOS.
func (v *vyos) only(want, remedy string) func(*node) {
	return func(n *node) {
		if value := v.value(n); value != nil && value.word != want {
			v.error(value.pos, remedy, "%s %q is not supported", n.word, value.word)
		}
	}
}

func nothing(*node) {}

func (k *vyosKey) unusedHint() string {
	if k.kind == ppkKey {
		return "its id has to be a peer's ppk id"
	}
	return "its ids have to name both identities of a peer"
}

// secretTypes are what goes in front of a secret for strongSwan, which has it
// from VyOS.
var secretTypes = map[string]string{"plaintext": "", "hex": "0x", "base64": "0s"}

func (v *vyos) eachKey(kind *keyKind) func(*node) {
	return func(n *node) {
		for _, tag := range n.kids {
			k := &vyosKey{kind: kind, name: tag}
			v.each(tag, rules{
				"id":             v.leaves(func(id *node) { v.keyID(k, id) }),
				"secret":         func(n *node) { k.secret = v.value(n) },
				"secret-type":    leaf(v, &k.prefix, parseSecretType),
				"dhcp-interface": v.ignored("write the id that the peer is to have"),
			})
			if k.secret == nil && tag.find("secret") == nil {
				v.error(tag.pos, "add secret", "%s %q has no secret", kind.setting, tag.word)
			}
			v.keys = append(v.keys, k)
		}
	}
}

func parseSecretType(s string) (string, *fault) {
	prefix, ok := secretTypes[s]
	if !ok {
		return "", faultf("write plaintext, hex or base64", "secret-type %q is not known", s)
	}
	return prefix, nil
}

func (v *vyos) keyID(k *vyosKey, n *node) {
	switch {
	case k.kind == ppkKey:
		addParsed(v.reader, &k.ppkIDs, n.word, n.pos, swanPPKID)
		return
	case slices.Contains(anyAddress, n.word):
		k.any = true
		return
	}
	var id ikev2.Identity
	take(&v.reports, n.word, n.pos, &id, parseIdentity)
	if id != (ikev2.Identity{}) {
		k.ids = append(k.ids, id)
	}
}

// key is the secret of an entry, which the peer is found to use.
func (v *vyos) key(k *vyosKey) Secret {
	k.used = true
	if k.secret == nil {
		return Secret{&secret{key: new([]byte)}} // which is reported
	}
	return v.swanSecret(k.kind, k.prefix+k.secret.word, k.secret.pos)
}

// remoteAccess has pools that no peer of VyOS refers to; a peer of culvert can.
func (v *vyos) remoteAccess(n *node) {
	v.each(n, rules{
		"connection": v.unsupported("its users authenticate by EAP or certificates; only site-to-site peers are read"),
		"dhcp":       v.unsupported("addresses come from pools"),
		"radius":     v.unsupported("peers authenticate by a pre-shared key"),
		"pool": func(n *node) {
			for _, tag := range n.kids {
				v.pool(tag)
			}
		},
	})
}

func (v *vyos) pool(tag *node) {
	p := Pool{Pool: ikev2.Pool{Name: tag.word}, Where: Places{}}
	if f := checkLabel(p.Name); f != nil {
		v.error(tag.pos, f.hint, "%s", f.message)
	}
	where := Place{Pos: tag.pos, Key: "prefix", format: v.cfg.Format}
	where.Given = tag.find("prefix") != nil || tag.find("range") != nil
	p.Where["addresses"], p.Where[""] = where, Place{Pos: tag.pos, Key: "pool " + quoteVyOS(tag.word), Given: true, format: v.cfg.Format}
	var start, stop *node
	v.each(tag, rules{
		"prefix":      leaf(v, &p, func(s string) (Pool, *fault) { return p.with(s) }),
		"name-server": v.leaves(func(n *node) { addParsed(v.reader, &p.DNS, n.word, n.pos, parseDNS) }),
		"exclude":     v.unsupported("write a range without the addresses that are not to be given"),
		"range": func(n *node) {
			v.each(n, rules{"start": func(n *node) { start = v.value(n) }, "stop": func(n *node) { stop = v.value(n) }})
		},
	})
	if start != nil && stop != nil {
		take(&v.reports, start.word+"-"+stop.word, start.pos, &p, func(s string) (Pool, *fault) { return p.with(s) })
	}
	v.warn(tag.pos, "write it as a pool of culvert's own form, and the name at the peers that are to have its addresses", "pool %q is used by no peer", tag.word)
	v.cfg.Pools = append(v.cfg.Pools, p)
}

// fit says how well an entry fits a pair of identities: 3 when it names both,
// less when a wildcard or the want of ids stands for one or both, 0 not at
// all.
func (k *vyosKey) fit(local, remote ikev2.Identity) int {
	hasLocal, hasRemote := slices.Contains(k.ids, local), slices.Contains(k.ids, remote)
	wild := k.any || len(k.ids) == 0
	switch {
	case hasLocal && hasRemote:
		return 3
	case wild && (hasLocal || hasRemote):
		return 2
	case wild:
		return 1
	}
	return 0
}

// vyosGroup is an ike-group or esp-group.
type vyosGroup struct {
	proposals []ikev2.Proposal
	lifetime  time.Duration
	dpd       time.Duration
	mobike    ikev2.Mode
	// bytes and packets are the ends of a child SA by what it carried.
	bytes, packets uint64
	// keep: nothing is replaced from here. undefined: the group is not in the
	// file.
	keep, undefined bool
	// pfs is what the group says of perfect forward secrecy.
	pfs *node
	// actions say what to do when the peer is gone.
	actions []*node
}

// ikeGroup reads the ike-group of that name, once.
func (v *vyos) ikeGroup(name *node) *vyosGroup {
	return v.group(name, "ike-group", v.ikeGroups, vyosGroup{lifetime: 28800 * time.Second, dpd: DefaultDPD, mobike: ikev2.ModePrefer}, v.readIKEGroup)
}

func (v *vyos) espGroup(name *node) *vyosGroup {
	return v.group(name, "esp-group", v.espGroups, vyosGroup{lifetime: 3600 * time.Second}, v.readESPGroup)
}

func (v *vyos) group(name *node, word string, known map[string]*vyosGroup, g vyosGroup, read func(*node, *vyosGroup)) *vyosGroup {
	if known[name.word] == nil {
		known[name.word] = &g
		if n := v.ipsec.get(word, name.word); n != nil {
			read(n, &g)
		} else {
			g.undefined = true
			v.warn(name.pos, "paste its definition too to have its proposals", "%s %q is not defined here: culvert's own proposals and lifetimes are used", word, name.word)
		}
	}
	return known[name.word]
}

func (v *vyos) readIKEGroup(n *node, g *vyosGroup) {
	v.each(n, rules{
		"proposal":       v.proposals(n, g, forIKE),
		"lifetime":       leaf(v, &g.lifetime, parseSeconds),
		"key-exchange":   v.only("ikev2", "write key-exchange ikev2 here and at the peer"),
		"close-action":   v.action(g),
		"ikev2-reauth":   v.reauth,
		"mobike":         leaf(v, &g.mobike, parseEnable),
		"disable-mobike": func(*node) { g.mobike = ikev2.ModeOff },
		"disable-rekey":  func(n *node) { v.keep(n, g, "IKE SA") },
		"mode":           v.agrees("IKEv2 has no modes", "main"),
		"dead-peer-detection": func(n *node) {
			v.each(n, rules{
				"interval": leaf(v, &g.dpd, parseSeconds),
				"timeout":  v.ignored("in IKEv2 the peer is dead when a request and its repetitions stay unanswered"),
				"action":   v.action(g),
			})
		},
		"description": nothing,
	})
	if n.find("key-exchange") == nil {
		v.warn(n.pos, "write key-exchange ikev2 here and at the peer: VyOS may take IKEv1 without it", "ike-group %q does not say key-exchange ikev2; culvert speaks nothing else", n.word)
	}
}

// reauth has a value up to VyOS 1.3.
func (v *vyos) reauth(n *node) {
	if len(n.kids) == 0 {
		v.warn(n.pos, noReauth, "%s is not supported", n.word)
		return
	}
	v.agrees(noReauth, "no", "disable", "inherit")(n)
}

const noReauth = "a connection is not authenticated again while it lives"

func (v *vyos) keep(n *node, g *vyosGroup, what string) {
	g.keep = true
	v.warn(n.pos, "the peer has to replace it in time", "%s: the %s is not replaced from here, nor ended by its age", n.word, what)
}

// until is the time at which to replace what lives so long; 0 for never.
func (g *vyosGroup) until() time.Duration {
	if g.keep {
		return 0
	}
	return g.lifetime
}

// volume are the bytes and packets after which to replace a child SA. VyOS has
// its ends, from which strongSwan takes off an eleventh.
func (g *vyosGroup) volume() (bytes, packets uint64) {
	if g.keep {
		return 0, 0
	}
	return g.bytes / 11 * 10, g.packets / 11 * 10
}

func parseEnable(s string) (ikev2.Mode, *fault) {
	switch s {
	case "enable":
		return ikev2.ModePrefer, nil
	case "disable":
		return ikev2.ModeOff, nil
	}
	return ikev2.ModeOff, faultf("write enable or disable", "%q is neither", s)
}

func parseVyOSCount(s string) (uint64, *fault) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n < 11 || n > maxCount {
		return 0, faultf("write a number", "%q is not a limit", s)
	}
	return n, nil
}

func (v *vyos) action(g *vyosGroup) func(*node) {
	return func(n *node) {
		if v.value(n) != nil {
			g.actions = append(g.actions, n)
		}
	}
}

func (v *vyos) readESPGroup(n *node, g *vyosGroup) {
	v.each(n, rules{
		"proposal":      v.proposals(n, g, forESP),
		"lifetime":      leaf(v, &g.lifetime, parseSeconds),
		"pfs":           func(n *node) { g.pfs = v.value(n) },
		"mode":          v.only("tunnel", "write mode tunnel here and at the peer"),
		"compression":   v.agrees("packets are not compressed", "disable"),
		"life-bytes":    leaf(v, &g.bytes, parseVyOSCount),
		"life-packets":  leaf(v, &g.packets, parseVyOSCount),
		"disable-rekey": func(n *node) { v.keep(n, g, "child SA") },
		"description":   nothing,
	})
}
