package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// checkSwanctl: what is written as a swanctl.conf can be read again, unless a
// key is elsewhere; and it is the same when it was a swanctl.conf before.
func checkSwanctl(t *testing.T, cfg *Config) {
	t.Helper()
	text := cfg.Swanctl()
	for _, p := range cfg.Peers {
		if s := p.PSK.source; s == keyFile || s == keyEnv {
			return
		}
		if s := p.PPK.Secret; s.secret != nil && (s.source == keyFile || s.source == keyEnv) {
			return
		}
	}
	again, err := Parse("f.conf", text, Lookups{})
	if err != nil {
		t.Fatalf("own swanctl.conf is refused: %v\n%s", err, text)
	}
	if cfg.Format != FormatSwanctl {
		return
	}
	if got, want := swanEssence(again), swanEssence(cfg); !reflect.DeepEqual(got, want) || string(again.Swanctl()) != string(text) {
		t.Fatalf("own swanctl.conf says something else:\n%s\n%s\n%s", text, got.TOML(), want.TOML())
	}
}

// swanEssence leaves out how a key was written.
func swanEssence(c *Config) *Config {
	e := essence(c)
	for i := range e.Peers {
		for _, s := range []*Secret{&e.Peers[i].PSK, &e.Peers[i].PPK.Secret} {
			if s.secret != nil {
				key := s.Bytes()
				*s = Secret{&secret{key: &key}}
			}
		}
	}
	return e
}

// TestSwanctlPrinted: all that swanctl.conf has words for comes back from it,
// whatever form it was in before.
func TestSwanctlPrinted(t *testing.T) {
	for _, name := range exampleFiles {
		cfg := mustParse(t, name, example(t, name))
		again := mustParse(t, "f.conf", string(cfg.Swanctl()))
		got, want := swanEssence(again), swanEssence(cfg)
		got.Peers[0].Name, got.Peers[0].Tunnels[0].Name = want.Peers[0].Name, want.Peers[0].Tunnels[0].Name
		if again.Format != FormatSwanctl || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s\nwant %s", name, got.TOML(), want.TOML())
		}
		if len(again.Warnings) != len(cfg.Warnings) {
			t.Errorf("%s: %v", name, again.Warnings)
		}
	}
}

// TestSwanctlLacks: what swanctl.conf has no words for is said in comments.
func TestSwanctlLacks(t *testing.T) {
	cfg := mustParse(t, "f.toml", `
[gateway]
mtu = 1400
cookie_threshold = 7
[pool."a.b"]
addresses = "10.9.0.0/24"
[peer."x.y"]
remote = "203.0.113.1"
remote_natt_port = 14500
local_id = "@a"
remote_id = "keyid:0x00"
psk_env = "CULVERT_KEY"
keepalive = "5s"
retransmit = "200ms"
fragment_size = 600
redirect = true
resumption = false
post_quantum = "off"
duplicates = "never"
pools = "a.b"
tunnel.one = { local = "10.1.0.0/16", remote = "10.2.0.0/16", single_pair = true }
[peer."x-y"]
remote = "any"
local_id = "@a"
remote_id = "@c"
psk = "0s-this-is-text-all-the-same"
post_quantum = "require"
ppk_id = "10.0.0.1"
ppk_base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
tunnel.one = { local = "10.1.0.0/16", remote = "10.3.0.0/16" }
`)
	text := string(cfg.Swanctl())
	for _, want := range []string{
		"mtu = 1400", "cookie_threshold = 7", "remote_natt_port = 14500", "psk_env = \"CULVERT_KEY\"", "keepalive = \"5s\"", "retransmit = \"200ms\"",
		"fragment_size = 600", "redirect = true", "resumption = false", "post_quantum = \"off\"", "duplicates = \"never\"", "single_pair = true",
	} {
		if !strings.Contains(text, "# not in swanctl.conf: "+want+"\n") {
			t.Errorf("no comment on %s", want)
		}
	}
	for _, want := range []string{"    x-y {", "    x-y-2 {", "ike-x-y-2 {", "pools = a-b\n", "    a-b {", "id = \"keyid:#00\"", "secret = 0sMHMt", "ke1_mlkem768-ke1_mlkem1024\n", "ppk_id = \"@#31302e302e302e31\"\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

const swanTemplate = `connections {
	office {
		remote_addrs = 203.0.113.1
		local {
			auth = psk
			id = %s
		}
		remote {
			auth = psk
			id = %s
		}
		children {
			lan {
				local_ts = 10.104.0.0/24
				remote_ts = 10.103.0.0/24
			}
		}
	}
}
`

// TestSwanctlIdentities: an identity is of the type that strongSwan takes it
// for.
func TestSwanctlIdentities(t *testing.T) {
	for text, want := range map[string]ikev2.Identity{
		"foo":                {Type: wire.IDFQDN, Data: "foo"},
		"@foo.example":       {Type: wire.IDFQDN, Data: "foo.example"},
		"fqdn:foo":           {Type: wire.IDFQDN, Data: "foo"},
		"dns:10.0.0.1":       {Type: wire.IDFQDN, Data: "10.0.0.1"},
		"fqdn:#666f6f":       {Type: wire.IDFQDN, Data: "foo"},
		"@10.0.0.1":          {Type: wire.IDFQDN, Data: "10.0.0.1"},
		"me@foo.example":     {Type: wire.IDRFC822Addr, Data: "me@foo.example"},
		"@@me@foo.example":   {Type: wire.IDRFC822Addr, Data: "me@foo.example"},
		"email:me@x":         {Type: wire.IDRFC822Addr, Data: "me@x"},
		"@#0001ff":           {Type: wire.IDKeyID, Data: "\x00\x01\xff"},
		"keyid:branch 7":     {Type: wire.IDKeyID, Data: "branch 7"},
		"keyid:#00:01:ff":    {Type: wire.IDKeyID, Data: "\x00\x01\xff"},
		"branch:7":           {Type: wire.IDKeyID, Data: "branch:7"},
		"203.0.113.1":        {Type: wire.IDIPv4Addr, Data: "\xcb\x00\x71\x01"},
		"ipv4:#cb007101":     {Type: wire.IDIPv4Addr, Data: "\xcb\x00\x71\x01"},
		"2001:db8::1":        {Type: wire.IDIPv6Addr, Data: "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"},
		"%any":               {},
		"*.example":          {},
		"C=CH, O=strongSwan": {},
		"ipv4:203.0.113.1":   {},
		"ipv4:#cb":           {},
		"keyid:#0":           {},
		"@#xyz":              {},
		"@@foo":              {},
		"rfc822:foo":         {},
		"asn1dn:#3000":       {},
		"203.0.113":          {},
	} {
		got, f := parseSwanID(text)
		if f == nil && got != want || f != nil && want != (ikev2.Identity{}) {
			t.Errorf("%s: %v %q (%v), want %v %q", text, got.Type, got.Data, f, want.Type, want.Data)
		}
		if f != nil {
			continue
		}
		if again, f := parseSwanID(swanText(got)); f != nil || again != got {
			t.Errorf("%s is written as %s, which is %v (%v)", text, swanText(got), again, f)
		}
	}
}

// TestSwanctlSecrets: of the secrets that name one of the identities, the one
// that fits the peer best is taken, then the one that fits us.
func TestSwanctlSecrets(t *testing.T) {
	secret := func(n int, ids ...string) string {
		s := fmt.Sprintf("ike-%d {\nsecret = 0123456789abcdefghij%d\n", n, n)
		for i, id := range ids {
			s += fmt.Sprintf("id-%d = %s\n", i, id)
		}
		return s + "}\n"
	}
	for _, tt := range []struct {
		secrets string
		want    string
	}{
		{secret(1, "foo", "203.0.113.1"), "1"},
		{secret(1), "1"},
		{secret(1, "%any"), "1"},
		{secret(1) + secret(2, "foo"), "1"}, // for strongSwan %any fits the peer, foo nobody but us
		{secret(1, "foo") + secret(2, "203.0.113.1"), "2"},
		{secret(1, "203.0.113.1") + secret(2, "203.0.113.1", "foo"), "2"},
		{secret(1, "203.0.113.1", "foo") + secret(2, "203.0.113.1", "foo"), "1"},
		{secret(1, "203.0.113.2", "*.example"), ""},
		{"eap {\nsecret = 0123456789abcdefghij\n}\n", ""},
	} {
		cfg, err := Parse("f.conf", []byte(fmt.Sprintf(swanTemplate, "foo", "203.0.113.1")+"secrets {\n"+tt.secrets+"}\n"), testLookups)
		got := ""
		if err == nil {
			got = strings.TrimPrefix(string(cfg.Peers[0].PSK.Bytes()), "0123456789abcdefghij")
		}
		if got != tt.want {
			t.Errorf("%s: secret %q, want %q (%v)", tt.secrets, got, tt.want, err)
		}
	}
}

func TestSwanctlValues(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30": 30 * time.Second, "30s": 30 * time.Second, "5 m": 5 * time.Minute, "4H": 4 * time.Hour, "30d": 720 * time.Hour, "0": 0, "0x10": 16 * time.Second,
		"": -1, "s": -1, "31d": -1, "1w": -1, "-1": -1, "1.5h": -1, "99999999999999999999": -1,
	} {
		got, f := parseSwanTime(text)
		if f != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]int64{
		"0": 0, "1000": 1000, "1k": 1024, "2 M": 2 << 20, "3g": 3 << 30, "5t": -1, "9223372036854775808": -1, "9007199254740992k": -1, "8191P": -1,
	} {
		n, f := parseSwanBytes(text)
		got := int64(n)
		if f != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// TestSwanctlSyntax: what is between the settings does not change them.
func TestSwanctlSyntax(t *testing.T) {
	plain := example(t, "side-b.swanctl.conf")
	want := essence(mustParse(t, "plain.conf", plain))
	for name, text := range map[string]string{
		"no indent":    strings.ReplaceAll(plain, "    ", ""),
		"tabs":         strings.ReplaceAll(plain, "    ", "\t"),
		"CRLF":         strings.ReplaceAll(plain, "\n", "\r\n"),
		"BOM":          "\ufeff" + plain,
		"quoted":       strings.ReplaceAll(plain, "= start", `= "start"`),
		"no blanks":    strings.ReplaceAll(plain, " = ", "="),
		"brace below":  strings.ReplaceAll(plain, " {", "\n{"),
		"comments":     strings.ReplaceAll(plain, "\n", " # { \" } =\n"),
		"brace behind": strings.ReplaceAll(plain, "secret = \"qwerty\" # for the example; use a random one\n", "secret = \"qwerty\" }\n{\n"),
		"in parts":     strings.Replace(plain, "        children {", "    }\n}\nconnections {\n    a {\n        children {", 1),
		"no line end":  strings.TrimSpace(plain),
	} {
		if name == "brace behind" {
			text = strings.Replace(plain, "use a random one\n    }\n}", "", 1)
			text = strings.Replace(text, "# for the example; ", "}}", 1)
		}
		got, err := Parse("f.conf", []byte(text), testLookups)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
			continue
		}
		if !reflect.DeepEqual(essence(got), want) {
			t.Errorf("%s: %s\nwant %s", name, essence(got).TOML(), want.TOML())
		}
	}
}

// TestSwanctlPrefixes: every beginning of a file is read or refused with a
// place.
func TestSwanctlPrefixes(t *testing.T) {
	for _, name := range []string{"side-b.swanctl.conf"} {
		text := example(t, name)
		for i := range text {
			if cfg, err := Parse("f", []byte(text[:i]), testLookups); err != nil {
				checkError(t, err, strings.Count(text[:i], "\n")+1)
			} else if len(cfg.Peers) != 1 {
				t.Errorf("%d characters: %d peers", i, len(cfg.Peers))
			}
		}
	}
}

// TestSwanctlIncludes reads files as strongSwan does: relative to the one that
// includes them, into the section where they are included, the later value
// replacing the earlier one.
func TestSwanctlIncludes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain := example(t, "side-b.swanctl.conf")
	conns, secrets, _ := strings.Cut(plain, "secrets {")
	write("swanctl.conf", "include conf.d/*.conf # all\ninclude \"a file\\\".conf\"\ninclude nothing*.conf\n")
	write("conf.d/a.conf", strings.Replace(conns, "        unique = replace\n", "        unique = keep\n        include ../parts/unique\\ is.conf\n        dpd_delay = 45s\n", 1))
	write("parts/unique is.conf", "unique = replace\ninclude deeper/dpd.conf\n")
	write("parts/deeper/dpd.conf", "dpd_delay = 99s")
	write("conf.d/b.conf", "secrets {"+secrets)
	write("a file\".conf", "connections {\n a {\n children {\n lan {\n rekey_time = 17m\n}\n}\n}\n}\n")
	cfg, err := Load(filepath.Join(dir, "swanctl.conf"))
	if err != nil {
		t.Fatal(err)
	}
	p := cfg.Peers[0]
	if p.Duplicates != ikev2.DuplicatesReplace || p.DPD != 30*time.Second || p.Tunnels[0].Lifetime != 17*time.Minute {
		t.Errorf("%s", cfg.TOML())
	}
	if got := p.Where["remote_id"].File; got != filepath.Join(dir, "conf.d/a.conf") {
		t.Errorf("the remote id is in %s", got)
	}
	write("conf.d/a.conf", conns)
	write("conf.d/b.conf", "secrets {")
	_, err = Load(filepath.Join(dir, "swanctl.conf"))
	if want := filepath.Join(dir, "conf.d/b.conf") + ":1:10: error: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestSwanctlIncludesAreBounded(t *testing.T) {
	for include, want := range map[string]string{
		"self.conf":    "self.conf:1:9: error: more than 10 files include one another",
		"twice.conf":   "twice.conf:2:9: error: more than 100 files",
		"broken.conf":  "broken.conf:3:1: error: a closing brace closes nothing",
		"binary.conf":  "binary.conf:2:1: error: this is not a text file: byte 0xff",
		"missing.conf": "f:1:9: error: include: open missing.conf: file does not exist",
	} {
		_, err := Parse("f", []byte("include "+include+"\nconnections {\n}\n"), testLookups)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", include, err, want)
		}
	}
}

// TestSwanctlInheritanceIsBounded: sections that take settings from each other
// again and again cost no more than what they come to.
func TestSwanctlInheritanceIsBounded(t *testing.T) {
	var text strings.Builder
	text.WriteString("a0 {\n a = b\n}\n")
	for i := range 2000 {
		fmt.Fprintf(&text, "a%d : a%d, a%d {\n b%d = x\n k {\n c = d\n}\n}\n", i+1, i, i, i)
	}
	text.WriteString("connections : a2000 {\n}\n")
	_, err := Parse("f", []byte(text.String()), testLookups)
	if err == nil || !strings.Contains(err.Error(), "more than 100000 settings are taken from other sections") {
		t.Errorf("%.300v", err)
	}
	_, err = Parse("f", []byte("x : y {\n}\ny : connections.a {\n}\nconnections {\n a : x {\n}\n}\n"), testLookups)
	if err == nil || !strings.Contains(err.Error(), "takes settings from itself") {
		t.Errorf("%v", err)
	}
	deep := strings.Repeat("a {\n", 100)
	_, err = Parse("f", []byte("connections {\n"+deep), testLookups)
	if err == nil || !strings.Contains(err.Error(), "more than 32 braces in braces") {
		t.Errorf("%v", err)
	}
	chain := strings.Builder{}
	for i := range 100_000 {
		fmt.Fprintf(&chain, "a%d : a%d {\n}\n", i, i+1)
	}
	if _, err = Parse("f", []byte(chain.String()+"connections : a0 {\n}\n"), testLookups); err == nil {
		t.Error("a chain without an end is taken")
	}
}

// FuzzSwanctl is FuzzConfig for nothing but swanctl.conf.
func FuzzSwanctl(f *testing.F) {
	files, _ := filepath.Glob("testdata/golden/swanctl_*.txtar")
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	for _, name := range []string{"side-a.swanctl.conf", "side-b.swanctl.conf"} {
		f.Add([]byte(example(f, name)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		text = append([]byte("connections {\n}\n"), text...)
		cfg, err := Parse("f", text, testLookups)
		if err != nil {
			checkError(t, err, strings.Count(string(text), "\n")+1)
			return
		}
		checkSwanctl(t, cfg)
	})
}
