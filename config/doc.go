// Package config reads a gateway's configuration and freezes it.
//
// One configuration comes in four spellings, told apart by their content:
// culvert's own TOML, a VyOS configuration tree, the same as VyOS "set"
// commands, and strongSwan's swanctl.conf. Each has a reader; what follows is one
// path for all.
//
//	TOML ----------> toml.go -----------> native.go ---\
//	VyOS tree -----> vyos_tree.go --\                   \                          /-> print.go -> TOML
//	set commands --> vyos_set.go ----> vyos.go ----------> validate.go -> Config --
//	swanctl.conf --> swanctl_parse.go -> swanctl.go -----/                         \-> swanctl_print.go -> swanctl.conf
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
// All settings, the defaults of those that may be left out, and their shapes;
// docs/configuration.md says more of each.
//
//	[gateway]                 # all of it may be left out
//	local     = "any"         # address to listen on
//	ike_port  = 500
//	natt_port = 4500
//	device    = "culvert0"
//	lanes     = 1             # processors that carry packets
//	device_prepared = false   # true: it is there, with MTU, addresses and routes
//	mtu       = 1400          # of inner packets; left out: from the path
//	cookie_threshold     = 30 # half-open IKE SA from which on cookies are asked for; "always", "off"
//	half_open_limit      = 4096 # or "off"
//	half_open_per_source = 64   # or "off"
//	half_open_lifetime   = "30s"
//	resumption_key_file  = "tickets.key" # made if it is not there; left out: good until a restart
//	metrics              = "127.0.0.1:9115" # for Prometheus; left out: none
//	page                 = "127.0.0.1:9116" # the status page; left out: none
//	lease_file           = "leases.json" # left out: addresses of pools are given anew after a restart
//
//	[pool.NAME]               # virtual addresses for peers
//	addresses = "10.9.0.0/24" # or "10.9.0.10-10.9.0.99"
//	dns       = ["10.9.0.1"]
//	domains   = ["corp.example"]
//	subnets   = ["10.0.0.0/8"]
//
//	[peer.NAME]
//	preset    = "strongswan"  # or "aws", "azure", "gcp", "macos", "vyos"
//	remote    = "203.0.113.1" # address, host name or "any"
//	local     = "any"         # address to send from
//	remote_ike_port  = 500
//	remote_natt_port = 4500
//	local_id  = "@foo"        # who we are
//	remote_id = "203.0.113.1" # who the peer has to be
//	psk       = "..."         # or psk_file, psk_env, or psk_base64
//	initiate  = true          # left out: true where remote is not "any"
//	ike       = ["aes128gcm16-prfsha256-x25519"]
//	ike_lifetime = "4h"       # or "off"
//	dpd       = "30s"         # or "off"
//	keepalive = "20s"         # or "off"
//	retransmit       = "1s"   # then 2s, 4s, ... up to
//	retransmit_max   = "4s"
//	retransmit_tries = 21     # 79s in all
//	initial_tries    = 9      # of the first request
//	reconnect        = "1s"   # then 2s, 4s, ... up to
//	reconnect_max    = "1m"
//	duplicates    = "replace" # or "keep", "never"
//	fragmentation = true      # or false, "force"
//	fragment_size = 1280
//	mobike        = true
//	redirect      = false
//	resumption    = true
//	post_quantum  = "prefer"  # or "require", "off"
//	post_quantum_methods = ["mlkem768", "mlkem1024"] # or in the proposals: x25519-ke1_mlkem768
//	ppk_id        = "branch"  # left out: no post-quantum pre-shared key
//	ppk           = "..."     # or ppk_file, ppk_env, or ppk_base64
//	ppk_required  = false
//	pools           = ["NAME"] # where the peer's virtual addresses come from
//	request_address = ["ipv4", "ipv6"] # of the peer, for us
//
//	[peer.NAME.tunnel.NAME]
//	local     = "10.104.0.0/24"                 # or a list, or "dynamic"
//	remote    = ["10.103.0.0/24", "10.9.0.0/16[tcp/443]"]
//	esp       = ["aes128gcm16"]                 # and a group for perfect forward secrecy
//	start     = "now"                           # or "traffic", "peer"
//	lifetime  = "1h"                            # or "off"
//	lifetime_bytes   = 100_000_000_000          # left out: no limit
//	lifetime_packets = 1_000_000_000
//	single_pair      = false                    # a child SA for each pair of selectors
package config
