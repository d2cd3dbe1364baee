// Package iketest runs IKE engines against each other in memory, under a
// virtual clock and over a link that loses, delays, duplicates and translates
// as a test wants, and writes down what happened in a transcript.
package iketest

import (
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// Random is a deterministic source of bytes for an engine.
func Random(seed uint64) io.Reader {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], seed)
	return rand.NewChaCha8(sha256.Sum256(b[:]))
}

// Host is an engine on the network, and what it has done so far.
type Host struct {
	Name   string
	Engine *ikev2.Engine
	Events []ikev2.Event
	// In and Out are the installed halves of child SAs by inbound SPI.
	In  map[uint32]ikev2.InstallInbound
	Out map[uint32]ikev2.InstallOutbound
	// Keepalives counts the NAT keepalives sent.
	Keepalives int
	// Sent are the IKE messages sent, in order.
	Sent []ikev2.Transmit

	net *Net
}

// Packet is a datagram on its way. From and To are the outer addresses as the
// network carries them.
type Packet struct {
	From, To netip.AddrPort
	Encap    bool
	Payload  []byte
	// Number counts the network's datagrams from 0.
	Number int
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

	log strings.Builder
}

// New is an empty network at a fixed time.
func New() *Net {
	return &Net{Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), hosts: map[netip.Addr]*Host{}, NAT: map[netip.Addr]netip.Addr{}}
}

// Add puts an engine at an address.
func (n *Net) Add(name string, addr string, cfg ikev2.Config, seed uint64) *Host {
	h := &Host{Name: name, Engine: ikev2.New(cfg, Random(seed)), In: map[uint32]ikev2.InstallInbound{}, Out: map[uint32]ikev2.InstallOutbound{}, net: n}
	n.hosts[netip.MustParseAddr(addr)] = h
	return h
}

// Command gives h a command and lets its outputs out.
func (n *Net) Command(h *Host, c ikev2.Command) {
	n.note("%s: %T", h.Name, c)
	if err := h.Engine.Command(n.Now, c); err != nil {
		panic(err)
	}
	n.drain(h)
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
	if !packet && at.Before(n.Now) {
		at = n.Now
	}
	return at, h, packet
}

func (n *Net) arrive(a arrival) {
	h := n.hosts[n.private(a.To.Addr())]
	if h == nil {
		n.note("%v: nobody there", a.To)
		return
	}
	local := netip.AddrPortFrom(n.private(a.To.Addr()), a.To.Port())
	h.Engine.HandleDatagram(n.Now, ikev2.Datagram{Path: ikev2.Path{Local: local, Remote: a.From, Encap: a.Encap}, Payload: a.Payload})
	n.drain(h)
}

// Inject sends a datagram that no engine made.
func (n *Net) Inject(p Packet) { n.carry(p) }

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

// drain takes h's outputs.
func (n *Net) drain(h *Host) {
	for {
		o, ok := h.Engine.Poll()
		if !ok {
			return
		}
		h.take(o)
	}
}

func (h *Host) take(o ikev2.Output) {
	n := h.net
	switch o := o.(type) {
	case ikev2.Transmit:
		h.transmit(o)
	case ikev2.InstallInbound:
		h.In[o.InboundSPI] = o
		n.note("%s: install inbound %s %v", h.Name, o.Child, o.Suite)
	case ikev2.InstallOutbound:
		h.Out[o.InboundSPI] = o
		n.note("%s: install outbound %s %v", h.Name, o.Child, o.Suite)
	case ikev2.RemoveInbound:
		delete(h.In, o.InboundSPI)
		n.note("%s: remove inbound", h.Name)
	case ikev2.RemoveOutbound:
		delete(h.Out, o.InboundSPI)
		n.note("%s: remove outbound", h.Name)
	case ikev2.MovePeer:
		n.note("%s: move peer to %v", h.Name, o.Path.Remote)
	case ikev2.Event:
		h.Events = append(h.Events, o)
		n.note("%s: %s", h.Name, describe(o))
	}
}

func describe(e ikev2.Event) string {
	s := e.Kind.String()
	if e.Reason != ikev2.ReasonNone {
		s += " " + e.Reason.String()
	}
	if e.Notify != 0 {
		s += " " + e.Notify.String()
	}
	if e.Kind == ikev2.EventInit {
		s += ", NAT: " + e.NAT.String()
	}
	return s
}

func (h *Host) transmit(o ikev2.Transmit) {
	if len(o.Payload) == 1 {
		h.Keepalives++
		h.net.note("%s: keepalive", h.Name)
		return
	}
	h.Sent = append(h.Sent, o)
	from := netip.AddrPortFrom(h.net.public(o.Path.Local.Addr()), o.Path.Local.Port())
	h.net.carry(Packet{From: from, To: o.Path.Remote, Encap: o.Path.Encap, Payload: o.Payload})
}

func (n *Net) carry(p Packet) {
	p.Number = n.count
	n.count++
	delays := []time.Duration{10 * time.Millisecond}
	if n.Link != nil {
		delays = n.Link(p)
	}
	n.note("%v -> %v %s%s", p.From, p.To, headline(p.Payload), fate(delays))
	for _, d := range delays {
		heap.Push(&n.queue, arrival{p, n.Now.Add(d)})
	}
}

func fate(delays []time.Duration) string {
	switch len(delays) {
	case 0:
		return " (lost)"
	case 1:
		return ""
	}
	return fmt.Sprintf(" (arrives %d times)", len(delays))
}

func headline(b []byte) string {
	h, err := wire.ParseHeader(b)
	if err != nil {
		return "garbage"
	}
	kind := "request"
	if h.Flags&wire.FlagResponse != 0 {
		kind = "response"
	}
	return fmt.Sprintf("%v %s %d, %d bytes", h.Exchange, kind, h.MessageID, len(b))
}

func (n *Net) note(format string, args ...any) {
	fmt.Fprintf(&n.log, "%9.3fs  ", n.Now.Sub(New().Now).Seconds())
	fmt.Fprintf(&n.log, format+"\n", args...)
}

// Transcript is what happened, a line each.
func (n *Net) Transcript() string { return n.log.String() }

// Has counts the events of a kind.
func (h *Host) Has(kind ikev2.EventKind) (count int) {
	for _, e := range h.Events {
		if e.Kind == kind {
			count++
		}
	}
	return count
}

// Last is the latest event of a kind.
func (h *Host) Last(kind ikev2.EventKind) (last ikev2.Event, ok bool) {
	for _, e := range h.Events {
		if e.Kind == kind {
			last, ok = e, true
		}
	}
	return last, ok
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
