package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var docRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| ([^|]*) \\|")

// docTables are the rows of docs/configuration.md by their section: the keys
// and their defaults.
func docTables(t *testing.T) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]map[string]string{}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		rows := map[string]string{}
		for _, m := range docRow.FindAllStringSubmatch(body, -1) {
			rows[m[1]] = m[2]
		}
		tables[strings.Trim(title, "`")] = rows
	}
	return tables
}

// TestDocumentedKeys: every setting of the reader is in docs/configuration.md,
// and no other.
func TestDocumentedKeys(t *testing.T) {
	n := native{&reader{cfg: &Config{}}}
	peer := n.peerSettings(&Peer{})
	n.keySettings(peer, pskKey, keySettings{})
	n.keySettings(peer, ppkKey, keySettings{})
	tables := docTables(t)
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
	for title, keys := range docTables(t) {
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
