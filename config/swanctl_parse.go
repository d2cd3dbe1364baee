package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Bounds of a swanctl.conf and of what it includes. strongSwan's own are 10
// levels of files.
const (
	maxIncludeDepth = 10
	maxIncludes     = 100
)

// Source is one file that an include names.
type Source struct {
	Name string
	Text []byte
}

// swanParser reads the syntax of strongswan.conf(5), in which swanctl.conf is
// written:
//
//	settings   := (section | key = value | include pattern)*
//	section    := name [: references] { settings }
//	references := name[.name]* [, name[.name]*]*
//
// It is at text[i] of one file, on a line (counted from 0) that begins at
// text[start].
type swanParser struct {
	*swanctl
	file           string
	text           []rune
	i, line, start int
	level          int // of files, 0 is the one that was asked for
}

// parseSwanctl adds a file to a section, and says whether its syntax is right.
func (w *swanctl) parse(into *section, src Source, level int) bool {
	p := &swanParser{swanctl: w, file: src.Name, text: []rune(string(src.Text)), level: level}
	return p.settings(into, nil)
}

func (p *swanParser) pos() Pos { return Pos{p.file, p.line + 1, p.i - p.start + 1} }

// peek is the character here, 0 behind the end.
func (p *swanParser) peek() rune {
	if p.i < len(p.text) {
		return p.text[p.i]
	}
	return 0
}

func (p *swanParser) next() {
	newline := p.peek() == '\n'
	p.i++
	if newline {
		p.line++
		p.start = p.i
	}
}

func (p *swanParser) skip(chars string) {
	for p.peek() != 0 && strings.ContainsRune(chars, p.peek()) {
		p.next()
	}
}

const (
	swanBlanks = " \t\r"
	swanNoName = "#{}=\":,\n" + swanBlanks
)

// space skips blanks, lines and comments.
func (p *swanParser) space() {
	for {
		p.skip(swanBlanks + "\n")
		if p.peek() != '#' {
			return
		}
		for c := p.peek(); c != 0 && c != '\n'; c = p.peek() {
			p.next()
		}
	}
}

// settings reads up to the brace that ends them, or without any open the end of
// the file.
func (p *swanParser) settings(into *section, open []Pos) bool {
	for {
		p.space()
		switch {
		case p.peek() == 0 && len(open) > 0:
			p.error(p.pos(), "paste the configuration to its end", "the brace opened on line %d is not closed", open[len(open)-1].Line)
			return false
		case p.peek() == 0:
			return true
		case p.peek() == '}' && len(open) == 0:
			p.error(p.pos(), "take it out, or paste the line that opens it too", "a closing brace closes nothing")
			return false
		case p.peek() == '}':
			p.next()
			return true
		case !p.statement(into, open):
			return false
		}
	}
}

func (p *swanParser) statement(into *section, open []Pos) bool {
	at := p.pos()
	name := p.name()
	switch {
	case strings.Contains(name, "."):
		p.error(at, "write a name without dots", "a name has a dot in it")
		return false
	case name == "":
		p.error(at, "put a value with such a character in quotes", "no setting begins with %q", p.peek())
		return false
	}
	p.skip(swanBlanks)
	switch {
	case p.peek() == '=':
		p.next()
		p.setting(into, name, at)
		return true
	case name == "include" && p.peek() != '{' && p.peek() != ':' && p.peek() != '\n' && p.peek() != 0:
		return p.include(into)
	}
	return p.section(into, name, at, open)
}

func (p *swanParser) name() string {
	from := p.i
	for c := p.peek(); c != 0 && !strings.ContainsRune(swanNoName, c); c = p.peek() {
		p.next()
	}
	return string(p.text[from:p.i])
}

func (p *swanParser) section(into *section, name string, at Pos, open []Pos) bool {
	var bases []reference
	if p.peek() == ':' {
		p.next()
		bases = p.references()
	}
	p.space()
	switch {
	case p.peek() != '{':
		p.error(at, "write NAME = VALUE, or NAME { ... }", "a name is neither followed by a value nor by an opening brace") // which may be a key gone astray
		return false
	case len(open) == maxDepth:
		p.error(p.pos(), "", "more than %d braces in braces", maxDepth)
		return false
	}
	kid := into.find(name)
	if kid == nil {
		kid = &section{name: name, pos: at}
		into.add(kid)
	}
	kid.references = append(kid.references, bases...)
	here := p.pos()
	p.next()
	return p.settings(kid, append(open[:len(open):len(open)], here))
}

func (p *swanParser) references() (bases []reference) {
	for {
		p.space()
		at := p.pos()
		name := p.name()
		if name != "" {
			bases = append(bases, reference{name, at})
		}
		p.space()
		if p.peek() != ',' {
			return bases
		}
		p.next()
	}
}

// setting reads the value, which ends with its line: words, joined by one
// space, and strings in quotes.
func (p *swanParser) setting(into *section, key string, keyPos Pos) {
	p.skip(swanBlanks)
	s := &setting{key: key, keyPos: keyPos, pos: p.pos()}
	from := p.i
	var parts []string
	for {
		p.skip(swanBlanks)
		if strings.ContainsRune("#}\n\x00", p.peek()) {
			break
		}
		part, ok := p.part()
		if !ok {
			p.error(s.pos, `end it with "`, "a quoted value does not end")
			p.i = len(p.text)
			break
		}
		parts = append(parts, part)
	}
	if p.peek() == '#' && p.i > from && !strings.ContainsRune(swanBlanks, p.text[p.i-1]) {
		p.warn(p.pos(), "put the value in quotes if it goes on, or a space in front of the comment", "a comment begins in the middle of the value of %q", key)
	}
	s.value = strings.Join(parts, " ")
	if from < len(p.text) && p.text[from] == '"' {
		from, s.pos.Column = from+1, s.pos.Column+1
	}
	s.exact = strings.HasPrefix(string(p.text[from:min(len(p.text), from+utf8.RuneCountInString(s.value))]), s.value)
	if first := into.get(key); first != nil && first.pos.File == s.pos.File {
		p.warn(s.keyPos, fmt.Sprintf("the first one is on line %d; take one out", first.pos.Line), "%q is there twice, and the later one counts", key)
	}
	into.set(s)
}

// part is a word, or a string in quotes, which may go over several lines.
func (p *swanParser) part() (string, bool) {
	if p.peek() != '"' {
		from := p.i
		for c := p.peek(); c != 0 && !strings.ContainsRune("#}\"\n"+swanBlanks, c); c = p.peek() {
			p.next()
		}
		return string(p.text[from:p.i]), true
	}
	var b strings.Builder
	for p.next(); p.peek() != '"'; p.next() {
		c := p.peek()
		if c == '\\' {
			p.next()
			if c = p.escaped(); c == 0 {
				continue
			}
		}
		if p.peek() == 0 {
			return "", false
		}
		if c != '\r' || p.text[p.i-1] == '\\' {
			b.WriteRune(c)
		}
	}
	p.next()
	return b.String(), true
}

// escaped is what the character behind a backslash stands for; 0 for the end
// of a line, which is left out.
func (p *swanParser) escaped() rune {
	switch c := p.peek(); c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case '\r', '\n':
		if c == '\r' && p.i+1 < len(p.text) && p.text[p.i+1] == '\n' {
			p.next()
		}
		return 0
	default:
		return c
	}
}

// include reads the files of a pattern into the section in which it stands.
func (p *swanParser) include(into *section) bool {
	at := p.pos()
	pattern, ok := p.pattern()
	_, f := parseFileName(pattern)
	switch {
	case !ok:
		p.error(at, `end it with "`, "a quoted value does not end")
		return false
	case f != nil:
		p.error(at, f.hint, "include: %s", f.message)
		return false
	case p.lookups.Include == nil:
		p.error(at, "paste what it includes", "other files cannot be included here")
		return false
	case p.level == maxIncludeDepth:
		p.error(at, "look for a file that includes itself", "more than %d files include one another", maxIncludeDepth)
		return false
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(p.file), pattern)
	}
	files, err := p.lookups.Include(pattern)
	if err != nil {
		p.error(at, includeHint(err), "include: %v", err)
		return false
	}
	for _, src := range files {
		if !p.admit(src, at) || !p.parse(into, src, p.level+1) {
			return false
		}
	}
	return true
}

func includeHint(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "a name is relative to the file that includes it"
	}
	return ""
}

// admit bounds what is included.
func (p *swanParser) admit(src Source, at Pos) bool {
	p.includes++
	p.included += len(src.Text)
	if p.includes > maxIncludes || p.included > maxFile {
		p.error(at, "", "more than %d files or %d bytes are included", maxIncludes, maxFile)
		return false
	}
	return p.readable(src.Name, src.Text)
}

// pattern is the name of files in an include, in quotes or up to a blank; a
// backslash takes a character as it is.
func (p *swanParser) pattern() (string, bool) {
	if p.peek() == '"' {
		return p.part()
	}
	var b strings.Builder
	for c := p.peek(); c != 0 && !strings.ContainsRune("#}\n"+swanBlanks, c); c = p.peek() {
		if c == '\\' && p.i+1 < len(p.text) && strings.ContainsRune("\"#} ", p.text[p.i+1]) {
			p.next()
			c = p.peek()
		}
		b.WriteRune(c)
		p.next()
	}
	return b.String(), true
}
