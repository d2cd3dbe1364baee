package culvert_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The house (docs/architecture.md) as rules over the source, of all platforms.
// A rule is on the room that it names and on the rooms below it, unless those
// have one of their own.

// mayImport is which rooms of this module a room may import; itself and what
// is below it always.
var mayImport = map[string][]string{
	"cmd":                   {"api", "bench", "config", "examples", "gateway", "lab", "pcapng"},
	"gateway":               {"config", "diagnose", "espcrypto", "ikev2", "natt", "pcapng", "tun"},
	"config":                {"ikev2"},
	"ikev2":                 {},
	"ikev2/wire":            {},
	"ikev2/keymat":          {},
	"ikev2/iketest":         {"ikev2"},
	"espcrypto":             {},
	"espcrypto/aesgcm":      {},
	"espcrypto/replay":      {},
	"espcrypto/sad":         {"espcrypto"},
	"natt":                  {"patience"},
	"natt/nattest":          {"natt"},
	"patience":              {},
	"patience/patiencetest": {},
	"tun":                   {"patience"},
	"tun/netstack":          {"tun"},
	"tun/tuntest":           {"tun"},
	"diagnose":              {},
	"api":                   {},
	"lab":                   {"pcapng"},
	"pcapng":                {},
	"examples":              {},
	"deploy/release":        {},
	"bench":                 {"examples", "lab"},
	"bench/cmd/relay":       {"natt", "tun"},
	"bench/load":            {"config", "gateway", "ikev2", "natt", "tun"},
	"bench/pipeline":        {"espcrypto", "espcrypto/aesgcm", "espcrypto/sad", "gateway", "natt", "tun"},
	"bench/wireguard":       {"bench/pipeline"},
}

// exceptions are files that may import more, and why they must.
var exceptions = map[string][]string{
	"cmd/culvert/demo_memory.go": {"natt", "natt/nattest", "tun", "tun/netstack"}, // the demo's network in memory
	"cmd/culvert/version.go":     {"espcrypto/aesgcm"},                            // what this build encrypts with
	"cmd/culvert/bench.go":       {"espcrypto/aesgcm"},                            // what it measures
	"cmd/culvert/up.go":          {"espcrypto/aesgcm"},                            // and whether it can, as the environment wants it
}

// engineImports are what the IKE engine has no use for: it does no I/O, waits
// for nobody, and gets time and random bytes from its caller.
var engineImports = []string{"context", "crypto/rand", "io/ioutil", "log", "net", "os", "sync", "syscall", "testing", "unsafe", "golang.org/x/sys", "golang.org/x/net"}

// engineCalls read or wait for a clock of their own.
var engineCalls = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// shapeless are names that say nothing of what is inside.
var shapeless = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "shared", "base"}

// source is one file that is not a test.
type source struct {
	path string // with slashes, from the root of the module
	room string
	ast  *ast.File
}

func sources(t *testing.T) (all []source) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		name = filepath.ToSlash(name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (d.Name()[0] == '.' || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || path.Dir(name) == ".":
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		all = append(all, source{name, path.Dir(name), file})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d files: this test has to run at the root of the module", len(all))
	}
	return all
}

// imports gives a file's imports: the rooms of this module, and the rest.
func (s source) imports(t *testing.T) (rooms, others []string) {
	t.Helper()
	for _, i := range s.ast.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if room, ok := strings.CutPrefix(name, "culvert/"); ok {
			rooms = append(rooms, room)
		} else {
			others = append(others, name)
		}
	}
	return rooms, others
}

// within says whether a package is one of those named, or below one.
func within(name string, of []string) bool {
	return slices.ContainsFunc(of, func(o string) bool { return name == o || strings.HasPrefix(name, o+"/") })
}

// rule finds the nearest rule of a room upwards.
func rule(room string) (owner string, allowed []string, ok bool) {
	for ; room != "."; room = path.Dir(room) {
		if allowed, ok := mayImport[room]; ok {
			return room, allowed, true
		}
	}
	return "", nil, false
}

func TestDirections(t *testing.T) {
	for _, s := range sources(t) {
		owner, allowed, ok := rule(s.room)
		if !ok {
			t.Errorf("%s: a room without a rule; say in this test what it may import", s.room)
			continue
		}
		rooms, _ := s.imports(t)
		for _, r := range rooms {
			if !within(r, allowed) && !within(r, []string{owner}) && !slices.Contains(exceptions[s.path], r) {
				t.Errorf("%s imports %s; %s may import %v", s.path, r, owner, allowed)
			}
			if strings.HasSuffix(r, "test") && !strings.HasSuffix(s.room, "test") && !slices.Contains(exceptions[s.path], r) {
				t.Errorf("%s imports %s, which is for tests", s.path, r)
			}
		}
	}
}

// TestLeaves: these import nothing of this module, not even what is below them.
func TestLeaves(t *testing.T) {
	leaves := []string{"ikev2/wire", "ikev2/keymat", "espcrypto/replay", "espcrypto/aesgcm", "patience", "diagnose", "pcapng"}
	found := map[string]bool{}
	for _, s := range sources(t) {
		if !slices.Contains(leaves, s.room) {
			continue
		}
		found[s.room] = true
		if rooms, _ := s.imports(t); len(rooms) > 0 {
			t.Errorf("%s imports %v", s.path, rooms)
		}
	}
	if len(found) != len(leaves) {
		t.Errorf("only %v are there", found)
	}
}

func TestEngineDoesNoIO(t *testing.T) {
	for _, s := range sources(t) {
		if !within(s.room, []string{"ikev2"}) {
			continue
		}
		_, others := s.imports(t)
		for _, o := range others {
			if o != "net/netip" && within(o, engineImports) {
				t.Errorf("%s imports %s", s.path, o)
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", s.path)
			case *ast.ChanType:
				t.Errorf("%s has a channel", s.path)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(engineCalls, n.Sel.Name) {
					t.Errorf("%s uses time.%s", s.path, n.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestNames(t *testing.T) {
	for _, s := range sources(t) {
		for _, part := range strings.Split(strings.TrimSuffix(s.path, ".go"), "/") {
			if slices.Contains(shapeless, part) {
				t.Errorf("%s: %q says nothing of what is inside", s.path, part)
			}
		}
		if want := path.Base(s.room); s.ast.Name.Name != want && s.ast.Name.Name != "main" {
			t.Errorf("%s is package %s, in folder %s", s.path, s.ast.Name.Name, want)
		}
	}
}
