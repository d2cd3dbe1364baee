package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// native reads culvert's own form, which the package documentation shows.
type native struct {
	*reader
}

// settings are the keys that a table may have, each with its reader.
type settings map[string]func(*tomlItem)

func (n native) read(root *tomlTable) {
	n.each(root, Places{}, settings{
		"gateway": n.table(n.gateway),
		"pool":    n.tables(n.pool),
		"peer":    n.tables(n.peer),
	})
}

// each hands the table's items to their readers, and notes the places of the
// settings that are there.
func (n native) each(t *tomlTable, where Places, known settings) {
	where[""] = Place{Pos: t.pos, format: FormatTOML}
	for _, it := range t.items {
		read := known[it.key]
		if read == nil {
			if table := tableOf(it.key); table != "" {
				n.error(it.keyPos, "write it below "+table, "setting %q is one of another table", it.key)
				continue
			}
			n.error(it.keyPos, didYouMean(it.key, keysOf(known)), "unknown setting %q", it.key)
			where.forgive(nearest(it.key, keysOf(known)))
			continue
		}
		where[it.key] = Place{Pos: it.pos, Key: it.key, Given: true, format: FormatTOML}
		read(it)
	}
}

// forgive counts a misspelt setting as given, so that it is not missed too.
func (p Places) forgive(key string) {
	if place := p.At(key); key != "" && !strings.HasPrefix(key, "psk") && !strings.HasPrefix(key, "ppk") {
		place.Given = true
		p[key] = place
	}
}

func (n native) gateway(t *tomlTable) {
	g := &n.cfg.Gateway
	n.each(t, g.Where, n.gatewaySettings(g))
	if g.IKEPort == g.NATTPort {
		n.error(g.Where.At("ike_port").Pos, "leave both out for 500 and 4500", "ike_port and natt_port are the same")
	}
}

func (n native) gatewaySettings(g *Gateway) settings {
	return settings{
		"local":                text(n, &g.Local, parseLocal),
		"ike_port":             number(n, &g.IKEPort, parsePort),
		"natt_port":            number(n, &g.NATTPort, parsePort),
		"device":               text(n, &g.Device, parseDevice),
		"device_prepared":      n.flag(&g.DevicePrepared),
		"lanes":                number(n, &g.Lanes, parseLanes),
		"mtu":                  number(n, &g.MTU, parseMTU),
		"cookie_threshold":     numberOr(n, &g.CookieThreshold, parseLimit, cookieWords),
		"half_open_limit":      numberOr(n, &g.HalfOpenLimit, parseLimit, limitWords),
		"half_open_per_source": numberOr(n, &g.HalfOpenPerSource, parseLimit, limitWords),
		"half_open_lifetime":   text(n, &g.HalfOpenLifetime, parseDuration),
		"resumption_key_file":  text(n, &g.ResumptionKeyFile, parseFileName),
		"lease_file":           text(n, &g.LeaseFile, parseFileName),
		"metrics":              text(n, &g.Metrics, parseListener),
		"page":                 text(n, &g.Page, parseLoopback),
	}
}

func (n native) pool(name *tomlItem, t *tomlTable) {
	p := Pool{Pool: ikev2.Pool{Name: name.key}, Where: Places{}}
	n.each(t, p.Where, n.poolSettings(&p))
	p.Where[""] = Place{Pos: t.pos, Key: "pool." + quoteKey(p.Name), Given: true, format: FormatTOML}
	n.cfg.Pools = append(n.cfg.Pools, p)
}

func (n native) poolSettings(p *Pool) settings {
	return settings{
		"addresses": text(n, p, func(s string) (Pool, *fault) { return p.with(s) }),
		"dns":       n.list(func(s string, at Pos) { addParsed(n.reader, &p.DNS, s, at, parseDNS) }),
		"domains":   n.list(func(s string, at Pos) { addParsed(n.reader, &p.Domains, s, at, parseDomain) }),
		"subnets":   n.list(func(s string, at Pos) { addParsed(n.reader, &p.Subnets, s, at, parsePrefix) }),
	}
}

func (n native) peer(name *tomlItem, t *tomlTable) {
	p := newPeer(name.key)
	psk, ppk := keySettings{}, keySettings{}
	known := n.peerSettings(&p)
	n.keySettings(known, pskKey, psk)
	n.keySettings(known, ppkKey, ppk)
	var tunnels []*tomlItem
	known["tunnel"] = n.tables(func(name *tomlItem, _ *tomlTable) { tunnels = append(tunnels, name) })
	p.Preset = n.preset(t, known)
	n.each(t, p.Where, known)
	p.Where[""] = Place{Pos: t.pos, Key: "peer." + quoteKey(p.Name), Given: true, format: FormatTOML}
	if !p.Where.At("initiate").Given && !presets[p.Preset].calls {
		p.Initiate = p.Remote != ""
	}
	if !p.Where.At("remote").Given {
		n.error(t.pos, `write remote = "any" for a peer that calls from anywhere`, "peer %q has no remote", p.Name)
	}
	p.PSK = n.readKey(&p, pskKey, psk)
	p.PPK.Secret = n.readKey(&p, ppkKey, ppk)
	if p.PSK.secret == nil {
		n.error(p.Where[""].Pos, `add psk_file = "FILE", psk_env = "VARIABLE" or psk = "KEY"`, "peer %q has no pre-shared key", p.Name)
	}
	for _, it := range tunnels { // which start as the peer does
		p.Tunnels = append(p.Tunnels, n.tunnel(&p, it.key, it.value.(*tomlTable)))
	}
	n.cfg.Peers = append(n.cfg.Peers, p)
}

func (n native) peerSettings(p *Peer) settings {
	return settings{
		"preset":               text(n, &p.Preset, parsePreset),
		"remote":               text(n, &p.Remote, parseRemote),
		"local":                text(n, &p.Local, parseLocal),
		"remote_ike_port":      number(n, &p.RemoteIKEPort, parsePort),
		"remote_natt_port":     number(n, &p.RemoteNATTPort, parsePort),
		"local_id":             text(n, &p.LocalID, parseIdentity),
		"remote_id":            text(n, &p.RemoteID, parseIdentity),
		"initiate":             n.flag(&p.Initiate),
		"ike":                  n.ikeProposals(&p.IKE),
		"ike_lifetime":         text(n, &p.IKELifetime, parseInterval),
		"dpd":                  text(n, &p.DPD, parseInterval),
		"keepalive":            text(n, &p.Keepalive, parseInterval),
		"retransmit":           text(n, &p.Retransmit, parseWait),
		"retransmit_max":       text(n, &p.RetransmitMax, parseWait),
		"retransmit_tries":     number(n, &p.RetransmitTries, parseTries),
		"initial_tries":        number(n, &p.InitialTries, parseTries),
		"reconnect":            text(n, &p.Reconnect, parseWait),
		"reconnect_max":        text(n, &p.ReconnectMax, parseWait),
		"duplicates":           oneOf(n, &p.Duplicates, duplicatesWords),
		"fragmentation":        oneOf(n, &p.Fragmentation.Mode, fragmentations),
		"fragment_size":        number(n, &p.Fragmentation.Size, parseFragmentSize),
		"mobike":               oneOf(n, &p.MOBIKE, onOff),
		"redirect":             oneOf(n, &p.Redirect, onOff),
		"resumption":           oneOf(n, &p.Resumption, onOff),
		"post_quantum":         oneOf(n, &p.PostQuantum.Mode, postQuantums),
		"post_quantum_methods": n.list(func(s string, at Pos) { addParsed(n.reader, &p.PostQuantum.Methods, s, at, parseMethod) }),
		"ppk_id":               text(n, &p.PPK.ID, parsePPKID),
		"ppk_required":         n.flag(&p.PPK.Required),
		"pools":                n.list(func(s string, at Pos) { addParsed(n.reader, &p.Address.Pools, s, at, anyText) }),
		"request_address":      n.list(func(s string, at Pos) { n.requestAddress(&p.Address, s, at) }),
	}
}

func (n native) requestAddress(a *ikev2.AddressPolicy, s string, at Pos) {
	switch s {
	case "ipv4":
		a.Request4 = true
	case "ipv6":
		a.Request6 = true
	default:
		n.error(at, `write "ipv4" or "ipv6"`, "%q is not a family of addresses", s)
	}
}

func (n native) tunnel(p *Peer, name string, t *tomlTable) Tunnel {
	tun := newTunnel(name, p)
	known := n.tunnelSettings(&tun)
	if p.Preset != "" {
		applyPreset(n, p.Preset, "tunnel", t, known)
	}
	n.each(t, tun.Where, known)
	tun.Where[""] = Place{Pos: t.pos, Key: "tunnel." + quoteKey(tun.Name), Given: true, format: FormatTOML}
	return tun
}

func (n native) tunnelSettings(t *Tunnel) settings {
	return settings{
		"local":            n.list(func(s string, at Pos) { n.addNetwork(&t.Local, &t.LocalDynamic, s, at) }),
		"remote":           n.list(func(s string, at Pos) { n.addNetwork(&t.Remote, &t.RemoteDynamic, s, at) }),
		"esp":              n.espProposals(&t.ESP),
		"lifetime":         text(n, &t.Lifetime, parseInterval),
		"lifetime_bytes":   number(n, &t.LifetimeBytes, parseCount),
		"lifetime_packets": number(n, &t.LifetimePackets, parseCount),
		"start":            oneOf(n, &t.Start, startWords),
		"single_pair":      n.flag(&t.SinglePair),
	}
}

// keySettings are the settings that give a key, as far as they are there.
type keySettings map[keySource]string

func (n native) keySettings(known settings, kind *keyKind, keys keySettings) {
	for _, source := range kind.sources {
		known[kind.setting+string(source)] = func(it *tomlItem) {
			if s, ok := want[string](n, it, "a string", "put it in quotes"); ok {
				keys[source] = s
			}
		}
	}
}

// readKey wants no more than one of the settings. A setting of the wrong type
// has been reported, and gives a key without bytes.
func (n native) readKey(p *Peer, kind *keyKind, keys keySettings) (key Secret) {
	var first keySource
	for _, source := range kind.sources {
		place := p.Where.At(kind.setting + string(source))
		switch {
		case !place.Given:
		case key.secret != nil:
			n.error(place.Pos, fmt.Sprintf("keep one of %[1]s, %[1]s_file and %[1]s_env", kind.setting), "peer %q has its %s from %s already", p.Name, kind.noun, kind.setting+string(first))
		default:
			first, key = source, Secret{&secret{key: new([]byte)}}
			if text, ok := keys[source]; ok {
				key = n.secret(kind, source, text, place.Pos)
			}
		}
	}
	if key.secret != nil {
		p.Where[kind.setting] = p.Where.At(kind.setting + string(first))
	}
	return key
}

func anyText(s string) (string, *fault) { return s, nil }

// want reports a value of the wrong kind.
func want[T any](n native, it *tomlItem, what, hint string) (v T, ok bool) {
	if v, ok = it.value.(T); !ok {
		n.error(it.pos, hint, "%s is %s, and has to be %s", quoteKey(it.key), kindOf(it.value), what)
	}
	return v, ok
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "true or false"
	case int64:
		return "a number"
	case []*tomlItem:
		return "a list"
	case *tomlTable:
		return "a table"
	}
	return strings.ToLower(fmt.Sprintf("a TOML %v", v))
}

func text[T any](n native, dst *T, parse func(string) (T, *fault)) func(*tomlItem) {
	return func(it *tomlItem) {
		if s, ok := want[string](n, it, "a string", stringHint(it, *new(T))); ok {
			take(&n.reports, s, it.pos, dst, parse)
		}
	}
}

func stringHint(it *tomlItem, of any) string {
	if v, isNumber := it.value.(int64); isNumber {
		if _, isDuration := of.(time.Duration); isDuration {
			return fmt.Sprintf(`with a unit: "%ds"`, v)
		}
		return "put it in quotes"
	}
	return ""
}

func number[T any](n native, dst *T, parse func(int64) (T, *fault)) func(*tomlItem) {
	return func(it *tomlItem) {
		hint := "write it without quotes"
		if it.value == unstable.Integer {
			hint = "write it without leading zeros, and no larger than 64 bits"
		}
		v, ok := want[int64](n, it, "a number", hint)
		if !ok {
			return
		}
		take(&n.reports, "", it.pos, dst, func(string) (T, *fault) { return parse(v) })
	}
}

// numberOr is for a number that a word can stand for.
func numberOr(n native, dst *int, parse func(int64) (int, *fault), special words[int]) func(*tomlItem) {
	return func(it *tomlItem) {
		if s, isString := it.value.(string); isString {
			take(&n.reports, s, it.pos, dst, func(s string) (int, *fault) {
				v, f := special.parse(s)
				if f != nil {
					f = faultf("write a number, or "+special.choice(), "%q is not a limit", s)
				}
				return v, f
			})
			return
		}
		number(n, dst, parse)(it)
	}
}

// oneOf is for a setting with a few values, strings or true and false.
func oneOf[T comparable](n native, dst *T, values words[T]) func(*tomlItem) {
	return func(it *tomlItem) {
		s, isString := it.value.(string)
		if v, isBool := it.value.(bool); isBool {
			s = strconv.FormatBool(v)
		} else if _, err := strconv.ParseBool(s); !isString || err == nil {
			n.error(it.pos, "", "%s has to be %s", quoteKey(it.key), values.choice())
			return
		}
		take(&n.reports, s, it.pos, dst, values.parse)
	}
}

func (n native) flag(dst *bool) func(*tomlItem) {
	return func(it *tomlItem) {
		if v, ok := want[bool](n, it, "true or false", "write it without quotes"); ok {
			*dst = v
		}
	}
}

func (n native) table(read func(*tomlTable)) func(*tomlItem) {
	return func(it *tomlItem) {
		if t, ok := want[*tomlTable](n, it, "a table", "write ["+quoteKey(it.key)+"] on a line of its own, and the settings below it"); ok {
			read(t)
		}
	}
}

// tables is for a table of named tables.
func (n native) tables(read func(name *tomlItem, t *tomlTable)) func(*tomlItem) {
	return n.table(func(all *tomlTable) {
		for _, it := range all.items {
			if f := checkLabel(it.key); f != nil {
				n.error(it.keyPos, f.hint, "%s", f.message)
			}
			n.table(func(t *tomlTable) { read(it, t) })(it)
		}
	})
}

// list is for a string or a list of strings, of which none is an error.
func (n native) list(read func(s string, at Pos)) func(*tomlItem) {
	return func(it *tomlItem) {
		items, isList := it.value.([]*tomlItem)
		if !isList {
			items = []*tomlItem{it}
		}
		if len(items) == 0 {
			n.error(it.pos, "leave the setting out for its default, if it has one", "%s is an empty list", it.key)
		}
		for _, each := range items {
			if s, ok := want[string](n, each, "a string or a list of strings", "put it in quotes"); ok {
				read(s, each.pos)
			}
		}
	}
}

func (n native) ikeProposals(dst *[]ikev2.Proposal) func(*tomlItem) {
	return n.list(func(s string, at Pos) {
		var p ikev2.Proposal
		take(&n.reports, s, at, &p, func(s string) (ikev2.Proposal, *fault) { return parseProposal(s, forIKE) })
		n.addProposal(dst, p, at)
	})
}

func (n native) espProposals(dst *[]ikev2.Proposal) func(*tomlItem) {
	return n.list(func(s string, at Pos) {
		var p ikev2.Proposal
		take(&n.reports, s, at, &p, func(s string) (ikev2.Proposal, *fault) { return parseProposal(s, forESP) })
		n.addProposal(dst, p, at)
	})
}

// Limits of what goes into one message; wire accepts no more from a peer.
const (
	maxProposals = 16
	maxSelectors = 255
)

func (r *reader) addProposal(dst *[]ikev2.Proposal, p ikev2.Proposal, at Pos) {
	switch {
	case p == nil:
	case len(*dst) == maxProposals:
		r.error(at, "", "more than %d proposals", maxProposals)
	case slices.ContainsFunc(*dst, func(o ikev2.Proposal) bool { return slices.Equal(o, p) }):
		r.error(at, "leave it out", "this proposal is there already")
	default:
		*dst = append(*dst, p)
	}
}

// addNetwork is addSelector but for "dynamic", which stands for an address that
// is not known yet.
func (r *reader) addNetwork(dst *[]wire.Selector, dynamic *bool, s string, at Pos) {
	if s == dynamicNetwork {
		*dynamic = true
		return
	}
	r.addSelector(dst, s, at)
}

const dynamicNetwork = "dynamic"

// maxList bounds lists in which nothing else does.
const maxList = 64

// addParsed appends a value to a list that has it not yet.
func addParsed[T comparable](r *reader, dst *[]T, s string, at Pos, parse func(string) (T, *fault)) {
	var v T
	before := r.errors
	take(&r.reports, s, at, &v, parse)
	switch {
	case r.errors > before:
	case slices.Contains(*dst, v):
		r.error(at, "leave it out", "%q is there already", s)
	case len(*dst) == maxList:
		r.error(at, "", "more than %d values", maxList)
	default:
		*dst = append(*dst, v)
	}
}

func (r *reader) addSelector(dst *[]wire.Selector, s string, at Pos) {
	var sel wire.Selector
	take(&r.reports, s, at, &sel, parseSelector)
	switch {
	case !sel.Start.IsValid():
	case len(*dst) == maxSelectors:
		r.error(at, "", "more than %d networks", maxSelectors)
	default:
		*dst = append(*dst, sel)
	}
}
