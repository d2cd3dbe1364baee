package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// TestReproducible builds one target twice, out of two directories and once with
// a cache that has nothing of it, and holds what comes out to being the same
// bytes, and to being what it says that it is.
func TestReproducible(t *testing.T) {
	target := runtime.GOOS + "/" + runtime.GOARCH
	first, second := t.TempDir(), t.TempDir()
	if err := run(filepath.Join("..", ".."), "v0.0.0-test", target, []string{first}); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "another", "place")
	copyModule(t, elsewhere)
	t.Setenv("GOCACHE", filepath.Join(t.TempDir(), "empty"))
	t.Setenv("GOFLAGS", "-ldflags=-X=main.stamped=wrong")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("TZ", "Pacific/Auckland")
	if err := run(elsewhere, "v0.0.0-test", target, []string{second}); err != nil {
		t.Fatal(err)
	}
	names := map[string][]byte{}
	for _, dir := range []string{first, second} {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 3 {
			t.Fatalf("%d files: %v", len(entries), err)
		}
		for _, e := range entries {
			body, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if other, seen := names[e.Name()]; seen && !bytes.Equal(other, body) {
				t.Errorf("%s is not the same twice", e.Name())
			}
			names[e.Name()] = body
		}
	}
	if len(names) != 3 {
		t.Errorf("%d names", len(names))
	}
	name := "culvert-v0.0.0-test-" + strings.ReplaceAll(target, "/", "-")
	check := exec.Command("sha256sum", "-c", "SHA256SUMS")
	check.Dir = first
	if said, err := check.CombinedOutput(); err != nil {
		t.Errorf("SHA256SUMS: %v\n%s", err, said)
	}
	wantArchive(t, name, names[name+".tar.gz"])
	wantBill(t, names[name+".cdx.json"])
}

// copyModule copies what git knows of, or would, as it is now.
func copyModule(t *testing.T, to string) {
	t.Helper()
	root := filepath.Join("..", "..")
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	names, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for name := range strings.SplitSeq(strings.Trim(string(names), "\x00"), "\x00") {
		body, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), body, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func wantArchive(t *testing.T, name string, archive []byte) {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimPrefix(h.Name, name+"/"))
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s says who made it when: %+v", h.Name, h)
		}
		if strings.HasSuffix(h.Name, "/bin/culvert") {
			program := filepath.Join(t.TempDir(), "culvert")
			body, err := io.ReadAll(r)
			if err == nil {
				err = os.WriteFile(program, body, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			said, err := exec.Command(program, "version").Output()
			if err != nil || !strings.HasPrefix(string(said), "culvert v0.0.0-test go") {
				t.Errorf("it says %s: %v", said, err)
			}
			if wd, _ := os.Getwd(); bytes.Contains(body, []byte(wd)) {
				t.Error("the program knows where it was built")
			}
		}
	}
	for _, want := range []string{"bin/culvert", "man/man1/culvert.1", "man/man1/culvert-up.1", "man/man5/culvert.toml.5", "completions/culvert.bash", "examples/side-a.toml", "LICENSE", "systemd/culvert.service"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not in %v", want, names)
		}
	}
}

func wantBill(t *testing.T, body []byte) {
	t.Helper()
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(body), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range *bom.Components {
		names = append(names, c.Name)
		if c.Version == "" || !strings.HasPrefix(c.PackageURL, "pkg:golang/") {
			t.Errorf("%+v", c)
		}
	}
	for _, want := range []string{"std", "github.com/spf13/cobra", "golang.org/x/crypto", "github.com/cloudflare/circl"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %v", want, names)
		}
	}
	if slices.Contains(names, "honnef.co/go/tools") {
		t.Error("a tool is in the program")
	}
}
