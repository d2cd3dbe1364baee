package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var docBlock = regexp.MustCompile("(?s)```(toml|swanctl|vyos)[^\n]*\n(.*?)```")

// TestDocumentedPeers reads every block of the how-tos without a fault, and holds
// those that are two sides of one connection to being so.
func TestDocumentedPeers(t *testing.T) {
	keys := Lookups{KeyFile: func(string) ([]byte, error) { return []byte(strings.Repeat("k3Y-", 10)), nil }}
	peers := map[string]*Peer{} // by page and form
	pages, err := filepath.Glob(filepath.Join("..", "docs", "howto", "*.md"))
	if err != nil || len(pages) < 7 {
		t.Fatalf("%d how-tos: %v", len(pages), err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		title := strings.TrimSuffix(filepath.Base(page), ".md")
		blocks := docBlock.FindAllStringSubmatch(string(text), -1)
		if len(blocks) == 0 {
			t.Errorf("%s has no settings", title)
		}
		for _, b := range blocks {
			cfg, err := Parse(title, []byte(b[2]), keys)
			if err != nil {
				t.Errorf("%s, %s: %v", title, b[1], err)
				continue
			}
			peers[title+" "+b[1]] = &cfg.Peers[0]
		}
	}
	branch := peers["strongswan toml"]
	for _, name := range []string{"strongswan swanctl", "vyos vyos"} {
		office := peers[name]
		if office == nil || branch == nil {
			t.Fatalf("no %s, or no other side", name)
		}
		if office.LocalID != branch.RemoteID || office.RemoteID != branch.LocalID {
			t.Errorf("%s: %v and %v, the other side %v and %v", name, office.LocalID, office.RemoteID, branch.LocalID, branch.RemoteID)
		}
		here, there := office.Tunnels[0], branch.Tunnels[0]
		if !reflect.DeepEqual(here.Local, there.Remote) || !reflect.DeepEqual(here.Remote, there.Local) {
			t.Errorf("%s: %v to %v, the other side %v to %v", name, here.Local, here.Remote, there.Local, there.Remote)
		}
		if office.Initiate || !branch.Initiate {
			t.Errorf("%s: which one calls?", name)
		}
	}
}
