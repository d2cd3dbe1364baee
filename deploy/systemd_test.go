// Package deploy holds what culvert is run with, and the tests of that: unit,
// image, manifests, releases, dashboards. It has no code of its own.
package deploy

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// need is the path of a program, or skips with what to install.
func need(t *testing.T, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not here: apt-get install %s", program, debian)
	}
	return path
}

// output runs a program that has to succeed.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out.Bytes())
	}
	return out.String()
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

// culvert is the command, built once as releases are.
func culvert(t *testing.T) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "culvert")
}

var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "culvert")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "culvert"), "./cmd/culvert")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return dir, os.Chmod(dir, 0o755) // other users run it too
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := built(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// TestUnitVerifies: systemd takes every line of the unit, with the command where
// the unit wants it.
func TestUnitVerifies(t *testing.T) {
	analyze := need(t, "systemd-analyze", "systemd")
	unit := strings.ReplaceAll(read(t, "systemd/culvert.service"), "/usr/bin/culvert", culvert(t))
	file := write(t, filepath.Join(t.TempDir(), "culvert.service"), unit, 0o644)
	if out := output(t, exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", file)); strings.Contains(out, "culvert.service:") {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
	for _, line := range regexp.MustCompile(`(?m)^Exec\w+=(.*)$`).FindAllStringSubmatch(unit, -1) {
		words := strings.Fields(line[1])
		if out := output(t, exec.Command(words[0], words[1], "--help")); !strings.Contains(out, "--socket") {
			t.Errorf("%s has no --socket:\n%s", words[1], out)
		}
	}
}

// TestUnitExposure: the score is the one that docs/deploy.md states.
func TestUnitExposure(t *testing.T) {
	analyze := need(t, "systemd-analyze", "systemd")
	out := output(t, exec.Command(analyze, "--no-pager", "security", "--offline=true", "--threshold=20", "systemd/culvert.service"))
	got := regexp.MustCompile(`exposure level for culvert.service: ([0-9.]+)`).FindStringSubmatch(out)
	stated := regexp.MustCompile(`exposure level of ([0-9.]+)`).FindStringSubmatch(read(t, "../docs/deploy.md"))
	if got == nil || stated == nil || got[1] != stated[1] {
		t.Errorf("measured %q, stated %q\n%s", got, stated, out)
	}
}
