package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"culvert/config"
)

// complaints prints diagnostics, each with its line and a caret below the place:
//
//	site.toml:5:1: error: unknown setting "remot_id"
//	    5 | remot_id = ...
//	      | ^
//	    hint: did you mean "remote_id"?
func complaints(w io.Writer, all []config.Diagnostic) {
	files := map[string][]string{}
	for _, d := range all {
		if _, read := files[d.File]; !read && d.Line > 0 {
			files[d.File] = linesOf(d.File)
		}
		first, hint, _ := strings.Cut(d.String(), "\n")
		fmt.Fprintln(w, first)
		if lines := files[d.File]; d.Line > 0 && d.Line <= len(lines) {
			fmt.Fprint(w, caret(d, lines[d.Line-1]))
		}
		if hint != "" {
			fmt.Fprintln(w, hint)
		}
	}
}

// linesOf are none where the file is no longer there, or can be read only once.
func linesOf(file string) []string {
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	text, _ := os.ReadFile(file)
	return strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
}

var (
	// mayBeKey are lines that are not shown: there is a key in them, or what
	// somebody meant for one.
	mayBeKey = regexp.MustCompile(`(?i)ps?k|ppk|secret|shared|key|pass|auth.*0[sx]`)
	// harmless are settings whose values are no keys, whatever is written there.
	harmless = regexp.MustCompile(`^\s*(?:\[|(?:preset|remote|local|remote_id|local_id|ike|esp|ike_lifetime|lifetime|dpd|keepalive|start|single_pair|mtu|initiate|device|addresses)\s*=)`)
)

// caret is the line and a mark below the column. Where the line may hold a key
// that stands in no known place, only what comes before the value is shown.
func caret(d config.Diagnostic, line string) string {
	const most = 160
	unsure := strings.HasPrefix(d.Message, "unknown") || strings.HasPrefix(d.Message, "TOML")
	switch {
	case !harmless.MatchString(line) && mayBeKey.MatchString(line):
		return ""
	case unsure && !harmless.MatchString(line):
		if i := strings.IndexAny(line, `=:"'`); i >= 0 {
			line = line[:i+1] + " ..."
		} else if strings.HasPrefix(d.Message, "TOML") {
			return "" // inside a value of several lines
		} else if words := strings.Fields(line); len(words) > 1 {
			line = line[:strings.Index(line, words[0])+len(words[0])] + " ..."
		}
	}
	runes := []rune(printable(line))
	if len(runes) > most {
		runes = append(runes[:most], []rune("...")...)
	}
	if d.Column < 1 || d.Column > len(runes)+1 {
		return ""
	}
	number := fmt.Sprint(d.Line)
	return fmt.Sprintf("    %s | %s\n    %*s | %*s\n", number, string(runes), len(number), "", d.Column, "^")
}

// printable keeps each character's column: what a terminal would not show, or
// move by, becomes a space.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, line)
}
