package config

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testLookups know one key file, one variable, and a few files to include.
var testLookups = Lookups{
	KeyFile: func(name string) ([]byte, error) {
		switch name {
		case "culvert.key":
			return []byte("a-key-in-a-file-0123456789\n"), nil
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	},
	Include: func(pattern string) ([]Source, error) {
		switch pattern {
		case "other.conf":
			return []Source{{pattern, []byte("mobike = no\n")}}, nil
		case "conf.d/*.conf":
			return []Source{{"conf.d/a.conf", []byte("secrets {\n}\n")}, {"conf.d/b.conf", []byte("pools {\n}\n")}}, nil
		case "self.conf":
			return []Source{{pattern, []byte("include self.conf\n")}}, nil
		case "twice.conf":
			return []Source{{pattern, []byte("include many.conf\ninclude many.conf\n")}}, nil
		case "many.conf":
			return slices.Repeat([]Source{{pattern, []byte("\n")}}, maxIncludes-10), nil
		case "broken.conf":
			return []Source{{pattern, []byte("a = b\n\n}")}}, nil
		case "binary.conf":
			return []Source{{pattern, []byte("\n\xff")}}, nil
		}
		return nil, &fs.PathError{Op: "open", Path: pattern, Err: fs.ErrNotExist}
	},
	Env: func(name string) (string, bool) {
		return "a-key-in-the-environment-0123456789", name == "CULVERT_KEY"
	},
}

// TestGolden compares what is said about a configuration, and what it becomes
// in culvert's own form, with what was found right by reading it.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	a, err := txtar.ParseFile(file)
	if err != nil || len(a.Files) != 2 || a.Files[1].Name != "want" {
		t.Fatalf("%s: want a configuration and what is said about it (%v)", file, err)
	}
	got := said(Parse(a.Files[0].Name, a.Files[0].Data, testLookups))
	if *update {
		a.Files[1].Data = got
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, a.Files[1].Data) {
		t.Errorf("got:\n%s\nwant:\n%s", got, a.Files[1].Data)
	}
}

func said(cfg *Config, err error) []byte {
	var b bytes.Buffer
	var wrong *Error
	if errors.As(err, &wrong) {
		b.WriteString(wrong.Error() + "\n")
		return b.Bytes()
	}
	for _, w := range cfg.Warnings {
		b.WriteString(w.String() + "\n")
	}
	b.WriteString("\n")
	b.Write(cfg.TOML())
	return b.Bytes()
}
