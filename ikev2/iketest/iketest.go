// Package iketest runs IKE engines against each other in memory, under a
// virtual clock and over a link that loses, delays, duplicates and translates
// as a test wants, and writes down what happened in a transcript.
package iketest

import (
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"culvert/ikev2"
)

// Random is a deterministic source of bytes for an engine.
func Random(seed uint64) io.Reader {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], seed)
	return rand.NewChaCha8(sha256.Sum256(b[:]))
}

// Packet is a datagram on its way. From and To are the outer addresses as the
// network carries them.
type Packet struct {
	From, To netip.AddrPort
	Encap    bool
	Payload  []byte
	Whole    bool // nobody may fragment it
	// Number counts the network's datagrams from 0.
	Number int
	esp    *ikev2.InstallOutbound // the child SA of an ESP packet
}

// Net is a network of hosts with one virtual clock.
type Net struct {
	Now   time.Time
	hosts map[netip.Addr]*Host
	queue arrivals
	count int
	// Link decides over a datagram: how often and after which delays it
	// arrives; none means that it is lost. Nil is a delay of 10 ms.
	Link func(Packet) []time.Duration
	// NAT maps addresses that a private host sends from to public ones, one to
	// one (RFC 4787's simplest kind); ports stay.
	NAT map[netip.Addr]netip.Addr
	// Names are the addresses of gateways that have a name.
	Names map[string]string
	// Broken loses everything.
	Broken bool
	// masked are the addresses and ports of hosts behind one address, both ways.
	masked map[netip.AddrPort]netip.AddrPort

	// Faults are breaches of an engine's contract, and whatever its Audit found.
	Faults []string

	log   []note
	keys  map[ikev2.SAID][]ikev2.IKEKeys // each again with every additional key exchange
	bytes hash.Hash
	// keyed are the ESP keys that somebody has sent with. Each begins with the
	// same IV, so that none may come again (RFC 4106 section 3.1).
	keyed map[string]bool
}

// New is an empty network at a fixed time.
func New() *Net {
	return &Net{Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), hosts: map[netip.Addr]*Host{}, NAT: map[netip.Addr]netip.Addr{},
		masked: map[netip.AddrPort]netip.AddrPort{},
		keys:   map[ikev2.SAID][]ikev2.IKEKeys{}, bytes: sha256.New(), keyed: map[string]bool{}}
}

// Add puts an engine at an address. It is made to tell its keys, for the
// transcript to show what is inside its messages.
func (n *Net) Add(name string, addr string, cfg ikev2.Config, seed uint64) *Host {
	h := &Host{Name: name, net: n, cfg: cfg}
	h.start(seed)
	n.hosts[netip.MustParseAddr(addr)] = h
	return h
}

// Move gives h another address.
func (n *Net) Move(h *Host, addr string) {
	for a, x := range n.hosts {
		if x == h {
			delete(n.hosts, a)
		}
	}
	n.hosts[netip.MustParseAddr(addr)] = h
}

// Restart makes h lose all it knows, as a crash does.
func (n *Net) Restart(h *Host, seed uint64) {
	n.note("%s: restarts", h.Name)
	h.start(seed)
}

// Command gives h a command and lets its outputs out.
func (n *Net) Command(h *Host, c ikev2.Command) {
	n.note("%s: %T", h.Name, c)
	if err := h.Engine.Command(n.Now, c); err != nil {
		panic(err)
	}
	n.drain(h)
}

// Reconfigure gives h another configuration and lets its outputs out.
func (n *Net) Reconfigure(h *Host, cfg ikev2.Config) map[string]ikev2.Change {
	changes := h.Engine.Reconfigure(n.Now, cfg)
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		if changes[name] != ikev2.Unchanged {
			n.note("%s: reconfigured, %s %v", h.Name, name, changes[name])
		}
	}
	h.cfg = cfg
	n.drain(h)
	return changes
}

// Run lets time pass for d.
func (n *Net) Run(d time.Duration) { n.RunUntil(d, func() bool { return false }) }

// RunUntil lets time pass for at most d, until done says that it is enough.
func (n *Net) RunUntil(d time.Duration, done func() bool) bool {
	end := n.Now.Add(d)
	for !done() {
		at, h, packet := n.next()
		if at.IsZero() || at.After(end) {
			n.Now = end
			return done()
		}
		n.Now = at
		if packet {
			n.arrive(heap.Pop(&n.queue).(arrival))
		} else {
			h.Engine.HandleTimeout(n.Now)
			n.drain(h)
		}
	}
	return true
}

func (n *Net) next() (at time.Time, h *Host, packet bool) {
	if len(n.queue) > 0 {
		at, packet = n.queue[0].at, true
	}
	for _, x := range n.hosts {
		if t, ok := x.Engine.Deadline(); ok && (at.IsZero() || t.Before(at) || t.Equal(at) && !packet && x.Name < h.Name) {
			at, h, packet = t, x, false
		}
	}
	if h != nil && at.Before(n.Now) {
		at = n.Now
	}
	return at, h, packet
}

func (n *Net) arrive(a arrival) {
	to := n.inside(a.To)
	h := n.hosts[to.Addr()]
	if h == nil {
		n.note("%v: nobody there", a.To)
		return
	}
	path := ikev2.Path{Local: to, Remote: a.From, Encap: a.Encap}
	if a.esp != nil {
		h.accept(a.Packet, path)
		return
	}
	h.Engine.HandleDatagram(n.Now, ikev2.Datagram{Path: path, Payload: a.Payload})
	n.drain(h)
}

// Inject sends a datagram that no engine made.
func (n *Net) Inject(p Packet) { n.carry(p) }

// Digest stands for every byte that the engines have sent, in order.
func (n *Net) Digest() string { return fmt.Sprintf("%x", n.bytes.Sum(nil)) }

func (n *Net) fault(format string, args ...any) {
	n.Faults = append(n.Faults, fmt.Sprintf(format, args...))
	n.note("FAULT: "+format, args...)
}

func (n *Net) carry(p Packet) {
	p.Number = n.count
	n.count++
	delays := []time.Duration{10 * time.Millisecond}
	if n.Link != nil {
		delays = n.Link(p)
	}
	if n.Broken {
		delays = nil
	}
	n.note("%v%s", carried{n, p}, fate(delays))
	for _, d := range delays {
		heap.Push(&n.queue, arrival{p, n.Now.Add(d)})
	}
}

func (n *Net) addrOf(h *Host) netip.Addr {
	for a, x := range n.hosts {
		if x == h {
			return a
		}
	}
	return netip.Addr{}
}

// Masquerade shows the UDP ports of a private address as others of a public
// one, as a NAT does with many hosts behind it.
func (n *Net) Masquerade(private, public string, ike, natt uint16) {
	from, to := netip.MustParseAddr(private), netip.MustParseAddr(public)
	for port, shown := range map[uint16]uint16{500: ike, 4500: natt} {
		in, out := netip.AddrPortFrom(from, port), netip.AddrPortFrom(to, shown)
		n.masked[in], n.masked[out] = out, in
	}
}

func (n *Net) outside(a netip.AddrPort) netip.AddrPort {
	if shown, ok := n.masked[a]; ok {
		return shown
	}
	return netip.AddrPortFrom(n.public(a.Addr()), a.Port())
}

func (n *Net) inside(a netip.AddrPort) netip.AddrPort {
	if hidden, ok := n.masked[a]; ok {
		return hidden
	}
	return netip.AddrPortFrom(n.private(a.Addr()), a.Port())
}

func (n *Net) public(a netip.Addr) netip.Addr {
	if p, ok := n.NAT[a]; ok {
		return p
	}
	return a
}

func (n *Net) private(a netip.Addr) netip.Addr {
	for private, public := range n.NAT {
		if public == a {
			return private
		}
	}
	return a
}

type arrival struct {
	Packet
	at time.Time
}

type arrivals []arrival

func (a arrivals) Len() int { return len(a) }
func (a arrivals) Less(i, j int) bool {
	if !a[i].at.Equal(a[j].at) {
		return a[i].at.Before(a[j].at)
	}
	return a[i].Number < a[j].Number
}
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)   { *a = append(*a, x.(arrival)) }
func (a *arrivals) Pop() any {
	old := *a
	x := old[len(old)-1]
	*a = old[:len(old)-1]
	return x
}
