package config

import (
	"fmt"
	"slices"
	"strings"
)

// A Setting is a key of culvert's own form, as docs/configuration.md and
// culvert.toml(5) have it. Text is Markdown; "-" is a form that has no word for
// the key.
type Setting struct {
	Key, Default, StrongSwan, VyOS, Swanctl, Doc string
}

// A Section is a table of the configuration and its keys.
type Section struct {
	Title    string
	Settings []Setting
}

// Reference is every key there is.
func Reference() []Section { return allSettings }

// tableOf is the table that has a setting; "" where none has.
func tableOf(key string) string {
	for _, s := range allSettings {
		if slices.ContainsFunc(s.Settings, func(k Setting) bool { return k.Key == key }) {
			return s.Title
		}
	}
	return ""
}

var allSettings = []Section{
	{"[gateway]", []Setting{
		{"local", "`\"any\"`", "any", "-", "-", "the address to listen on"},
		{"ike_port", "`500`", "500", "-", "- (`strongswan.conf`: port)", "our UDP port for IKE"},
		{"natt_port", "`4500`", "4500", "-", "- (`strongswan.conf`: port_nat_t)", "our UDP port for IKE and ESP"},
		{"device", "`\"culvert0\"`", "no device", "-", "-", "the TUN device"},
		{"device_prepared", "`false`", "-", "-", "-", "the device is there already, persistent and our user's, and somebody else sees to its MTU, addresses and routes: culvert needs no capability for it; see [deploy.md](deploy.md)"},
		{"lanes", "`1`", "-", "-", "-", "how many processors carry packets, 1 to 64, Linux only. Each lane is a queue of the device, a socket on UDP 4500 and, with a peer that knows RFC 9611 (culvert, strongSwan from 6.0.2), a child SA for each tunnel; a peer that does not has one child SA, which the lanes take turns with. A flow stays in one lane: one TCP stream gains nothing. A prepared device has to be made with `multi_queue`"},
		{"mtu", "from the path", "from the kernel", "-", "-", "of inner packets, in bytes"},
		{"cookie_threshold", "`30`", "30", "-", "- (`strongswan.conf`)", "the half-open IKE SA from which on a peer has to return a cookie first (RFC 7296 section 2.6); `\"always\"`, `\"off\"`"},
		{"half_open_limit", "`4096`", "0 (off)", "-", "- (`strongswan.conf`: init_limit_half_open)", "half-open IKE SAs above which none is added; `\"off\"`"},
		{"half_open_per_source", "`64`", "5", "-", "- (`strongswan.conf`: block_threshold)", "the same for one IPv4 address or IPv6 /64; peers may come back together from behind one NAT; `\"off\"`"},
		{"half_open_lifetime", "`\"30s\"`", "30 s", "-", "- (`strongswan.conf`: half_open_timeout)", "how long a peer has for authenticating itself"},
		{"resumption_key_file", "none", "none", "-", "-", "the key that seals session tickets (RFC 5723), and by which peers learn of a restart (RFC 6290), made if it is not there; without the file tickets are good until a restart, and peers take 3 s longer and a whole handshake to come back"},
		{"lease_file", "none", "in memory, or a database", "-", "-", "keeps which peer had which virtual address over a restart"},
		{"metrics", "none", "none", "-", "-", "the TCP address, such as `\"127.0.0.1:9115\"`, that answers Prometheus at `/metrics`, to whoever can reach it; see [deploy.md](deploy.md)"},
		{"page", "none", "none", "-", "-", "the loopback address, such as `\"127.0.0.1:9116\"`, of the status page, for every user of this machine: it only shows, and shows no key. Without it the page is there for the owner of the control socket, by `culvert page`; see [seeing.md](seeing.md)"},
	}},
	{"[pool.NAME]", []Setting{
		{"addresses", "wanted", "wanted", "`remote-access pool NAME prefix`, `range`", "`pools.NAME.addrs`", "a network, of which the first and in IPv4 the last address are not given, or `\"10.9.0.10-10.9.0.99\"`"},
		{"dns", "none", "none", "`name-server`", "`dns`", "name servers"},
		{"domains", "none", "none", "-", "`25`", "domains to ask them for (RFC 8598)"},
		{"subnets", "none", "none", "-", "`subnet`", "networks that the peer may reach"},
	}},
	{"[peer.NAME]", []Setting{
		{"preset", "none", "-", "-", "-", "the kind of peer: `aws`, `azure`, `gcp`, `macos`, `strongswan`, `vyos`; see below"},
		{"remote", "wanted", "%any", "`remote-address`", "`remote_addrs`", "address or host name to call, or `\"any\"` for a peer that calls"},
		{"local", "`\"any\"`", "%any", "`local-address`", "`local_addrs`", "the address to send from"},
		{"remote_ike_port", "`500`", "500", "-", "-", "the peer's UDP port for IKE"},
		{"remote_natt_port", "`4500`", "4500", "-", "-", "the peer's UDP port for IKE and ESP"},
		{"local_id", "wanted", "the address", "`authentication local-id`", "`local.id`", "who we are: an address, `\"@name\"`, `\"user@name\"`, `\"keyid:text\"`, `\"keyid:0x0102\"`"},
		{"remote_id", "wanted", "%any", "`authentication remote-id`", "`remote.id`", "who the peer has to be"},
		{"psk", "-", "-", "`authentication psk NAME secret`, `pre-shared-secret`", "`secrets.ike*.secret`", "the pre-shared key itself; a peer has this, or one of the next three"},
		{"psk_base64", "-", "-", "`secret-type base64`, `hex`", "`0s...`, `0x...`", "the key in base64, for one that is no text"},
		{"psk_file", "-", "-", "-", "-", "the file with the key, which only its owner may be able to read"},
		{"psk_env", "-", "-", "-", "-", "the environment variable with the key"},
		{"initiate", "`true` where `remote` is not `\"any\"`", "no", "`connection-type`", "`start_action`", "we bring the connection up, and up again"},
		{"ike", "AES-GCM, then AES-CBC with SHA-2, ChaCha20-Poly1305; x25519, ecp256, ecp384, ecp521, modp2048 to modp4096", "`default`", "`ike-group NAME proposal`", "`proposals`", "proposals, most wanted first"},
		{"ike_lifetime", "`\"4h\"`", "4 h", "`ike-group NAME lifetime` (8 h)", "`rekey_time`", "the age at which the IKE SA gets new keys; `\"off\"`"},
		{"dpd", "`\"30s\"`", "off", "`dead-peer-detection interval` (30 s)", "`dpd_delay`", "the silence after which the peer is asked whether it lives, ESP counting as life; `\"off\"`"},
		{"keepalive", "`\"20s\"`", "20 s", "-", "- (`strongswan.conf`: keep_alive)", "how often a side behind a NAT keeps its mapping (RFC 3948); `\"off\"`"},
		{"retransmit", "`\"1s\"`", "4 s", "-", "- (`strongswan.conf`: retransmit_timeout)", "the wait before a request is sent again, which doubles (strongSwan's: times 1.8)"},
		{"retransmit_max", "`\"4s\"`", "none", "-", "- (`strongswan.conf`: retransmit_limit)", "up to this: a way that is back is found soon"},
		{"retransmit_tries", "`21`", "6", "-", "- (`strongswan.conf`: retransmit_tries 5)", "how often a request is sent; 79 s in all (strongSwan's 165 s)"},
		{"initial_tries", "`9`", "6", "-", "-", "the same for the first of a connection; 31 s in all"},
		{"reconnect", "`\"1s\"`", "at once", "-", "- (keyingtries)", "the longest wait before a failed connection is tried again, which doubles; what is waited is any part of it, so that many peers do not return at once"},
		{"reconnect_max", "`\"1m\"`", "-", "-", "-", "up to this, for as long as the gateway runs"},
		{"duplicates", "`\"replace\"`", "no", "-", "`unique`", "what becomes of a connection when its peer makes another: see below"},
		{"fragmentation", "`true`", "yes", "-", "`fragmentation`", "IKE messages larger than `fragment_size` go in fragments (RFC 7383) where both sides take them; `\"force\"`, which strongSwan knows, is the same"},
		{"fragment_size", "`1280`", "1280", "-", "- (`strongswan.conf`)", "of an IP packet with a fragment, in bytes"},
		{"mobike", "`true`", "yes", "`ike-group NAME disable-mobike`", "`mobike`", "the connection may move to another address (RFC 4555)"},
		{"redirect", "`false`", "yes", "-", "- (`strongswan.conf`: follow_redirects)", "the peer may send us to another gateway (RFC 5685)"},
		{"resumption", "`true`", "not there", "-", "-", "tickets are asked for and given (RFC 5723)"},
		{"post_quantum", "`\"prefer\"`", "only as the proposals say", "-", "by `proposals`", "ML-KEM beside the classical group (RFC 9370) where the peer has it; `\"require\"`, `\"off\"`"},
		{"post_quantum_methods", "`[\"mlkem768\", \"mlkem1024\"]`", "none", "-", "`ke1_mlkem768` in `proposals`", "most wanted first, of `mlkem768`, `mlkem1024` and `mlkem512`. Proposals that name some, such as `x25519-ke1_mlkem768`, are taken as they are"},
		{"ppk_id", "none", "none", "`ppk id`", "`ppk_id`", "names a post-quantum pre-shared key (RFC 8784) to the peer"},
		{"ppk", "-", "-", "`authentication ppk NAME secret`", "`secrets.ppk*.secret`", "that key, of 32 bytes or more; this, or one of the next three"},
		{"ppk_base64", "-", "-", "`secret-type base64`, `hex`", "`0s...`, `0x...`", "the key in base64"},
		{"ppk_file", "-", "-", "-", "-", "the file with the key"},
		{"ppk_env", "-", "-", "-", "-", "the environment variable with the key"},
		{"ppk_required", "`false`", "no", "`ppk required`", "`ppk_required`", "there is no connection without it"},
		{"pools", "none", "none", "-", "`pools`", "where the peer's virtual addresses come from, one of each family that it asks for"},
		{"request_address", "none", "none", "`virtual-address`", "`vips`", "`[\"ipv4\", \"ipv6\"]`: ask the peer for addresses of these families"},
	}},
	{"[peer.NAME.tunnel.NAME]", []Setting{
		{"local", "wanted", "dynamic", "`tunnel N local prefix`", "`local_ts`", "networks on this side: `\"10.1.0.0/16\"`, `\"10.0.0.1-10.0.0.9\"`, with `[tcp/443]` behind it for less, or `\"dynamic\"`: the virtual address of that side, or where there is none its address outside"},
		{"remote", "wanted", "dynamic", "`tunnel N remote prefix`", "`remote_ts`", "networks on the other side"},
		{"esp", "AES-GCM, then AES-CBC with SHA-2, ChaCha20-Poly1305; with and without a new key exchange", "`default`", "`esp-group NAME proposal`, `pfs`", "`esp_proposals`", "proposals, most wanted first; a group in one is for perfect forward secrecy"},
		{"start", "`\"now\"` where the peer has `initiate`, else `\"peer\"`", "none", "`connection-type` initiate, trap, respond, none", "`start_action` start, trap, none", "what brings it up: see below"},
		{"lifetime", "`\"1h\"`", "1 h", "`esp-group NAME lifetime` (1 h)", "`rekey_time`", "the age at which it is replaced, less up to a tenth; it ends a tenth, at least a minute, after that; `\"off\"`"},
		{"lifetime_bytes", "none", "none", "`life-bytes`", "`rekey_bytes`", "replaced when it has carried so much in one direction"},
		{"lifetime_packets", "none", "none", "`life-packets`", "`rekey_packets`", "the same by packets"},
		{"single_pair", "`false`", "no", "-", "-", "one child SA for each pair of a local and a remote network: AWS and some others take no more. A peer that asks for several pairs in one is told SINGLE_PAIR_REQUIRED. Without it culvert still divides when the peer says so"},
	}},
}

// Markdown is the section's table.
func (s Section) Markdown() string {
	var b strings.Builder
	b.WriteString("| key | default | strongSwan | VyOS | swanctl.conf | |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, k := range s.Settings {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", k.Key, k.Default, k.StrongSwan, k.VyOS, k.Swanctl, k.Doc)
	}
	return b.String()
}
