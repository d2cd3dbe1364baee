package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// TOML writes the configuration in culvert's own form; Parse makes the same
// configuration of it. Settings that have their default are left out. A key
// is written only if it stood in the configuration itself; one from a file or
// a variable stays there.
func (c *Config) TOML() []byte {
	var w printer
	w.gateway(c.Gateway)
	for i := range c.Peers {
		w.peer(&c.Peers[i])
	}
	return []byte(strings.TrimPrefix(w.String(), "\n"))
}

type printer struct{ strings.Builder }

func (w *printer) table(name string) { fmt.Fprintf(w, "\n[%s]\n", name) }

func (w *printer) set(key, value string) { fmt.Fprintf(w, "%s = %s\n", key, value) }

// setUnless leaves a default out.
func setUnless[T comparable](w *printer, key string, value, standard T, format func(T) string) {
	if value != standard {
		w.set(key, format(value))
	}
}

func (w *printer) gateway(g Gateway) {
	standard := Gateway{IKEPort: DefaultIKEPort, NATTPort: DefaultNATTPort, Device: DefaultDevice}
	if g == standard {
		return
	}
	w.table("gateway")
	if g.Local.IsValid() {
		w.set("local", quoteTOML(g.Local.String()))
	}
	setUnless(w, "ike_port", g.IKEPort, DefaultIKEPort, portText)
	setUnless(w, "natt_port", g.NATTPort, DefaultNATTPort, portText)
	setUnless(w, "device", g.Device, DefaultDevice, quoteTOML)
	setUnless(w, "mtu", g.MTU, 0, strconv.Itoa)
}

func (w *printer) peer(p *Peer) {
	table := "peer." + quoteKey(p.Name)
	w.table(table)
	if p.Remote == "" {
		w.set("remote", `"any" # the peer calls from any address; its identity says who it is`)
	} else {
		w.set("remote", quoteTOML(p.Remote))
	}
	if p.Local.IsValid() {
		w.set("local", quoteTOML(p.Local.String()))
	}
	setUnless(w, "remote_ike_port", p.RemoteIKEPort, DefaultIKEPort, portText)
	setUnless(w, "remote_natt_port", p.RemoteNATTPort, DefaultNATTPort, portText)
	w.set("local_id", quoteTOML(p.LocalID.String()))
	w.set("remote_id", quoteTOML(p.RemoteID.String()))
	w.key(p.PSK)
	w.set("initiate", strconv.FormatBool(p.Initiate))
	w.proposals("ike", p.IKE)
	setUnless(w, "ike_lifetime", p.IKELifetime, DefaultIKELifetime, durationText)
	setUnless(w, "dpd", p.DPD, DefaultDPD, durationText)
	setUnless(w, "keepalive", p.Keepalive, DefaultKeepalive, durationText)
	for i := range p.Tunnels {
		w.tunnel(table, &p.Tunnels[i])
	}
}

func (w *printer) key(s Secret) {
	if s.secret == nil {
		return
	}
	value := s.ref
	if s.source == keyInline {
		value = string(s.Bytes())
	}
	w.set(string(s.source), quoteTOML(value))
}

func (w *printer) tunnel(peer string, t *Tunnel) {
	w.table(peer + ".tunnel." + quoteKey(t.Name))
	w.set("local", list(t.Local, wire.Selector.String))
	w.set("remote", list(t.Remote, wire.Selector.String))
	w.proposals("esp", t.ESP)
	setUnless(w, "lifetime", t.Lifetime, DefaultLifetime, durationText)
}

func (w *printer) proposals(key string, ps []ikev2.Proposal) {
	if len(ps) == 0 {
		fmt.Fprintf(w, "# %s: culvert's own proposals\n", key)
		return
	}
	w.set(key, list(ps, proposalKeywords))
}

// list is one string, or a list of several.
func list[T any](items []T, text func(T) string) string {
	quoted := make([]string, len(items))
	for i, it := range items {
		quoted[i] = quoteTOML(text(it))
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func portText(p uint16) string { return strconv.Itoa(int(p)) }

// durationText is "4h" where time says "4h0m0s", and "off" for none.
func durationText(d time.Duration) string {
	if d == 0 {
		return `"off"`
	}
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return quoteTOML(s)
}

// quoteTOML writes a basic string. Beside what TOML wants escaped, anything
// that a terminal would not show is.
func quoteTOML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case !strconv.IsPrint(r):
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func quoteKey(s string) string {
	if bareKey.MatchString(s) {
		return s
	}
	return quoteTOML(s)
}

var bareVyOS = regexp.MustCompile(`^[A-Za-z0-9_@.:/,+-]+$`)

// quoteVyOS writes a word that both VyOS spellings read.
func quoteVyOS(s string) string {
	if bareVyOS.MatchString(s) {
		return s
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s) // for the eye; no VyOS could have it
	}
	if !strings.Contains(s, "'") {
		return "'" + s + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
