package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var docBlock = regexp.MustCompile("(?s)```(toml|swanctl|vyos)\n(.*?)```")

// TestDocumentedPeers reads every block of docs/interoperability.md without a
// fault, and holds those that are two sides of one connection to being so.
func TestDocumentedPeers(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "interoperability.md"))
	if err != nil {
		t.Fatal(err)
	}
	keys := Lookups{KeyFile: func(string) ([]byte, error) { return []byte(strings.Repeat("k3Y-", 10)), nil }}
	peers := map[string]*Peer{} // by section and form
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		blocks := docBlock.FindAllStringSubmatch(body, -1)
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
	branch := peers["strongSwan toml"]
	for _, name := range []string{"strongSwan swanctl", "VyOS vyos"} {
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
