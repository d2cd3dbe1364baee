package ikev2

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryFileIsMapped: the map of the package's doc has every file, and no
// other.
func TestEveryFileIsMapped(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var mapped, files []string
	for _, m := range regexp.MustCompile(`(?m)^//\t([a-z]+\.go) `).FindAllSubmatch(doc, -1) {
		mapped = append(mapped, string(m[1]))
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && name != "doc.go" {
			files = append(files, name)
		}
	}
	slices.Sort(mapped)
	if !slices.Equal(mapped, files) {
		t.Errorf("doc.go has %q\nthe package %q", mapped, files)
	}
}
