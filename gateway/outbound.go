package gateway

// The life of a packet from the TUN device to the UDP socket:
//
//	 1. tun.Device.Read, TryRead   a super-packet into the slab: the first one is waited for, the rest must be there
//	 2. tun.Splitter.Load          checks what the kernel says, finds the segments
//	 3. tun.Header.Flow            addresses, protocol and ports
//	 4. sad.Snapshot.Match         the outbound SA, once a super-packet
//	 5. tun.Splitter.ClampMSS      on a SYN, so that what follows fits
//	 6. outbound.oversize          what does not fit: ICMP back into the device, or fragments
//	 7. tun.Splitter.Head          headers of each segment straight into the send arena, packets end to end
//	 8. outbound.extend            equal sizes join into one run, which a shorter packet closes
//	 9. espcrypto.Outbound.Seal    the batch: payload is read in the slab, ciphertext written in the arena
//	10. natt.Conn.Send             the runs, when the device has nothing more or the arena is full
//
//	 slab    │ super-packet             │ super-packet │ ...        read by 9, reused after it
//	                 ↓ encryption, the only move of a payload byte
//	 arena   │ ESP │ ESP │ ESP │ ESP │ES│ ESP │ ESP │ ...           read by 10, reused after it
//	 runs    └──────── run ─────────────┘└── run ────
//
// Batching never waits: what is there when the device says "would block" goes.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"culvert/espcrypto"
	"culvert/espcrypto/sad"
	"culvert/natt"
	"culvert/tun"
)

const (
	// outboundSlabLen holds the longest super-packet twice: small packets pile
	// up in it to one batch, a long one leaves room for no other.
	outboundSlabLen = 128 << 10
	// arenaLen holds the longest super-packet's ESP (64 KB grow by a tenth at
	// most with ordinary segment sizes) and one more.
	arenaLen = 160 << 10
	// maxBatch bounds the packets of one Seal or Open.
	maxBatch = 256
	// slack is what a device may need of the slab beside the packet.
	slack = tun.SlabLen - 1<<16
	// maxFailures is how many reads in a row may fail before the device counts
	// as broken for good.
	maxFailures = 64
)

// outboundOptions are the choices of newOutbound.
type outboundOptions struct {
	// InnerMTU bounds the inner packet beside what each SA's path allows; 0
	// does not.
	InnerMTU int
	// Notices tell control what it may act on; nil drops them.
	Notices chan<- notice
	// Lane is the one of several, if Shared, that the loop is.
	Lane   int
	Shared bool
	// Tap is where a capture may be.
	Tap *tap
}

// notice is something that the data path saw and control may act on. They come
// over a bounded channel that drops when full.
type notice struct {
	Kind noticeKind
	// InboundSPI names the child, or none; 0 with noticeNoSA.
	InboundSPI uint32
	// Path is where the packet came from, with noticeMoved and noticeUnknownSPI.
	Path natt.Path
	// Flow found no SA but the reservation of Policy, with noticeNoSA.
	Flow   tun.Flow
	Policy *sad.Child
}

type noticeKind uint8

const (
	// noticeNoSA: a packet wants out through a child that starts with traffic, and
	// there is no SA.
	noticeNoSA noticeKind = iota + 1
	// noticeExhausted: the outbound SA has no sequence numbers left.
	noticeExhausted
	// noticeUnknownSPI: a packet came for which there is no SA.
	noticeUnknownSPI
	// noticeMoved: an authentic packet came from another address or port than
	// the child's path has (RFC 7296 section 2.23).
	noticeMoved
)

// post tells control, or counts that control was behind.
func post(to chan<- notice, n notice, count *lane) bool {
	select {
	case to <- n:
		return true
	default:
		count.add(dropNotice, 1)
		return false
	}
}

// outbound is the loop from the TUN device to the UDP socket. One goroutine
// owns it, and with it the sequence numbers of all outbound SAs.
type outbound struct {
	dev   tun.Device
	conn  natt.Conn
	table *sad.Table
	count *lane
	opts  outboundOptions
	dead  error // what ended the socket
	now   int64 // nanoseconds, read once a drain

	slab     []byte
	slabUsed int
	split    tun.Splitter

	arena     []byte
	arenaUsed int
	runs      []natt.Run
	open      bool // the last run takes more packets

	// The batch: packets of one SA, laid out but not sealed.
	sa        *sad.Outbound
	path      sad.Path
	layout    espcrypto.Layout
	inner     int // where the inner packet starts
	mtu       int // childMTU
	batch     []espcrypto.Segment
	batchAt   int // where in the arena it starts
	batchRuns int // how many runs there were before it

	// The SAs that this lane has for itself until the runs are sent.
	owned []*sad.Outbound

	// The last flow looked up, where, and what was found.
	flow   tun.Key
	flowIn *sad.Snapshot
	flowSA *sad.Outbound

	icmp       []byte
	icmpRate   limiter
	noticeRate limiter
}

func newOutbound(dev tun.Device, conn natt.Conn, table *sad.Table, c *Counters, opts outboundOptions) *outbound {
	return &outbound{
		dev: dev, conn: conn, table: table, count: c.newLane(), opts: opts,
		slab: make([]byte, outboundSlabLen), arena: make([]byte, arenaLen),
		batch: make([]espcrypto.Segment, 0, maxBatch), runs: make([]natt.Run, 0, maxBatch),
		owned: make([]*sad.Outbound, 0, maxBatch), icmp: make([]byte, 0, 1280),
		icmpRate:   limiter{every: 10 * time.Millisecond, burst: 20},
		noticeRate: limiter{every: 100 * time.Millisecond, burst: 5},
	}
}

// run carries packets until the device or the socket is closed; nil then. An
// error is that of a device or socket broken for good.
func (o *outbound) run() error {
	for failures := 0; ; {
		s, err := o.dev.Read(o.room())
		o.now = nanotime()
		for err == nil {
			failures = 0
			o.take(&s)
			s, err = o.dev.TryRead(o.room())
		}
		o.flush()
		o.slabUsed = 0
		switch {
		case errors.Is(err, os.ErrClosed), errors.Is(o.dead, net.ErrClosed):
			return nil
		case o.dead != nil:
			return fmt.Errorf("sending ESP: %w", o.dead)
		case !errors.Is(err, tun.ErrWouldBlock):
			o.count.add(dropTUNRead, 1)
			if failures++; failures == maxFailures {
				return fmt.Errorf("reading %s keeps failing: %w", o.dev.Name(), err)
			}
			time.Sleep(time.Duration(failures) * time.Millisecond)
		}
	}
}

// room is the free part of the slab. If that is too little for a read, the
// packets in it are sealed first, which is the last time they are looked at.
func (o *outbound) room() []byte {
	if len(o.slab)-o.slabUsed < tun.SlabLen {
		o.seal()
		o.slabUsed = 0
	}
	return o.slab[o.slabUsed:]
}

// take brings one super-packet into the arena, or drops it.
func (o *outbound) take(s *tun.Super) {
	o.slabUsed += len(s.Packet) + slack
	if err := o.split.Load(s); err != nil {
		o.count.add(dropOutboundMalformed, 1)
		return
	}
	sa := o.match(s.Packet)
	if sa == nil || sa.Reserved {
		o.noSA(o.split.Flow(), sa)
		return
	}
	if sa != o.sa || len(o.batch) == 0 {
		o.begin(sa)
	}
	o.split.ClampMSS(o.mtu)
	if o.split.InnerLen(0) > o.mtu {
		o.oversize(s.Packet, o.mtu)
		return
	}
	o.layOut(s.Packet)
}

// match looks the flow up, unless it is the one before again.
func (o *outbound) match(packet []byte) *sad.Outbound {
	snapshot, h := o.table.Load(), o.split.Header()
	if snapshot != o.flowIn || !o.flow.Matches(h, packet) {
		f := sad.Flow(h.Flow(packet))
		o.flow.Set(h, packet)
		o.flowIn, o.flowSA = snapshot, snapshot.MatchLane(&f, o.opts.Lane)
	}
	return o.flowSA
}

// trapEvery is how often control hears of packets for one reservation.
const trapEvery = time.Second

// noSA drops what no SA carries. Where a child starts with traffic, control
// hears of it, again only after a while; but what hosts say to their own link
// is no reason to start anything.
func (o *outbound) noSA(flow tun.Flow, policy *sad.Outbound) {
	if policy == nil {
		o.count.add(dropNoOutboundSA, o.split.Count())
		return
	}
	o.count.drop(policy.Child, dropNoOutboundSA, o.split.Count())
	if !policy.Trap || !flow.Dst.IsGlobalUnicast() || o.now-policy.LastNano() < int64(trapEvery) {
		return
	}
	if post(o.opts.Notices, notice{Kind: noticeNoSA, Flow: flow, Policy: policy.Child}, o.count) {
		policy.Touch(o.now)
	}
}

// begin starts a batch, with the SA's path as it is now.
func (o *outbound) begin(sa *sad.Outbound) {
	o.seal()
	o.sa, o.path, o.layout = sa, sa.Path(), sa.Suite.Layout()
	o.inner = o.layout.InnerOffset()
	o.mtu = childMTU(sa.Child, o.path, o.opts.InnerMTU)
}

// layOut puts the segments of the super-packet into the arena: headers only,
// the payload follows with encryption.
func (o *outbound) layOut(packet []byte) {
	count, headLen := o.split.Count(), o.split.HeadLen()
	tos, next := tun.Encapsulate(tun.TOS(packet)), nextHeader(packet)
	inner := o.split.InnerLen(0)
	size := o.layout.PacketLen(inner)
	if count*size > len(o.arena)-o.arenaUsed {
		o.flush() // rather than in the middle of a run
	}
	for i := range count {
		if i == count-1 {
			inner = o.split.InnerLen(i)
			size = o.layout.PacketLen(inner)
		}
		s := o.place(size, tos)
		o.split.Head(i, s.Packet[o.inner:])
		s.HeadLen, s.Body, s.NextHeader = headLen, o.split.Body(i), next
	}
}

// place takes the next size bytes of the arena for a packet, which becomes part
// of a run and of the batch.
func (o *outbound) place(size int, tos uint8) *espcrypto.Segment {
	if len(o.arena)-o.arenaUsed < size || len(o.batch) == cap(o.batch) || len(o.runs) == cap(o.runs) {
		o.flush()
	}
	if len(o.batch) == 0 {
		o.batchAt, o.batchRuns, o.open = o.arenaUsed, len(o.runs), false
	}
	p := o.arena[o.arenaUsed : o.arenaUsed+size : o.arenaUsed+size]
	o.arenaUsed += size
	o.extend(p, tos)
	o.batch = o.batch[:len(o.batch)+1]
	s := &o.batch[len(o.batch)-1]
	s.Packet = p
	return s
}

// extend adds the packet, which lies behind all others, to the last run, or
// starts a new one.
func (o *outbound) extend(p []byte, tos uint8) {
	if o.open {
		last := &o.runs[len(o.runs)-1]
		if last.TOS == tos && len(p) <= last.SegmentSize {
			last.Bytes = last.Bytes[:len(last.Bytes)+len(p)] // its capacity is the rest of the arena
			o.open = len(p) == last.SegmentSize
			return
		}
	}
	start := o.arenaUsed - len(p)
	o.runs = append(o.runs, natt.Run{Bytes: o.arena[start:o.arenaUsed], SegmentSize: len(p), TOS: tos, Path: natt.Path(o.path)})
	o.open = true
}

// seal encrypts the batch. If its SA cannot, the batch leaves the arena as if
// it had never been there.
func (o *outbound) seal() {
	n := len(o.batch)
	if n == 0 {
		return
	}
	if o.opts.Shared {
		o.own(o.sa)
	}
	tapped := o.opts.Tap.capture()
	tapped.sealing(o.now, o.sa.Peer, o.inner, o.batch)
	err := o.sa.SA.Seal(o.batch)
	batch := o.batch
	o.batch = o.batch[:0]
	if err == nil {
		tapped.sealed(o.now, o.sa.Peer, natt.Path(o.path), batch)
		o.sa.Touch(o.now)
		return
	}
	o.arenaUsed, o.runs, o.open = o.batchAt, o.runs[:o.batchRuns], false
	if !errors.Is(err, espcrypto.ErrSequenceExhausted) {
		o.count.drop(o.sa.Child, dropSegment, n)
		return
	}
	o.count.drop(o.sa.Child, dropSequenceExhausted, n)
	if o.noticeRate.allow(o.now) {
		post(o.opts.Notices, notice{Kind: noticeExhausted, InboundSPI: o.sa.InboundSPI}, o.count)
	}
}

// flush seals and sends what there is. Send itself drops and counts what the
// kernel refuses; its error means that the socket is no more.
func (o *outbound) flush() {
	o.now = nanotime()
	o.seal()
	o.send(len(o.runs))
	o.arenaUsed, o.open = 0, false
}

// send sends the first n runs, which are sealed, and gives up their SAs.
func (o *outbound) send(n int) {
	if n > 0 {
		_, o.dead = o.conn.Send(o.runs[:n])
		o.runs = o.runs[:copy(o.runs, o.runs[n:])]
		o.batchRuns = 0
	}
	for _, sa := range o.owned {
		sa.Unlock()
	}
	o.owned = o.owned[:0]
}

// own waits until no other lane uses the SA: two of them that share one would put
// its packets on the wire in another order than that of their numbers, and a peer
// with a short replay window drop them. Nobody waits who keeps others waiting.
func (o *outbound) own(sa *sad.Outbound) {
	if slices.Contains(o.owned, sa) {
		return
	}
	if !sa.TryLock() {
		o.send(o.batchRuns)
		sa.Lock()
	}
	o.owned = append(o.owned, sa)
}

// oversize answers a super-packet whose segments do not fit the path with ICMP
// "too big", or cuts them up where routers may (RFC 4301 section 8.2.1,
// RFC 4459 section 3.3: before encryption, since many peers drop ESP
// fragments).
func (o *outbound) oversize(packet []byte, mtu int) {
	if mayFragment(packet) {
		o.fragment(packet, mtu)
		return
	}
	o.count.drop(o.sa.Child, dropTooBig, o.split.Count())
	if !o.icmpRate.allow(o.now) {
		o.count.add(icmpRateLimited, 1)
		return
	}
	reply := tun.TooBig(packet, mtu, netip.Addr{}, o.icmp)
	if reply == nil {
		return
	}
	if err := o.dev.Write(tun.Super{Packet: reply}); err != nil {
		o.count.add(dropTUNWrite, 1)
		return
	}
	o.count.add(icmpSent, 1)
}

// fragment lays out every segment in pieces of at most mtu bytes.
func (o *outbound) fragment(packet []byte, mtu int) {
	var scratch [256]byte
	tos := tun.Encapsulate(tun.TOS(packet))
	for i := range o.split.Count() {
		head, body := scratch[:o.split.Head(i, scratch[:])], o.split.Body(i)
		if len(head) == 0 {
			ipLen := int(packet[0]&15) * 4
			head, body = body[:ipLen], body[ipLen:]
		}
		o.count.add(packetsFragmented, 1)
		f := newFragmenter(head, body, mtu)
		for headLen, piece, ok := f.next(); ok; headLen, piece, ok = f.next() {
			s := o.place(o.layout.PacketLen(headLen+len(piece)), tos)
			f.write(s.Packet[o.inner:], headLen, piece)
			s.HeadLen, s.Body, s.NextHeader = headLen, piece, espcrypto.NextHeaderIPv4
		}
	}
}

// nextHeader is what ESP calls the inner packet's IP version.
func nextHeader(packet []byte) uint8 {
	if packet[0]>>4 == 6 {
		return espcrypto.NextHeaderIPv6
	}
	return espcrypto.NextHeaderIPv4
}

// limiter lets burst events through at once and one more every so often after
// that.
type limiter struct {
	every time.Duration
	burst int
	next  int64 // when all of the burst is there again
}

// allow says whether an event at now, in nanoseconds, may pass.
func (l *limiter) allow(now int64) bool {
	every := l.every.Nanoseconds()
	next := max(l.next, now) + every
	if next-now > every*int64(l.burst) {
		return false
	}
	l.next = next
	return true
}
