package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tables are the settings of the reference by section and key, with their
// defaults.
func tables() map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, s := range Reference() {
		all[s.Title] = map[string]string{}
		for _, k := range s.Settings {
			all[s.Title][k.Key] = k.Default
		}
	}
	return all
}

// TestDocumentedTables: those of docs/configuration.md are the reference's.
func TestDocumentedTables(t *testing.T) {
	file := filepath.Join("..", "docs", "configuration.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for _, s := range Reference() {
		table := regexp.MustCompile("(?s)(\n## `" + regexp.QuoteMeta(s.Title) + "`\n.*?\n)(?:\\|[^\n]*\n)+")
		if !table.MatchString(want) {
			t.Fatalf("%s has no table", s.Title)
		}
		want = table.ReplaceAllStringFunc(want, func(part string) string { return table.FindStringSubmatch(part)[1] + s.Markdown() })
	}
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Errorf("%s is not current: go test ./config -update", file)
	}
}

// TestDocumentedKeys: every setting of the reader is in the reference, and no
// other.
func TestDocumentedKeys(t *testing.T) {
	n := native{&reader{cfg: &Config{}}}
	peer := n.peerSettings(&Peer{})
	n.keySettings(peer, pskKey, keySettings{})
	n.keySettings(peer, ppkKey, keySettings{})
	tables := tables()
	for title, known := range map[string]settings{
		"[gateway]": n.gatewaySettings(&Gateway{}), "[pool.NAME]": n.poolSettings(&Pool{}), "[peer.NAME]": peer, "[peer.NAME.tunnel.NAME]": n.tunnelSettings(&Tunnel{}),
	} {
		for key := range known {
			if _, ok := tables[title][key]; !ok {
				t.Errorf("%s of %s is not documented", key, title)
			}
		}
		for key := range tables[title] {
			if known[key] == nil {
				t.Errorf("%s of %s is documented, and there is no such setting", key, title)
			}
		}
	}
}

// TestDocumentedDefaults: to write a setting with the default that is
// documented says the same as to leave it out.
func TestDocumentedDefaults(t *testing.T) {
	const (
		gateway = "[gateway]\n"
		peer    = "[peer.a]\nremote = \"203.0.113.1\"\nlocal_id = \"@a\"\nremote_id = \"@b\"\npsk = \"0123456789abcdefghij\"\n"
		tunnel  = "[peer.a.tunnel.t]\nlocal = \"10.1.0.0/16\"\nremote = \"10.2.0.0/16\"\n"
	)
	plain := string(mustParse(t, "f.toml", gateway+peer+tunnel).TOML())
	tried := 0
	for title, keys := range tables() {
		for key, standard := range keys {
			value, _, _ := strings.Cut(strings.TrimPrefix(standard, "`"), "`")
			if !strings.HasPrefix(standard, "`") || key == "post_quantum_methods" { // which is the engine's
				continue
			}
			tried++
			line := key + " = " + value + "\n"
			text := map[string]string{
				"[gateway]": gateway + line + peer + tunnel, "[peer.NAME]": gateway + peer + line + tunnel, "[peer.NAME.tunnel.NAME]": gateway + peer + tunnel + line,
			}[title]
			if got := string(mustParse(t, "f.toml", text).TOML()); got != plain {
				t.Errorf("%s: %s is not the default:\n%s", title, line, got)
			}
		}
	}
	if tried < 25 {
		t.Errorf("%d defaults tried", tried)
	}
}
