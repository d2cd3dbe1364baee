// Package config reads a gateway's configuration and freezes it.
//
// One configuration comes in three spellings, told apart by their content:
// culvert's own TOML, a VyOS configuration tree, and the same as VyOS "set"
// commands. Each has a reader; what follows is one path for all.
//
//	TOML ----------> toml.go ------> native.go --\
//	VyOS tree -----> vyos_tree.go --\             > validate.go -> Config -> print.go -> TOML
//	set commands --> vyos_set.go ----> vyos.go --/
//
// A reader reports everything it finds wrong, each with file, line, column
// and a hint, and goes on; the configuration is refused when one report is an
// error. Nothing that was written is dropped without a report by name, except
// where a setting asks for what culvert does anyway.
//
// Keys of peers never appear in a report.
//
// # Culvert's own form
//
// All settings, the defaults of those that may be left out, and their shapes:
//
//	[gateway]                 # all of it may be left out
//	local     = "any"         # address to listen on
//	ike_port  = 500
//	natt_port = 4500
//	device    = "culvert0"
//	mtu       = 1400          # of inner packets; left out: from the path
//
//	[peer.NAME]
//	remote    = "203.0.113.1" # address, host name or "any"
//	local     = "any"         # address to send from
//	remote_ike_port  = 500
//	remote_natt_port = 4500
//	local_id  = "@foo"        # who we are
//	remote_id = "203.0.113.1" # who the peer has to be
//	psk       = "..."         # or psk_file, or psk_env
//	initiate  = true          # left out: true where remote is not "any"
//	ike       = ["aes128gcm16-prfsha256-x25519"]
//	ike_lifetime = "4h"
//	dpd       = "30s"         # or "off"
//	keepalive = "20s"         # or "off"
//
//	[peer.NAME.tunnel.NAME]
//	local     = "10.104.0.0/24"                 # or a list
//	remote    = ["10.103.0.0/24", "10.9.0.0/16[tcp/443]"]
//	esp       = ["aes128gcm16"]                 # and a group for perfect forward secrecy
//	lifetime  = "1h"
package config
