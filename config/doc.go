// Package config reads a gateway's configuration and freezes it.
//
// One configuration comes in three spellings, told apart by their content:
// culvert's own TOML, a VyOS configuration tree, and the same as VyOS "set"
// commands. Each has a reader; what follows is one path for all.
//
//	text -> toml.go            \
//	text -> vyos_tree.go -\     > draft -> validate.go -> Config -> print.go -> TOML
//	text -> vyos_set.go  --> vyos.go /
//
// A reader reports everything it finds wrong, each with file, line, column
// and a hint, and goes on; the configuration is refused when one report is an
// error. Nothing that was written is dropped without a report by name, except
// where a setting asks for what culvert does anyway.
//
// Keys of peers never appear in a report.
package config
