package config

import (
	"net/netip"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// Config is a whole configuration, validated and frozen: nobody changes it.
type Config struct {
	// File is the name it was read by, Format the spelling.
	File    string
	Format  Format
	Gateway Gateway
	Peers   []Peer
	// Warnings are what there was to say about a configuration that can be
	// used, in the order of the file.
	Warnings []Diagnostic
}

// Format is a spelling of a configuration.
type Format string

// The spellings that Parse tells apart.
const (
	FormatTOML     Format = "toml"
	FormatVyOSTree Format = "vyos"
	FormatVyOSSet  Format = "vyos-set"
)

// Gateway is what concerns no single peer.
type Gateway struct {
	// Local is the address to listen on; the invalid address is any.
	Local netip.Addr
	// IKEPort and NATTPort are our UDP ports, 500 and 4500 unless set.
	IKEPort, NATTPort uint16
	// Device is the TUN device's name, "culvert0" unless set.
	Device string
	// MTU is that of the inner packets in bytes; 0 derives it from the path.
	MTU int
}

// Peer is one connection. The key is found by the pair of identities, never
// by an address alone (RFC 7296 section 2.15); no two peers have the same pair.
type Peer struct {
	Name string
	// Local is the address to send from; the invalid address is any.
	Local netip.Addr
	// Remote is the peer's address or host name; "" is any, and then we only
	// respond.
	Remote string
	// RemoteIKEPort and RemoteNATTPort are the peer's UDP ports, 500 and 4500
	// unless set.
	RemoteIKEPort, RemoteNATTPort uint16
	// LocalID is what we say we are, RemoteID what the peer has to say.
	LocalID, RemoteID ikev2.Identity
	PSK               Secret
	// Initiate says that we bring the connection up, and up again.
	Initiate bool
	// IKE are the proposals, most wanted first; nil means culvert's own.
	IKE []ikev2.Proposal
	// IKELifetime is the age at which the IKE SA is to be replaced.
	IKELifetime time.Duration
	// DPD is the silence after which the peer is asked whether it lives; 0 is
	// never.
	DPD time.Duration
	// Keepalive is the interval of keepalives behind a NAT; 0 is none.
	Keepalive time.Duration
	Tunnels   []Tunnel
	// Where says where the settings stand, by their native names: "remote_id",
	// "local_id", "psk", "remote", "local", "ike", "initiate", ...; "" is the
	// peer itself.
	Where Places
}

// Tunnel is one child SA's policy: traffic between Local and Remote.
type Tunnel struct {
	Name          string
	Local, Remote []wire.Selector
	// ESP are the proposals, most wanted first; nil means culvert's own.
	ESP []ikev2.Proposal
	// Lifetime is the age at which the child SA is to be replaced.
	Lifetime time.Duration
	// Where has "local", "remote" and "esp"; "" is the tunnel itself.
	Where Places
}

// Defaults of what a configuration leaves out.
const (
	DefaultIKEPort     = 500
	DefaultNATTPort    = 4500
	DefaultDevice      = "culvert0"
	DefaultIKELifetime = 4 * time.Hour
	DefaultLifetime    = time.Hour
	DefaultDPD         = 30 * time.Second
	DefaultKeepalive   = 20 * time.Second // RFC 3948 section 4
)

// Places says where settings stand, by their native names.
type Places map[string]Place

// Place is where a setting stands, or where it would have to be written.
type Place struct {
	// Pos is the value's position; that of the peer or tunnel when the
	// setting is not in the file.
	Pos
	// Key is the setting in this file's spelling: `remote_id`, `authentication
	// remote-id`, `set vpn ipsec site-to-site peer foo authentication
	// remote-id`.
	Key string
	// Given says that it is in the file.
	Given  bool
	format Format
}

// Setting is the line to write to give the setting that value, in this file's
// spelling.
func (p Place) Setting(value string) string {
	if p.format == FormatTOML {
		return p.Key + " = " + quoteTOML(value)
	}
	return p.Key + " " + quoteVyOS(value)
}

// Lookups are the two ways in which a configuration reaches outside itself.
// A nil function makes settings that need it errors.
type Lookups struct {
	// KeyFile reads a file of psk_file; the name is as written.
	KeyFile func(name string) ([]byte, error)
	// Env is os.LookupEnv.
	Env func(name string) (string, bool)
}
