// Package nattest is a network in memory with a NAT in it, for tests: public hosts, a host behind the NAT, and natt.Conn sockets on them.
//
//	A 203.0.113.1 ----+
//	                  +---- internet ---- 192.0.2.10 NAT 172.16.0.1 B
//	C 198.51.100.7 ---+
//
// Nothing is real: no socket, no route, no clock of its own. A network made inside a testing/synctest bubble stays in it, and after Close
// none of its goroutines is left. Without latency every datagram is where it belongs when synctest.Wait returns.
package nattest

import (
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/logging"
	"github.com/pion/transport/v3/vnet"
)

// Kind is how the NAT maps and filters (RFC 4787).
type Kind uint8

const (
	OneToOne          Kind = iota // static, ports kept, open to all: a cloud VM's public address
	FullCone                      // one mapping a socket, open to all
	AddressRestricted             // one mapping a socket, open to addresses that it sent to
	PortRestricted                // one mapping a socket, open to addresses and ports that it sent to
	Symmetric                     // a mapping for each destination, open to it alone
)

// Kinds lists them all.
var Kinds = []Kind{OneToOne, FullCone, AddressRestricted, PortRestricted, Symmetric}

var kinds = [...]struct {
	name string
	nat  vnet.NATType
}{
	OneToOne:          {"1:1", vnet.NATType{Mode: vnet.NATModeNAT1To1}},
	FullCone:          {"full cone", vnet.NATType{}},
	AddressRestricted: {"address restricted", vnet.NATType{FilteringBehavior: vnet.EndpointAddrDependent}},
	PortRestricted:    {"port restricted", vnet.NATType{FilteringBehavior: vnet.EndpointAddrPortDependent}},
	Symmetric: {"symmetric", vnet.NATType{
		MappingBehavior: vnet.EndpointAddrPortDependent, FilteringBehavior: vnet.EndpointAddrPortDependent,
	}},
}

// String names the kind.
func (k Kind) String() string { return kinds[k].name }

// The addresses of the situation.
var (
	PublicA  = netip.MustParseAddr("203.0.113.1")  // A, not behind anything
	PublicC  = netip.MustParseAddr("198.51.100.7") // C, a stranger
	PrivateB = netip.MustParseAddr("172.16.0.1")   // B, as its own interface has it
	PublicB  = netip.MustParseAddr("192.0.2.10")   // B, as the others see it
	PublicB2 = netip.MustParseAddr("192.0.2.11")   // B, as the others see it after Rebind to it
)

// Datagram is what a Filter sees: one datagram as its sender sent it, before any NAT.
type Datagram struct {
	Number   int // 0, 1, 2 ... over the whole network
	From, To netip.AddrPort
	TOS      uint8
	Bytes    []byte // read only
}

// Verdict is a Filter's answer. Its zero value lets the datagram pass.
type Verdict struct {
	Drop   bool
	Copies int           // more copies to deliver
	Delay  time.Duration // before it enters the network
}

// Filter decides the fate of each datagram. Calls never overlap. It may call Rebind, but not send.
type Filter func(Datagram) Verdict

// Config describes the network.
type Config struct {
	NAT             Kind
	Filter          Filter        // nil passes everything
	Latency         time.Duration // of each router: one between A and C, two to B
	MappingLifetime time.Duration // of a mapping through which B is silent; 0: 30 s. OneToOne keeps its own for ever
}

// Network is the situation.
type Network struct {
	A, B, C *Host

	config   Config
	internet *vnet.Router
	uplinks  map[netip.Addr]*vnet.Net // what B's interface is connected to, by the address that it shows

	mu     sync.Mutex
	number int
}

// building keeps vnet from numbering the interfaces of two networks at once: it does so in a global variable, without a lock.
var building sync.Mutex

// New builds the network and starts it.
func New(c Config) (*Network, error) {
	building.Lock()
	defer building.Unlock()
	internet, err := vnet.NewRouter(c.router("0.0.0.0/0"))
	if err != nil {
		return nil, err
	}
	n := &Network{config: c, internet: internet, uplinks: map[netip.Addr]*vnet.Net{}}
	if n.A, err = n.public(PublicA); err != nil {
		return nil, err
	}
	if n.C, err = n.public(PublicC); err != nil {
		return nil, err
	}
	for _, public := range []netip.Addr{PublicB, PublicB2} {
		if n.uplinks[public], err = n.behind(public); err != nil {
			return nil, err
		}
	}
	n.B = newHost(n, PrivateB, n.uplinks[PublicB])
	return n, internet.Start()
}

func (c Config) router(prefix string) *vnet.RouterConfig {
	return &vnet.RouterConfig{
		CIDR:          prefix,
		MinDelay:      c.Latency,
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled},
	}
}

func (n *Network) public(a netip.Addr) (*Host, error) {
	uplink, err := connect(n.internet, a)
	return newHost(n, a, uplink), err
}

// behind makes a NAT that shows public, with B's private address behind it. B has two such NATs and uses one at a time.
func (n *Network) behind(public netip.Addr) (*vnet.Net, error) {
	nat := kinds[n.config.NAT].nat
	nat.MappingLifeTime = n.config.MappingLifetime
	config := n.config.router(netip.PrefixFrom(PrivateB, 24).Masked().String())
	config.NATType = &nat
	config.StaticIPs = []string{public.String()}
	if n.config.NAT == OneToOne {
		config.StaticIPs = []string{public.String() + "/" + PrivateB.String()}
	}
	router, err := vnet.NewRouter(config)
	if err != nil {
		return nil, err
	}
	if err := n.internet.AddRouter(router); err != nil {
		return nil, err
	}
	return connect(router, PrivateB)
}

func connect(router *vnet.Router, a netip.Addr) (*vnet.Net, error) {
	uplink, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{a.String()}})
	if err != nil {
		return nil, err
	}
	return uplink, router.AddNet(uplink)
}

// Rebind makes the NAT forget B's mappings, as when it restarts: from now on B's sockets appear at public, which is PublicB or
// PublicB2, with new ports. A 1:1 NAT has nothing to forget: with it only the address can change.
func (n *Network) Rebind(public netip.Addr) error {
	uplink := n.uplinks[public]
	if uplink == nil {
		return fmt.Errorf("%v is not an address that B can have", public)
	}
	return n.B.move(uplink, n.config.NAT != OneToOne)
}

// judge numbers a datagram and asks the filter.
func (n *Network) judge(d Datagram) Verdict {
	n.mu.Lock()
	defer n.mu.Unlock()
	d.Number = n.number
	n.number++
	if n.config.Filter == nil {
		return Verdict{}
	}
	return n.config.Filter(d)
}

// Close stops the network and closes what listens on it.
func (n *Network) Close() error {
	for _, h := range []*Host{n.A, n.B, n.C} {
		h.close()
	}
	return n.internet.Stop()
}
