// Package docs has the documentation; its test follows every link.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```")
	dropped = regexp.MustCompile("[^a-z0-9 _-]")
)

// TestLinks: what a page links to inside of this repository is there, the heading
// too; and every page is reached from the index.
func TestLinks(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"*.md", "howto/*.md", "adr/*.md", "../README.md", "../CONTRIBUTING.md", "../bench/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		pages = append(pages, found...)
	}
	reached := map[string]bool{"README.md": true}
	for _, page := range pages {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(read(t, page), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %s: %v", page, m[1], err)
				continue
			}
			reached[file] = true
			if anchor != "" && !hasHeading(read(t, file), anchor) {
				t.Errorf("%s: %s has no heading %s", page, file, anchor)
			}
		}
	}
	for _, page := range pages {
		if !reached[page] && !strings.HasPrefix(page, "..") && !strings.HasPrefix(page, "adr") {
			t.Errorf("no page links to %s", page)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func hasHeading(text, anchor string) bool {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		if strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}
