package config

import (
	"cmp"
	"slices"
	"strings"

	"culvert/ikev2"
)

// swanctl makes a configuration of strongSwan's swanctl.conf(5), as strongSwan
// 5.2 to 6.0 write it.
type swanctl struct {
	*reader
	conf    *section
	secrets []*swanSecret
	// includes counts the files that were included, included their bytes.
	includes, included int
}

// swanSecret is a section of a key: secrets.ike*, secrets.ppk*.
type swanSecret struct {
	*section
	kind   *keyKind
	ids    []*setting
	secret *setting
	used   bool
}

func readSwanctl(r *reader, text []byte) bool {
	w := &swanctl{reader: r}
	root := &section{pos: Pos{r.file, 1, 1}}
	if !w.parse(root, Source{r.file, text}, 0) {
		return false
	}
	h := &inheritance{swanctl: w, root: root, busy: map[*section]bool{}, done: map[*section]*section{}}
	w.conf = h.of(root)
	w.root(root)
	for _, s := range w.kids("secrets") {
		w.secret(s)
	}
	for _, s := range w.kids("pools") {
		w.pool(s)
	}
	for _, s := range w.kids("connections") {
		w.connection(s)
	}
	w.unused()
	return true
}

// kids are the sections in one of the root's.
func (w *swanctl) kids(name string) []*section {
	s := w.conf.find(name)
	if s == nil {
		return nil
	}
	for _, k := range s.settings {
		w.error(k.keyPos, "write "+name+" { NAME { ... } }", "%s has settings only in sections of their own", name)
	}
	return s.sections
}

// root speaks of what belongs elsewhere. A section that others take settings
// from may have any name.
func (w *swanctl) root(raw *section) {
	known := []string{"connections", "secrets", "pools", "authorities"}
	used := map[string]bool{}
	raw.eachReference(func(ref reference) {
		name, _, _ := strings.Cut(ref.path, ".")
		used[name] = true
	})
	for _, s := range raw.sections {
		switch {
		case s.name == "authorities" && len(s.sections) > 0:
			w.warn(s.pos, onlyPSKSwanctl, "authorities are not supported")
		case slices.Contains(known, s.name) || used[s.name]:
		case s.name == "charon" || s.name == "swanctl" || s.name == "libstrongswan":
			w.warn(s.pos, "what culvert has of it is in the [gateway] and the peers of its own form", "section %q belongs in strongswan.conf and is not read", s.name)
		case nearest(s.name, known) != "":
			w.error(s.pos, didYouMean(s.name, known), "unknown section %q", s.name)
		default:
			w.warn(s.pos, "", "no section takes settings from section %q, which is not read", s.name)
		}
	}
	for _, k := range raw.settings {
		w.error(k.keyPos, didYouMean(k.key, known), "there are no settings outside of sections")
	}
}

func (s *section) eachReference(visit func(reference)) {
	for _, ref := range s.references {
		visit(ref)
	}
	for _, k := range s.sections {
		k.eachReference(visit)
	}
}

const onlyPSKSwanctl = "peers authenticate by a pre-shared key: write auth = psk here and at the peer"

// swanRules are the settings of a section, each with its reader.
type swanRules map[string]func(*setting)

// each hands the settings to their readers. An empty one is not there.
func (w *swanctl) each(s *section, known swanRules) {
	for _, k := range s.settings {
		switch read := known[k.key]; {
		case read == nil:
			w.error(k.keyPos, didYouMean(k.key, keysOf(known)), "unknown setting %q", k.key)
		case k.value != "":
			read(k)
		}
	}
}

// swanValue reads a setting.
func swanValue[T any](w *swanctl, dst *T, parse func(string) (T, *fault)) func(*setting) {
	return func(k *setting) { take(&w.reports, k.value, k.pos, dst, parse) }
}

// agrees is for settings that ask for what culvert does anyway when they have
// one of these values.
func (w *swanctl) agrees(otherwise string, values ...string) func(*setting) {
	return func(k *setting) {
		if !slices.Contains(values, strings.ToLower(k.value)) {
			w.warn(k.pos, otherwise, "%s = %s is not supported", k.key, quoteSwanctl(k.value))
		}
	}
}

func (w *swanctl) ignored(why string) func(*setting) {
	return func(k *setting) { w.warn(k.keyPos, why, "%q has no effect here", k.key) }
}

// refused is for settings without which the peer would not be the same, unless
// they have one of these values.
func (w *swanctl) refused(remedy string, unless ...string) func(*setting) {
	return func(k *setting) {
		if !slices.Contains(unless, strings.ToLower(k.value)) {
			w.error(k.keyPos, remedy, "%q is not supported", k.key)
		}
	}
}

func swanNothing(*setting) {}

// with adds to the rules those of settings that share a reader.
func (r swanRules) with(read func(*setting), keys string) swanRules {
	for key := range strings.FieldsSeq(keys) {
		r[key] = read
	}
	return r
}

// swanKinds are the sections of secrets by what their names begin with.
var swanKinds = []struct {
	prefix string
	kind   *keyKind // nil: for what culvert does not do
}{
	{"ike", pskKey}, {"ppk", ppkKey}, {"eap", nil}, {"xauth", nil}, {"ntlm", nil}, {"private", nil}, {"rsa", nil}, {"ecdsa", nil},
	{"pkcs8", nil}, {"pkcs12", nil}, {"bliss", nil}, {"token", nil},
}

func (w *swanctl) secret(s *section) {
	for _, k := range swanKinds {
		switch {
		case !strings.HasPrefix(s.name, k.prefix):
			continue
		case k.kind == nil:
			w.warn(s.pos, onlyPSKSwanctl, "section %q of the secrets is not supported and not read", s.name)
		default:
			w.key(&swanSecret{section: s, kind: k.kind})
		}
		return
	}
	// Its name may be that of a connection, or a key gone astray.
	w.error(s.pos, "begin its name with ike, or with ppk for a post-quantum pre-shared key", "a section of the secrets is of no known kind")
}

func (w *swanctl) key(s *swanSecret) {
	for _, k := range s.settings {
		switch {
		case k.key == "secret":
			s.secret = k
		case strings.HasPrefix(k.key, "id"):
			s.ids = append(s.ids, k)
		default:
			w.error(k.keyPos, "known here: id, id-NAME, secret", "unknown setting")
		}
	}
	if s.secret == nil {
		w.error(s.pos, "add secret", "section %q has no secret", s.name)
	}
	w.secrets = append(w.secrets, s)
}

func (w *swanctl) keyOf(s *swanSecret) Secret {
	s.used = true
	if s.secret == nil {
		return Secret{&secret{key: new([]byte)}} // which is reported
	}
	return w.swanSecret(s.kind, s.secret.value, s.secret.pos)
}

// pskFor is the key for a pair of identities: of those that name one of them
// or nobody in particular, the one that fits the peer best, then us.
func (w *swanctl) pskFor(local, remote ikev2.Identity) (best *swanSecret) {
	type fit struct{ remote, local int }
	var bestFit fit
	for _, s := range w.secrets {
		f := fit{s.fits(remote), s.fits(local)}
		if s.kind != pskKey || f == (fit{}) {
			continue
		}
		if best == nil || cmp.Or(f.remote-bestFit.remote, f.local-bestFit.local) > 0 {
			best, bestFit = s, f
		}
	}
	return best
}

// fits is 2 for a secret that names the identity, 1 for one that names
// anybody, 0 for none of them.
func (s *swanSecret) fits(id ikev2.Identity) int {
	best := 0
	for _, k := range s.ids {
		if slices.Contains(swanAnyID, k.value) || k.value == "" {
			best = max(best, 1)
		} else if got, f := parseSwanID(k.value); f == nil && got == id {
			best = 2
		}
	}
	if len(s.ids) == 0 {
		best = 1
	}
	return best
}

// ppkFor is the key of that name.
func (w *swanctl) ppkFor(id string) *swanSecret {
	var any *swanSecret
	for _, s := range w.secrets {
		named := slices.ContainsFunc(s.ids, func(k *setting) bool {
			name, f := swanPPKID(k.value)
			return f == nil && name == id
		})
		switch {
		case s.kind != ppkKey:
		case named:
			return s
		case len(s.ids) == 0 && any == nil:
			any = s
		}
	}
	return any
}

// unused names what nobody refers to, since it is not even looked at. No value
// is repeated: a key may have strayed into it.
func (w *swanctl) unused() {
	for _, s := range w.secrets {
		for _, k := range s.ids {
			if _, f := parseSwanID(k.value); f != nil && s.kind == pskKey && !slices.Contains(swanAnyID, k.value) && k.value != "" {
				w.warn(k.pos, swanIDHint, "%q of secret %q is no identity that culvert knows", k.key, s.name)
			}
		}
		if !s.used {
			w.warn(s.pos, "its ids have to name the identities of a connection", "secret %q is used by no connection", s.name)
		}
	}
}

func (w *swanctl) pool(s *section) {
	p := Pool{Pool: ikev2.Pool{Name: s.name}, Where: Places{}}
	if f := checkLabel(p.Name); f != nil {
		w.error(s.pos, f.hint, "%s", f.message)
	}
	way := "pools." + s.name
	p.Where[""] = w.place(s, way, "")
	p.Where["addresses"] = w.place(s, way, "addrs")
	w.each(s, swanRules{
		"addrs": swanValue(w, &p, func(v string) (Pool, *fault) { return p.with(v) }),
		"dns":   func(k *setting) { k.each(func(v string, at Pos) { addParsed(w.reader, &p.DNS, v, at, parseDNS) }) },
		"subnet": func(k *setting) {
			k.each(func(v string, at Pos) { addParsed(w.reader, &p.Subnets, v, at, parsePrefix) })
		},
		domainAttribute: func(k *setting) {
			k.each(func(v string, at Pos) { addParsed(w.reader, &p.Domains, v, at, parseDomain) })
		},
	}.with(w.ignored("peers are given addresses, dns, domains and subnets"), "nbns dhcp netmask server split_include split_exclude").numbers(s, w))
	w.cfg.Pools = append(w.cfg.Pools, p)
}

// domainAttribute is INTERNAL_DNS_DOMAIN, which has no other name there (RFC
// 8598 section 3.1).
const domainAttribute = "25"

// numbers are attributes that are given by their numbers.
func (r swanRules) numbers(s *section, w *swanctl) swanRules {
	for _, k := range s.settings {
		if r[k.key] == nil && strings.Trim(k.key, "0123456789") == "" {
			r[k.key] = w.ignored("peers are given addresses, dns, domains and subnets")
		}
	}
	return r
}

// place is that of a setting in a section, or of the section itself.
func (w *swanctl) place(s *section, way, key string) Place {
	place := Place{Pos: s.pos, Key: way, Given: key == "", format: FormatSwanctl}
	if key == "" {
		return place
	}
	place.Key += "." + key
	if k := s.get(key); k != nil && k.value != "" {
		place.Pos, place.Given = k.pos, true
	}
	return place
}
