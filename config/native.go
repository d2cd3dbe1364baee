package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

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
		"peer":    n.tables(n.peer),
	})
}

// each hands the table's items to their readers, and notes the places of the
// settings that are there and of those that are not.
func (n native) each(t *tomlTable, where Places, known settings) {
	for key := range known {
		where[key] = Place{Pos: t.pos, Key: key, format: FormatTOML}
	}
	for _, it := range t.items {
		read := known[it.key]
		if read == nil {
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
	if place, ok := p[key]; ok && !strings.HasPrefix(key, "psk") {
		place.Given = true
		p[key] = place
	}
}

func (n native) gateway(t *tomlTable) {
	g, where := &n.cfg.Gateway, Places{}
	n.each(t, where, settings{
		"local":     text(n, &g.Local, parseLocal),
		"ike_port":  number(n, &g.IKEPort, parsePort),
		"natt_port": number(n, &g.NATTPort, parsePort),
		"device":    text(n, &g.Device, parseDevice),
		"mtu":       number(n, &g.MTU, parseMTU),
	})
	if g.IKEPort == g.NATTPort {
		n.error(where["ike_port"].Pos, "leave both out for 500 and 4500", "ike_port and natt_port are the same")
	}
}

func (n native) peer(name *tomlItem, t *tomlTable) {
	p := newPeer(name.key)
	keys := keySettings{}
	n.each(t, p.Where, settings{
		"remote":           text(n, &p.Remote, parseRemote),
		"local":            text(n, &p.Local, parseLocal),
		"remote_ike_port":  number(n, &p.RemoteIKEPort, parsePort),
		"remote_natt_port": number(n, &p.RemoteNATTPort, parsePort),
		"local_id":         text(n, &p.LocalID, parseIdentity),
		"remote_id":        text(n, &p.RemoteID, parseIdentity),
		"psk":              text(n, keys.at(keyInline), anyText),
		"psk_file":         text(n, keys.at(keyFile), anyText),
		"psk_env":          text(n, keys.at(keyEnv), anyText),
		"initiate":         n.flag(&p.Initiate),
		"ike":              n.ikeProposals(&p.IKE),
		"ike_lifetime":     text(n, &p.IKELifetime, parseDuration),
		"dpd":              text(n, &p.DPD, parseInterval),
		"keepalive":        text(n, &p.Keepalive, parseInterval),
		"tunnel": n.tables(func(name *tomlItem, t *tomlTable) {
			p.Tunnels = append(p.Tunnels, n.tunnel(name, t))
		}),
	})
	p.Where[""] = Place{Pos: t.pos, Key: "peer." + quoteKey(p.Name), Given: true, format: FormatTOML}
	if !p.Where["initiate"].Given {
		p.Initiate = p.Remote != ""
	}
	if !p.Where["remote"].Given {
		n.error(t.pos, `write remote = "any" for a peer that calls from anywhere`, "peer %q has no remote", p.Name)
	}
	p.PSK = n.readKey(&p, keys)
	n.cfg.Peers = append(n.cfg.Peers, p)
}

func (n native) tunnel(name *tomlItem, t *tomlTable) Tunnel {
	tun := Tunnel{Name: name.key, Lifetime: DefaultLifetime, Where: Places{}}
	n.each(t, tun.Where, settings{
		"local":    n.selectors(&tun.Local),
		"remote":   n.selectors(&tun.Remote),
		"esp":      n.espProposals(&tun.ESP),
		"lifetime": text(n, &tun.Lifetime, parseDuration),
	})
	tun.Where[""] = Place{Pos: t.pos, Key: "tunnel." + quoteKey(tun.Name), Given: true, format: FormatTOML}
	return tun
}

// keySettings are the settings that give the key, as far as they are there.
type keySettings map[keySource]*string

func (k keySettings) at(s keySource) *string {
	k[s] = new(string)
	return k[s]
}

// readKey wants exactly one of the settings.
func (n native) readKey(p *Peer, keys keySettings) Secret {
	var given []keySource
	for _, source := range keySources {
		if p.Where[string(source)].Given {
			given = append(given, source)
		}
	}
	if len(given) == 0 {
		n.error(p.Where[""].Pos, `add psk_file = "FILE", psk_env = "VARIABLE" or psk = "KEY"`, "peer %q has no pre-shared key", p.Name)
		return Secret{}
	}
	for _, more := range given[1:] {
		n.error(p.Where[string(more)].Pos, "keep one of psk, psk_file and psk_env", "peer %q has its pre-shared key from %s already", p.Name, given[0])
	}
	place := p.Where[string(given[0])]
	p.Where["psk"] = place
	return n.secret(given[0], *keys[given[0]], place.Pos)
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
		v, ok := want[int64](n, it, "a number", "write it without quotes")
		if !ok {
			return
		}
		take(&n.reports, "", it.pos, dst, func(string) (T, *fault) { return parse(v) })
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

func (n native) selectors(dst *[]wire.Selector) func(*tomlItem) {
	return n.list(func(s string, at Pos) { n.addSelector(dst, s, at) })
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
