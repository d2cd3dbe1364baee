package config

import "regexp"

// prompt is what stands in front of a command copied from a terminal.
var prompt = regexp.MustCompile(`^\S+@\S+[#$]$`)

// commands other than set. The ones with a remedy change what a set means, and
// are refused; the others say nothing about the configuration.
var commands = map[string]struct{ remedy string }{
	"configure": {}, "commit": {}, "commit-confirm": {}, "save": {}, "exit": {}, "show": {}, "compare": {}, "run": {}, "comment": {},
	"edit":   {"write the whole path in each set command"},
	"up":     {"write the whole path in each set command"},
	"top":    {"write the whole path in each set command"},
	"delete": {"take the deleted settings out of the file"},
	"rename": {"write the settings under their new name"},
	"copy":   {"write the copied settings out"},
	"load":   {"paste what it loads"},
	"merge":  {"paste what it merges"},
}

// parseSetCommands reads set commands into the same nodes as the tree. It
// returns nil after an error, which it has reported.
func (r *reader) parseSetCommands(text []byte) *node {
	root := &node{pos: Pos{r.file, 1, 1}}
	lex := newLexer(r, text)
	lex.shell = true
	for {
		words, end, ok := lex.words()
		if !ok {
			return nil
		}
		r.command(root, words)
		if end.kind == tokenEnd {
			break
		}
	}
	if r.errors > 0 {
		return nil
	}
	return root
}

func (r *reader) command(root *node, words []token) {
	if len(words) > 0 && prompt.MatchString(words[0].text) {
		words = words[1:]
	}
	if len(words) == 0 || words[0].text == "[edit]" || words[0].text == "[edit" {
		return
	}
	if words[0].text == "set" {
		root.add(words[1:])
		return
	}
	c, known := commands[words[0].text]
	switch {
	case !known:
		r.error(words[0].pos, "each line begins with set", "this is not a set command")
	case c.remedy != "":
		r.error(words[0].pos, c.remedy, "%q commands are not carried out", words[0].text)
	}
}
