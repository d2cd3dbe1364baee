package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// swanConn is a connection while it is read.
type swanConn struct {
	*swanctl
	*Peer
	s   *section
	way string // connections.NAME
	// reauth is reauth_time, 0 for never.
	reauth time.Duration
}

func (w *swanctl) connection(s *section) {
	made := newPeer(s.name)
	c := &swanConn{swanctl: w, Peer: &made, s: s, way: "connections." + s.name}
	if f := checkLabel(made.Name); f != nil {
		w.error(s.pos, f.hint, "%s", f.message)
	}
	c.places()
	w.each(s, c.rules())
	c.lifetime()
	c.auth("local", &c.LocalID)
	c.auth("remote", &c.RemoteID)
	c.others()
	c.identities()
	c.children()
	c.keys()
	w.cfg.Peers = append(w.cfg.Peers, made)
}

// places notes where the settings are that culvert may have to speak of.
func (c *swanConn) places() {
	for name, key := range map[string]string{
		"remote": "remote_addrs", "local": "local_addrs", "ike": "proposals", "post_quantum": "proposals", "ike_lifetime": "rekey_time",
		"dpd": "dpd_delay", "ppk_id": "ppk_id", "ppk_required": "ppk_required", "pools": "pools", "duplicates": "unique",
		"mobike": "mobike", "fragmentation": "fragmentation",
	} {
		c.Where[name] = c.place(c.s, c.way, key)
	}
	c.Where["post_quantum"] = Place{Pos: c.s.pos, Key: c.way + ".proposals", format: FormatSwanctl} // which has no word for it
	c.Where[""] = c.place(c.s, c.way, "")
	c.Where["psk"] = Place{Pos: c.s.pos, Key: "secrets.ike-" + c.Name + ".secret", format: FormatSwanctl}
	c.Where["ppk"] = Place{Pos: c.s.pos, Key: "secrets.ppk-" + c.Name + ".secret", format: FormatSwanctl}
	c.Where["initiate"] = Place{Pos: c.s.pos, Key: c.way + ".children.NAME.start_action", format: FormatSwanctl}
	for side, name := range map[string]string{"local": "local_id", "remote": "remote_id"} {
		round := c.round(side)
		if round == nil {
			round = &section{name: side, pos: c.s.pos}
		}
		c.Where[name] = c.place(round, c.way+"."+round.name, "id")
	}
}

func (c *swanConn) rules() swanRules {
	return swanRules{
		"version":       c.refused("write version = 2 here and at the peer; culvert speaks nothing else", "0", "2"),
		"local_addrs":   c.localAddrs,
		"remote_addrs":  c.remoteAddrs,
		"local_port":    c.agrees("ports of ours are set in the [gateway] of culvert's own form", "500", "4500"),
		"remote_port":   c.refused("the peer is called at port 500 and moves to 4500 by itself: leave it out", "500"),
		"proposals":     c.proposals(&c.IKE, forIKE, ikev2.DefaultIKEProposals),
		"vips":          c.vips,
		"mobike":        c.mode(&c.MOBIKE, ikev2.ModePrefer),
		"dpd_delay":     swanValue(c.swanctl, &c.DPD, parseSwanTime),
		"dpd_timeout":   c.ignored("in IKEv2 the peer is dead when a request and its repetitions stay unanswered"),
		"fragmentation": c.fragmentation,
		"childless":     c.agrees("the first child SA is made with the IKE SA; a peer may do without", "allow"),
		"ppk_id":        swanValue(c.swanctl, &c.PPK.ID, swanPPKID),
		"ppk_required":  swanValue(c.swanctl, &c.PPK.Required, parseSwanBool),
		"keyingtries":   c.agrees("a side that initiates tries as long as it runs", "0", "%forever"),
		"unique":        c.unique,
		"reauth_time":   swanValue(c.swanctl, &c.reauth, parseSwanTime),
		"rekey_time":    swanValue(c.swanctl, &c.IKELifetime, parseSwanTime),
		"over_time":     c.ignored(hardLifetime),
		"rand_time":     c.ignored(jitter),
		"pools": func(k *setting) {
			k.each(func(v string, at Pos) { addParsed(c.reader, &c.Address.Pools, v, at, anyText) })
		},
		"aggressive":   c.agrees("IKEv2 has no modes", "no", "false", "disabled", "0"),
		"pull":         c.agrees("IKEv2 has pull only", "yes", "true", "enabled", "1"),
		"dscp":         c.agrees("IKE goes out with DSCP 0", "0", "000000"),
		"encap":        swanNothing, // ESP is in UDP always
		"send_certreq": swanNothing, // there are no certificates
		"send_cert":    swanNothing,
		"ocsp":         swanNothing,
		"mediation":    c.refused("peers reach each other by themselves: leave it out", "no", "false", "disabled", "0"),
	}.with(c.refused("peers reach each other by themselves: leave it out"), "mediated_by mediation_peer").
		with(c.agrees("there is one device, of the [gateway] in culvert's own form", "0"), "if_id_in if_id_out")
}

const (
	hardLifetime = "an SA that cannot be replaced ends a tenth, at least a minute, after its lifetime"
	jitter       = "up to a tenth is taken off a lifetime"
)

// localAddrs: one address is where we send from. What is more was to bound
// where a peer may call.
func (c *swanConn) localAddrs(k *setting) {
	k.each(func(v string, at Pos) {
		var a netip.Addr
		_, notAddr := netip.ParseAddr(v)
		switch {
		case slices.Contains(anyAddress, v):
		case notAddr != nil:
			c.warn(at, "write one address to send from, or %any", "local_addrs: %q is not supported: it is not sent from there, and peers may call at any address", v)
		case c.Peer.Local.IsValid():
			c.warn(at, "", "local_addrs: only the first address is used")
		default:
			take(&c.reports, v, at, &a, parseLocal)
			c.Peer.Local = a
		}
	})
}

// remoteAddrs: the first address or name is whom we call.
func (c *swanConn) remoteAddrs(k *setting) {
	k.each(func(v string, at Pos) {
		switch {
		case slices.Contains(anyAddress, v) || v == "%any6" || v == "%any4":
		case strings.ContainsAny(v, "/") || strings.Contains(v, "-") && looksLikeAddr(strings.ReplaceAll(v, "-", "")):
			c.warn(at, "its identity and its key say who it is", "remote_addrs: %q is not supported, the peer may call from any address", v)
		case c.Remote != "":
			c.warn(at, "write the others as connections of their own", "remote_addrs: only the first address is called")
		default:
			take(&c.reports, v, at, &c.Remote, parseRemote)
		}
	})
}

// proposals reads a list of them. One that cannot be used is left out with a
// warning, as long as another remains.
func (w *swanctl) proposals(dst *[]ikev2.Proposal, use protocolUse, standard func() []ikev2.Proposal) func(*setting) {
	return func(k *setting) {
		var found reports
		var good []ikev2.Proposal
		named := false
		k.each(func(v string, at Pos) {
			read := []ikev2.Proposal{nil}
			if v == "default" {
				read = standard()
			} else {
				named = true
				take(&found, v, at, &read[0], func(s string) (ikev2.Proposal, *fault) { return parseProposal(s, use) })
			}
			for _, p := range read {
				if p != nil && len(good) < maxProposals && !slices.ContainsFunc(good, func(o ikev2.Proposal) bool { return slices.Equal(o, p) }) {
					good = append(good, p)
				}
			}
		})
		for _, d := range found.list {
			if len(good) > 0 {
				d.Severity = SeverityWarning
				d.Message += "; the proposal is left out"
			}
			w.add(d)
		}
		if named { // else they are culvert's own
			*dst = good
		}
	}
}

func (c *swanConn) vips(k *setting) {
	k.each(func(v string, at Pos) {
		a, err := netip.ParseAddr(v)
		switch {
		case v == "%config" || v == "%config4" || err == nil && a.Is4():
			c.Address.Request4 = true
		case v == "%config6" || err == nil:
			c.Address.Request6 = true
		default:
			c.error(at, "write 0.0.0.0 or :: for any address of that family", "vips: %q is not an address", v)
			return
		}
		if err == nil && !a.IsUnspecified() {
			c.warn(at, "write 0.0.0.0 or :: for what it comes to", "vips: no address in particular is asked for, the peer chooses")
		}
	})
}

// mode reads yes or no.
func (w *swanctl) mode(dst *ikev2.Mode, on ikev2.Mode) func(*setting) {
	return func(k *setting) {
		yes := true
		take(&w.reports, k.value, k.pos, &yes, parseSwanBool)
		if *dst = ikev2.ModeOff; yes {
			*dst = on
		}
	}
}

func (c *swanConn) fragmentation(k *setting) {
	switch strings.ToLower(k.value) {
	case "force":
		c.Fragmentation.Mode = ikev2.ModeRequire
	case "accept":
		c.warn(k.pos, "large messages are sent in fragments too", "fragmentation = accept is not supported")
	default:
		c.mode(&c.Fragmentation.Mode, ikev2.ModePrefer)(k)
	}
}

// unique: what strongSwan's "keep" lets INITIAL_CONTACT do is what ours does.
func (c *swanConn) unique(k *setting) {
	switch strings.ToLower(k.value) {
	case "replace":
	case "keep":
		c.Duplicates = ikev2.DuplicatesKeep
	case "no", "never":
		c.warn(k.pos, "write unique = replace for what it comes to", "unique = %s is not supported: a peer has one connection, and a newer one takes its place", k.value)
	default:
		c.error(k.pos, "write replace or keep", "unique: %q is not known", k.value)
	}
}

// lifetime: a connection is not authenticated anew while it lives, but gets new
// keys at that age.
func (c *swanConn) lifetime() {
	if c.reauth == 0 {
		return
	}
	c.warn(c.s.get("reauth_time").pos, "rekey_time alone says the same", "reauth_time is not supported: the IKE SA is rekeyed, not authenticated again")
	if k := c.s.get("rekey_time"); k == nil || k.value == "" || c.IKELifetime == 0 {
		c.IKELifetime = c.reauth
	}
}

// round is the section of a side: local, local-1, ...
func (c *swanConn) round(side string) *section {
	for _, s := range c.s.sections {
		if strings.HasPrefix(s.name, side) {
			return s
		}
	}
	return nil
}

// auth reads how a side authenticates itself.
func (c *swanConn) auth(side string, id *ikev2.Identity) {
	rounds := 0
	for _, s := range c.s.sections {
		if !strings.HasPrefix(s.name, side) {
			continue
		}
		if rounds++; rounds > 1 {
			c.error(s.pos, "keep one", "connection %q has several rounds of %s authentication", c.Name, side)
			return
		}
		c.each(s, c.authRules(s, id))
		if k := s.get("auth"); k == nil || k.value == "" {
			c.error(s.pos, onlyPSKSwanctl, "connection %q has no %s.auth, which means pubkey", c.Name, s.name)
		}
		for _, cert := range s.sections {
			c.error(cert.pos, onlyPSKSwanctl, "%q is not supported", s.name+"."+cert.name)
		}
	}
	if rounds == 0 {
		c.error(c.s.pos, fmt.Sprintf("add %s { auth = psk; id = ... }, each setting on a line of its own", side), "connection %q has no section %s", c.Name, side)
	}
}

func (c *swanConn) authRules(s *section, id *ikev2.Identity) swanRules {
	return swanRules{
		"auth": func(k *setting) {
			if strings.ToLower(k.value) != "psk" {
				c.error(k.pos, onlyPSKSwanctl, "auth = %s is not supported", quoteSwanctl(k.value))
			}
		},
		"id": func(k *setting) {
			if k.value == "%any" { // as if it were not there, which is spoken of below
				c.Where[s.name+"_id"] = Place{Pos: k.pos, Key: c.way + "." + s.name + ".id", format: FormatSwanctl}
				return
			}
			take(&c.reports, k.value, k.pos, id, parseSwanID)
		},
		"round": swanNothing,
	}.with(c.refused(onlyPSKSwanctl), "certs pubkeys eap_id aaa_id xauth_id groups cert_policy cacerts ca_id").
		with(c.ignored("there are no certificates"), "revocation")
}

// others are the sections that are neither of a side nor the children's.
func (c *swanConn) others() {
	for _, s := range c.s.sections {
		if s.name != "children" && !strings.HasPrefix(s.name, "local") && !strings.HasPrefix(s.name, "remote") {
			c.error(s.pos, didYouMean(s.name, []string{"children", "local", "remote"}), "unknown section %q", s.name)
		}
	}
}

// identities fills in those that are not written, by the addresses.
func (c *swanConn) identities() {
	none := ikev2.Identity{}
	where := c.Where["local_id"]
	if c.LocalID == none && !where.Given && c.Peer.Local.IsValid() {
		take(&c.reports, c.Peer.Local.String(), c.Where["local"].Pos, &c.LocalID, parseIdentity)
		if c.Peer.Local.IsPrivate() {
			c.warn(c.Where["local"].Pos, "add "+where.Setting("@NAME")+", and @NAME as the remote id at the peer",
				"connection %q has no local id, so this side identifies itself by the private address %v, which the peer cannot expect when there is a NAT between them", c.Name, c.Peer.Local)
		}
	}
	where = c.Where["remote_id"]
	if _, err := netip.ParseAddr(c.Remote); c.RemoteID == none && !where.Given && err == nil {
		take(&c.reports, c.Remote, c.Where["remote"].Pos, &c.RemoteID, parseIdentity)
		c.warn(where.Pos, "add "+where.Setting("..."), "connection %q takes any remote id, and culvert but one: %v is expected", c.Name, c.RemoteID)
	}
}

// keys finds those of the connection.
func (c *swanConn) keys() {
	none := ikev2.Identity{}
	if c.LocalID != none && c.RemoteID != none {
		if s := c.pskFor(c.LocalID, c.RemoteID); s != nil {
			c.PSK = c.key(s, "psk")
		} else {
			c.error(c.s.pos, "add a section ike-"+c.Name+" to the secrets, with both identities as its ids", "connection %q has no pre-shared key: no secret names %v or %v", c.Name, c.LocalID, c.RemoteID)
		}
	}
	if c.PPK.ID == "" {
		return
	}
	if s := c.ppkFor(c.PPK.ID); s != nil {
		c.PPK.Secret = c.key(s, "ppk")
	}
}

func (c *swanConn) key(s *swanSecret, setting string) Secret {
	c.Where[setting] = c.place(s.section, "secrets."+s.name, "secret")
	return c.keyOf(s)
}

// children reads the tunnels, which say whether the connection is initiated.
func (c *swanConn) children() {
	all := c.s.find("children")
	if all == nil {
		return
	}
	for _, k := range all.settings {
		c.error(k.keyPos, "write children { NAME { ... } }", "children has settings only in sections of their own")
	}
	for _, s := range all.sections {
		t := c.child(s)
		if t.Start == ikev2.StartNow {
			c.Initiate = true
			c.Where["initiate"] = t.Where["start"]
		}
		c.Tunnels = append(c.Tunnels, t)
	}
	for _, t := range c.Tunnels {
		c.afterwards(all.find(t.Name), t.Start)
	}
}

func (c *swanConn) child(s *section) Tunnel {
	t := newTunnel(s.name, c.Peer)
	t.Start, t.Where = ikev2.StartPeer, Places{}
	way := c.way + ".children." + s.name
	if f := checkLabel(t.Name); f != nil {
		c.error(s.pos, f.hint, "%s", f.message)
	}
	for name, key := range map[string]string{"local": "local_ts", "remote": "remote_ts", "esp": "esp_proposals", "start": "start_action", "lifetime": "rekey_time"} {
		t.Where[name] = c.place(s, way, key)
	}
	t.Where[""] = c.place(s, way, "")
	t.LocalDynamic, t.RemoteDynamic = !t.Where["local"].Given, !t.Where["remote"].Given
	var life swanLife
	c.each(s, c.childRules(&t, &life))
	life.settle(s, &t)
	for _, k := range s.sections {
		c.error(k.pos, "", "a child has no sections")
	}
	return t
}

// swanLife are the ends of a child SA, which stand for the time to replace it
// where that is not said.
type swanLife struct {
	time           time.Duration
	bytes, packets uint64
}

func (l *swanLife) settle(s *section, t *Tunnel) {
	unset := func(key string) bool { k := s.get(key); return k == nil || k.value == "" }
	if l.time > 0 && unset("rekey_time") {
		t.Lifetime = max(time.Second, (l.time * 10 / 11).Truncate(time.Second))
	}
	if unset("rekey_bytes") {
		t.LifetimeBytes = l.bytes / 11 * 10
	}
	if unset("rekey_packets") {
		t.LifetimePackets = l.packets / 11 * 10
	}
}

func (c *swanConn) childRules(t *Tunnel, life *swanLife) swanRules {
	return swanRules{
		"local_ts":      c.networks(&t.Local, &t.LocalDynamic),
		"remote_ts":     c.networks(&t.Remote, &t.RemoteDynamic),
		"esp_proposals": c.proposals(&t.ESP, forESP, ikev2.DefaultESPProposals),
		"rekey_time":    swanValue(c.swanctl, &t.Lifetime, parseSwanTime),
		"rekey_bytes":   swanValue(c.swanctl, &t.LifetimeBytes, parseSwanBytes),
		"rekey_packets": swanValue(c.swanctl, &t.LifetimePackets, parseSwanCount),
		"life_time":     c.end(swanValue(c.swanctl, &life.time, parseSwanTime), "rekey_time"),
		"life_bytes":    c.end(swanValue(c.swanctl, &life.bytes, parseSwanBytes), "rekey_bytes"),
		"life_packets":  c.end(swanValue(c.swanctl, &life.packets, parseSwanCount), "rekey_packets"),
		"start_action":  c.startAction(t),
		"dpd_action":    swanNothing, // later: they depend on start_action
		"close_action":  swanNothing,
		"mode":          c.tunnelMode,
		"ah_proposals":  c.refused("write esp_proposals: packets are encrypted always"),
		"label":         c.refused("security labels are not spoken: leave it out here and at the peer"),
		"sha256_96":     c.refused("use sha256 as RFC 4868 has it, here and at the peer", "no", "false", "disabled", "0"),
		"per_cpu_sas":   c.agrees("one child SA carries all of the traffic", "no", "false", "disabled", "0"),
		"policies":      c.agrees("packets are always held against the networks", "yes", "true", "enabled", "1"),
		"ipcomp":        c.agrees("packets are not compressed", "no", "false", "disabled", "0"),
		"inactivity":    c.agrees("a tunnel stays up without traffic", "0", "0s"),
		"tfc_padding":   c.agrees("packets are not padded", "0"),
		"replay_window": c.ignored("the window always holds at least 1024 packets"),
		"updown":        c.ignored("no script is run; routes are set by themselves"),
		"hw_offload":    c.agrees("packets are encrypted here", "no", "auto"),
		"label_mode":    swanNothing,
	}.with(c.ignored(jitter), "rand_time rand_bytes rand_packets").
		with(c.ignored("there is one device and no policy of the kernel"), "hostaccess policies_fwd_out reqid priority interface mark_in mark_in_sa mark_out set_mark_in set_mark_out if_id_in if_id_out").
		with(c.ignored("culvert settles it by itself"), "copy_df copy_ecn copy_dscp")
}

// end reads the hard end of a child SA, which culvert derives from the time to
// replace it.
func (c *swanConn) end(read func(*setting), soft string) func(*setting) {
	return func(k *setting) {
		read(k)
		c.warn(k.keyPos, hardLifetime, "%s is not supported; %s is what counts, a tenth less where it is not given", k.key, soft)
	}
}

func (c *swanConn) networks(dst *[]wire.Selector, dynamic *bool) func(*setting) {
	return func(k *setting) {
		k.each(func(v string, at Pos) {
			if strings.HasPrefix(v, dynamicNetwork+"[") {
				c.error(at, "write dynamic alone", "%q is not supported: no protocol can be picked of an address that is not known yet", v)
				return
			}
			c.addNetwork(dst, dynamic, v, at)
		})
	}
}

func (c *swanConn) startAction(t *Tunnel) func(*setting) {
	return func(k *setting) {
		for action := range strings.SplitSeq(strings.ToLower(k.value), "|") {
			switch strings.TrimSpace(action) {
			case "start":
				t.Start = ikev2.StartNow
			case "trap", "route":
				if t.Start != ikev2.StartNow {
					t.Start = ikev2.StartTraffic
				}
			case "none", "":
			default:
				c.error(k.pos, "write none, trap or start", "start_action = %s is not known", quoteSwanctl(k.value))
			}
		}
	}
}

func (c *swanConn) tunnelMode(k *setting) {
	switch mode := strings.ToLower(k.value); mode {
	case "tunnel":
	case "transport", "beet", "transport_proxy":
		c.warn(k.pos, "the peer goes along, or write mode = tunnel there too", "mode = %s is not supported: packets go in tunnel mode", mode)
	default:
		c.error(k.pos, "leave the child out, and set routes and a firewall for its traffic", "mode = %s is not supported", quoteSwanctl(k.value))
	}
}

var swanActions = []string{"none", "clear", "start", "restart", "trap", "route", "hold"}

// afterwards compares what to do about a child SA that is gone with what is
// done by its start.
func (c *swanConn) afterwards(s *section, start ikev2.StartMode) {
	fine, does := []string{"none", "clear"}, "the peer is waited for"
	switch start {
	case ikev2.StartNow:
		fine, does = []string{"start", "restart"}, "a tunnel that is started is always started again"
	case ikev2.StartTraffic:
		fine, does = []string{"none", "clear", "trap", "route", "hold"}, "the next packet starts it again"
	}
	for _, key := range []string{"dpd_action", "close_action"} {
		k := s.get(key)
		switch {
		case k == nil || k.value == "" || slices.Contains(fine, strings.ToLower(k.value)):
		case !slices.Contains(swanActions, strings.ToLower(k.value)):
			c.error(k.pos, "write none, trap or start", "%s = %s is not known", key, quoteSwanctl(k.value))
		default:
			c.warn(k.pos, "", "%s = %s is not supported: %s", key, quoteSwanctl(k.value), does)
		}
	}
}
