package gateway

// The life of a packet from the UDP socket to the TUN device:
//
//	 1. natt.Conn.Receive          runs of datagrams: the first one is waited for, the rest must be there
//	 2. natt.Classify              IKE is copied to control, keepalives end here, ESP goes on
//	 3. inbound.collect            neighbours with one SPI, path and TOS become one batch, across runs
//	 4. sad.Snapshot.Inbound       the SA of the SPI, once a batch
//	 5. espcrypto.Inbound.Open     replay check, decryption in place, replay commit, trailer; each packet alone
//	 6. inbound.follow             was the path a new one? control decides (only after 5 is it known to be the peer's)
//	 7. tun.Coalescer.Continue     the next packet of the run before it has all of 8 to 13 in common with it
//	 8. tun.ParseHeader            cuts off traffic flow confidentiality padding (RFC 4303 section 2.7), finds
//	 9. tun.Header.Flow            addresses, protocol and ports, which
//	10. sad.Child.Delivers         must be within the SA's selectors (RFC 4301 section 5.2)
//	11. tun.Decapsulate            carries a congestion mark inwards (RFC 6040)
//	12. tun.Header.ClampMSS        on a SYN, so that the answers fit
//	13. tun.Coalescer.AddParsed    neighbours of one flow become one write
//	14. tun.Coalescer.Flush        when the socket has given all it had
//
// Nothing that has not passed 5 to 11 reaches the device, and a packet that
// fails takes no other with it. The bytes stay in the socket's buffers from 1
// to 14.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"culvert/espcrypto"
	"culvert/espcrypto/sad"
	"culvert/natt"
	"culvert/tun"
)

// maxRuns is how many runs one Receive may fill: with 64 KB each, of the order
// of what a socket buffer holds.
const maxRuns = 64

// inboundOptions are the choices of newInbound.
type inboundOptions struct {
	// InnerMTU bounds the inner packet beside what each SA's path allows; 0
	// does not.
	InnerMTU int
	// IKE takes an IKE message, without the non-ESP marker, and must copy what
	// it keeps. It must not wait.
	IKE func(natt.Path, []byte)
	// Notices tell control what it may act on; nil drops them.
	Notices chan<- notice
	// Shared: other lanes may have packets of the same SAs.
	Shared bool
	// Tap is where a capture may be.
	Tap *tap
}

// inbound is the loop from the UDP socket to the TUN device. One goroutine
// owns it, and with it the replay windows of all inbound SAs.
type inbound struct {
	conn  natt.Conn
	table *sad.Table
	count *lane
	opts  inboundOptions
	tun   *tun.Coalescer
	runs  []natt.Run
	// unknown bounds what control hears of packets that no SA takes.
	unknown limiter

	snapshot *sad.Snapshot
	now      int64 // nanoseconds, read once a Receive

	// The batch: ESP packets with one SPI, path and TOS.
	packets [][]byte
	mtu     int // of the SA's path
	spi     uint32
	path    natt.Path
	tos     uint8
	opened  []espcrypto.Opened

	flow  tun.Key    // the last one that was within the selectors
	child *sad.Child // of this child

	// Whose, and under which outer TOS byte, the last packet was that went to
	// the device, and with it all others of the run that Continue continues.
	runChild *sad.Child
	runTOS   uint8
}

func newInbound(dev tun.Device, conn natt.Conn, table *sad.Table, c *Counters, opts inboundOptions) *inbound {
	return &inbound{
		conn: conn, table: table, count: c.newLane(), opts: opts, tun: tun.NewCoalescer(dev),
		unknown: limiter{every: 20 * time.Millisecond, burst: 10},
		runs:    make([]natt.Run, maxRuns), packets: make([][]byte, 0, maxBatch), opened: make([]espcrypto.Opened, maxBatch),
	}
}

// run carries packets until the socket or the device is closed; nil then. An
// error is that of a socket broken for good.
func (in *inbound) run() error {
	for {
		n, err := in.conn.Receive(in.runs)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receiving ESP: %w", err)
		}
		in.now, in.snapshot = nanotime(), in.table.Load()
		for i := range in.runs[:n] {
			in.sort(&in.runs[i])
		}
		in.open()
		lost, err := in.tun.Flush()
		in.count.add(dropTUNWrite, lost)
		in.count.add(runsRefused, in.tun.Refused())
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
	}
}

// sort takes a run apart and sends each datagram its way.
func (in *inbound) sort(r *natt.Run) {
	if r.TOS != in.tos || r.Path != in.path {
		in.open()
		in.tos, in.path = r.TOS, r.Path
	}
	for i := range r.Segments() {
		b := r.Segment(i)
		switch natt.Classify(b) {
		case natt.ESP:
			in.collect(b)
		case natt.IKE:
			in.opts.IKE(r.Path, natt.StripMarker(b))
		case natt.Keepalive:
			in.count.add(keepalivesReceived, 1)
		case natt.Reserved:
			in.count.add(dropReservedSPI, 1)
		default:
			in.count.add(dropRunt, 1)
		}
	}
}

// collect adds an ESP packet to the batch, or starts another one with it.
func (in *inbound) collect(b []byte) {
	spi := binary.BigEndian.Uint32(b)
	if spi != in.spi || len(in.packets) == cap(in.packets) {
		in.open()
		in.spi = spi
	}
	in.packets = append(in.packets, b)
}

// open opens the batch and delivers what comes out.
func (in *inbound) open() {
	n := len(in.packets)
	if n == 0 {
		return
	}
	packets, opened := in.packets, in.opened[:n]
	in.packets = in.packets[:0]
	sa := in.snapshot.Inbound(in.spi)
	if sa == nil {
		in.count.add(dropUnknownSPI, n)
		if in.unknown.allow(in.now) {
			post(in.opts.Notices, notice{Kind: noticeUnknownSPI, InboundSPI: in.spi, Path: in.path}, in.count)
		}
		return
	}
	in.mtu = childMTU(sa.Child, sa.Path(), in.opts.InnerMTU)
	if in.opts.Shared {
		sa.Lock()
		defer sa.Unlock()
	}
	tapped := in.opts.Tap.capture()
	tapped.inbound(in.now, sa.Peer, in.path, in.tos, packets)
	sa.SA.Open(packets, opened)
	tapped.opened(in.now, sa.Peer, opened)
	if !in.judge(sa, opened) {
		return
	}
	sa.Touch(in.now)
	in.follow(sa)
}

// judge delivers or counts every packet of a batch. It reports whether any was
// authentic and fresh, and so a sign of life from the peer.
func (in *inbound) judge(sa *sad.Inbound, opened []espcrypto.Opened) (alive bool) {
	for i := range opened {
		p := &opened[i]
		switch p.Drop {
		case 0:
			alive = true
			if drop := in.deliver(sa, p.Inner); drop != 0 {
				in.count.drop(sa.Child, drop, 1)
			}
		case espcrypto.DropDummy:
			alive = true
			fallthrough
		default:
			in.count.drop(sa.Child, counter(p.Drop), 1)
		}
	}
	return alive
}

// deliver checks an authentic inner packet and hands it to the device, or says
// why not. The next packet of a run has its addresses, ports and TOS byte, and
// so, through the same child and under the same outer TOS byte, its verdicts.
func (in *inbound) deliver(sa *sad.Inbound, inner []byte) (drop counter) {
	if sa.Child == in.runChild && in.tos == in.runTOS && in.tun.Continue(inner) {
		return 0
	}
	h, err := tun.ParseHeader(inner)
	if err != nil {
		return dropInboundMalformed
	}
	inner = inner[:h.Len()]
	if !in.permits(sa.Child, h, inner) {
		return dropSelector
	}
	if tun.Decapsulate(in.tos, inner) {
		return dropCongestion
	}
	h.ClampMSS(inner, in.mtu)
	in.runChild, in.runTOS = sa.Child, in.tos
	in.tun.AddParsed(inner, h)
	return 0
}

// permits checks a packet's flow against the child's selectors, unless it is
// the one before again.
func (in *inbound) permits(c *sad.Child, h tun.Header, inner []byte) bool {
	if c == in.child && in.flow.Matches(h, inner) {
		return true
	}
	f := sad.Flow(h.Flow(inner))
	if !c.Delivers(&f) {
		return false
	}
	in.child = c
	in.flow.Set(h, inner)
	return true
}

// follow tells control, once a change, that the peer's packets come from
// elsewhere. The path is judged by the remote end alone: which of our
// addresses a packet was sent to says nothing of where the peer is.
func (in *inbound) follow(sa *sad.Inbound) {
	switch path := sad.Path(in.path); {
	case path.Remote == sa.Path().Remote:
		sa.Strayed = sad.Path{}
	case path != sa.Strayed:
		if post(in.opts.Notices, notice{Kind: noticeMoved, InboundSPI: sa.InboundSPI, Path: in.path}, in.count) {
			sa.Strayed = path
		}
	}
}
