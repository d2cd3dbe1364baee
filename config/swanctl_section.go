package config

import (
	"strings"
	"unicode/utf8"
)

// section is a part of a swanctl.conf in braces.
type section struct {
	name       string
	pos        Pos
	settings   []*setting // in the order of the file; settingAt finds them
	sections   []*section // the same; sectionAt
	settingAt  map[string]int
	sectionAt  map[string]int
	references []reference
}

// setting is a key and its value. An empty value is none, and hides one that
// would be taken from another section.
type setting struct {
	key, value  string
	keyPos, pos Pos // pos is that of the value's first character
	// exact: the characters of the value stand in the file as they are.
	exact bool
}

// at is the position of the n-th byte of the value.
func (s *setting) at(n int) Pos {
	pos := s.pos
	if s.exact {
		pos.Column += utf8.RuneCountInString(s.value[:n])
	}
	return pos
}

// each hands over the parts of a list, which commas separate.
func (s *setting) each(read func(part string, at Pos)) {
	offset := 0
	for part := range strings.SplitSeq(s.value, ",") {
		trimmed := strings.TrimSpace(part)
		if trimmed != "" {
			read(trimmed, s.at(offset+strings.Index(part, trimmed)))
		}
		offset += len(part) + 1
	}
}

// reference is a section by its way from the root: connections.office.
type reference struct {
	path string
	pos  Pos
}

func (s *section) find(name string) *section {
	if i, ok := s.sectionAt[name]; ok {
		return s.sections[i]
	}
	return nil
}

// get is nil where there is no such setting.
func (s *section) get(key string) *setting {
	if i, ok := s.settingAt[key]; ok {
		return s.settings[i]
	}
	return nil
}

// add gives the section a part, which it must not have yet.
func (s *section) add(k *section) {
	if s.sectionAt == nil {
		s.sectionAt = map[string]int{}
	}
	s.sectionAt[k.name] = len(s.sections)
	s.sections = append(s.sections, k)
}

// set replaces a value that is there.
func (s *section) set(k *setting) {
	if i, ok := s.settingAt[k.key]; ok {
		s.settings[i] = k
		return
	}
	if s.settingAt == nil {
		s.settingAt = map[string]int{}
	}
	s.settingAt[k.key] = len(s.settings)
	s.settings = append(s.settings, k)
}

// maxInherited bounds the settings and sections that are taken from others, of
// all sections together.
const maxInherited = 100_000

// inheritance writes out what sections take from those that they refer to.
type inheritance struct {
	*swanctl
	root *section
	// busy are the sections that are being written out, done those that are.
	busy  map[*section]bool
	done  map[*section]*section
	taken int
}

// of is the section with all that it takes from others, in front of which its
// own settings go. It is not to be changed.
func (h *inheritance) of(s *section) *section {
	if out := h.done[s]; out != nil {
		return out
	}
	out := &section{name: s.name, pos: s.pos}
	for _, k := range s.settings {
		out.set(k)
	}
	h.busy[s] = true
	for _, k := range s.sections {
		out.add(h.of(k).clone())
	}
	for _, ref := range s.references {
		if base := h.base(ref); base != nil {
			h.merge(out, h.of(base))
		}
	}
	delete(h.busy, s)
	h.done[s] = out
	return out
}

func (s *section) clone() *section {
	out := &section{name: s.name, pos: s.pos}
	for _, k := range s.settings {
		out.set(k)
	}
	for _, k := range s.sections {
		out.add(k.clone())
	}
	return out
}

// merge adds what is not there.
func (h *inheritance) merge(into, base *section) {
	for _, k := range base.settings {
		if h.taken++; h.taken <= maxInherited && into.get(k.key) == nil {
			into.set(k)
		}
	}
	for _, k := range base.sections {
		if h.taken++; h.taken > maxInherited {
			return
		}
		same := into.find(k.name)
		if same == nil {
			same = &section{name: k.name, pos: k.pos}
			into.add(same)
		}
		h.merge(same, k)
	}
}

func (h *inheritance) base(ref reference) *section {
	at := h.root
	for name := range strings.SplitSeq(ref.path, ".") {
		next := at.find(name)
		if next == nil {
			h.error(ref.pos, "name it by the whole way to it, such as connections.office", "there is no section %q to take settings from", ref.path)
			return nil
		}
		at = next
	}
	switch {
	case h.busy[at]:
		h.error(ref.pos, "take the reference out", "section %q takes settings from itself", ref.path)
		return nil
	case h.taken > maxInherited:
		h.error(ref.pos, "", "more than %d settings are taken from other sections", maxInherited)
		return nil
	}
	return at
}
