package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"culvert/espcrypto"
	"culvert/ikev2"
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// essence is what a configuration comes to, whatever spelling it had.
func essence(c *Config) *Config {
	e := &Config{Gateway: c.Gateway}
	e.Gateway.Where = nil
	for _, p := range c.Pools {
		p.Where = nil
		e.Pools = append(e.Pools, p)
	}
	for _, p := range c.Peers {
		p.Where = nil
		var tunnels []Tunnel
		for _, t := range p.Tunnels {
			t.Where = nil
			tunnels = append(tunnels, t)
		}
		p.Tunnels = tunnels
		e.Peers = append(e.Peers, p)
	}
	return e
}

func mustParse(t *testing.T, name, text string) *Config {
	t.Helper()
	cfg, err := Parse(name, []byte(text), testLookups)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return cfg
}

func example(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var exampleFiles = []string{
	"side-a.toml", "side-a.vyos", "side-a.set", "side-a.swanctl.conf", "side-b.toml", "side-b.vyos", "side-b.set", "side-b.swanctl.conf",
}

// TestExamplesAgree: the situation comes out the same from all spellings, but
// for names that have no meaning outside their file.
func TestExamplesAgree(t *testing.T) {
	for _, side := range []string{"side-a", "side-b"} {
		want := essence(mustParse(t, side, example(t, side+".toml")))
		for _, ext := range []string{".vyos", ".set", ".swanctl.conf"} {
			got := essence(mustParse(t, side, example(t, side+ext)))
			got.Peers[0].Name, got.Peers[0].Tunnels[0].Name = want.Peers[0].Name, want.Peers[0].Tunnels[0].Name
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s%s: %s\nwant %s", side, ext, got.TOML(), want.TOML())
			}
		}
	}
}

// TestExamplesMirror: what one side has as its own, the other has as its
// peer's.
func TestExamplesMirror(t *testing.T) {
	a := mustParse(t, "a", example(t, "side-a.toml")).Peers[0]
	b := mustParse(t, "b", example(t, "side-b.toml")).Peers[0]
	if a.LocalID != b.RemoteID || a.RemoteID != b.LocalID || a.Initiate || !b.Initiate || !a.PSK.Equal(b.PSK) {
		t.Errorf("identities, key or roles do not fit: %v %v %v, %v %v %v", a.LocalID, a.RemoteID, a.Initiate, b.LocalID, b.RemoteID, b.Initiate)
	}
	if want := (ikev2.Identity{Type: wire.IDFQDN, Data: "foo"}); a.RemoteID != want {
		t.Errorf("@foo on the wire is %v %q, want the name without '@'", a.RemoteID.Type, a.RemoteID.Data)
	}
	if !reflect.DeepEqual(a.Tunnels[0].Local, b.Tunnels[0].Remote) || !reflect.DeepEqual(a.Tunnels[0].Remote, b.Tunnels[0].Local) {
		t.Error("networks do not fit")
	}
}

// TestPlaces: for each spelling, where a setting is and how it is written.
func TestPlaces(t *testing.T) {
	for _, tt := range []struct {
		file, setting string
		line, column  int
		given         bool
		write         string
	}{
		{"side-b.toml", "remote_id", 8, 14, true, `remote_id = "10.0.0.5"`},
		{"side-b.vyos", "remote_id", 29, 31, true, `authentication remote-id 10.0.0.5`},
		{"side-b.set", "remote_id", 18, 60, true, `set vpn ipsec site-to-site peer a authentication remote-id 10.0.0.5`},
		{"side-a.vyos", "remote_id", 24, 18, false, `authentication remote-id 10.0.0.5`},
		{"side-a.set", "remote_id", 12, 33, false, `set vpn ipsec site-to-site peer @foo authentication remote-id 10.0.0.5`},
		{"side-b.set", "local_id", 16, 59, true, `set vpn ipsec site-to-site peer a authentication local-id 10.0.0.5`},
		{"side-b.vyos", "ike", 14, 19, true, `ike-group IKE proposal 10.0.0.5`},
		{"side-b.vyos", "tunnel esp", 5, 19, true, `esp-group ESP proposal 10.0.0.5`},
		{"side-b.vyos", "tunnel remote", 40, 32, true, `tunnel 0 remote prefix 10.0.0.5`},
		{"side-b.set", "tunnel remote", 25, 58, true, `set vpn ipsec site-to-site peer a tunnel 0 remote prefix 10.0.0.5`},
		{"side-b.toml", "ike_lifetime", 4, 7, false, `ike_lifetime = "10.0.0.5"`},
		{"side-b.toml", "tunnel remote", 15, 11, true, `remote = "10.0.0.5"`},
		{"side-b.swanctl.conf", "remote_id", 19, 18, true, `connections.a.remote.id = 10.0.0.5`},
		{"side-a.swanctl.conf", "remote", 6, 5, false, `connections.foo.remote_addrs = 10.0.0.5`},
		{"side-b.swanctl.conf", "tunnel remote", 24, 29, true, `connections.a.children.lan.remote_ts = 10.0.0.5`},
		{"side-b.swanctl.conf", "psk", 37, 19, true, `secrets.ike-a.secret = 10.0.0.5`},
	} {
		cfg := mustParse(t, tt.file, example(t, tt.file))
		p := cfg.Peers[0].Where.At(tt.setting)
		if setting, ok := strings.CutPrefix(tt.setting, "tunnel "); ok {
			p = cfg.Peers[0].Tunnels[0].Where.At(setting)
		}
		if p.File != tt.file || p.Line != tt.line || p.Column != tt.column || p.Given != tt.given || p.Setting("10.0.0.5") != tt.write {
			t.Errorf("%s %s: %v given %v: %s\nwant %d:%d given %v: %s", tt.file, tt.setting, p.Pos, p.Given, p.Setting("10.0.0.5"), tt.line, tt.column, tt.given, tt.write)
		}
	}
}

// TestFragments: a part of a VyOS configuration, pasted from any level, is the
// same configuration.
func TestFragments(t *testing.T) {
	whole := example(t, "side-b.vyos")
	want := essence(mustParse(t, "whole", whole))
	body := whole[strings.Index(whole, "vpn {"):]
	inside := func(s string) string { // the braces' content
		return s[strings.Index(s, "{")+1 : strings.LastIndex(s, "}")]
	}
	ipsec := inside(body)
	sections := inside(ipsec)
	site := strings.Index(sections, "site-to-site")
	for name, text := range map[string]string{
		"ipsec":        ipsec,
		"sections":     sections,
		"peer":         sections[:site] + inside(sections[site:]),
		"turned round": sections[site:] + sections[:site],
		"CRLF":         strings.ReplaceAll(whole, "\n", "\r\n"),
		"BOM":          "\ufeff" + whole,
		"no indent":    strings.ReplaceAll(whole, "    ", ""),
		"twice":        whole + "\n" + whole,
	} {
		if got := essence(mustParse(t, name, text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s\nwant %s", name, got.TOML(), want.TOML())
		}
	}
}

// TestDocumentedForm: the form in the package documentation can be used, and
// has every setting.
func TestDocumentedForm(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, form, _ := strings.Cut(string(doc), "# Culvert's own form")
	var text strings.Builder
	for line := range strings.Lines(form) {
		if code, ok := strings.CutPrefix(line, "//\t"); ok {
			text.WriteString(code)
		}
	}
	cfg := mustParse(t, "doc.toml", text.String())
	p := cfg.Peers[0]
	n := native{&reader{}}
	for _, table := range []struct {
		where Places
		known settings
	}{
		{cfg.Gateway.Where, n.gatewaySettings(&cfg.Gateway)}, {p.Where, n.peerSettings(&p)},
		{p.Tunnels[0].Where, n.tunnelSettings(&p.Tunnels[0])}, {cfg.Pools[0].Where, n.poolSettings(&cfg.Pools[0])},
	} {
		for setting := range table.known {
			if !table.where.At(setting).Given {
				t.Errorf("%s is not documented", setting)
			}
		}
	}
}

func TestDetect(t *testing.T) {
	for text, want := range map[string]Format{
		"":                               FormatTOML,
		"[peer.a]":                       FormatTOML,
		"# c\n\npeer.a.remote = \"any\"": FormatTOML,
		"peer = { a = { } }":             FormatTOML,
		"vpn {":                          FormatVyOSTree,
		"/* c { */\n  peer @foo{\n":      FormatVyOSTree,
		"# c\nike-group \"A B\" {":       FormatVyOSTree,
		"set vpn ipsec":                  FormatVyOSSet,
		"# c\n  set vpn":                 FormatVyOSSet,
		"[edit]\nvyos@r# set vpn":        FormatVyOSSet,
		"vyos@r:~$ configure":            FormatVyOSSet,
		"delete vpn":                     FormatVyOSSet,
		"connections {":                  FormatSwanctl,
		"# c\ninclude conf.d/*.conf\n":   FormatSwanctl,
		"base {\n a = b\n}\nsecrets\n{":  FormatSwanctl,
		"a : b, c {":                     FormatSwanctl,
		"authentication {\n psk A {\n":   FormatVyOSTree,
	} {
		if got := detect("site", []byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if got := detect("site.toml", []byte("set vpn")); got != FormatTOML {
		t.Errorf("site.toml: %v", got)
	}
}

// TestNotText: what is no text is refused with the place of the first byte
// that is none.
func TestNotText(t *testing.T) {
	for text, want := range map[string]string{
		"a = \"\xff\"":                 "f:1:6: error: this is not a text file: byte 0xff",
		"\n\n\x00":                     "f:3:1: error: this is not a text file: byte 0x00",
		strings.Repeat("#", maxFile+1): "f: error: larger than 16777216 bytes",
	} {
		_, err := Parse("f", []byte(text), Lookups{})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
}

// TestManyErrors: a file of nothing but errors gets a bounded answer.
func TestManyErrors(t *testing.T) {
	_, err := Parse("f.toml", []byte(strings.Repeat("[[x]]\n", 10000)), Lookups{})
	var wrong *Error
	if !errors.As(err, &wrong) || len(wrong.Diagnostics) != maxDiagnostics {
		t.Errorf("%d diagnostics, want %d", len(wrong.Diagnostics), maxDiagnostics)
	}
}

// TestKeywordsAreBuilt: an algorithm that can be configured is one that there
// is code for.
func TestKeywordsAreBuilt(t *testing.T) {
	for _, k := range keywords {
		x := k.transform
		built := map[wire.TransformType]func() bool{
			wire.TransformEncr: func() bool {
				integ := wire.IntegHMACSHA2256128
				if isAEAD(x) {
					integ = wire.IntegNone
				}
				_, _, err := espcrypto.Suite{Encr: x.ID, KeyBits: x.KeyBits, Integ: integ}.KeyLens()
				return err == nil && keymat.EncrSupported(x.ID, x.KeyBits) && isAEAD(x) == keymat.IsAEAD(x.ID)
			},
			wire.TransformInteg: func() bool { return keymat.IntegSupported(x.ID) && keymat.PRFSupported(implied[x.ID]) },
			wire.TransformPRF:   func() bool { return keymat.PRFSupported(x.ID) },
			wire.TransformKE:    func() bool { return keymat.GroupSupported(x.ID) },
			wire.TransformESN:   func() bool { return true },
		}[x.Type]
		if !built() {
			t.Errorf("%s can be configured and is not there", k.names[0])
		}
	}
}

// TestMethodsAreBuilt: so is an additional key exchange.
func TestMethodsAreBuilt(t *testing.T) {
	for _, m := range methods {
		if m.id != wire.GroupNone && !keymat.GroupSupported(m.id) {
			t.Errorf("%s can be configured and is not there", m.name)
		}
	}
}

// TestDefaultsCanBeWritten: what culvert does by itself can be asked for, and
// means the same then.
func TestDefaultsCanBeWritten(t *testing.T) {
	for _, tt := range []struct {
		use       protocolUse
		proposals []ikev2.Proposal
	}{{forIKE, ikev2.DefaultIKEProposals()}, {forESP, ikev2.DefaultESPProposals()}} {
		for _, want := range tt.proposals {
			words := proposalKeywords(want)
			got, f := parseProposal(words, tt.use)
			if f != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %v (%v), want %v", words, got, f, want)
			}
		}
	}
}

// TestSecretIsSilent: a key does not show however it, or what holds it, is
// printed.
func TestSecretIsSilent(t *testing.T) {
	const key = "Zx9Kq3Vw7LpTr5Yb"
	cfg := mustParse(t, "f", strings.ReplaceAll(example(t, "side-b.toml"), "qwerty", key))
	s := cfg.Peers[0].PSK
	if string(s.Bytes()) != key {
		t.Fatalf("the key did not arrive")
	}
	var shown []string
	hidden := struct{ s Secret }{s}
	for _, v := range []any{s, &s, cfg, *cfg, cfg.Peers[0], []Secret{s}, map[string]Secret{"a": s}, hidden, &hidden} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
			shown = append(shown, fmt.Sprintf(verb, v))
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		shown = append(shown, string(j), log.String())
	}
	for _, text := range shown {
		if strings.Contains(text, key) || strings.Contains(text, fmt.Sprintf("%x", key)) || strings.Contains(text, fmt.Sprintf("%d", []byte(key))) {
			t.Errorf("the key shows in %s", text)
		}
	}
	if got := fmt.Sprint(s); got != "(secret)" {
		t.Errorf("prints as %s", got)
	}
}

// TestMistakesDoNotTell damages an example of each form in every place, one character or
// one line at a time, and looks for the key in what is said about it.
func TestMistakesDoNotTell(t *testing.T) {
	const key = "Zx9Kq3Vw7LpTr5Yb"
	for _, file := range []string{"side-b.toml", "side-b.vyos", "side-b.set", "side-b.swanctl.conf"} {
		text := strings.ReplaceAll(example(t, file), "qwerty", key)
		check := func(what string, at int, damaged string) {
			cfg, err := Parse(file, []byte(damaged), testLookups)
			said := fmt.Sprint(err)
			if err == nil {
				said = fmt.Sprint(cfg.Warnings)
			}
			if strings.Contains(said, key[1:8]) {
				t.Errorf("%s, %s at %d:\n%s", file, what, at, said)
			}
		}
		for i := range text {
			check("cut off", i, text[:i])
			check("character lost", i, text[:i]+text[i+1:])
			check("line broken", i, text[:i]+"\n"+text[i:])
		}
		lines := strings.SplitAfter(text, "\n")
		for i := range lines {
			check("line lost", i, strings.Join(lines[:i], "")+strings.Join(lines[i+1:], ""))
		}
	}
}

// FuzzConfig: no text makes the reader panic; every error has a place in the
// file; and what is accepted is the same when it is written in culvert's own
// form and read again, which is then a fixed point.
func FuzzConfig(f *testing.F) {
	files, _ := filepath.Glob("testdata/golden/*.txtar")
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	for _, file := range exampleFiles {
		f.Add([]byte(example(f, file)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := Parse("f", text, testLookups)
		if err != nil {
			checkError(t, err, bytes.Count(text, []byte("\n"))+1)
			return
		}
		checkSwanctl(t, cfg)
		again, err := Parse("f.toml", cfg.TOML(), testLookups)
		if err != nil {
			t.Fatalf("own form is refused: %v\n%s", err, cfg.TOML())
		}
		if !reflect.DeepEqual(essence(cfg), essence(again)) || !bytes.Equal(cfg.TOML(), again.TOML()) {
			t.Fatalf("own form says something else:\n%s\n%s", cfg.TOML(), again.TOML())
		}
	})
}

func checkError(t *testing.T, err error, lines int) {
	var wrong *Error
	if !errors.As(err, &wrong) || len(wrong.Diagnostics) == 0 {
		t.Fatalf("refused without a diagnostic: %v", err)
	}
	failed := false
	for _, d := range wrong.Diagnostics {
		failed = failed || d.Severity == SeverityError
		if d.Line < 1 || d.File == "f" && d.Line > lines || d.Column < 1 || d.Message == "" || strings.ContainsFunc(d.Message+d.Hint, func(r rune) bool { return r < ' ' }) {
			t.Fatalf("%#v", d)
		}
	}
	if !failed && len(wrong.Diagnostics) < maxDiagnostics {
		t.Fatal("refused without an error")
	}
}

// What an esp-group says of perfect forward secrecy becomes key exchanges of its
// proposals; without a word VyOS has it.
func TestVyOSPFS(t *testing.T) {
	disabled := example(t, "side-b.vyos")
	x25519, ecp256 := transform(wire.TransformKE, wire.GroupX25519), transform(wire.TransformKE, wire.GroupECP256)
	for _, c := range []struct {
		says string
		want ikev2.Proposal
	}{
		{"pfs disable", nil}, {"pfs enable", ikev2.Proposal{x25519}}, {"", ikev2.Proposal{x25519}}, {"pfs dh-group19", ikev2.Proposal{ecp256}},
	} {
		cfg := mustParse(t, "side-b.vyos", strings.Replace(disabled, "pfs disable", c.says, 1))
		if got := ofType(cfg.Peers[0].Tunnels[0].ESP[0], wire.TransformKE); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.says, got, c.want)
		}
	}
	weak, err := Parse("side-b.vyos", []byte(strings.Replace(disabled, "pfs disable", "pfs dh-group2", 1)), testLookups)
	if err != nil || !strings.Contains(weak.Warnings[0].Message, "pfs \"dh-group2\" cannot be had") {
		t.Errorf("a weak group: %v, %v", weak, err)
	}
}
