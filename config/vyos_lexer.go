package config

import (
	"fmt"
	"strings"
)

// token is a word with its place, or what ends words.
type token struct {
	text string
	pos  Pos
	kind tokenKind
}

type tokenKind uint8

const (
	tokenWord tokenKind = iota
	tokenOpen
	tokenClose
	tokenLine
	tokenEnd
)

// maxWords bounds the words of one line.
const maxWords = 32

// lexer cuts a VyOS configuration into words, in either spelling. It is at
// text[i], on a line (counted from 0) that begins at text[start].
type lexer struct {
	*reports
	file           string
	text           []rune
	i, line, start int
	// shell is for set commands: braces are characters like others, and a
	// backslash outside quotes takes the next character as it is.
	shell bool
}

func newLexer(r *reader, text []byte) *lexer {
	return &lexer{reports: &r.reports, file: r.file, text: []rune(string(text))}
}

func (l *lexer) pos() Pos { return Pos{l.file, l.line + 1, l.i - l.start + 1} }

// peek is the n-th character from here, 0 behind the end.
func (l *lexer) peek(n int) rune {
	if l.i+n < len(l.text) {
		return l.text[l.i+n]
	}
	return 0
}

func (l *lexer) skip() {
	newline := l.peek(0) == '\n'
	l.i++
	if newline {
		l.line++
		l.start = l.i
	}
}

// words reads up to what ends a statement.
func (l *lexer) words() (words []token, end token, ok bool) {
	for {
		t, ok := l.next(len(words) == 0)
		if !ok || t.kind != tokenWord {
			return words, t, ok
		}
		if len(words) == maxWords {
			l.error(t.pos, "", "more than %d words on one line", maxWords)
			return nil, t, false
		}
		words = append(words, t)
	}
}

// next is the next token. Comments stand where a statement begins, or in a
// set command behind its words.
func (l *lexer) next(first bool) (token, bool) {
	for l.blank() || (first || l.shell && l.peek(0) == '#') && l.comment() {
	}
	t := token{pos: l.pos()}
	switch c := l.peek(0); {
	case c == 0:
		t.kind = tokenEnd
		return t, true
	case c == '\n':
		t.kind = tokenLine
	case c == '{' && !l.shell:
		t.kind = tokenOpen
	case c == '}' && !l.shell:
		t.kind = tokenClose
	default:
		return l.word(t)
	}
	l.skip()
	return t, true
}

func (l *lexer) blank() bool {
	if c := l.peek(0); c != ' ' && c != '\t' && c != '\r' {
		return false
	}
	l.i++
	return true
}

// comment skips /* */ or, as the rest of a line, // or #.
func (l *lexer) comment() bool {
	end := "\n"
	switch c, d := l.peek(0), l.peek(1); {
	case c == '/' && d == '*':
		end = "*/"
	case c == '#', c == '/' && d == '/':
	default:
		return false
	}
	for l.peek(0) != 0 && !(l.peek(0) == rune(end[0]) && (len(end) == 1 || l.peek(1) == rune(end[1]))) {
		l.skip()
	}
	if end == "*/" {
		l.i = min(l.i+2, len(l.text))
	}
	return true
}

// word reads a word with its quoted parts: '...' is literal, in "..." a
// backslash takes the next character as it is.
func (l *lexer) word(t token) (token, bool) {
	var b strings.Builder
	for !l.endsWord() {
		switch c := l.peek(0); {
		case c == '"' || c == '\'':
			if !l.quoted(&b, c) {
				l.error(t.pos, fmt.Sprintf("end it with %c on the same line", c), "a quoted value does not end")
				return t, false
			}
			continue
		case c == '\\' && l.shell && l.peek(1) > ' ':
			l.i++
		}
		b.WriteRune(l.peek(0))
		l.i++
	}
	t.text = b.String()
	return t, true
}

// endsWord takes an opening brace for the end of a word only where the line
// could end: a{b is a word, peer foo{ is not one.
func (l *lexer) endsWord() bool {
	const ends = " \t\r\n\x00"
	c := l.peek(0)
	return strings.ContainsRune(ends, c) || !l.shell && (c == '}' || c == '{' && strings.ContainsRune(ends+"}", l.peek(1)))
}

func (l *lexer) quoted(b *strings.Builder, quote rune) bool {
	for l.i++; l.peek(0) != quote; l.i++ {
		if quote == '"' && l.peek(0) == '\\' && l.peek(1) != '\n' {
			l.i++
		}
		if l.peek(0) == 0 || l.peek(0) == '\n' {
			return false
		}
		b.WriteRune(l.peek(0))
	}
	l.i++
	return true
}
