package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Pos is a place in a configuration file. Line and Column count from 1, the
// column in characters; Line 0 is the file as a whole.
type Pos struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// String is file:line:column, or the file's name alone.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Severity says whether a configuration with this diagnostic can be used.
type Severity uint8

// The severities.
const (
	SeverityError Severity = iota
	SeverityWarning
)

// String is "error" or "warning".
func (s Severity) String() string {
	if s == SeverityWarning {
		return "warning"
	}
	return "error"
}

// MarshalText makes severities readable in JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Severity) UnmarshalText(text []byte) error {
	for _, known := range []Severity{SeverityError, SeverityWarning} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("no severity is called %q", text)
}

// Diagnostic is one thing to say about a configuration.
type Diagnostic struct {
	Pos
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	// Hint says what to write instead, and may be empty.
	Hint string `json:"hint,omitempty"`
}

// String is
//
//	side-b.toml:7:13: error: unknown setting "remot_id"
//	    hint: did you mean "remote_id"?
func (d Diagnostic) String() string {
	s := fmt.Sprintf("%v: %v: %s", d.Pos, d.Severity, d.Message)
	if d.Hint != "" {
		s += "\n    hint: " + strings.ReplaceAll(d.Hint, "\n", "\n          ")
	}
	return s
}

// Error is a configuration that cannot be used: all that was found, errors
// and warnings, in the order of the file.
type Error struct{ Diagnostics []Diagnostic }

// Error lists the diagnostics, one or two lines each.
func (e *Error) Error() string {
	lines := make([]string, len(e.Diagnostics))
	for i, d := range e.Diagnostics {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// maxDiagnostics bounds what one file is told; the rest follows when these
// are mended.
const maxDiagnostics = 100

// reports collects diagnostics. The readers and the validator share one.
type reports struct {
	list   []Diagnostic
	errors int
}

func (r *reports) add(d Diagnostic) {
	if d.Severity == SeverityError {
		r.errors++
	}
	if len(r.list) < maxDiagnostics && !slices.Contains(r.list, d) {
		r.list = append(r.list, d)
	}
}

func (r *reports) error(at Pos, hint, format string, args ...any) {
	r.add(Diagnostic{at, SeverityError, fmt.Sprintf(format, args...), hint})
}

func (r *reports) warn(at Pos, hint, format string, args ...any) {
	r.add(Diagnostic{at, SeverityWarning, fmt.Sprintf(format, args...), hint})
}

// sorted is in the order of the file, or of the names of several.
func (r *reports) sorted() []Diagnostic {
	slices.SortStableFunc(r.list, func(a, b Diagnostic) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column)
	})
	return r.list
}
