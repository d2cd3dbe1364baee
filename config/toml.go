package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlTable is a table whose keys are in the order of the file and know where
// they stand.
type tomlTable struct {
	pos   Pos
	items []*tomlItem // in the order of the file; byKey finds them
	byKey map[string]*tomlItem
	form  tomlForm
}

// tomlForm is how a table is written, which rules what may be added to it later.
type tomlForm uint8

const (
	tomlImplied tomlForm = iota // by the header of a table in it: may have its own
	tomlHeader                  // has had its header
	tomlDotted                  // by a dotted key: takes other such keys, and tables
	tomlInline                  // takes nothing more
)

// tomlItem is a key and its value: a string, int64, bool, []*tomlItem of an
// array, *tomlTable, or the unstable.Kind of anything else.
type tomlItem struct {
	key    string
	keyPos Pos
	value  any
	pos    Pos // of the value, in a plain string that of its first character
}

func (t *tomlTable) find(key string) *tomlItem { return t.byKey[key] }

func (t *tomlTable) append(it *tomlItem) {
	if t.byKey == nil {
		t.byKey = map[string]*tomlItem{}
	}
	t.byKey[it.key] = it
	t.items = append(t.items, it)
}

// tomlReader makes the table out of the text. A syntax error ends it; a key
// or table that is there twice is reported and the first one counts.
type tomlReader struct {
	*reports
	lines lineIndex
	p     unstable.Parser
}

// parseTOML returns nil after a syntax error, which it has reported.
func parseTOML(r *reports, file string, text []byte) *tomlTable {
	t := &tomlReader{reports: r, lines: indexLines(file, text)}
	t.p.Reset(slices.Clip(text))
	root := &tomlTable{pos: t.lines.pos(0)}
	current := root
	for t.p.NextExpression() {
		switch e := t.p.Expression(); e.Kind {
		case unstable.Table:
			current = t.header(root, e)
		case unstable.ArrayTable:
			current = t.arrayHeader(e)
		case unstable.KeyValue:
			t.keyValue(current, e)
		}
	}
	if err := t.p.Error(); err != nil {
		t.syntaxError(err)
		return nil
	}
	return root
}

func (t *tomlReader) syntaxError(err error) {
	at := t.lines.pos(0)
	message := err.Error()
	var pe *unstable.ParserError
	if errors.As(err, &pe) {
		message = pe.Message
		if pe.Highlight != nil {
			at = t.lines.pos(int(t.p.Range(pe.Highlight).Offset))
		}
	}
	t.error(at, "", "TOML: %s", message)
}

func (t *tomlReader) header(root *tomlTable, e *unstable.Node) *tomlTable {
	table, last := t.descend(root, e.Key(), nil, tomlImplied)
	if table == nil {
		return &tomlTable{}
	}
	if table.form != tomlImplied {
		t.error(t.at(last), fmt.Sprintf("the first one is on line %d", table.pos.Line), "table %q is there twice", last.Data)
		return table
	}
	table.form, table.pos = tomlHeader, t.at(last)
	return table
}

func (t *tomlReader) arrayHeader(e *unstable.Node) *tomlTable {
	keys := e.Key()
	keys.Next()
	t.error(t.at(keys.Node()), fmt.Sprintf("name each one: [%s.NAME]", quoteKey(string(keys.Node().Data))), "lists of tables are not used here")
	return &tomlTable{}
}

// descend goes down a dotted key as far as the part until, making the tables
// that are missing in that form. It returns the last table and its key, or nil
// where something is in the way.
func (t *tomlReader) descend(from *tomlTable, keys unstable.Iterator, until *unstable.Node, form tomlForm) (table *tomlTable, last *unstable.Node) {
	for keys.Next() && keys.Node() != until {
		last = keys.Node()
		if from = t.step(from, last, form); from == nil {
			return nil, last
		}
	}
	return from, last
}

func (t *tomlReader) step(from *tomlTable, key *unstable.Node, form tomlForm) *tomlTable {
	it := from.find(string(key.Data))
	if it == nil {
		it = &tomlItem{key: string(key.Data), keyPos: t.at(key), pos: t.at(key), value: &tomlTable{pos: t.at(key), form: form}}
		from.append(it)
	}
	table, ok := it.value.(*tomlTable)
	switch {
	case !ok:
		t.error(t.at(key), fmt.Sprintf("the value is on line %d", it.keyPos.Line), "%q is a value already and cannot be a table too", it.key)
	case table.form == tomlInline, form == tomlDotted && table.form != tomlDotted:
		t.error(t.at(key), fmt.Sprintf("write it there, on line %d", table.pos.Line), "table %q cannot be added to from here", it.key)
		return nil
	}
	return table
}

func (t *tomlReader) keyValue(table *tomlTable, e *unstable.Node) {
	var last *unstable.Node
	for keys := e.Key(); keys.Next(); {
		last = keys.Node()
	}
	if table, _ = t.descend(table, e.Key(), last, tomlDotted); table == nil {
		return
	}
	it := t.item(string(last.Data), t.at(last), e.Value())
	if first := table.find(it.key); first != nil {
		t.error(it.keyPos, fmt.Sprintf("the first one is on line %d", first.keyPos.Line), "%q is there twice", it.key)
		return
	}
	table.append(it)
}

func (t *tomlReader) item(key string, keyPos Pos, v *unstable.Node) *tomlItem {
	it := &tomlItem{key: key, keyPos: keyPos, pos: keyPos}
	if v.Raw.Length > 0 {
		it.pos = t.at(v)
	}
	switch v.Kind {
	case unstable.String:
		it.value = string(v.Data)
		if int(v.Raw.Length) == len(v.Data)+2 {
			it.pos.Column++ // past the quote of a string without escapes
		}
	case unstable.Bool:
		it.value = string(v.Data) == "true"
	case unstable.Integer:
		it.value = any(unstable.Integer)
		if n, ok := tomlInteger(string(v.Data)); ok {
			it.value = n
		}
	case unstable.Array:
		it.value = t.array(key, keyPos, v)
	case unstable.InlineTable:
		it.value = t.inlineTable(keyPos, v)
	default:
		it.value = v.Kind
	}
	return it
}

// tomlNumeral is an integer: no zeros lead, and underscores stand between digits.
var tomlNumeral = regexp.MustCompile(`^(?:[+-]?(?:0|[1-9](?:_?[0-9])*)|0x[0-9A-Fa-f](?:_?[0-9A-Fa-f])*|0o[0-7](?:_?[0-7])*|0b[01](?:_?[01])*)$`)

// tomlInteger is false for what is none, or has more than 64 bits.
func tomlInteger(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 0, 64)
	return n, err == nil && tomlNumeral.MatchString(s)
}

func (t *tomlReader) array(key string, keyPos Pos, v *unstable.Node) []*tomlItem {
	var items []*tomlItem
	for each := v.Children(); each.Next(); {
		items = append(items, t.item(key, keyPos, each.Node()))
	}
	return items
}

func (t *tomlReader) inlineTable(at Pos, v *unstable.Node) *tomlTable {
	table := &tomlTable{pos: at, form: tomlInline}
	for each := v.Children(); each.Next(); {
		t.keyValue(table, each.Node())
	}
	return table
}

func (t *tomlReader) at(n *unstable.Node) Pos { return t.lines.pos(int(n.Raw.Offset)) }

// lineIndex turns byte offsets into positions.
type lineIndex struct {
	file   string
	text   []byte
	starts []int // offset of each line
}

func indexLines(file string, text []byte) lineIndex {
	x := lineIndex{file, text, []int{0}}
	for i, c := range text {
		if c == '\n' {
			x.starts = append(x.starts, i+1)
		}
	}
	return x
}

func (x lineIndex) pos(offset int) Pos {
	offset = min(offset, len(x.text))
	line, found := slices.BinarySearch(x.starts, offset)
	if !found {
		line--
	}
	return Pos{x.file, line + 1, 1 + utf8.RuneCount(x.text[x.starts[line]:offset])}
}
