package diagnose

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files of testdata anew")

// facts is any of the situations.
type facts interface{ Report() Report }

func at(line int, key string) Setting { return Setting{File: "a.toml", Line: line, Key: key} }

func vyos(line int, key string) Setting {
	return Setting{File: "/config/config.boot", Line: line, Key: key, Style: VyOS}
}

var (
	natted = Peer{netip.MustParseAddrPort("192.0.2.10:4500"), NAT{Known: true, Remote: true}}
	direct = Peer{netip.MustParseAddrPort("192.0.2.10:500"), NAT{Known: true}}
	gateA  = Peer{netip.MustParseAddrPort("203.0.113.1:4500"), NAT{Known: true, Local: true}}

	idFoo     = Identity{TypeFQDN, "@foo"}
	idA       = Identity{TypeIPv4, "203.0.113.1"}
	idPrivate = Identity{TypeIPv4, "172.16.0.1"}

	// foo is side A's connection, bar another of its, toA side B's.
	foo = Connection{Name: "foo", LocalID: idA, RemoteID: idFoo,
		LocalIDAt: at(9, "local_id"), RemoteIDAt: at(10, "remote_id"), KeyAt: at(11, "psk")}
	bar = Connection{Name: "bar", Remote: "198.51.100.7", LocalID: idA, RemoteID: Identity{TypeIPv4, "198.51.100.7"},
		LocalIDAt: at(29, "local_id"), RemoteIDAt: at(30, "remote_id"), KeyAt: at(31, "psk")}
	toA = Connection{Name: "A", Remote: "203.0.113.1", LocalID: idFoo, RemoteID: idA,
		LocalIDAt: vyos(14, "authentication id"), RemoteIDAt: vyos(17, "authentication remote-id"), KeyAt: vyos(16, "authentication pre-shared-secret"),
		RemoteAt: vyos(12, "peer")}
)

func with(c Connection, change func(*Connection)) Connection {
	change(&c)
	return c
}

func unknown(presented Identity, cs ...Connection) UnknownIdentity {
	return UnknownIdentity{Peer: natted, Presented: presented, Connections: cs}
}

func selectors(prefixes ...string) (ss []Selector) {
	for _, text := range prefixes {
		p := netip.MustParsePrefix(text)
		end := p.Addr().AsSlice()
		for bit := p.Bits(); bit < len(end)*8; bit++ {
			end[bit/8] |= 0x80 >> (bit % 8)
		}
		last, _ := netip.AddrFromSlice(end)
		ss = append(ss, Selector{p.Addr(), last, text})
	}
	return ss
}

func proposal(words ...string) (p Proposal) {
	for _, w := range words {
		f := strings.Split(w, " ")
		t := Transform{Type: map[string]string{"E": "encryption", "P": "PRF", "I": "integrity", "G": "key exchange", "N": "sequence numbers"}[f[0]], Name: f[1]}
		if len(f) > 2 {
			t.Written = f[2]
		}
		p = append(p, t)
	}
	return p
}

var ourIKE = []Proposal{
	proposal("E AES_GCM_16_128 aes128gcm16", "E AES_GCM_16_256 aes256gcm16", "P PRF_HMAC_SHA2_256 prfsha256", "G CURVE_25519 x25519", "G ECP_256 ecp256"),
	proposal("E AES_CBC_256 aes256", "I HMAC_SHA2_256_128 sha256", "P PRF_HMAC_SHA2_256 prfsha256", "G CURVE_25519 x25519"),
}

var flow = OneWay{Peer: natted, Connection: foo, Tunnel: "lan", Out: true, Never: true, Packets: 41, For: 30 * time.Second,
	Local: selectors("10.103.0.0/24"), Remote: selectors("10.104.0.0/24")}

func flowing(change func(*OneWay)) OneWay {
	f := flow
	change(&f)
	return f
}

// cases by the name of their golden file. They are what the documentation may quote.
var cases = map[string]facts{
	// The responder, and the initiator's identity.
	"identity-private-address": unknown(idPrivate, foo),
	"identity-private-address-several": unknown(idPrivate, bar, foo, with(bar, func(c *Connection) {
		c.Name, c.RemoteID = "branch", Identity{TypeKeyID, "keyid:branch-7"}
	})),
	"identity-private-address-by-remote": unknown(idPrivate, bar, with(foo, func(c *Connection) {
		c.Name, c.Remote, c.RemoteID = "office", "192.0.2.10", Identity{TypeIPv4, "192.0.2.10"}
	})),
	"identity-private-address-vyos":    unknown(idPrivate, with(foo, func(c *Connection) { c.RemoteIDAt = vyos(21, "authentication remote-id") })),
	"identity-private-address-no-natd": UnknownIdentity{Peer: Peer{Addr: natted.Addr}, Presented: idPrivate, Connections: []Connection{foo}},
	"identity-address-for-name":        UnknownIdentity{Peer: direct, Presented: Identity{TypeIPv4, "192.0.2.10"}, Connections: []Connection{foo}},
	"identity-name-for-address":        UnknownIdentity{Peer: direct, Presented: idFoo, Connections: []Connection{bar}},
	"identity-type-key-id":             unknown(Identity{TypeKeyID, "keyid:foo"}, bar, foo),
	"identity-type-address-as-name":    unknown(Identity{TypeFQDN, "@198.51.100.7"}, foo, bar),
	"identity-at-doubled":              unknown(Identity{TypeFQDN, "@@foo"}, bar, foo),
	"identity-at-user-fqdn":            unknown(Identity{TypeUserFQDN, "@foo"}, bar, foo),
	"identity-at-in-front": unknown(Identity{TypeFQDN, "@a@foo.example"}, bar, with(foo, func(c *Connection) {
		c.RemoteID = Identity{TypeUserFQDN, "a@foo.example"}
	})),
	"identity-at-missing": unknown(Identity{TypeKeyID, "keyid:foo"}, with(foo, func(c *Connection) {
		c.RemoteID = Identity{TypeKeyID, "keyid:@foo"}
	})),
	"identity-case":                       unknown(Identity{TypeFQDN, "@Foo"}, bar, foo),
	"identity-other-name":                 unknown(Identity{TypeFQDN, "@fob"}, foo),
	"identity-several":                    unknown(Identity{TypeFQDN, "@fob"}, foo, bar),
	"identity-empty-name":                 unknown(Identity{TypeFQDN, "@"}),
	"identity-no-connections":             unknown(idFoo),
	"identity-private-address-no-telling": unknown(idPrivate, foo, with(foo, func(c *Connection) { c.Name, c.RemoteID.Text = "fob", "@fob" })),
	"identity-dn":                         unknown(Identity{"ID_DER_ASN1_DN", "ID_DER_ASN1_DN:0x300d310b"}, foo),
	"identity-line-missing":               unknown(idPrivate, with(foo, func(c *Connection) { c.RemoteIDAt.Line = 0 })),
	"identity-place-unknown":              unknown(idPrivate, with(foo, func(c *Connection) { c.RemoteIDAt = Setting{} })),
	"identity-hostile":                    unknown(Identity{TypeKeyID, "keyid:\x1b[2Jx\r\nERROR root: \u202e" + strings.Repeat("A", 2000)}, foo),
	"identity-double-nat":                 UnknownIdentity{Peer: Peer{natted.Addr, NAT{true, true, true}}, Presented: idPrivate, Connections: []Connection{foo}},
	"identity-not-ours":                   UnknownIdentity{Peer: natted, Presented: idFoo, Wanted: Identity{TypeFQDN, "@hq"}, Connections: []Connection{bar, foo}},
	"identity-not-ours-public":            notOursPublic,

	// The initiator, and the responder's identity.
	"responder-private-address": WrongResponder{Peer: Peer{gateA.Addr, NAT{true, false, true}}, Presented: Identity{TypeIPv4, "10.0.0.5"}, Connection: toA},
	"responder-name":            WrongResponder{Peer: gateA, Presented: Identity{TypeFQDN, "@hq"}, Connection: toA},
	"responder-case": WrongResponder{Peer: gateA, Presented: Identity{TypeFQDN, "@HQ"}, Connection: with(toA, func(c *Connection) {
		c.RemoteID = Identity{TypeFQDN, "@hq"}
	})},

	// Keys, and what an initiator is told.
	"wrong-key":          WrongKey{Peer: natted, Connection: foo},
	"wrong-key-vyos":     WrongKey{Peer: gateA, Connection: toA},
	"wrong-key-no-place": WrongKey{Peer: natted, Connection: with(foo, func(c *Connection) { c.KeyAt = Setting{} })},
	"refused":            RefusedByPeer{Peer: gateA, Connection: toA},
	"refused-no-nat":     RefusedByPeer{Peer: direct, Connection: with(bar, func(c *Connection) { c.KeyAt = Setting{} })},
	"refused-private":    RefusedByPeer{Peer: gateA, Connection: with(toA, func(c *Connection) { c.LocalID, c.LocalIDAt.Line = idPrivate, 0 })},
	"refused-private-swanctl": RefusedByPeer{Peer: gateA, Connection: with(toA, func(c *Connection) {
		c.LocalID, c.LocalIDAt = idPrivate, Setting{File: "swanctl.conf", Line: 8, Key: "connections.A.local.id", Style: Swanctl}
	})},
	"selectors-swanctl": NoSelectors{Peer: direct, Connection: toA, Local: selectors("10.104.0.0/24"), Remote: selectors("10.103.0.0/24"),
		LocalAt:   Setting{File: "swanctl.conf", Line: 16, Key: "connections.A.children.lan.local_ts", Style: Swanctl},
		RemoteAt:  Setting{File: "swanctl.conf", Key: "connections.A.children.lan.remote_ts", Style: Swanctl},
		PeerLocal: selectors("10.99.0.0/24", "10.98.0.0/24"), PeerRemote: selectors("10.97.0.0/24")},
	"refused-private-no-nat": RefusedByPeer{Peer: direct, Connection: with(toA, func(c *Connection) { c.LocalID = idPrivate })},

	"refused-for-now": RefusedOtherwise{Peer: gateA, Connection: toA, Notify: "TEMPORARY_FAILURE"},
	"refused-tunnel":  RefusedOtherwise{Peer: direct, Connection: bar, Tunnel: "vpc", Notify: "NO_ADDITIONAL_SAS"},
	"refused-unknown": RefusedOtherwise{Peer: gateA, Connection: toA, Notify: "INVALID_SYNTAX"},

	// Algorithms.
	"proposal-group": NoProposal{Peer: direct, For: "IKE", Ours: ourIKE, At: at(5, "ike"), Theirs: []Proposal{
		proposal("E AES_CBC_256 aes256", "I HMAC_SHA2_256_128 sha256", "P PRF_HMAC_SHA2_256 prfsha256", "G MODP_2048 modp2048"),
	}},
	"proposal-azure": NoProposal{Peer: direct, Connection: bar, For: "IKE", Ours: ourIKE, At: at(5, "ike"), Theirs: []Proposal{
		proposal("E AES_CBC_256 aes256", "I HMAC_SHA1_96", "P PRF_HMAC_SHA1", "G MODP_1024"),
		proposal("E AES_CBC_256 aes256", "I HMAC_SHA2_256_128 sha256", "P PRF_HMAC_SHA2_256 prfsha256", "G MODP_1024"),
	}},
	"proposal-esp": NoProposal{Peer: natted, Connection: foo, For: "ESP",
		Ours:   []Proposal{proposal("E AES_GCM_16_256 aes256gcm16", "N ESN esn", "N NO_ESN noesn")},
		Theirs: []Proposal{proposal("E AES_CBC_128 aes128", "I HMAC_SHA2_256_128 sha256", "N NO_ESN noesn")}},
	"post-quantum":         NoPostQuantum{Peer: natted, Connection: foo, At: at(12, "post_quantum")},
	"post-quantum-guess":   NoPostQuantum{Peer: direct, Connection: foo, Guess: true, At: at(0, "post_quantum")},
	"post-quantum-unknown": NoPostQuantum{Peer: natted},
	"ppk-required":         NoPPK{Peer: natted, Connection: foo, Required: true, ID: "branch", At: at(13, "ppk_id")},
	"ppk-other":            NoPPK{Peer: natted, Connection: foo, Required: true, Named: "trunk\n", ID: "branch", At: at(13, "ppk_id")},
	"ppk-none":             NoPPK{Peer: natted, Connection: foo, Named: "trunk"},

	"proposal-refused": NoProposal{At: at(5, "ike"), Peer: natted, Connection: foo, For: "ESP", Ours: ourIKE},
	"proposal-many": NoProposal{Peer: natted, For: "IKE", Ours: ourIKE, Theirs: slices.Repeat([]Proposal{
		slices.Repeat(proposal("E \x00\n3DES", "G weird"), 64)}, 16)},

	// Traffic.
	"same-networks": SameNetworks{Peer: natted, Connection: foo, Tunnel: "lan", Remote: selectors("10.104.0.0/24"), RemoteAt: at(20, "remote"),
		Rival: bar, RivalTunnel: "lan", RivalRemote: selectors("10.104.0.0/24"), RivalRemoteAt: at(40, "remote")},
	"same-networks-part": SameNetworks{Peer: natted, Connection: foo, Tunnel: "lan", Remote: selectors("10.104.0.0/24"),
		Rival: bar, RivalTunnel: "labs", RivalRemote: selectors("10.104.0.0/24", "10.105.0.0/24")},
	"duplicate":         Duplicate{Peer: natted, Connection: foo, PolicyAt: at(12, "duplicates"), Policy: "duplicates = \"never\""},
	"address-none-left": NoAddressLeft{Peer: natted, Connection: foo, Pools: []string{"four", "six"}, PoolsAt: []Setting{at(40, "addresses"), at(44, "addresses")}},
	"address-not-asked": AddressNotAsked{Peer: natted, Connection: foo, Tunnel: "lan", RemoteAt: at(21, "remote")},
	"address-none":      NoAddress{Peer: gateA, Connection: toA, RequestAt: at(7, "request_address")},
	"address-failure":   NoAddress{Peer: gateA, Connection: toA, Notify: "INTERNAL_ADDRESS_FAILURE", RequestAt: at(7, "request_address")},
	"address-required":  AddressRequired{Peer: gateA, Connection: toA, LocalAt: at(20, "local"), RequestAt: Setting{File: "a.toml", Key: "request_address"}},

	"selectors-remote": NoSelectors{Peer: natted, Connection: foo, LocalAt: at(20, "local"), RemoteAt: at(21, "remote"),
		Local: selectors("10.103.0.0/24"), Remote: selectors("10.104.0.0/24"),
		PeerLocal: selectors("10.105.0.0/24", "2001:db8::/64"), PeerRemote: selectors("10.103.0.0/24")},
	"selectors-both-vyos": NoSelectors{Peer: natted, Connection: toA, Tunnel: "1", LocalAt: vyos(30, "tunnel 1 local prefix"), RemoteAt: vyos(31, "tunnel 1 remote prefix"),
		Local: selectors("10.104.0.0/24"), Remote: selectors("10.103.0.0/24"),
		PeerLocal: selectors("192.168.1.0/24", "192.168.2.0/24"), PeerRemote: selectors("192.168.3.0/24")},
	"selectors-swapped": NoSelectors{Peer: natted, Connection: foo, LocalAt: at(20, "local"), RemoteAt: at(21, "remote"),
		Local: selectors("10.103.0.0/24"), Remote: selectors("10.104.0.0/24"),
		PeerLocal: selectors("10.103.0.0/24"), PeerRemote: selectors("10.104.0.0/24")},
	"selectors-ports": NoSelectors{Peer: natted, Connection: foo,
		Local: selectors("10.103.0.0/24"), Remote: []Selector{{netip.MustParseAddr("10.104.0.0"), netip.MustParseAddr("10.104.0.255"), "10.104.0.0/24 tcp/443"}},
		PeerLocal: []Selector{{netip.MustParseAddr("10.104.0.0"), netip.MustParseAddr("10.104.0.255"), "10.104.0.0/24 udp/53"}}, PeerRemote: selectors("10.103.0.0/24")},
	"selectors-refused": NoSelectors{Peer: gateA, Connection: toA, LocalAt: vyos(30, "tunnel 1 local prefix"), RemoteAt: vyos(31, "tunnel 1 remote prefix"),
		Local: selectors("10.104.0.0/24"), Remote: selectors("10.103.0.0/24")},
	"selectors-many": NoSelectors{Peer: natted, Connection: foo, LocalAt: at(20, "local"), RemoteAt: at(21, "remote"),
		Local: selectors("10.103.0.0/24"), Remote: selectors("10.104.0.0/24"),
		PeerLocal: slices.Repeat(selectors("10.0.0.0/30"), 255), PeerRemote: selectors("10.103.0.0/24")},

	// Silence.
	"no-answer": NoAnswer{Connection: toA, From: netip.MustParseAddrPort("172.16.0.1:500"), To: netip.MustParseAddrPort("203.0.113.1:500"),
		Exchange: "IKE_SA_INIT", Tries: 5, For: 31 * time.Second},
	"no-answer-refused": NoAnswer{Connection: with(toA, func(c *Connection) { c.Remote = "gw.example.net" }), From: netip.MustParseAddrPort("[::]:500"),
		To: netip.MustParseAddrPort("203.0.113.1:500"), Exchange: "IKE_SA_INIT", Tries: 1, Error: "connection refused"},
	"no-answer-natt": NoAnswer{Connection: toA, From: netip.MustParseAddrPort("172.16.0.1:4500"), To: netip.MustParseAddrPort("203.0.113.1:4500"),
		Exchange: "IKE_AUTH", Tries: 8, For: 80 * time.Second, Answered: true},
	"no-answer-both-nat": NoAnswer{Connection: toA, From: netip.MustParseAddrPort("172.16.0.1:4500"), To: netip.MustParseAddrPort("203.0.113.1:4500"),
		Exchange: "IKE_AUTH", Tries: 8, For: 80 * time.Second, Answered: true, NAT: NAT{true, true, true}},
	"no-address": NoAnswer{Connection: with(toA, func(c *Connection) { c.Remote = "gw.example.net" }),
		ResolveError: "lookup gw.example.net: no such host"},
	"unfinished": Unfinished{Peer: Peer{netip.MustParseAddrPort("192.0.2.10:500"), NAT{Known: true, Remote: true}}, Port: 4500},
	"no-path":    NoPath{Connection: toA, To: netip.MustParseAddr("203.0.113.1"), Error: "network is unreachable"},

	// What becomes of a tunnel that was up.
	"pfs": NoProposal{Peer: natted, Connection: foo, For: "ESP", At: at(14, "esp"),
		Ours: []Proposal{proposal("E AES_GCM_16_256 aes256gcm16", "N ESN esn")}, Theirs: []Proposal{proposal("E AES_GCM_16_256 aes256gcm16", "G ECP_384 ecp384", "N ESN esn")}},
	"pfs-refused":           NoProposal{Peer: natted, Connection: foo, For: "ESP", At: at(14, "esp"), Renewal: true, Ours: []Proposal{proposal("E AES_GCM_16_256 aes256gcm16", "G ECP_384 ecp384", "N ESN esn")}},
	"pfs-wanted":            NoProposal{Peer: natted, Connection: foo, For: "ESP", At: at(14, "esp"), Renewal: true, Ours: []Proposal{proposal("E AES_GCM_16_256 aes256gcm16", "N ESN esn")}},
	"mtu-black-hole":        BlackHole{Peer: natted, Connection: foo, Size: 1420, Most: 1500, Inner: 1358, MTUAt: Setting{File: "a.toml", Key: "mtu"}},
	"mtu-black-hole-as-set": BlackHole{Peer: direct, Connection: toA, Size: 1492, Most: 1500, Inner: 1430, MTUAt: at(3, "mtu")},
	"mtu-black-hole-vyos":   BlackHole{Peer: natted, Connection: foo, Size: 1420, Most: 1500, Inner: 1358},
	"narrowed": Narrowed{Peer: natted, Connection: foo, Tunnel: "lan", Local: selectors("10.103.0.0/24"), Remote: selectors("10.104.0.0/24", "10.105.0.0/24"),
		GotLocal: selectors("10.103.0.0/24"), GotRemote: selectors("10.104.0.0/24"), LeftRemote: selectors("10.105.0.0/24"), LocalAt: at(20, "local"), RemoteAt: at(21, "remote")},
	"narrowed-by-request": Narrowed{Peer: natted, Connection: foo, Tunnel: "lan", Local: selectors("10.103.0.0/24"), Remote: selectors("10.104.0.0/16"),
		GotLocal: selectors("10.103.0.0/25"), GotRemote: selectors("10.104.1.0/24"), LeftLocal: selectors("10.103.0.128/25"), LeftRemote: selectors("10.104.0.0/24", "10.104.2.0/23"),
		AskedLocal: selectors("10.103.0.0/25", "10.99.0.0/24"), AskedRemote: selectors("10.104.1.0/24"), LocalAt: at(20, "local"), RemoteAt: at(21, "remote")},
	"shared-network":      SharedNetwork{Connection: foo, Tunnel: "lan", Remote: selectors("192.168.1.0/24")[0], Network: "192.168.1.0/24", Interface: "eth1", RemoteAt: at(21, "remote")},
	"single-pair":         SinglePair{Peer: direct, Connection: bar, Tunnel: "vpc", SingleAt: at(33, "single_pair")},
	"single-pair-theirs":  SinglePair{Peer: direct, Connection: bar, Tunnel: "vpc", Theirs: true, SingleAt: at(33, "single_pair")},
	"expired":             Ended{Peer: natted, Connection: foo, Tunnel: "lan", LifetimeAt: at(15, "lifetime")},
	"expired-volume":      Ended{Peer: natted, Connection: foo, Tunnel: "lan", LifetimeAt: at(15, "lifetime"), VolumeAt: at(16, "lifetime_packets")},
	"deleted-by-peer":     Ended{Peer: natted, Connection: foo, Deleted: true},
	"dead":                Ended{Peer: natted, Connection: foo, Dead: true, LivenessAt: at(12, "dpd")},
	"rekey-storm":         RekeyStorm{Peer: natted, Connection: foo, Rekeys: 20, During: time.Minute, LifetimeAt: at(15, "lifetime")},
	"flapping":            Flapping{Peer: natted, Connection: foo, Times: 5, During: 10 * time.Minute, Addresses: []string{"192.0.2.10"}},
	"same-identity-twice": Flapping{Peer: natted, Connection: foo, Times: 9, During: 10 * time.Minute, Addresses: []string{"192.0.2.10", "198.51.100.7"}},
	"esp-one-way":         flow,
	"esp-one-way-stopped": flowing(func(f *OneWay) { f.Never = false }),
	"esp-dropped":         flowing(func(f *OneWay) { f.Dropped = []string{"authentication_failed 40", "unknown_spi 2"} }),
	"nothing-sent":        flowing(func(f *OneWay) { f.Out = false }),

	// The machine's clock.
	"slept":         Slept{For: 63 * time.Minute},
	"clock-forward": ClockSet{By: 3 * time.Hour},
	"clock-back":    ClockSet{By: -3 * time.Hour},

	// The gateway itself.
	"no-tun":        NoStart{Why: NoDeviceFile, Device: "culvert0", Error: "no such file or directory"},
	"no-capability": NoStart{Why: NoRight, Device: "culvert0", Error: "operation not permitted"},
	"port-taken":    NoStart{Why: PortTaken, Port: 500, At: at(2, "ike_port"), Error: "address already in use"},
	"port-denied":   NoStart{Why: PortDenied, Port: 500, Error: "permission denied"},
	"no-such-local": NoStart{Why: NotOurs, Port: 500, Addr: "192.0.2.10", At: at(2, "local"), Error: "cannot assign requested address"},

	// Counters.
	"dropped-no-tunnel":      Dropped{Counter: "no_outbound_sa", Count: 12, During: time.Minute},
	"dropped-tunnel-down":    Dropped{Counter: "no_outbound_sa", Count: 12, During: time.Minute, Down: []string{"office"}},
	"dropped-selectors":      Dropped{Counter: "selector_violation", Count: 300, During: time.Minute, Connection: foo},
	"dropped-too-big":        Dropped{Counter: "too_big", Count: 9, During: time.Minute, Connection: foo},
	"dropped-path-mtu":       Dropped{Counter: "udp4500_send_too_big", Count: 9, During: time.Minute},
	"dropped-authentication": Dropped{Counter: "authentication_failed", Count: 50, During: time.Minute, Connection: foo},
	"dropped-firewall":       Dropped{Counter: "udp500_send_denied", Count: 3, During: time.Minute},
	"dropped-unknown":        Dropped{Counter: "a_new_one", Count: 3},
}

var notOursPublic = UnknownIdentity{Peer: Peer{natted.Addr, NAT{true, true, false}}, Presented: idFoo, Wanted: idA,
	Connections: []Connection{with(foo, func(c *Connection) { c.LocalID = Identity{TypeIPv4, "10.0.0.5"} })}}

func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if cases[strings.TrimSuffix(filepath.Base(f), ".txt")] == nil {
			t.Errorf("%s belongs to no case", f)
		}
	}
	for name, f := range cases {
		r := f.Report()
		got := fmt.Sprintf("%s\n%s\n%s\n", r.Code, r.Summary, r.Detail)
		file := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is\n%s\nnot\n%s", name, got, want)
		}
	}
}

// FuzzTextFromTheWire puts hostile text into every field that a peer fills, and holds the reports to printable lines of bounded length.
func FuzzTextFromTheWire(f *testing.F) {
	f.Add("FQDN", "@foo", "10.0.0.0/8")
	f.Add("IPv4 address", "172.16.0.1", "")
	f.Add("key ID", "keyid:\x00\x1b[31m\r\n", strings.Repeat("\u2028", 5000))
	f.Add("FQDN", "@@foo\xff\xfe", "`rm -rf`\u202e")
	f.Add("user@FQDN", "@", "\"")
	f.Add("", "", "")
	f.Add("ID_99\n", strings.Repeat("\n", 100000), "x")
	f.Fuzz(func(t *testing.T, typ, text, other string) {
		id := Identity{typ, text}
		theirs := slices.Repeat([]Proposal{slices.Repeat(Proposal{{Type: other, Name: text, Written: ""}, {Type: "b", Name: other}}, 64)}, 16)
		ts := slices.Repeat([]Selector{{Text: text}, {Text: other}}, 128)
		for _, f := range []facts{
			unknown(id, foo, bar), unknown(id, foo), unknown(id),
			UnknownIdentity{Peer: natted, Presented: idFoo, Wanted: id, Connections: []Connection{foo}},
			WrongResponder{Peer: gateA, Presented: id, Connection: toA},
			NoProposal{Peer: natted, For: "IKE", Ours: ourIKE, Theirs: theirs},
			NoSelectors{Peer: natted, Connection: foo, LocalAt: at(1, "local"), RemoteAt: at(2, "remote"), Local: selectors("10.103.0.0/24"),
				Remote: selectors("10.104.0.0/24"), PeerLocal: ts, PeerRemote: ts[:1]},
			NoAnswer{Connection: toA, ResolveError: text}, NoAnswer{Connection: toA, Error: text, Exchange: other},
			Flapping{Connection: with(foo, func(c *Connection) { c.RemoteID = id }), Addresses: []string{text, other}},
			OneWay{Connection: foo, Out: true, Local: ts, Remote: ts},
			Narrowed{Connection: foo, Tunnel: text, Local: ts, Remote: ts, GotLocal: ts, GotRemote: ts, LeftLocal: ts, LeftRemote: ts, AskedLocal: ts, AskedRemote: ts},
		} {
			check(t, f.Report())
		}
	})
}

func check(t *testing.T, r Report) {
	t.Helper()
	notPrintable := func(c rune) bool { return c < ' ' || c > '~' }
	if strings.ContainsFunc(r.Code+r.Summary+r.Detail, notPrintable) {
		t.Errorf("not printable: %q", r)
	}
	if len(r.Summary) > 400 || len(r.Detail) > 5000 {
		t.Errorf("%s: a summary of %d bytes, a detail of %d", r.Code, len(r.Summary), len(r.Detail))
	}
	if r.Summary == "" || !strings.EqualFold(r.Detail[:len(r.Summary)], r.Summary) || !strings.HasSuffix(r.Detail, ".") {
		t.Errorf("%s: the detail does not begin with the summary, or has no end: %q", r.Code, r)
	}
}

func TestReportsAreLines(t *testing.T) {
	for _, f := range cases {
		check(t, f.Report())
	}
	for _, f := range []facts{UnknownIdentity{}, WrongResponder{}, WrongKey{}, RefusedByPeer{}, NoProposal{}, NoPostQuantum{}, NoPPK{}, NoSelectors{}, SameNetworks{}, Duplicate{}, NoAddressLeft{}, AddressNotAsked{}, NoAddress{}, AddressRequired{}, NoAnswer{},
		SinglePair{}, RefusedOtherwise{}, NoPath{}, Unfinished{}, Ended{}, Ended{Deleted: true}, RekeyStorm{}, Flapping{}, OneWay{}, Dropped{}, BlackHole{}, Narrowed{}, SharedNetwork{}, NoStart{}, Slept{}, ClockSet{}} {
		check(t, f.Report()) // facts that are missing make a poor report, and no panic
	}
}

// What a report says to write must be what the peer presented, and nothing that a configuration would read otherwise.
func TestOnlyExactValuesAreProposed(t *testing.T) {
	for _, c := range []struct {
		id   Identity
		want bool
	}{
		{idPrivate, true}, {idFoo, true}, {Identity{TypeIPv6, "2001:db8::1"}, true},
		{Identity{TypeUserFQDN, "a@foo"}, true}, {Identity{TypeKeyID, "keyid:0x00ff"}, true},
		{Identity{TypeFQDN, "@@foo"}, false}, {Identity{TypeFQDN, "@a@foo"}, false}, {Identity{TypeFQDN, "foo"}, false},
		{Identity{TypeUserFQDN, "foo"}, false}, {Identity{TypeUserFQDN, "@foo"}, false},
		{Identity{TypeIPv4, "not an address"}, false}, {Identity{"ID_DER_ASN1_DN", "CN=foo"}, false},
		{Identity{TypeKeyID, "keyid:" + strings.Repeat("a", 200)}, false}, {Identity{TypeFQDN, "@b\u00fccher"}, false},
	} {
		connection := with(foo, func(c *Connection) { c.RemoteID.Text = "@other" })
		proposed := strings.Contains(unknown(c.id, connection).Report().Detail, "or here, change line 10 of a.toml to `remote_id = ")
		if proposed != c.want {
			t.Errorf("%v: proposed %v", c.id, proposed)
		}
	}
}
