package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxFile bounds a configuration in bytes: some 60,000 peers.
const maxFile = 16 << 20

// Load reads the configuration in a file, with keys from the files and
// environment variables that it names; names of files are relative to its own
// folder. The error is an *Error when the text is to blame, else one of
// package os.
func Load(path string) (*Config, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text, Lookups{
		Env:     os.LookupEnv,
		Include: includeFiles,
		KeyFile: func(name string) ([]byte, error) {
			return readKeyFile((&Config{File: path}).Path(name))
		},
	})
}

// reader is what the readers of all spellings share.
type reader struct {
	reports
	file    string
	lookups Lookups
	cfg     *Config
}

// Parse reads a configuration, whichever spelling it is in; name is for the
// positions in reports. The error is an *Error.
func Parse(name string, text []byte, lookups Lookups) (*Config, error) {
	r := &reader{file: name, lookups: lookups, cfg: &Config{File: name, Gateway: newGateway()}}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if r.readable(name, text) && r.read(text) {
		validate(r)
	}
	if r.errors > 0 {
		return nil, &Error{r.sorted()}
	}
	r.cfg.Warnings = r.sorted()
	return r.cfg, nil
}

func (r *reader) readable(name string, text []byte) bool {
	if len(text) > maxFile {
		r.error(Pos{File: name}, "", "larger than %d bytes", maxFile)
		return false
	}
	for rest := text; len(rest) > 0; {
		c, n := utf8.DecodeRune(rest)
		if c == utf8.RuneError && n == 1 || c == 0 {
			at := indexLines(name, text).pos(len(text) - len(rest))
			r.error(at, "save it as UTF-8", "this is not a text file: byte 0x%02x", rest[0])
			return false
		}
		rest = rest[n:]
	}
	return true
}

// read is false where what was read is too broken to be judged further.
func (r *reader) read(text []byte) bool {
	switch r.cfg.Format = detect(r.file, text); r.cfg.Format {
	case FormatVyOSSet:
		return readVyOS(r, r.parseSetCommands(text))
	case FormatVyOSTree:
		return readVyOS(r, r.parseVyOSTree(text))
	case FormatSwanctl:
		return readSwanctl(r, text)
	}
	root := parseTOML(&r.reports, r.file, text)
	if root == nil {
		return false
	}
	native{r}.read(root)
	return true
}

var (
	commentLines = regexp.MustCompile(`(?s)^(?:\s|/\*.*?\*/|//[^\n]*|#[^\n]*)*`)
	setLine      = regexp.MustCompile(`^(?:\S+@\S+[#$]\s+)?(?:set|delete|comment|edit|configure|commit|rename|copy)(?:\s|$)|^\[edit\b`)
	treeLine     = regexp.MustCompile(`^[^\s={\["']+(?:[ \t]+(?:"[^"\n]*"|[^\s={"]+))?\s*\{`)
)

// swanctlLine begins a section that swanctl.conf has and VyOS does not.
var (
	swanctlLine = regexp.MustCompile(`(?m)^[ \t]*(?:connections|secrets|pools|authorities)[ \t]*(?::[^{}\n]*)?(?:#[^\n]*)?\s*\{`)
	swanctlHead = regexp.MustCompile(`^include[ \t]+[^=\s]|^[^\s={\["']+[ \t]*:[^:{}=\n]*\{`)
)

// detect goes by the first line that says something, unless the file is named
// .toml. A swanctl.conf may begin with any section, for others to take settings
// from.
func detect(name string, text []byte) Format {
	text = text[len(commentLines.Find(text)):]
	switch {
	case filepath.Ext(name) == ".toml":
		return FormatTOML
	case setLine.Match(text):
		return FormatVyOSSet
	case swanctlHead.Match(text), (treeLine.Match(text) || filepath.Ext(name) == ".conf") && swanctlLine.Match(text):
		return FormatSwanctl
	case treeLine.Match(text):
		return FormatVyOSTree
	}
	return FormatTOML
}

// includeFiles reads the files of a pattern, in the order of their names. One
// that is named without wildcards has to be there.
func includeFiles(pattern string) ([]Source, error) {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pattern, err)
	}
	if len(names) == 0 && !strings.ContainsAny(pattern, `*?[\`) {
		names = []string{pattern}
	}
	if len(names) > maxIncludes {
		return nil, fmt.Errorf("%s: more than %d files", pattern, maxIncludes)
	}
	var files []Source
	for _, name := range names {
		text, err := readFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, Source{name, text})
	}
	return files, nil
}

// readFile reads a byte more than a configuration may have at most.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}
