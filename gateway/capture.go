package gateway

import (
	"context"
	"encoding/binary"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/config"
	"culvert/espcrypto"
	"culvert/ikev2"
	"culvert/natt"
	"culvert/pcapng"
	"culvert/tun"
)

// CaptureOptions are what a capture takes.
type CaptureOptions struct {
	Peer    string // only ESP of this peer, and IKE of its address; empty: all
	Packets int    // it ends after so many; 0 is never
	// Keys adds Wireshark's rows of keys, as comments that begin with the name of
	// their table. Whoever reads the file then reads the traffic.
	Keys bool
}

// The interfaces of a capture, and what may wait for its reader.
const (
	captureOuter   = 0
	captureInner   = 1
	captureWaiting = 4 << 20
)

// tap leads the data path to the capture that runs, if one does.
type tap struct{ running atomic.Pointer[capture] }

func (t *tap) capture() *capture {
	if t == nil {
		return nil
	}
	return t.running.Load()
}

// capture is a running one. What its reader has no room for is left out, and
// counted: it slows nobody down but by a copy.
type capture struct {
	opts   CaptureOptions
	remote netip.Addr // of the one peer, where it is known

	mu       sync.Mutex
	wall     int64  // nanoseconds from nanotime to the time of day, as it was at first
	waiting  []byte // blocks of pcapng
	seen     int
	received [2]uint64
	dropped  [2]uint64
	rows     []string // of keys, for the next packet
	scratch  []byte
	more     chan struct{}
	full     chan struct{} // closed after opts.Packets
}

// Capture writes packets outside and inside of ESP as two interfaces of a pcapng
// file until ctx ends, enough are there, or w fails. The error is ErrNotRunning,
// a *Refused, or w's.
func (g *Gateway) Capture(ctx context.Context, w io.Writer, opts CaptureOptions) error {
	p := &capture{opts: opts, more: make(chan struct{}, 1), full: make(chan struct{})}
	err := ErrNotRunning
	ok := g.ask(func(c *control) { err = c.beginCapture(p) })
	if !ok || err != nil {
		return err
	}
	defer func() {
		g.tap.running.Store(nil)
		g.ask(func(c *control) { c.command(ikev2.Reveal{On: g.opts.KeyLog != ""}) })
	}()
	for open := true; open; {
		select {
		case <-p.more:
		case <-p.full:
			open = false
		case <-ctx.Done():
			open = false
		}
		if _, err := w.Write(p.take()); err != nil {
			return err
		}
	}
	_, err = w.Write(p.statistics())
	return err
}

func (c *control) beginCapture(p *capture) error {
	if peer := p.opts.Peer; peer != "" {
		s := c.peers[peer]
		if s == nil {
			return unknown("no peer is named %q in %s%s", peer, c.g.cfg.File, thereAre(c.g.cfg.Peers, func(p config.Peer) string { return p.Name }))
		}
		p.remote = s.RemoteAddress.Addr()
	}
	if c.g.tap.running.Load() != nil {
		return notNow("a capture runs already, and there is one at a time")
	}
	if p.opts.Keys {
		for _, ch := range c.children {
			p.addRows("esp_sa", ch.keyRows...)
		}
	}
	c.g.tap.running.Store(p)
	if p.opts.Keys {
		c.g.log.Warn("a capture with keys begins: whoever reads its file reads the traffic", "event", "capture_keys", "peer", p.opts.Peer)
		c.command(ikev2.Reveal{On: true})
		c.drain(c.ctx)
	}
	p.begin()
	return nil
}

// addRows notes rows of a table of keys.
func (p *capture) addRows(table string, rows ...string) {
	if p == nil || !p.opts.Keys {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range rows {
		p.rows = append(p.rows, table+" "+r)
	}
}

// takes says that a capture runs, and has ESP of this peer.
func (p *capture) takes(peer string) bool {
	return p != nil && (p.opts.Peer == "" || p.opts.Peer == peer)
}

// inbound takes a batch before it is opened, which happens in place.
func (p *capture) inbound(now int64, peer string, path natt.Path, tos uint8, packets [][]byte) {
	if !p.takes(peer) {
		return
	}
	for _, b := range packets {
		p.outer(now, path, tos, nil, b, true)
	}
}

// opened takes what came out of the batch.
func (p *capture) opened(now int64, peer string, opened []espcrypto.Opened) {
	if !p.takes(peer) {
		return
	}
	for i := range opened {
		inner := opened[i].Inner
		if h, err := tun.ParseHeader(inner); err == nil && opened[i].Drop == 0 {
			p.add(captureInner, now, true, nil, inner[:h.Len()], nil)
		}
	}
}

// sealing and sealed take a batch before and after.
func (p *capture) sealing(now int64, peer string, at int, batch []espcrypto.Segment) {
	if !p.takes(peer) {
		return
	}
	for i := range batch {
		s := &batch[i]
		p.add(captureInner, now, false, s.Packet[at:at+s.HeadLen], s.Body, nil)
	}
}

func (p *capture) sealed(now int64, peer string, path natt.Path, batch []espcrypto.Segment) {
	if !p.takes(peer) {
		return
	}
	for i := range batch {
		p.outer(now, path, 0, nil, batch[i].Packet, false)
	}
}

// ike takes a message without its non-ESP marker.
func (p *capture) ike(path natt.Path, b []byte, in bool) {
	if p == nil || p.remote.IsValid() && path.Remote.Addr() != p.remote {
		return
	}
	var marker []byte
	if path.Encap && len(b) > 1 {
		marker = natt.AppendMarker(nil)
	}
	p.outer(nanotime(), path, 0, marker, b, in)
}

// outer puts the headers of IP and UDP before a datagram, as the path has them.
func (p *capture) outer(now int64, path natt.Path, tos uint8, marker, b []byte, in bool) {
	from, to := path.Local, path.Remote
	if !from.IsValid() || from.Addr().Is4() != to.Addr().Is4() {
		from = netip.AddrPortFrom(netip.IPv6Unspecified(), from.Port())
		if to.Addr().Is4() {
			from = netip.AddrPortFrom(netip.IPv4Unspecified(), from.Port())
		}
	}
	if in {
		from, to = to, from
	}
	var head [48]byte
	p.add(captureOuter, now, in, appendUDP(head[:0], from, to, tos, len(marker)+len(b)), marker, b)
}

// appendUDP are the headers of a datagram of n bytes. The checksum of UDP is left
// out, that of IPv4 is right.
func appendUDP(h []byte, from, to netip.AddrPort, tos uint8, n int) []byte {
	if to.Addr().Is4() {
		h = append(h, 0x45, tos)
		h = binary.BigEndian.AppendUint16(h, uint16(28+n))
		h = append(h, 0, 0, 0x40, 0, 64, 17, 0, 0)
		h = append(append(h, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
		tun.PutHeaderChecksum(h)
	} else {
		h = binary.BigEndian.AppendUint32(h, 6<<28|uint32(tos)<<20)
		h = binary.BigEndian.AppendUint16(h, uint16(8+n))
		h = append(h, 17, 64)
		h = append(append(h, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	}
	h = binary.BigEndian.AppendUint16(h, from.Port())
	h = binary.BigEndian.AppendUint16(h, to.Port())
	h = binary.BigEndian.AppendUint16(h, uint16(8+n))
	return append(h, 0, 0)
}

// begin writes what comes before the packets. Rows of keys that there are by
// then stand in the section's comments.
func (p *capture) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wall = time.Now().UnixNano() - nanotime()
	b := pcapng.AppendSection(nil, p.rows...)
	b = pcapng.AppendInterface(b, pcapng.Raw, "outer")
	b = pcapng.AppendInterface(b, pcapng.Raw, "inner")
	p.rows, p.waiting = nil, append(b, p.waiting...)
	p.wake()
}

// add takes a packet in three pieces.
func (p *capture) add(iface int, now int64, in bool, head, middle, rest []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opts.Packets > 0 && p.seen == p.opts.Packets {
		return
	}
	p.received[iface]++
	if len(p.waiting)+len(head)+len(middle)+len(rest) > captureWaiting {
		p.dropped[iface]++
		return
	}
	packet := pcapng.Packet{Interface: iface, Time: p.wall + now, Direction: pcapng.Outbound, Comments: p.rows}
	if in {
		packet.Direction = pcapng.Inbound
	}
	p.waiting, p.rows = packet.Append(p.waiting, head, middle, rest), nil
	if p.seen++; p.seen == p.opts.Packets {
		close(p.full)
	}
	p.wake()
}

func (p *capture) wake() {
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// take gives what waits.
func (p *capture) take() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting, p.scratch = p.scratch[:0], p.waiting
	return p.scratch
}

// statistics say how many packets there were, and how many of them are left out.
func (p *capture) statistics() (b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now().UnixNano()
	for iface := range p.received {
		b = pcapng.AppendStatistics(b, iface, now, p.received[iface], p.dropped[iface])
	}
	return b
}
