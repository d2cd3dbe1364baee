package config

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlCases are where a reader that only follows the keys goes wrong.
var tomlCases = []string{
	"a = { b = 1 }\n[a.c]\n", "a = { b = { c = 1 } }\na.b.d = 1\n", "a.b = 1\n[a]\n", "a.b = 1\n[a.c]\n", "[a.b]\n[a]\n", "[a]\n[a.b]\n[a]\n",
	"[a.b]\n[a]\nb.c = 1\n", "[a]\nb.c = 1\n[a.b]\n", "[a]\nb.c = 1\nb.d = 2\n", "[a]\nb.c = 1\n[a.b.d]\n", "a = { b.c = 1, b.d = 2 }\n",
	"a = { b.c = 1, b = { d = 1 } }\n", "a = { b = 1, b = 2 }\n", "a = [ { b = 1, b = 2 } ]\n", "a = 1\na.b = 2\n", "a = 1\n[a]\n", "a = 1\n[a.b]\n",
	"a = 012\n", "a = 1__0\n", "a = 1_0\n", "a = +0x1\n", "a = 0x_1\n", "a = 0X1\n", "a = 0xfF_f\n", "a = 0o17\n", "a = 0b1_0\n", "a = -0\n", "a = 00\n",
	"a = 9223372036854775807\n", "a = 9223372036854775808\n", "a = 0x8000000000000000\n", "a = _1\n", "a = 1_\n", "[]\n", "[a]]\n", "a = \"\\q\"\n",
	"a = \"\"\"\n\tb\\\n  c\"\"\"\n", "a = 'b\x01'\n", "# \x01\n", "a = 1 b = 2\n", "\"\" = 1\n'' = 2\n", "a = tru\n", "a = \"\\ud800\"\n", "a = [1,,2]\n", "a = {b = 1,}\n",
	"[peer.a]\nremote = \"any\"\n[peer.a.tunnel.t]\nlocal = [\"10.1.0.0/16\", \"10.2.0.0/16\"]\n",
}

func TestTOML(t *testing.T) {
	for _, text := range tomlCases {
		compareTOML(t, text)
	}
}

// FuzzTOML: the reader takes what the library takes whose parser it stands on, with
// the same values, but for lists of tables.
func FuzzTOML(f *testing.F) {
	for _, text := range tomlCases {
		f.Add(text)
	}
	f.Fuzz(compareTOML)
}

func compareTOML(t *testing.T, text string) {
	if !utf8.ValidString(text) || strings.Contains(text, "\x00") {
		return // never gets to the reader
	}
	var r reports
	root := parseTOML(&r, "x.toml", []byte(text))
	if strings.Contains(text, "[[") || root != nil && !plainTOML(root) {
		return // refused, if not here
	}
	var want map[string]any
	err := toml.Unmarshal([]byte(text), &want)
	if taken := root != nil && r.errors == 0; taken != (err == nil) {
		t.Fatalf("%q: taken %v, %v; the library says %v", text, taken, r.list, err)
	}
	if err != nil {
		return
	}
	if got := fmt.Sprint(bareTOML(root)); got != fmt.Sprint(want) {
		t.Fatalf("%q: %v, want %v", text, got, want)
	}
}

// plainTOML: there are no values but those that settings can have; of others the
// reader knows the kind alone.
func plainTOML(v any) bool {
	switch v := v.(type) {
	case *tomlTable:
		return plainItems(v.items)
	case []*tomlItem:
		return plainItems(v)
	case unstable.Kind:
		return false
	}
	return true
}

func plainItems(items []*tomlItem) bool {
	for _, it := range items {
		if !plainTOML(it.value) {
			return false
		}
	}
	return true
}

// bareTOML is the value as the library would have it.
func bareTOML(v any) any {
	switch v := v.(type) {
	case *tomlTable:
		m := map[string]any{}
		for _, it := range v.items {
			m[it.key] = bareTOML(it.value)
		}
		return m
	case []*tomlItem:
		list := []any{}
		for _, it := range v {
			list = append(list, bareTOML(it.value))
		}
		return list
	}
	return v
}
