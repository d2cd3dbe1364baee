package config

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"unicode/utf8"
)

// maxFile bounds a configuration in bytes.
const maxFile = 4 << 20

// Load reads the configuration in a file, with keys from the files and
// environment variables that it names; names of files are relative to its own
// folder. The error is an *Error when the text is to blame, else one of
// package os.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, text, Lookups{
		Env: os.LookupEnv,
		KeyFile: func(name string) ([]byte, error) {
			return ReadKeyFile((&Config{File: path}).Path(name))
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
	if r.readable(text) && r.read(text) {
		validate(r)
	}
	if r.errors > 0 {
		return nil, &Error{r.sorted()}
	}
	r.cfg.Warnings = r.sorted()
	return r.cfg, nil
}

func (r *reader) readable(text []byte) bool {
	if len(text) > maxFile {
		r.error(Pos{File: r.file}, "", "larger than %d bytes", maxFile)
		return false
	}
	for rest := text; len(rest) > 0; {
		c, n := utf8.DecodeRune(rest)
		if c == utf8.RuneError && n == 1 || c == 0 {
			at := indexLines(r.file, text).pos(len(text) - len(rest))
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
	}
	root := parseTOML(&r.reports, r.file, text)
	if root == nil {
		return false
	}
	native{r}.read(root)
	if r.errors == 0 {
		strictTOML(&r.reports, r.file, text)
	}
	return true
}

var (
	commentLines = regexp.MustCompile(`(?s)^(?:\s|/\*.*?\*/|//[^\n]*|#[^\n]*)*`)
	setLine      = regexp.MustCompile(`^(?:\S+@\S+[#$]\s+)?(?:set|delete|comment|edit|configure|commit|rename|copy)(?:\s|$)|^\[edit\b`)
	treeLine     = regexp.MustCompile(`^[^\s={\["']+(?:[ \t]+(?:"[^"\n]*"|[^\s={"]+))?\s*\{`)
)

// detect goes by the first line that says something, unless the file is named
// .toml.
func detect(name string, text []byte) Format {
	text = text[len(commentLines.Find(text)):]
	switch {
	case filepath.Ext(name) == ".toml":
		return FormatTOML
	case setLine.Match(text):
		return FormatVyOSSet
	case treeLine.Match(text):
		return FormatVyOSTree
	}
	return FormatTOML
}
