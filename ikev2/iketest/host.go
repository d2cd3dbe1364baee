package iketest

import (
	"bytes"
	"container/heap"
	"maps"
	"net/netip"
	"slices"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// Host is an engine on the network, and what it has done so far.
type Host struct {
	Name   string
	Engine *ikev2.Engine
	Events []ikev2.Event
	// In and Out are the installed halves of child SAs by inbound SPI.
	In  map[uint32]ikev2.InstallInbound
	Out map[uint32]ikev2.InstallOutbound
	// Moved are the children whose path changed.
	Moved []ikev2.MovePeer
	// Received counts the ESP packets that arrived.
	Received int
	// Assigned are the addresses that peers have assigned, by peer.
	Assigned map[string]ikev2.AssignAddresses
	// PathMTUs are what FindPathMTU has found.
	PathMTUs []ikev2.PathMTU
	// Keepalives counts the NAT keepalives sent.
	Keepalives int
	// Sent are the IKE messages sent, in order.
	Sent []ikev2.Transmit
	// Keys are the secrets of the latest IKE SA.
	Keys ikev2.IKEKeys

	net *Net
	cfg ikev2.Config
	// used are the inbound SPIs there have been.
	used map[uint32]bool
	// answered: a response is among the outputs of the input at hand.
	answered bool
	// sending is by child the inbound SPIs of the halves that could send, the
	// one that does last; wronged are children that went down for a reason.
	sending map[string][]uint32
	wronged map[string]bool
	// got are the inbound SPIs on which ESP has arrived since the engine heard.
	got map[uint32]bool
}

func (h *Host) start(seed uint64) {
	cfg := h.cfg
	cfg.KeyLog = true
	h.Engine = ikev2.New(cfg, Random(seed))
	h.In, h.Out, h.used = map[uint32]ikev2.InstallInbound{}, map[uint32]ikev2.InstallOutbound{}, map[uint32]bool{}
	h.Assigned = map[string]ikev2.AssignAddresses{}
	h.sending, h.got = map[string][]uint32{}, map[uint32]bool{}
}

// drain takes h's outputs and holds them to the engine's contract.
func (n *Net) drain(h *Host) {
	h.answered, h.wronged = false, map[string]bool{}
	before := slices.Sorted(maps.Keys(h.sending))
	for {
		o, ok := h.Engine.Poll()
		if !ok {
			break
		}
		h.take(o)
	}
	if err := h.Engine.Audit(); err != nil {
		n.fault("%s: %v", h.Name, err)
	}
	for _, child := range before {
		if len(h.sending[child]) == 0 && !h.wronged[child] {
			n.fault("%s: nothing sends for %s any more", h.Name, child)
		}
	}
	maps.DeleteFunc(h.sending, func(_ string, spis []uint32) bool { return len(spis) == 0 })
	for spi := range h.Out {
		if _, ok := h.In[spi]; !ok {
			n.fault("%s: child %08x can only send", h.Name, spi)
		}
	}
}

func (h *Host) take(o ikev2.Output) {
	n := h.net
	switch o := o.(type) {
	case ikev2.Transmit:
		h.transmit(o)
	case ikev2.InstallInbound:
		h.installInbound(o)
	case ikev2.InstallOutbound:
		if _, ok := h.In[o.InboundSPI]; !ok {
			n.fault("%s: outbound half of %08x comes first", h.Name, o.InboundSPI)
		}
		if n.keyed[string(o.Keys.Encr)] {
			n.fault("%s: child %08x sends with a key that was in use before", h.Name, o.InboundSPI)
		}
		n.keyed[string(o.Keys.Encr)] = true
		h.Out[o.InboundSPI] = o
		h.sending[o.Child] = append(h.sending[o.Child], o.InboundSPI)
		n.note("%s: install outbound %s %v", h.Name, o.Child, o.Suite)
	case ikev2.RemoveInbound:
		h.removed(o.InboundSPI)
		delete(h.In, o.InboundSPI)
		n.note("%s: remove inbound", h.Name)
	case ikev2.RemoveOutbound:
		h.removed(o.InboundSPI)
		child := h.Out[o.InboundSPI].Child
		h.sending[child] = slices.DeleteFunc(h.sending[child], func(spi uint32) bool { return spi == o.InboundSPI })
		delete(h.Out, o.InboundSPI)
		n.note("%s: remove outbound", h.Name)
	case ikev2.MovePeer:
		h.Moved = append(h.Moved, o)
		h.move(o)
		n.note("%s: move peer to %v", h.Name, o.Path.Remote)
	case ikev2.AssignAddresses:
		if len(o.Addrs) == 0 {
			n.fault("%s: assign nothing", h.Name)
		}
		h.Assigned[o.Peer] = o
		n.note("%s: assign %v", h.Name, o.Addrs)
	case ikev2.RemoveAddresses:
		if _, there := h.Assigned[o.Peer]; !there {
			n.fault("%s: remove addresses that are not there", h.Name)
		}
		delete(h.Assigned, o.Peer)
		n.note("%s: remove addresses", h.Name)
	case ikev2.Redial:
		h.redial(o)
	case ikev2.PathMTU:
		h.PathMTUs = append(h.PathMTUs, o)
		n.note("%s: path MTU %d of %d", h.Name, o.Size, o.Most)
	case ikev2.IKEKeys:
		h.Keys, n.keys[o.ID] = o, append(n.keys[o.ID], o)
	case ikev2.Event:
		h.Events = append(h.Events, o)
		if o.Kind == ikev2.EventChildDown && o.Reason != ikev2.ReasonRekeyed {
			h.wronged[o.Child] = true
		}
		n.note("%s: %v", h.Name, happening(o))
	}
}

// redial finds the way to an address, or to a name that the network knows.
func (h *Host) redial(o ikev2.Redial) {
	h.net.note("%s: wants the way to %s", h.Name, o.Host)
	addr, err := netip.ParseAddr(h.net.Names[o.Host])
	if err != nil {
		addr, err = netip.ParseAddr(o.Host)
	}
	if err != nil {
		return
	}
	path := ikev2.Path{Local: netip.AddrPortFrom(h.net.addrOf(h), 500), Remote: netip.AddrPortFrom(addr, 500)}
	if err := h.Engine.Command(h.net.Now, ikev2.Redirected{Peer: o.Peer, Path: path}); err != nil {
		h.net.fault("%s: %v", h.Name, err)
	}
}

// move takes both halves of a child to another path.
func (h *Host) move(o ikev2.MovePeer) {
	if in, ok := h.In[o.InboundSPI]; ok {
		in.Path = o.Path
		h.In[o.InboundSPI] = in
	} else {
		h.net.fault("%s: moves %08x, which is not there", h.Name, o.InboundSPI)
	}
	if out, ok := h.Out[o.InboundSPI]; ok {
		out.Path = o.Path
		h.Out[o.InboundSPI] = out
	}
}

// installInbound: the peer may send as soon as it has the answer, so inbound
// comes before it; and no SPI is used twice.
func (h *Host) installInbound(o ikev2.InstallInbound) {
	if h.answered {
		h.net.fault("%s: inbound half of %08x comes after the answer", h.Name, o.InboundSPI)
	}
	if h.used[o.InboundSPI] || o.InboundSPI <= 255 {
		h.net.fault("%s: inbound SPI %08x", h.Name, o.InboundSPI)
	}
	h.In[o.InboundSPI], h.used[o.InboundSPI] = o, true
	h.net.note("%s: install inbound %s %v", h.Name, o.Child, o.Suite)
}

func (h *Host) removed(spi uint32) {
	_, in := h.In[spi]
	if _, out := h.Out[spi]; !in && !out {
		h.net.fault("%s: removes %08x, which is not there", h.Name, spi)
	}
}

func (h *Host) transmit(o ikev2.Transmit) {
	h.net.bytes.Write(o.Payload)
	if len(o.Payload) == 1 {
		h.Keepalives++
		h.net.note("%s: keepalive", h.Name)
		return
	}
	if head, err := wire.ParseHeader(o.Payload); err == nil && head.Flags&wire.FlagResponse != 0 {
		h.answered = true
	}
	h.Sent = append(h.Sent, o)
	if h.net.hosts[o.Path.Local.Addr()] != h {
		h.net.note("%s: cannot send from %v, which it does not have", h.Name, o.Path.Local.Addr())
		return
	}
	h.net.carry(Packet{From: h.net.outside(o.Path.Local), To: o.Path.Remote, Encap: o.Path.Encap, Payload: o.Payload, Whole: o.Whole})
}

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

// Dropped is the sum of h's drop counters.
func (h *Host) Dropped() (sum uint64) {
	for _, n := range h.Engine.Drops() {
		sum += n
	}
	return sum
}

// ESP sends a packet of a child SA, which takes delay to arrive, through the
// half that a gateway would use. It must be accepted there.
func (n *Net) ESP(h *Host, child string, delay time.Duration) {
	spis := h.sending[child]
	if len(spis) == 0 {
		return
	}
	out := h.Out[spis[len(spis)-1]]
	p := Packet{From: n.outside(out.Path.Local), To: out.Path.Remote, Encap: true, Number: n.count, esp: &out}
	if n.hosts[out.Path.Local.Addr()] != h || n.Broken {
		return
	}
	heap.Push(&n.queue, arrival{p, n.Now.Add(delay)})
}

// accept takes an ESP packet as a gateway does, and tells the engine when its
// peer's come from elsewhere. One for an SPI that there never was is for the life
// before a restart.
func (h *Host) accept(p Packet, path ikev2.Path) {
	out := p.esp
	in, ok := h.In[out.OutboundSPI]
	if !h.used[out.OutboundSPI] {
		h.net.note("%s: ESP with an unknown SPI", h.Name)
		_ = h.Engine.Command(h.net.Now, ikev2.UnknownSPI{SPI: out.OutboundSPI, Path: path})
		h.net.drain(h)
		return
	}
	if !ok || !bytes.Equal(in.Keys.Encr, out.Keys.Encr) {
		h.net.fault("%s: no key for ESP of %s with SPI %08x", h.Name, out.Child, out.OutboundSPI)
		return
	}
	h.got[out.OutboundSPI] = true
	h.Received++
	if p.From != in.Path.Remote {
		_ = h.Engine.Command(h.net.Now, ikev2.Moved{SPI: out.OutboundSPI, Path: ikev2.Path{Local: h.net.inside(p.To), Remote: p.From, Encap: true}})
		h.net.drain(h)
	}
}

// Traffic tells h's engine what its data path has seen since the last time.
func (n *Net) Traffic(h *Host) {
	for _, spi := range slices.Sorted(maps.Keys(h.got)) {
		_ = h.Engine.Command(n.Now, ikev2.Traffic{SPI: spi, In: true})
	}
	clear(h.got)
	n.drain(h)
}
