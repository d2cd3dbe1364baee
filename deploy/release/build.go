package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// release is one version's archives on their way into a directory.
type release struct {
	source, dist, version string
	work                  string
	pages                 map[string][]byte // man pages and completions, which are the same for all
	made                  []string          // files in dist
}

func newRelease(source, dist, version string) (*release, error) {
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "culvert-release-")
	if err != nil {
		return nil, err
	}
	return &release{source: source, dist: dist, version: version, work: work}, nil
}

func (r *release) close() { _ = os.RemoveAll(r.work) }

// platform turns a target into what the Go command wants in its environment.
func platform(target string) (env []string, err error) {
	system, arch, ok := strings.Cut(target, "/")
	if !ok {
		return nil, fmt.Errorf("write os/arch, as in %s", targets)
	}
	if arch == "armv7" {
		return []string{"GOOS=" + system, "GOARCH=arm", "GOARM=7"}, nil
	}
	return []string{"GOOS=" + system, "GOARCH=" + arch}, nil
}

// compile makes the program out of nothing but source, version and Go: no paths
// (-trimpath), no state of a repository (-buildvcs=false), no C, and no setting
// of the machine that it is made on (GOENV, GOFLAGS, GOAMD64 and the like).
func (r *release) compile(out string, target ...string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.stamped="+r.version, "-o", out, "./cmd/culvert")
	cmd.Dir = r.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOENV=off", "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GORISCV64=rva20u64", "GOFIPS140=off")
	cmd.Env = append(cmd.Env, target...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, said)
	}
	return nil
}

// build writes the target's archive and its bill of materials.
func (r *release) build(target string) error {
	env, err := platform(target)
	if err != nil {
		return err
	}
	program := filepath.Join(r.work, strings.ReplaceAll(target, "/", "-"))
	if err := r.compile(program, env...); err != nil {
		return err
	}
	bill, err := r.bill(program, target)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("culvert-%s-%s", r.version, strings.ReplaceAll(target, "/", "-"))
	files, err := r.files(program)
	if err != nil {
		return err
	}
	archive, err := pack(name, files)
	if err != nil {
		return err
	}
	if err := r.write(name+".cdx.json", bill); err != nil {
		return err
	}
	return r.write(name+".tar.gz", archive)
}

func (r *release) write(name string, b []byte) error {
	r.made = append(r.made, name)
	return os.WriteFile(filepath.Join(r.dist, name), b, 0o644)
}

// files are an archive's, by the names that they have there.
func (r *release) files(program string) (map[string][]byte, error) {
	if err := r.document(); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for name, text := range r.pages {
		files[name] = text
	}
	from := map[string]string{"bin/culvert": program, "LICENSE": filepath.Join(r.source, "LICENSE"), "README.md": filepath.Join(r.source, "README.md"),
		"systemd/culvert.service": filepath.Join(r.source, "deploy/systemd/culvert.service"), "systemd/culvert.sysusers.conf": filepath.Join(r.source, "deploy/systemd/culvert.sysusers.conf")}
	examples, err := filepath.Glob(filepath.Join(r.source, "examples", "side-*"))
	for _, e := range examples {
		from["examples/"+filepath.Base(e)] = e
	}
	for name, path := range from {
		if err != nil {
			return nil, err
		}
		files[name], err = os.ReadFile(path)
	}
	return files, err
}

// document has a culvert for this machine write its pages and completions, once.
func (r *release) document() error {
	if r.pages != nil {
		return nil
	}
	program, man := filepath.Join(r.work, "culvert"), filepath.Join(r.work, "man")
	if err := r.compile(program); err != nil {
		return err
	}
	if said, err := exec.Command(program, "man", man).CombinedOutput(); err != nil {
		return fmt.Errorf("man pages: %w\n%s", err, said)
	}
	r.pages = map[string][]byte{}
	for shell, name := range map[string]string{"bash": "culvert.bash", "zsh": "_culvert", "fish": "culvert.fish"} {
		text, err := exec.Command(program, "completion", shell).Output()
		if err != nil {
			return fmt.Errorf("completion for %s: %w", shell, err)
		}
		r.pages["completions/"+name] = text
	}
	return fs.WalkDir(os.DirFS(man), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			r.pages["man/"+name], err = os.ReadFile(filepath.Join(man, name))
		}
		return err
	})
}

// pack makes an archive that says nothing of when, where and by whom.
func pack(dir string, files map[string][]byte) ([]byte, error) {
	var b bytes.Buffer
	zip, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(zip)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		mode := int64(0o644)
		if strings.HasPrefix(name, "bin/") {
			mode = 0o755
		}
		head := &tar.Header{Name: dir + "/" + name, Mode: mode, Size: int64(len(files[name])), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(head); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	err = zip.Close()
	return b.Bytes(), err
}

// bill is what the program was made of, as it says itself: the modules with the
// checksums that go.sum has for them, and the standard library by Go's version.
func (r *release) bill(program, target string) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	body, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	self := component(cdx.ComponentTypeApplication, "culvert", r.version)
	self.BOMRef, self.PackageURL = "culvert", ""
	self.Description = target
	self.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: fmt.Sprintf("%x", sha256.Sum256(body))}}
	parts := []cdx.Component{component(cdx.ComponentTypeLibrary, "std", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		parts = append(parts, library(d))
	}
	refs := make([]string, len(parts))
	for i := range parts {
		refs[i] = parts[i].BOMRef
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &self}
	bom.Components = &parts
	bom.Dependencies = &[]cdx.Dependency{{Ref: self.BOMRef, Dependencies: &refs}}
	var b bytes.Buffer
	e := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON)
	if err := e.SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return nil, err
	}
	if !json.Valid(b.Bytes()) {
		return nil, fmt.Errorf("a bill of materials that is no JSON")
	}
	return b.Bytes(), nil
}

func component(kind cdx.ComponentType, name, version string) cdx.Component {
	url := fmt.Sprintf("pkg:golang/%s@%s", name, version)
	return cdx.Component{Type: kind, BOMRef: url, Name: name, Version: version, PackageURL: url}
}

// library has the module's checksum of go.sum, which is no SHA-256 of any file, as
// a property.
func library(m *debug.Module) cdx.Component {
	c := component(cdx.ComponentTypeLibrary, m.Path, m.Version)
	c.Properties = &[]cdx.Property{{Name: "go:sum", Value: m.Sum}}
	return c
}

// sums is what sha256sum -c reads.
func (r *release) sums() error {
	slices.Sort(r.made)
	var b bytes.Buffer
	for _, name := range r.made {
		body, err := os.ReadFile(filepath.Join(r.dist, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(body), name)
	}
	return os.WriteFile(filepath.Join(r.dist, "SHA256SUMS"), b.Bytes(), 0o644)
}
