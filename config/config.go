package config

import (
	"net/netip"
	"path/filepath"
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
	// Pools are what peers get virtual addresses from.
	Pools []Pool
	Peers []Peer
	// Warnings are what there was to say about a configuration that can be
	// used, in the order of the file.
	Warnings []Diagnostic
}

// Path is where a file is that the configuration names: relative to its folder.
func (c *Config) Path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(c.File), name)
}

// Format is a spelling of a configuration.
type Format string

// The spellings that Parse tells apart.
const (
	FormatTOML     Format = "toml"
	FormatVyOSTree Format = "vyos"
	FormatVyOSSet  Format = "vyos-set"
	FormatSwanctl  Format = "swanctl"
)

// Gateway is what concerns no single peer.
type Gateway struct {
	// Local is the address to listen on; the invalid address is any.
	Local netip.Addr
	// IKEPort and NATTPort are our UDP ports, 500 and 4500 unless set.
	IKEPort, NATTPort uint16
	// Device is the TUN device's name, "culvert0" unless set.
	Device string
	// DevicePrepared: the device is there, and somebody else sees to its MTU,
	// addresses and routes, so that culvert needs no rights.
	DevicePrepared bool
	// Lanes is how many cores carry packets, 1 to MaxLanes. More than one need
	// Linux.
	Lanes int
	// MTU is that of the inner packets in bytes; 0 derives it from the path.
	MTU int
	// CookieThreshold is the half-open IKE SA, counted with the one that is asked
	// for, from which on a peer has to return a cookie first (RFC 7296 section
	// 2.6); HalfOpenLimit and HalfOpenPerSource, of all and of one IPv4 address or
	// IPv6 /64, are the numbers above which none is added. 0 is off.
	CookieThreshold, HalfOpenLimit, HalfOpenPerSource int
	// HalfOpenLifetime is how long a peer has for authenticating itself.
	HalfOpenLifetime time.Duration
	// ResumptionKeyFile holds the key that seals our tickets (RFC 5723), or will;
	// "" is none: tickets are good until a restart. Config.Path finds it.
	ResumptionKeyFile string
	// LeaseFile keeps, from one run to the next, which peer had which address of
	// the pools; "" is none. Config.Path finds it.
	LeaseFile string
	// Metrics is the TCP address that answers Prometheus; the zero value: none.
	Metrics netip.AddrPort
	// Page is the loopback address of the status page for every user; the zero value: none.
	Page netip.AddrPort
	// Where has the settings by their native names; "" is nothing.
	Where Places
}

// cookiesAlways is the CookieThreshold that every peer meets: the SA that it asks
// for counts.
const cookiesAlways = 1

// Pool is a range of virtual addresses for peers (RFC 7296 section 2.19).
type Pool struct {
	ikev2.Pool
	// Where has "addresses", "dns", "domains", "subnets"; "" is the pool itself.
	Where Places
}

// Peer is one connection. The key is found by the pair of identities, never
// by an address alone (RFC 7296 section 2.15); no two peers have the same pair.
type Peer struct {
	Name string
	// Preset is the kind of peer whose settings it starts with, "" for none;
	// what it set stands in the other fields.
	Preset string
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
	// IKELifetime is the age at which the IKE SA is to be replaced; 0 is never.
	IKELifetime time.Duration
	// DPD is the silence after which the peer is asked whether it lives; 0 is
	// never.
	DPD time.Duration
	// Keepalive is the interval of keepalives behind a NAT; 0 is none.
	Keepalive time.Duration
	// Retransmit is the wait before a request is sent again; it doubles up to
	// RetransmitMax. RetransmitTries is how often one is sent at most,
	// InitialTries the same for the first of an IKE SA.
	Retransmit, RetransmitMax     time.Duration
	RetransmitTries, InitialTries int
	// Reconnect is the wait before a failed connection is tried again; it
	// doubles up to ReconnectMax.
	Reconnect, ReconnectMax time.Duration
	// Duplicates says what becomes of a connection when its peer makes another.
	Duplicates ikev2.DuplicatePolicy
	// Fragmentation is that of IKE messages (RFC 7383).
	Fragmentation ikev2.Fragmentation
	// MOBIKE says whether the connection may move (RFC 4555), Redirect whether
	// the peer may send us elsewhere (RFC 5685), Resumption whether tickets are
	// asked for and given (RFC 5723): on is ModePrefer, off ModeOff.
	MOBIKE, Redirect, Resumption ikev2.Mode
	// PostQuantum is the policy for ML-KEM beside the classical group.
	PostQuantum ikev2.PostQuantum
	PPK         PPK
	// Address is what virtual addresses the peer gets, and we ask of it.
	Address ikev2.AddressPolicy
	Tunnels []Tunnel
	// Where says where the settings stand, by their native names: "remote_id",
	// "local_id", "psk", "remote", "local", "ike", "initiate", ...; "" is the
	// peer itself.
	Where Places
}

// PPK is a post-quantum pre-shared key (RFC 8784). The zero value is none.
type PPK struct {
	// ID names the key to the peer.
	ID     string
	Secret Secret
	// Required: there is no connection without it.
	Required bool
}

// Tunnel is one child SA's policy: traffic between Local and Remote.
type Tunnel struct {
	Name          string
	Local, Remote []wire.Selector
	// LocalDynamic and RemoteDynamic stand for the virtual address of that side,
	// beside the selectors.
	LocalDynamic, RemoteDynamic bool
	// ESP are the proposals, most wanted first; nil means culvert's own.
	ESP []ikev2.Proposal
	// Lifetime is the age at which the child SA is to be replaced; 0 is never.
	// LifetimeBytes and LifetimePackets do the same by what it carried in one
	// direction; 0 is no such limit.
	Lifetime                       time.Duration
	LifetimeBytes, LifetimePackets uint64
	// Start says what brings the child SA up.
	Start ikev2.StartMode
	// SinglePair makes a child SA for each pair of selectors, for peers that
	// know no other.
	SinglePair bool
	// Where has "local", "remote" and "esp"; "" is the tunnel itself.
	Where Places
}

// LocalNetworks and RemoteNetworks are the sides as a configuration has them,
// "dynamic" among them.
func (t *Tunnel) LocalNetworks() []string  { return networks(t.Local, t.LocalDynamic) }
func (t *Tunnel) RemoteNetworks() []string { return networks(t.Remote, t.RemoteDynamic) }

// OnTraffic: the first packet brings the tunnel up.
func (t *Tunnel) OnTraffic() bool { return t.Start == ikev2.StartTraffic }

func networks(s []wire.Selector, dynamic bool) (all []string) {
	if dynamic {
		all = append(all, dynamicNetwork)
	}
	for _, one := range s {
		all = append(all, one.String())
	}
	return all
}

// Defaults of what a configuration leaves out. docs/configuration.md has them
// beside strongSwan's.
const (
	DefaultIKEPort           = 500
	DefaultNATTPort          = 4500
	DefaultDevice            = "culvert0"
	DefaultCookieThreshold   = 30
	DefaultHalfOpenLimit     = 4096
	DefaultHalfOpenPerSource = 64 // peers may come back together from behind one NAT
	DefaultHalfOpenLifetime  = 30 * time.Second
	DefaultIKELifetime       = 4 * time.Hour
	DefaultLifetime          = time.Hour
	DefaultDPD               = 30 * time.Second
	DefaultKeepalive         = 20 * time.Second // RFC 3948 section 4
	DefaultRetransmit        = time.Second
	DefaultRetransmitMax     = 4 * time.Second // a way that is back is found soon
	DefaultRetransmitTries   = 21              // 79 s in all
	DefaultInitialTries      = 9               // 31 s in all
	DefaultReconnect         = time.Second
	DefaultReconnectMax      = time.Minute
	MaxLanes                 = 64
	DefaultFragmentSize      = 1280 // the least MTU of IPv6 (RFC 8200 section 5)
)

func newGateway() Gateway {
	return Gateway{
		IKEPort: DefaultIKEPort, NATTPort: DefaultNATTPort, Device: DefaultDevice,
		Lanes: 1, CookieThreshold: DefaultCookieThreshold, HalfOpenLimit: DefaultHalfOpenLimit, HalfOpenPerSource: DefaultHalfOpenPerSource,
		HalfOpenLifetime: DefaultHalfOpenLifetime, Where: Places{},
	}
}

func newPeer(name string) Peer {
	return Peer{
		Name: name, RemoteIKEPort: DefaultIKEPort, RemoteNATTPort: DefaultNATTPort,
		IKELifetime: DefaultIKELifetime, DPD: DefaultDPD, Keepalive: DefaultKeepalive,
		Retransmit: DefaultRetransmit, RetransmitMax: DefaultRetransmitMax, RetransmitTries: DefaultRetransmitTries, InitialTries: DefaultInitialTries,
		Reconnect: DefaultReconnect, ReconnectMax: DefaultReconnectMax,
		Fragmentation: ikev2.Fragmentation{Mode: ikev2.ModePrefer, Size: DefaultFragmentSize},
		MOBIKE:        ikev2.ModePrefer, Redirect: ikev2.ModeOff, Resumption: ikev2.ModePrefer,
		PostQuantum: ikev2.PostQuantum{Mode: ikev2.ModePrefer},
		Where:       Places{},
	}
}

// newTunnel is that of a peer whose tunnels start as its Initiate says.
func newTunnel(name string, p *Peer) Tunnel {
	return Tunnel{Name: name, Lifetime: DefaultLifetime, Start: startOf(p.Initiate), Where: Places{}}
}

func startOf(initiate bool) ikev2.StartMode {
	if initiate {
		return ikev2.StartNow
	}
	return ikev2.StartPeer
}

// Places says where settings stand, by their native names. In culvert's own form
// it has those that are given; At knows the others.
type Places map[string]Place

// At is where a setting stands, or would have to be written: in culvert's own
// form, below the head of its table, the place "".
func (ps Places) At(setting string) Place {
	p, given := ps[setting]
	if head := ps[""]; !given && head.format == FormatTOML && head.Line > 0 {
		return Place{Pos: head.Pos, Key: setting, format: head.format}
	}
	return p
}

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
	switch p.format {
	case FormatTOML:
		return p.Key + " = " + quoteTOML(value)
	case FormatSwanctl:
		return p.Key + " = " + quoteSwanctl(value)
	}
	return p.Key + " " + quoteVyOS(value)
}

// Lookups are the ways in which a configuration reaches outside itself.
// A nil function makes settings that need it errors.
type Lookups struct {
	// KeyFile reads a file of psk_file; the name is as written.
	KeyFile func(name string) ([]byte, error)
	// Env is os.LookupEnv.
	Env func(name string) (string, bool)
	// Include reads the files that an include of a swanctl.conf names, with
	// wildcards as of filepath.Match.
	Include func(pattern string) ([]Source, error)
}
