package config

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"culvert/ikev2"
)

// TOML writes the configuration in culvert's own form; Parse makes the same
// configuration of it. Settings that have their default are left out. A key
// is written only if it stood in the configuration itself; one from a file or
// a variable stays there.
func (c *Config) TOML() []byte {
	var w printer
	w.gateway(c.Gateway)
	for i := range c.Pools {
		w.pool(&c.Pools[i])
	}
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
	standard := newGateway()
	if g.Where = standard.Where; reflect.DeepEqual(g, standard) {
		return
	}
	w.table("gateway")
	if g.Local.IsValid() {
		w.set("local", quoteTOML(g.Local.String()))
	}
	setUnless(w, "ike_port", g.IKEPort, standard.IKEPort, portText)
	setUnless(w, "natt_port", g.NATTPort, standard.NATTPort, portText)
	setUnless(w, "device", g.Device, standard.Device, quoteTOML)
	setUnless(w, "device_prepared", g.DevicePrepared, false, strconv.FormatBool)
	setUnless(w, "lanes", g.Lanes, standard.Lanes, strconv.Itoa)
	setUnless(w, "mtu", g.MTU, standard.MTU, strconv.Itoa)
	setUnless(w, "cookie_threshold", g.CookieThreshold, standard.CookieThreshold, numberText(cookieWords))
	setUnless(w, "half_open_limit", g.HalfOpenLimit, standard.HalfOpenLimit, numberText(limitWords))
	setUnless(w, "half_open_per_source", g.HalfOpenPerSource, standard.HalfOpenPerSource, numberText(limitWords))
	setUnless(w, "half_open_lifetime", g.HalfOpenLifetime, standard.HalfOpenLifetime, durationText)
	setUnless(w, "resumption_key_file", g.ResumptionKeyFile, "", quoteTOML)
	setUnless(w, "lease_file", g.LeaseFile, "", quoteTOML)
	setUnless(w, "page", g.Page, netip.AddrPort{}, func(a netip.AddrPort) string { return quoteTOML(a.String()) })
	setUnless(w, "metrics", g.Metrics, netip.AddrPort{}, func(a netip.AddrPort) string { return quoteTOML(a.String()) })
}

func (w *printer) pool(p *Pool) {
	w.table("pool." + quoteKey(p.Name))
	w.set("addresses", quoteTOML(p.addresses()))
	setList(w, "dns", p.DNS, netip.Addr.String)
	setList(w, "domains", p.Domains, plain)
	setList(w, "subnets", p.Subnets, netip.Prefix.String)
}

func plain(s string) string { return s }

func (w *printer) peer(p *Peer) {
	table, standard := "peer."+quoteKey(p.Name), newPeer(p.Name)
	w.table(table)
	if p.Remote == "" {
		w.set("remote", `"any" # the peer calls from any address; its identity says who it is`)
	} else {
		w.set("remote", quoteTOML(p.Remote))
	}
	if p.Local.IsValid() {
		w.set("local", quoteTOML(p.Local.String()))
	}
	w.ports(p, &standard)
	w.set("local_id", quoteTOML(p.LocalID.String()))
	w.set("remote_id", quoteTOML(p.RemoteID.String()))
	w.key(pskKey, p.PSK)
	w.set("initiate", strconv.FormatBool(p.Initiate))
	w.proposals("ike", p.IKE)
	setUnless(w, "ike_lifetime", p.IKELifetime, standard.IKELifetime, durationText)
	w.timing(p, &standard)
	w.features(p, &standard)
	for i := range p.Tunnels {
		w.tunnel(table, p, &p.Tunnels[i])
	}
}

func (w *printer) ports(p, standard *Peer) {
	setUnless(w, "remote_ike_port", p.RemoteIKEPort, standard.RemoteIKEPort, portText)
	setUnless(w, "remote_natt_port", p.RemoteNATTPort, standard.RemoteNATTPort, portText)
}

func (w *printer) timing(p, standard *Peer) {
	setUnless(w, "dpd", p.DPD, standard.DPD, durationText)
	setUnless(w, "keepalive", p.Keepalive, standard.Keepalive, durationText)
	setUnless(w, "retransmit", p.Retransmit, standard.Retransmit, durationText)
	setUnless(w, "retransmit_max", p.RetransmitMax, standard.RetransmitMax, durationText)
	setUnless(w, "retransmit_tries", p.RetransmitTries, standard.RetransmitTries, strconv.Itoa)
	setUnless(w, "initial_tries", p.InitialTries, standard.InitialTries, strconv.Itoa)
	setUnless(w, "reconnect", p.Reconnect, standard.Reconnect, durationText)
	setUnless(w, "reconnect_max", p.ReconnectMax, standard.ReconnectMax, durationText)
}

func (w *printer) features(p, standard *Peer) {
	setUnless(w, "duplicates", p.Duplicates, standard.Duplicates, duplicatesWords.text)
	setUnless(w, "fragmentation", p.Fragmentation.Mode, standard.Fragmentation.Mode, fragmentations.text)
	setUnless(w, "fragment_size", p.Fragmentation.Size, standard.Fragmentation.Size, strconv.Itoa)
	setUnless(w, "mobike", p.MOBIKE, standard.MOBIKE, onOff.text)
	setUnless(w, "redirect", p.Redirect, standard.Redirect, onOff.text)
	setUnless(w, "resumption", p.Resumption, standard.Resumption, onOff.text)
	setUnless(w, "post_quantum", p.PostQuantum.Mode, standard.PostQuantum.Mode, postQuantums.text)
	setList(w, "post_quantum_methods", p.PostQuantum.Methods, methodText)
	setUnless(w, "ppk_id", p.PPK.ID, "", quoteTOML)
	w.key(ppkKey, p.PPK.Secret)
	setUnless(w, "ppk_required", p.PPK.Required, false, strconv.FormatBool)
	setList(w, "pools", p.Address.Pools, plain)
	setList(w, "request_address", requests(p.Address), plain)
}

func (w *printer) key(kind *keyKind, s Secret) {
	if s.secret == nil {
		return
	}
	value := s.ref
	switch s.source {
	case keyInline:
		value = string(s.Bytes())
	case keyBase64:
		value = base64.StdEncoding.EncodeToString(s.Bytes())
	}
	w.set(kind.setting+string(s.source), quoteTOML(value))
}

func (w *printer) tunnel(peer string, p *Peer, t *Tunnel) {
	standard := newTunnel(t.Name, p)
	w.table(peer + ".tunnel." + quoteKey(t.Name))
	w.set("local", list(t.LocalNetworks(), plain))
	w.set("remote", list(t.RemoteNetworks(), plain))
	w.proposals("esp", t.ESP)
	setUnless(w, "single_pair", t.SinglePair, false, strconv.FormatBool)
	setUnless(w, "start", t.Start, standard.Start, startWords.text)
	setUnless(w, "lifetime", t.Lifetime, standard.Lifetime, durationText)
	setUnless(w, "lifetime_bytes", t.LifetimeBytes, 0, countText)
	setUnless(w, "lifetime_packets", t.LifetimePackets, 0, countText)
}

func (w *printer) proposals(key string, ps []ikev2.Proposal) {
	if len(ps) == 0 {
		fmt.Fprintf(w, "# %s: culvert's own proposals\n", key)
		return
	}
	w.set(key, list(ps, proposalKeywords))
}

// setList leaves an empty list out.
func setList[T any](w *printer, key string, items []T, text func(T) string) {
	if len(items) > 0 {
		w.set(key, list(items, text))
	}
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

func countText(n uint64) string { return strconv.FormatUint(n, 10) }

// numberText is the word for a number where there is one.
func numberText(special words[int]) func(int) string {
	return func(n int) string { return cmp.Or(special.text(n), strconv.Itoa(n)) }
}

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
