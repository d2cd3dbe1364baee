package gateway

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/config"
)

func withKeyFile(dir, name string) *config.Config {
	return &config.Config{File: filepath.Join(dir, "site.toml"), Gateway: config.Gateway{ResumptionKeyFile: name}}
}

// The key is made once, for its owner alone, and is the same ever after; without
// a file each process has its own.
func TestTicketKey(t *testing.T) {
	dir := t.TempDir()
	random := &counting{}
	one, err := ticketKey(withKeyFile(dir, "tickets.key"), random)
	if err != nil || len(one) != ticketKeyLen {
		t.Fatalf("%x, %v", one, err)
	}
	info, err := os.Stat(filepath.Join(dir, "tickets.key"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("files %q", left)
	}
	two, err := ticketKey(withKeyFile(dir, "tickets.key"), random)
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("after a restart %x, %v", two, err)
	}
	a, errA := ticketKey(withKeyFile(dir, ""), random)
	b, errB := ticketKey(withKeyFile(dir, ""), random)
	if errA != nil || errB != nil || bytes.Equal(a, b) || bytes.Equal(a, one) {
		t.Error("keys of two processes are the same")
	}
}

// A key that others can read, or a file that is none, is refused in words
// without what is in it, and stays as it is.
func TestTicketKeyRefused(t *testing.T) {
	const content = "vermilion-aqueduct-7421-32-bytes"
	for name, c := range map[string]struct {
		mode    fs.FileMode
		content string
		want    string
	}{
		"readable by the group": {0o640, content, "chmod 600"},
		"readable by all":       {0o604, content, "chmod 600"},
		"short":                 {0o600, content[1:], "32 bytes"},
		"long":                  {0o600, content + "x", "32 bytes"},
		"empty":                 {0o600, "", "32 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "tickets.key")
			if err := os.WriteFile(file, []byte(c.content), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := ticketKey(withKeyFile(dir, "tickets.key"), &counting{})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "resumption_key_file") || strings.Contains(err.Error(), "vermilion") {
				t.Errorf("error %v", err)
			}
			if b, _ := os.ReadFile(file); string(b) != c.content {
				t.Error("the file was written to")
			}
		})
	}
	t.Run("no folder", func(t *testing.T) {
		if _, err := ticketKey(withKeyFile(t.TempDir(), "there/is/none.key"), &counting{}); err == nil {
			t.Error("no error")
		}
	})
	t.Run("no random bytes", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := ticketKey(withKeyFile(dir, "tickets.key"), noEntropy{}); err == nil {
			t.Error("no error")
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
			t.Errorf("files %q", left)
		}
	})
}

type counting struct{ n byte }

func (c *counting) Read(b []byte) (int, error) {
	for i := range b {
		c.n++
		b[i] = c.n
	}
	return len(b), nil
}

type noEntropy struct{}

func (noEntropy) Read([]byte) (int, error) { return 0, errors.New("no entropy") }
