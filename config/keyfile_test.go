//go:build unix

package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLoadKeyFile: the file is found beside the configuration, its line end is
// not part of the key.
func TestLoadKeyFile(t *testing.T) {
	dir := t.TempDir()
	text := strings.ReplaceAll(example(t, "side-b.toml"), `psk       = "qwerty"`, `psk_file = "a.key"`)
	write(t, filepath.Join(dir, "b.toml"), text, 0o644)
	for content, want := range map[string]string{
		"0123456789abcdefghij":       "0123456789abcdefghij",
		"0123456789abcdefghij\n":     "0123456789abcdefghij",
		"0123456789abcdefghij\r\n":   "0123456789abcdefghij",
		" 0123456789abcdefghij \n\n": " 0123456789abcdefghij \n",
	} {
		write(t, filepath.Join(dir, "a.key"), content, 0o600)
		cfg, err := Load(filepath.Join(dir, "b.toml"))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(cfg.Peers[0].PSK.Bytes()); got != want {
			t.Errorf("key %q, want %q", got, want)
		}
		if out := string(cfg.TOML()); strings.Contains(out, want) || !strings.Contains(out, `psk_file = "a.key"`) {
			t.Errorf("the key leaves its file:\n%s", out)
		}
	}
	for content, want := range map[string]string{"": "empty", "\n": "empty", strings.Repeat("k", 5000): "longer than 4096 bytes"} {
		write(t, filepath.Join(dir, "a.key"), content, 0o600)
		if _, err := Load(filepath.Join(dir, "b.toml")); err == nil || !strings.Contains(err.Error(), "b.toml:9:13: error: the pre-shared key is "+want) {
			t.Errorf("key of %d bytes: %v, want %s", len(content), err, want)
		}
	}
}

func TestReadKeyFileRefuses(t *testing.T) {
	dir := t.TempDir()
	name := func(s string) string { return filepath.Join(dir, s) }
	write(t, name("good"), "key", 0o400)
	write(t, name("group"), "key", 0o640)
	write(t, name("world"), "key", 0o604)
	if err := os.Symlink(name("good"), name("link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(name("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"group": "others than its owner have access to it (mode 0640)",
		"world": "others than its owner have access to it (mode 0604)",
		"link":  "is a symbolic link",
		"fifo":  "is not a regular file",
		".":     "is not a regular file",
		"none":  "no such file",
	} {
		key, err := readKeyFile(name(file))
		if err == nil || !strings.Contains(err.Error(), want) || key != nil {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
		if open := errors.Is(err, errKeyFileOpen); open != strings.Contains(want, "mode") {
			t.Errorf("%s: errKeyFileOpen is %v", file, open)
		}
	}
	if _, err := readKeyFile(name("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if key, err := readKeyFile(name("good")); err != nil || string(key) != "key" {
		t.Errorf("a good file: %v", err)
	}
}

func TestReadKeyFileOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away; run as root")
	}
	name := filepath.Join(t.TempDir(), "key")
	write(t, name, "key", 0o600)
	if err := os.Chown(name, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := readKeyFile(name); err == nil || !strings.Contains(err.Error(), "belongs to another user (12345)") {
		t.Errorf("%v", err)
	}
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}
