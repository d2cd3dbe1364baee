package config

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// Swanctl writes the configuration as a swanctl.conf, for strongSwan 5.9 or
// Parse, which makes the same configuration of it as far as swanctl.conf has
// words for it; comments say what it has none for. Names lose the characters
// that it cannot have in them. As in TOML, a key is written only if it stood in
// the configuration itself.
func (c *Config) Swanctl() []byte {
	w := swanPrinter{pools: map[string]string{}}
	names := swanNames{}
	for _, p := range c.Pools {
		w.pools[p.Name] = names.of(p.Name)
	}
	w.lack(func(p *printer) { p.gateway(c.Gateway) })
	w.open("connections")
	names = swanNames{}
	for i := range c.Peers {
		w.peer(&c.Peers[i], names)
	}
	w.close()
	w.open("secrets")
	names = swanNames{}
	for i := range c.Peers {
		w.keys(&c.Peers[i], names)
	}
	w.close()
	if len(c.Pools) > 0 {
		w.open("pools")
		for i := range c.Pools {
			w.pool(&c.Pools[i])
		}
		w.close()
	}
	return []byte(strings.TrimPrefix(w.String(), "\n"))
}

type swanPrinter struct {
	strings.Builder
	depth int
	pools map[string]string // their names here
}

func (w *swanPrinter) line(format string, args ...any) {
	w.WriteString(strings.Repeat("    ", w.depth))
	fmt.Fprintf(w, format+"\n", args...)
}

func (w *swanPrinter) open(name string) {
	if w.depth == 0 {
		w.WriteByte('\n')
	}
	w.line("%s {", name)
	w.depth++
}

func (w *swanPrinter) close() {
	w.depth--
	w.line("}")
}

func (w *swanPrinter) set(key, value string) { w.line("%s = %s", key, quoteSwanctl(value)) }

// list leaves an empty one out.
func (w *swanPrinter) list(key string, items ...string) {
	if len(items) == 0 {
		return
	}
	quoted := make([]string, len(items))
	for i, it := range items {
		quoted[i] = quoteSwanctl(it)
	}
	w.line("%s = %s", key, strings.Join(quoted, ", "))
}

// lack writes as comments what only culvert's own form has.
func (w *swanPrinter) lack(print func(*printer)) {
	var p printer
	print(&p)
	for line := range strings.Lines(p.String()) {
		if line = strings.TrimSpace(line); strings.Contains(line, " = ") {
			w.line("# not in swanctl.conf: %s", line)
		}
	}
}

// swanNames makes names that a section can have, each once.
type swanNames map[string]bool

var notSwanName = regexp.MustCompile(`[.,:{}="#\s]`)

func (n swanNames) of(name string) string {
	name = notSwanName.ReplaceAllString(name, "-")
	unique := name
	for i := 2; n[unique]; i++ {
		unique = name + "-" + strconv.Itoa(i)
	}
	n[unique] = true
	return unique
}

func (w *swanPrinter) peer(p *Peer, names swanNames) {
	standard := newPeer(p.Name)
	w.open(names.of(p.Name))
	w.set("version", "2")
	if p.Local.IsValid() {
		w.set("local_addrs", p.Local.String())
	}
	w.set("remote_addrs", cmp.Or(p.Remote, "%any"))
	w.list("proposals", swanIKE(p)...)
	w.set("rekey_time", seconds(p.IKELifetime))
	w.set("dpd_delay", seconds(p.DPD))
	w.set("keyingtries", "0")
	w.set("unique", swanUnique[p.Duplicates])
	w.features(p)
	w.lack(func(out *printer) { w.lacking(out, p, &standard) })
	w.auth("local", p.LocalID)
	w.auth("remote", p.RemoteID)
	w.open("children")
	children := swanNames{}
	for i := range p.Tunnels {
		w.child(&p.Tunnels[i], children)
	}
	w.close()
	w.close()
}

// swanUnique has nothing for DuplicatesNever, to which keep is next.
var swanUnique = map[ikev2.DuplicatePolicy]string{ikev2.DuplicatesReplace: "replace", ikev2.DuplicatesKeep: "keep", ikev2.DuplicatesNever: "keep"}

func (w *swanPrinter) features(p *Peer) {
	if p.MOBIKE == ikev2.ModeOff {
		w.set("mobike", "no")
	}
	if mode := map[ikev2.Mode]string{ikev2.ModeOff: "no", ikev2.ModeRequire: "force"}[p.Fragmentation.Mode]; mode != "" {
		w.set("fragmentation", mode)
	}
	if p.PPK.ID != "" {
		w.set("ppk_id", swanPPKText(p.PPK.ID))
	}
	if p.PPK.Required {
		w.set("ppk_required", "yes")
	}
	w.list("pools", texts(p.Address.Pools, func(name string) string { return w.pools[name] })...)
	var vips []string
	if p.Address.Request4 {
		vips = append(vips, "0.0.0.0")
	}
	if p.Address.Request6 {
		vips = append(vips, "::")
	}
	w.list("vips", vips...)
}

func (w *swanPrinter) lacking(out *printer, p, standard *Peer) {
	mine := *p
	mine.DPD = standard.DPD
	out.ports(p, standard)
	out.timing(&mine, standard)
	setUnless(out, "fragment_size", p.Fragmentation.Size, standard.Fragmentation.Size, strconv.Itoa)
	setUnless(out, "redirect", p.Redirect, standard.Redirect, onOff.text)
	setUnless(out, "resumption", p.Resumption, standard.Resumption, onOff.text)
	if p.Duplicates == ikev2.DuplicatesNever {
		out.set("duplicates", duplicatesWords.text(p.Duplicates))
	}
	if p.PostQuantum.Mode == ikev2.ModeOff {
		out.set("post_quantum", postQuantums.text(p.PostQuantum.Mode))
	}
}

func (w *swanPrinter) auth(side string, id ikev2.Identity) {
	w.open(side)
	w.set("auth", "psk")
	w.set("id", swanText(id))
	w.close()
}

// child has strongSwan start a tunnel again as culvert does.
func (w *swanPrinter) child(t *Tunnel, names swanNames) {
	w.open(names.of(t.Name))
	w.list("local_ts", t.LocalNetworks()...)
	w.list("remote_ts", t.RemoteNetworks()...)
	w.list("esp_proposals", swanESP(t.ESP)...)
	w.set("rekey_time", seconds(t.Lifetime))
	if t.LifetimeBytes > 0 {
		w.set("rekey_bytes", countText(t.LifetimeBytes))
	}
	if t.LifetimePackets > 0 {
		w.set("rekey_packets", countText(t.LifetimePackets))
	}
	switch t.Start {
	case ikev2.StartNow:
		w.set("start_action", "start")
		w.set("close_action", "start")
		w.set("dpd_action", "restart")
	case ikev2.StartTraffic:
		w.set("start_action", "trap")
	}
	w.lack(func(out *printer) { setUnless(out, "single_pair", t.SinglePair, false, strconv.FormatBool) })
	w.close()
}

// swanIKE puts the additional key exchanges into the proposals, as the engine
// does: a peer that knows none takes a proposal without.
func swanIKE(p *Peer) (all []string) {
	pq, proposals := p.PostQuantum, p.IKE
	if pq.Mode != ikev2.ModeRequire && len(pq.Methods) == 0 {
		if len(proposals) == 0 {
			return []string{"default"}
		}
		return texts(proposals, proposalKeywords)
	}
	if len(proposals) == 0 {
		proposals = ikev2.DefaultIKEProposals()
	}
	if len(pq.Methods) == 0 {
		pq.Methods = []uint16{wire.GroupMLKEM768, wire.GroupMLKEM1024}
	}
	for _, prop := range proposals {
		if len(additionalOf(prop)) == 0 {
			prop = slices.Clone(prop)
			for _, m := range pq.Methods {
				prop = append(prop, transform(wire.TransformADDKE1, m))
			}
		}
		all = append(all, proposalKeywords(prop))
	}
	if pq.Mode != ikev2.ModeRequire {
		all = append(all, texts(proposals, proposalKeywords)...)
	}
	return all
}

// swanESP leaves out that there may be extended sequence numbers or not.
func swanESP(proposals []ikev2.Proposal) (all []string) {
	for _, prop := range proposals {
		all = append(all, strings.Replace(proposalKeywords(prop), "-esn-noesn", "", 1))
	}
	if len(all) == 0 {
		all = append(all, "default")
	}
	return all
}

func (w *swanPrinter) keys(p *Peer, names swanNames) {
	name := names.of(p.Name)
	w.open("ike-" + name)
	w.set("id-local", swanText(p.LocalID))
	w.set("id-remote", swanText(p.RemoteID))
	w.secret(pskKey, p.PSK)
	w.close()
	if p.PPK.Secret.secret == nil {
		return
	}
	w.open("ppk-" + name)
	w.set("id", swanPPKText(p.PPK.ID))
	w.secret(ppkKey, p.PPK.Secret)
	w.close()
}

func (w *swanPrinter) secret(kind *keyKind, s Secret) {
	switch {
	case s.secret == nil:
	case s.source == keyFile || s.source == keyEnv:
		w.lack(func(p *printer) { p.key(kind, s) })
	default:
		w.line("secret = %s", swanSecretText(s.Bytes()))
	}
}

// swanSecretText is text where it can be.
func swanSecretText(key []byte) string {
	text := string(key)
	unclear := strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0s")
	if unclear || text != strings.ToValidUTF8(text, "") || strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return "0s" + base64.StdEncoding.EncodeToString(key)
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

func (w *swanPrinter) pool(p *Pool) {
	w.open(w.pools[p.Name])
	w.set("addrs", p.addresses())
	w.list("dns", texts(p.DNS, netip.Addr.String)...)
	w.list("subnet", texts(p.Subnets, netip.Prefix.String)...)
	w.list(domainAttribute, p.Domains...)
	w.close()
}

func texts[T any](items []T, text func(T) string) (all []string) {
	for _, it := range items {
		all = append(all, text(it))
	}
	return all
}

// seconds rounds up: swanctl.conf has nothing finer.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10) + "s"
}

var plainPPKID = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// swanPPKText is hexadecimal where text could be taken for something else.
func swanPPKText(id string) string {
	if plainPPKID.MatchString(id) {
		return id
	}
	return "@#" + hex.EncodeToString([]byte(id))
}

var bareSwanctl = regexp.MustCompile(`^[A-Za-z0-9_@.:/+%|*\[\]()-]+$`)

// quoteSwanctl writes a value.
func quoteSwanctl(s string) string {
	if bareSwanctl.MatchString(s) {
		return s
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s) // for the eye
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
