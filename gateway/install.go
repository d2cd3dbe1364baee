package gateway

import (
	"fmt"
	"time"

	"culvert/espcrypto"
	"culvert/espcrypto/sad"
	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// child is a child SA as control remembers it: its halves in the SA tables,
// and when they were last seen to carry something.
type child struct {
	*sad.Child
	since           time.Time
	in              *sad.Inbound
	out             *sad.Outbound
	seenIn, seenOut int64
	// quietIn and quietOut tell whether one direction is silent; findings.go.
	quietIn, quietOut direction
	// keyRows are its keys as Wireshark has them. Secret.
	keyRows []string
	// askedLocal and askedRemote are what the peer asked for, where it asked;
	// narrowed.go.
	askedLocal, askedRemote []wire.Selector
}

// droppedOf counts what is dropped of a peer's packets.
func (c *control) droppedOf(peer string) *lane {
	if c.dropped[peer] == nil {
		c.dropped[peer] = new(lane)
	}
	return c.dropped[peer]
}

// traffic says what the child carried since the last call, and so far.
func (ch *child) traffic() ikev2.Traffic {
	t := ikev2.Traffic{SPI: ch.InboundSPI}
	if ch.in != nil {
		last, stats := ch.in.LastNano(), ch.in.SA.Stats()
		t.In, ch.seenIn = last > ch.seenIn, last
		t.Bytes, t.Packets = stats.Bytes, stats.Packets
	}
	if ch.out != nil {
		last, stats := ch.out.LastNano(), ch.out.SA.Stats()
		t.Out, ch.seenOut = last > ch.seenOut, last
		t.Bytes, t.Packets = max(t.Bytes, stats.Bytes), max(t.Packets, stats.Packets)
	}
	return t
}

// rekeySequence is how many sequence numbers of 32 bits a child uses before it
// is replaced, with as many left for the time that takes (RFC 4303 section
// 3.3.3).
const rekeySequence = 1 << 31

// wornOut: the child's sequence numbers come to an end.
func (ch *child) wornOut() bool {
	return ch.out != nil && !ch.Suite.ESN && ch.out.SA.Stats().Sequence >= rekeySequence
}

// replayWindow in packets: the bursts that several receive queues put out of
// order are larger than the 64 of RFC 4303 section 3.4.3. One word of 64 short of
// 4096, so that the ring, which has one more, is of 4096 bits.
const replayWindow = 4096 - 64

func (c *control) installInbound(o ikev2.InstallInbound) {
	ch := &child{Child: sadChild(o.ChildSA), since: time.Now()}
	ch.Drops = c.droppedOf(o.Peer)[:]
	ch.Move(sad.Path(o.Path))
	ch.SetPathMTU(c.pathMTU(o.Peer, o.Path))
	sa, err := espcrypto.NewInbound(o.InboundSPI, ch.Suite, espcrypto.Keys(o.Keys), replayWindow)
	if err == nil {
		err = c.g.table.AddInbound(ch.Child, sa)
	}
	if err != nil {
		c.installFailed(o.ChildSA, err)
		return
	}
	ch.in = c.g.table.Load().Inbound(o.InboundSPI)
	c.children[o.InboundSPI] = ch
	c.keyed(ch, espKeyRow(o.Path.Remote.Addr(), o.InboundSPI, o.Suite, o.Keys))
}

// pathMTU is the system's view of an outer path; 0 when it has none.
func (g *Gateway) pathMTU(p ikev2.Path) int {
	if g.doors.PathMTU == nil {
		return 0
	}
	n, err := g.doors.PathMTU(p.Local.Addr(), p.Remote.Addr())
	if err != nil {
		return 0
	}
	return n
}

func (c *control) installOutbound(o ikev2.InstallOutbound) {
	ch := c.children[o.InboundSPI]
	if ch == nil {
		return
	}
	sa, err := espcrypto.NewOutbound(o.OutboundSPI, ch.Suite, espcrypto.Keys(o.Keys))
	if err == nil {
		err = c.g.table.AddOutbound(ch.Child, sa)
	}
	if err != nil {
		c.installFailed(o.ChildSA, err)
		return
	}
	ch.out = c.g.table.Load().Outbound(o.InboundSPI)
	c.keyed(ch, espKeyRow(o.Path.Remote.Addr(), o.OutboundSPI, o.Suite, o.Keys))
}

// keyed keeps a row of keys for a capture that asks for them, and writes it to
// where they are to be written now.
func (c *control) keyed(ch *child, row string) {
	ch.keyRows = append(ch.keyRows, row)
	c.keylog.esp(row)
	c.g.tap.capture().addRows("esp_sa", row)
}

func (c *control) installFailed(o ikev2.ChildSA, err error) {
	c.g.log.Error(fmt.Sprintf("peer %s, tunnel %s: cannot install the child SA: %v", o.Peer, o.Child, err),
		"event", "install_failed", "peer", o.Peer, "tunnel", o.Child)
}

func (c *control) removeOutbound(spi uint32) {
	c.g.table.RemoveOutbound(spi)
	if ch := c.children[spi]; ch != nil {
		if p := c.peers[ch.Peer]; p != nil {
			p.Totals.addOut(ch)
		}
		ch.out = nil
	}
}

func (c *control) removeInbound(spi uint32) {
	c.g.table.RemoveInbound(spi)
	if ch := c.children[spi]; ch != nil && c.peers[ch.Peer] != nil {
		c.peers[ch.Peer].Totals.addIn(ch)
		c.peers[ch.Peer].Totals.addOut(ch) // unless that was removed before
	}
	delete(c.children, spi)
}

// move sends a child's ESP by another path, which may take other packets.
func (c *control) move(o ikev2.MovePeer) {
	if ch := c.children[o.InboundSPI]; ch != nil {
		ch.SetPathMTU(c.pathMTU(ch.Peer, o.Path))
	}
	c.g.table.MovePeer(o.InboundSPI, sad.Path(o.Path))
}

func sadChild(o ikev2.ChildSA) *sad.Child {
	return &sad.Child{
		Peer: o.Peer, Name: o.Child, InboundSPI: o.InboundSPI, OutboundSPI: o.OutboundSPI, Suite: espcrypto.Suite(o.Suite),
		Local: sadSelectors(o.Local), Remote: sadSelectors(o.Remote), Lane: o.Lane,
	}
}

func sadSelectors(ss []wire.Selector) []sad.Selector {
	out := make([]sad.Selector, len(ss))
	for i, s := range ss {
		out[i] = sad.Selector(s)
	}
	return out
}
