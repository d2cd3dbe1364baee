package config

import (
	"net/netip"
	"slices"
	"strings"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// vyosPeer is a peer while it is read.
type vyosPeer struct {
	*vyos
	*Peer
	tag      *node
	espGroup *node // default-esp-group
	ownKey   *node // pre-shared-secret
	connect  string
	start    ikev2.StartMode
}

func (v *vyos) peer(tag *node) {
	if tag.find("disable") != nil {
		v.warn(tag.pos, "take out disable to have it", "peer %q is disabled and left out", tag.word)
		return
	}
	made := newPeer(strings.TrimPrefix(tag.word, "@"))
	p := &vyosPeer{vyos: v, Peer: &made, tag: tag}
	if f := checkLabel(made.Name); f != nil {
		v.error(tag.pos, f.hint, "%s", f.message)
	}
	p.places()
	v.each(tag, p.rules())
	p.remote()
	p.identities()
	p.initiate()
	p.groups()
	if n := tag.find("tunnel"); n != nil {
		p.tunnels(n)
	}
	p.PSK, p.PPK.Secret = p.key(), p.postQuantumKey()
	v.cfg.Peers = append(v.cfg.Peers, made)
}

func (p *vyosPeer) rules() rules {
	return rules{
		"authentication":          p.authentication,
		"local-address":           leaf(p.vyos, &p.Local, parseLocal),
		"remote-address":          p.leaves(p.remoteAddress),
		"connection-type":         leaf(p.vyos, &p.connect, parseConnectionType),
		"ike-group":               func(n *node) { p.value(n) },
		"default-esp-group":       func(n *node) { p.espGroup = p.value(n) },
		"tunnel":                  nothing, // later: they start as the peer does
		"vti":                     p.refused("routed tunnels are still to come: write tunnel N with local prefix and remote prefix"),
		"dhcp-interface":          p.ignored("the address is found by itself; local-address any says the same"),
		"force-encapsulation":     p.agrees("ESP always goes in UDP", "enable", "disable"),
		"force-udp-encapsulation": p.agrees(""),
		"ikev2-reauth":            p.reauth,
		"virtual-address":         p.leaves(func(n *node) { p.vip(n) }),
		"ppk":                     p.ppk,
		"childless":               p.agrees("the first child SA is made with the IKE SA; a peer may do without", "allow"),
		"replay-window":           p.ignored("the window always holds at least 1024 packets"),
		"description":             nothing,
	}
}

func parseConnectionType(s string) (string, *fault) {
	if _, ok := vyosStarts[s]; !ok {
		return "", faultf("write initiate, trap, respond or none", "connection-type %q is not supported", s)
	}
	return s, nil
}

// vyosStarts: none is responding too, but for what an operator does.
var vyosStarts = map[string]ikev2.StartMode{"initiate": ikev2.StartNow, "trap": ikev2.StartTraffic, "respond": ikev2.StartPeer, "none": ikev2.StartPeer}

// remoteAddress takes the first of several.
func (p *vyosPeer) remoteAddress(n *node) {
	if n.parent.kids[0] != n {
		p.warn(n.pos, "write the others as peers of their own", "only the first remote-address is called")
		return
	}
	if len(n.kids) > 0 {
		p.value(n.parent)
		return
	}
	take(&p.reports, n.word, n.pos, &p.Remote, parseRemote)
}

func (p *vyosPeer) ppk(n *node) {
	p.each(n, rules{"id": leaf(p.vyos, &p.PPK.ID, swanPPKID), "required": func(*node) { p.PPK.Required = true }})
}

// vip asks for an address of that family; which one, the peer says.
func (p *vyosPeer) vip(n *node) {
	a, err := netip.ParseAddr(n.word)
	if err != nil {
		p.error(n.pos, "write 0.0.0.0 or :: for any address of that family", "%q is not an address", n.word)
		return
	}
	p.Address.Request4, p.Address.Request6 = p.Address.Request4 || a.Is4(), p.Address.Request6 || !a.Is4()
	if !a.IsUnspecified() {
		p.warn(n.pos, "write 0.0.0.0 or :: for what it comes to", "virtual-address: no address in particular is asked for, the peer chooses")
	}
}

// places notes where the settings are that culvert may have to speak of.
func (p *vyosPeer) places() {
	for name, path := range map[string]string{
		"remote": "remote-address", "local": "local-address", "local_id": "authentication id", "remote_id": "authentication remote-id",
		"psk": "authentication pre-shared-secret", "initiate": "connection-type", "ike": "ike-group", "ppk_id": "ppk id", "ppk_required": "ppk required",
	} {
		p.Where[name] = p.place(p.tag, strings.Fields(path))
	}
	if other := p.place(p.tag, []string{"authentication", "local-id"}); other.Given {
		p.Where["local_id"] = other
	}
	p.Where[""] = p.place(p.tag, nil)
	p.Where["ppk"] = Place{Pos: p.tag.pos, Key: "authentication ppk NAME secret", format: p.cfg.Format}
	if p.cfg.Format == FormatVyOSSet {
		p.Where["ppk"] = Place{Pos: p.tag.pos, Key: "set vpn ipsec authentication ppk NAME secret", format: p.cfg.Format}
	}
	p.Where["dpd"], p.Where["ike_lifetime"] = p.Where["ike"], p.Where["ike"]
}

// place is that of the value at the end of the path below the peer or tunnel
// of that tag, or without a path of the tag itself.
func (p *vyosPeer) place(tag *node, path []string) Place {
	place := Place{Pos: tag.pos, Key: p.settingPath(tag, path), Given: len(path) == 0, format: p.cfg.Format}
	if n := tag.get(path...); len(path) > 0 && n != nil && len(n.kids) > 0 {
		place.Pos, place.Given = n.kids[0].pos, true
	}
	return place
}

// settingPath is the whole command of a set, and in the tree the words from
// inside the peer's braces on.
func (p *vyosPeer) settingPath(tag *node, path []string) string {
	for n := tag; n.word != "site-to-site" && n.parent != nil; n = n.parent {
		path = slices.Insert(slices.Clone(path), 0, quoteVyOS(n.word))
	}
	switch {
	case p.cfg.Format == FormatVyOSSet:
		return "set vpn ipsec site-to-site " + strings.Join(path, " ")
	case len(path) > 2:
		path = path[2:] // peer NAME
	}
	return strings.Join(path, " ")
}

func (p *vyosPeer) authentication(n *node) {
	p.each(n, rules{
		"mode":              p.only("pre-shared-secret", onlyPSK),
		"id":                leaf(p.vyos, &p.LocalID, parseIdentity),
		"local-id":          leaf(p.vyos, &p.LocalID, parseIdentity),
		"remote-id":         leaf(p.vyos, &p.RemoteID, parseIdentity),
		"pre-shared-secret": func(n *node) { p.ownKey = p.value(n) },
		"rsa-key-name":      p.refused(onlyPSK),
		"rsa":               p.refused(onlyPSK),
		"x509":              p.refused(onlyPSK),
		"use-x509-id":       p.refused(onlyPSK),
	})
	if id, localID := n.find("id"), n.find("local-id"); id != nil && localID != nil {
		p.error(localID.pos, "keep one of them", "id and local-id are the same setting")
	}
}

const onlyPSK = "peers authenticate by a pre-shared key: write mode pre-shared-secret here and at the peer"

// remote finds the peer's address: remote-address, or up to VyOS 1.3 the
// peer's name, unless that is an identity.
func (p *vyosPeer) remote() {
	name := p.tag.word
	if p.Where["remote"].Given || strings.HasPrefix(name, "@") {
		return
	}
	_, err := netip.ParseAddr(name)
	if err != nil && !strings.Contains(name, ".") && !slices.Contains(anyAddress, name) {
		p.error(p.tag.pos, "add remote-address, with any for a peer that calls from anywhere", "peer %q has no remote-address", name)
		return
	}
	take(&p.reports, name, p.tag.pos, &p.Remote, parseRemote)
	p.Where["remote"] = Place{Pos: p.tag.pos, Key: "peer", Given: true, format: p.cfg.Format}
}

// identities fills in those that are not written: the peer's is its name or
// address, ours the local address. An address hidden by a NAT is the usual
// reason why two sides do not find each other, so where that is so it is said.
func (p *vyosPeer) identities() {
	if p.RemoteID == (ikev2.Identity{}) && !p.Where["remote_id"].Given {
		name := p.Remote
		if strings.HasPrefix(p.tag.word, "@") {
			name = p.tag.word
		}
		if name != "" {
			take(&p.reports, name, p.tag.pos, &p.RemoteID, parseIdentity)
		}
	}
	if p.LocalID == (ikev2.Identity{}) && !p.Where["local_id"].Given && p.Local.IsValid() {
		take(&p.reports, p.Local.String(), p.Where["local"].Pos, &p.LocalID, parseIdentity)
		if p.Local.IsPrivate() {
			p.warn(p.Where["local"].Pos, "add "+p.Where["local_id"].Setting("@NAME")+", and NAME as the remote id at the peer",
				"peer %q has no authentication id, so this side identifies itself by the private address %v, which the peer cannot expect when there is a NAT between them", p.Name, p.Local)
		}
	}
}

func (p *vyosPeer) initiate() {
	p.start = ikev2.StartPeer
	if p.Remote != "" {
		p.start = ikev2.StartNow
	}
	if p.connect != "" {
		p.start = vyosStarts[p.connect]
	}
	p.Initiate = p.start == ikev2.StartNow
}

// groups takes over what the ike-group says. What to do about a dead peer is
// settled by the side: who initiates does so again, who responds waits.
func (p *vyosPeer) groups() {
	n := p.tag.get("ike-group")
	if n == nil || len(n.kids) == 0 {
		p.warn(p.tag.pos, "add ike-group", "peer %q names no ike-group: culvert's own proposals and lifetimes are used", p.Name)
		return
	}
	p.Where["ike"] = p.groupPlace("ike-group", n.kids[0], p.Where["ike"])
	g := p.ikeGroup(n.kids[0])
	p.IKE, p.DPD = g.proposals, g.dpd
	if !g.undefined {
		p.IKELifetime, p.MOBIKE = g.until(), g.mobike
	}
	fine, does := []string{"clear", "none"}, "responds only waits for the peer to call again"
	switch p.start {
	case ikev2.StartNow:
		fine, does = []string{"restart", "start"}, "initiates always connects again"
	case ikev2.StartTraffic:
		fine, does = []string{"clear", "none", "trap", "hold"}, "is started by traffic is started again by the next packet"
	}
	for _, a := range g.actions {
		if !slices.Contains(fine, a.kids[0].word) {
			p.warn(a.kids[0].pos, "", "%s %q is not supported: a side that %s", a.word, a.kids[0].word, does)
		}
	}
}

// groupPlace is where the proposals of a group are; where the group is named
// if it is not in the file.
func (p *vyosPeer) groupPlace(word string, name *node, otherwise Place) Place {
	n := p.ipsec.get(word, name.word)
	if n == nil {
		return otherwise
	}
	key := word + " " + quoteVyOS(name.word) + " proposal"
	if p.cfg.Format == FormatVyOSSet {
		key = "set vpn ipsec " + key
	}
	return Place{Pos: n.pos, Key: key, Given: true, format: p.cfg.Format}
}

// key finds the pre-shared key: at the peer, or since VyOS 1.4 in the table of
// keys, by the pair of identities.
func (p *vyosPeer) key() Secret {
	switch {
	case p.ownKey != nil:
		return p.swanSecret(pskKey, p.ownKey.word, p.ownKey.pos)
	case p.tag.get("authentication", "pre-shared-secret") != nil, p.LocalID == (ikev2.Identity{}), p.RemoteID == (ikev2.Identity{}):
		return Secret{} // something else is wrong, and reported
	}
	var best *vyosKey
	for _, k := range p.keys {
		if k.kind == pskKey && (best == nil || k.fit(p.LocalID, p.RemoteID) > best.fit(p.LocalID, p.RemoteID)) {
			best = k
		}
	}
	if best == nil || best.fit(p.LocalID, p.RemoteID) == 0 {
		p.error(p.tag.pos, "add authentication pre-shared-secret to the peer, or a psk under vpn ipsec authentication with both identities as its ids",
			"peer %q has no pre-shared key, and no psk names both %v and %v", p.Name, p.LocalID, p.RemoteID)
		return Secret{}
	}
	if best.secret != nil {
		p.Where["psk"] = Place{Pos: best.secret.pos, Key: "secret", Given: true, format: p.cfg.Format}
	}
	return p.vyos.key(best)
}

// postQuantumKey is the entry that has the peer's ppk id.
func (p *vyosPeer) postQuantumKey() Secret {
	for _, k := range p.keys {
		if k.kind == ppkKey && p.PPK.ID != "" && slices.Contains(k.ppkIDs, p.PPK.ID) {
			return p.vyos.key(k)
		}
	}
	return Secret{}
}

func (p *vyosPeer) tunnels(n *node) {
	for _, tag := range n.kids {
		if tag.find("disable") != nil {
			p.warn(tag.pos, "take out disable to have it", "tunnel %q of peer %q is disabled and left out", tag.word, p.Name)
			continue
		}
		if f := checkLabel(tag.word); f != nil {
			p.error(tag.pos, f.hint, "%s", f.message)
		}
		p.Tunnels = append(p.Tunnels, p.tunnel(tag))
	}
}

func (p *vyosPeer) tunnel(tag *node) Tunnel {
	t := newTunnel(tag.word, p.Peer)
	t.Start = p.start
	t.Where = Places{
		"start":  p.Where["initiate"],
		"":       p.place(tag, nil),
		"local":  p.place(tag, []string{"local", "prefix"}),
		"remote": p.place(tag, []string{"remote", "prefix"}),
		"esp":    p.place(tag, []string{"esp-group"}),
	}
	var local, remote vyosSide
	var protocol uint8
	group := p.defaultESPGroup()
	p.each(tag, rules{
		"local":                 local.read(p.vyos),
		"remote":                remote.read(p.vyos),
		"protocol":              leaf(p.vyos, &protocol, parseVyOSProtocol),
		"esp-group":             func(n *node) { group = p.value(n) },
		"allow-nat-networks":    p.agrees("write the prefix itself", "disable"),
		"allow-public-networks": p.agrees("write the prefix itself", "disable"),
		"priority":              p.ignored("selectors of tunnels do not overlap"),
		"passthrough":           p.unsupported("routes decide what goes past the tunnel"),
		"description":           nothing,
	})
	t.Local, t.Remote = local.selectors(p.vyos, protocol), remote.selectors(p.vyos, protocol)
	if group == nil {
		p.warn(tag.pos, "add esp-group, or default-esp-group to the peer", "tunnel %q names no esp-group: culvert's own proposals and lifetime are used", tag.word)
		return t
	}
	t.Where["esp"] = p.groupPlace("esp-group", group, t.Where["esp"])
	g := p.vyos.espGroup(group)
	t.ESP = p.withPFS(g)
	if !g.undefined {
		t.Lifetime = g.until()
		t.LifetimeBytes, t.LifetimePackets = g.volume()
	}
	return t
}

// withPFS are an esp-group's proposals with the key exchange that its pfs asks
// for: the ike-group's with "enable", which is what VyOS takes where there is no
// word of it.
func (p *vyosPeer) withPFS(g *vyosGroup) (out []ikev2.Proposal) {
	groups := p.pfsGroups(g)
	for _, prop := range g.proposals {
		out = append(out, withKE(prop, groups))
	}
	return out
}

func (p *vyosPeer) pfsGroups(g *vyosGroup) (groups ikev2.Proposal) {
	switch {
	case g.pfs != nil && g.pfs.word == "disable":
		return nil
	case g.pfs != nil && g.pfs.word != "enable":
		name := dhGroups[strings.TrimPrefix(g.pfs.word, "dh-group")]
		t, f := findKeyword(name, wire.TransformKE)
		if f != nil {
			p.warn(g.pfs.pos, inVyOS.Replace(f.hint), "pfs %q cannot be had: child SAs are replaced without a key exchange", g.pfs.word)
			return nil
		}
		return ikev2.Proposal{t}
	}
	n := p.tag.get("ike-group")
	if n == nil || len(n.kids) == 0 {
		return nil
	}
	for _, prop := range p.ikeGroup(n.kids[0]).proposals {
		for _, t := range ofType(prop, wire.TransformKE) {
			if !slices.Contains(groups, t) {
				groups = append(groups, t)
			}
		}
	}
	return groups
}

// defaultESPGroup may stand below the tunnels in the file.
func (p *vyosPeer) defaultESPGroup() *node {
	if n := p.tag.get("default-esp-group"); n != nil && len(n.kids) > 0 {
		return n.kids[0]
	}
	return nil
}

// vyosSide is the local or remote part of a tunnel.
type vyosSide struct {
	prefixes []*node
	port     *node
}

func (s *vyosSide) read(v *vyos) func(*node) {
	return func(n *node) {
		v.each(n, rules{
			"prefix": v.leaves(func(p *node) { s.prefixes = append(s.prefixes, p) }),
			"port":   func(n *node) { s.port = v.value(n) },
		})
	}
}

func (s *vyosSide) selectors(v *vyos, protocol uint8) []wire.Selector {
	var all []wire.Selector
	for _, p := range s.prefixes {
		if p.word == "any" {
			v.addSelector(&all, "0.0.0.0/0", p.pos)
			v.addSelector(&all, "::/0", p.pos)
			continue
		}
		v.addSelector(&all, p.word, p.pos)
	}
	for i := range all {
		all[i].Protocol = protocol
		if s.port == nil {
			continue
		}
		if f := narrowPorts(&all[i], s.port.word); f != nil {
			v.error(s.port.pos, f.hint, "%s", f.message)
		}
	}
	return all
}

func parseVyOSProtocol(s string) (uint8, *fault) {
	if s == "all" {
		return 0, nil
	}
	return parseProtocol(s)
}
