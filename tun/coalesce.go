package tun

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"syscall"
)

const (
	openRuns         = 16  // flows whose runs can be open at once
	maxRunPackets    = 128 // bounds the pieces of one gathering write
	maxUDPRunPackets = 64  // the kernel refuses longer ones (UDP_MAX_SEGMENTS; 128 from Linux 6.9 on)
	maxPacket        = 1<<16 - 1
)

// Coalescer writes packets to a Device, joining neighbours of one TCP or UDP
// flow into runs where the device takes them.
//
// Add keeps references, no copies: a packet's bytes must stay untouched from
// Add until the next Flush, and the Coalescer may patch the headers of packets
// given to it. A packet that cannot be part of a run is written at once (after
// what came before it in its flow). The order within a flow is kept.
//
// Usage in a receive loop: Add for each packet of a batch, then Flush, before
// the batch's buffers are used again. One goroutine owns a Coalescer.
//
// What a run stands for is exactly the packets that went into it: a Splitter
// restores them bit by bit, but for the identification of IPv4 packets that
// may not be fragmented, which has no meaning (RFC 6864, section 4.1). So
// only packets whose checksums are right are joined, and only those whose
// headers differ in nothing but lengths, sequence numbers and checksums.
type Coalescer struct {
	dev     Device
	offload Offload

	// tags[i] names the flow of runs[i], 0 when that is not open. Two flows
	// with one tag merely end each other's runs.
	tags   [openRuns]uint64
	runs   [openRuns]run
	victim int // next run to close when all are open
	last   int // the run that the packet before went into, -1 for none

	writes  uint64
	refused int
	lost    int
	err     error
}

// run is what will be one Write.
type run struct {
	first         []byte   // the first packet, whole
	rest          [][]byte // payloads of the following ones
	v6, udp, push bool
	transport     int // offset of the transport header
	headLen       int // IP and transport header
	segment       int // payload bytes of every packet but perhaps the last
	total         int // bytes so far
	most          int // packets that it may hold
	heading       *heading
}

// bit is a bool as an index.
func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// NewCoalescer makes a Coalescer that writes to dev. With a device that takes
// no runs it writes every packet as it comes.
func NewCoalescer(dev Device) *Coalescer {
	c := &Coalescer{dev: dev, offload: dev.Offload(), last: -1}
	for i := range c.runs {
		c.runs[i].rest, c.runs[i].heading = make([][]byte, 0, maxRunPackets-1), new(heading)
	}
	return c
}

// Add takes one whole IP packet, exactly as long as its header says (see
// Header.Len). Errors of writes are kept for Flush.
func (c *Coalescer) Add(packet []byte) {
	h, err := ParseHeader(packet)
	if err != nil {
		c.last = -1
		c.write(Super{Packet: packet}, 1)
		return
	}
	c.AddParsed(packet, h)
}

// AddParsed is Add for a packet whose Header is known.
func (c *Coalescer) AddParsed(packet []byte, h Header) {
	c.last = -1
	if h.protocol != protoTCP && h.protocol != protoUDP || c.offload == (Offload{}) {
		c.write(Super{Packet: packet}, 1)
		return
	}
	if h.fragment() || !h.bare() || h.end != len(packet) {
		c.flushOpen() // whichever run it belongs behind
		c.write(Super{Packet: packet}, 1)
		return
	}
	c.addToFlow(packet, h)
}

// Continue takes the packet if it is the very next of the run that the packet
// before went into, and reports whether it did. Then its header differs from
// that packet's in nothing but what counts up: it is of the same flow, has the same TOS
// byte, and is no SYN. It may be longer than its header says (padding), and
// nothing need be known of it beforehand.
func (c *Coalescer) Continue(packet []byte) bool {
	if c.last < 0 || c.tags[c.last] == 0 {
		return false
	}
	r := &c.runs[c.last]
	n := r.declared(packet)
	return n <= len(packet) && c.extend(c.last, packet[:n])
}

// addToFlow extends the run of the packet's flow, or ends it and begins another.
func (c *Coalescer) addToFlow(packet []byte, h Header) {
	tag := flowTag(packet, h)
	i := c.find(tag)
	if i >= 0 {
		if c.extend(i, packet) {
			return
		}
		c.close(i)
	}
	next, ok := c.begin(packet, h)
	if !ok || next.push {
		c.write(Super{Packet: packet}, 1)
		return
	}
	if i < 0 {
		i = c.free()
	}
	c.open(i, tag, next)
}

// extend takes the packet into run i if it is the very next of it, and writes
// the run if that was its last.
func (c *Coalescer) extend(i int, packet []byte) bool {
	r := &c.runs[i]
	if !r.extend(packet) {
		return false
	}
	c.last = i
	if r.closed() {
		c.close(i)
	}
	return true
}

// find returns the index of the flow's open run, or -1.
func (c *Coalescer) find(tag uint64) int {
	for i := range c.tags {
		if c.tags[i] == tag {
			return i
		}
	}
	return -1
}

// free returns the index of a run that is not open, closing one if need be.
func (c *Coalescer) free() int {
	if i := c.find(0); i >= 0 {
		return i
	}
	i := c.victim
	c.victim = (i + 1) % openRuns
	c.close(i)
	return i
}

func (c *Coalescer) open(i int, tag uint64, r run) {
	r.rest, r.heading = c.runs[i].rest[:0], c.runs[i].heading
	r.heading.start(&r)
	c.runs[i] = r
	c.tags[i] = tag
	c.last = i
}

// begin is a run of this packet alone. It is not ok when the packet can be in
// no run: no payload, flags that mean more than data, a checksum that is absent or wrong.
func (c *Coalescer) begin(packet []byte, h Header) (r run, ok bool) {
	headLen, _, err := transportHeader(packet, h)
	if err != nil || headLen == len(packet) {
		return run{}, false
	}
	v6, udp := h.v6(), h.protocol == protoUDP
	r = run{
		first: packet, v6: v6, udp: udp,
		transport: h.transport, headLen: headLen, segment: len(packet) - headLen, total: len(packet), most: maxRunPackets,
	}
	t := packet[h.transport:]
	if udp {
		r.most = maxUDPRunPackets
		ok = c.offload.UDP && r.datagram(packet)
	} else {
		r.push = t[tcpFlags]&flagPSH != 0
		ok = c.offload.TCP && t[tcpFlags]&^(flagPSH|flagECE) == flagACK
	}
	return r, ok && r.checksumsRight(packet)
}

// checksumsRight verifies the IPv4 header and the transport packet: whatever
// goes into a run comes out with fresh checksums, so that a broken one would
// be made good.
func (r *run) checksumsRight(packet []byte) bool {
	return r.headerSumRight(packet) && fold(sum64(packet[r.covered():], r.pseudo(packet))) == 0xffff
}

func (r *run) headerSumRight(packet []byte) bool {
	if r.v6 {
		return true
	}
	h := (*[ipv4Len]byte)(packet)
	return fold(add64(add64(binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:])),
		uint64(binary.LittleEndian.Uint32(h[16:])))) == 0xffff
}

// covered is where that starts which the transport checksum covers: at the
// addresses, which stand right in front of the transport header.
func (r *run) covered() int {
	if r.v6 {
		return r.transport - 32
	}
	return r.transport - 8
}

// pseudo is the sum of the rest of the pseudo-header.
func (r *run) pseudo(packet []byte) uint64 {
	protocol := uint16(protoTCP)
	if r.udp {
		protocol = protoUDP
	}
	return word(protocol) + word(uint16(len(packet)-r.transport))
}

// declared is the length that the packet's header says, if it is one of the
// run, and too long if it is none.
func (r *run) declared(packet []byte) int {
	switch {
	case len(packet) <= r.headLen:
		return len(packet) + 1
	case r.v6:
		return ipv6Len + int(binary.BigEndian.Uint16(packet[4:]))
	}
	return int(binary.BigEndian.Uint16(packet[2:]))
}

// extend takes the packet, as long as its IP header says, into the run if it is the very next of it.
func (r *run) extend(packet []byte) bool {
	payload := len(packet) - r.headLen
	if payload <= 0 || payload > r.segment || r.total+payload > maxPacket || !r.headerSumRight(packet) || r.udp && !r.datagram(packet) {
		return false
	}
	sum, same := r.heading.sum(packet, r.covered(), r.headLen, r.pseudo(packet))
	if !same || fold(sum) != 0xffff {
		return false
	}
	r.heading.advance(r, payload)
	r.rest = append(r.rest, packet[r.headLen:])
	r.total += payload
	r.push = !r.udp && packet[r.transport+tcpFlags]&flagPSH != 0
	return true
}

// datagram says whether a UDP header speaks of the whole packet and has a
// checksum (RFC 768): a run's packets all have one.
func (r *run) datagram(packet []byte) bool {
	t := packet[r.transport:]
	return int(binary.BigEndian.Uint16(t[udpLength:])) == len(t) && binary.BigEndian.Uint16(t[udpChecksum:]) != 0
}

// closed says that nothing can follow: after a short packet, a push, or too
// many packets.
func (r *run) closed() bool {
	return r.push || 1+len(r.rest) == r.most || len(r.rest[len(r.rest)-1]) < r.segment
}

// close writes run i and frees its place.
func (c *Coalescer) close(i int) {
	r := &c.runs[i]
	c.tags[i] = 0
	if len(r.rest) == 0 {
		c.write(Super{Packet: r.first}, 1)
		return
	}
	c.write(r.super(), 1+len(r.rest))
}

// super puts the headers of the first packet right for the whole run.
func (r *run) super() Super {
	ip, t := r.first[:r.transport], r.first[r.transport:]
	if r.v6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(r.total-ipv6Len))
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(r.total))
		PutHeaderChecksum(ip)
	}
	length := r.total - r.transport
	s := Super{Packet: r.first, Rest: r.rest, SegmentSize: r.segment, ChecksumStart: r.transport}
	protocol := uint8(protoTCP)
	if r.udp {
		protocol, s.ChecksumOffset = protoUDP, udpChecksum
		binary.BigEndian.PutUint16(t[udpLength:], uint16(length))
	} else {
		s.ChecksumOffset = tcpChecksum
		if r.push {
			t[tcpFlags] |= flagPSH
		}
	}
	putSum(t[s.ChecksumOffset:], fold(pseudoSum(ip, protocol, length)))
	return s
}

func (c *Coalescer) write(s Super, packets int) {
	c.writes++
	err := c.dev.Write(s)
	if packets > 1 && errors.Is(err, syscall.EINVAL) {
		c.writeApart(s)
		return
	}
	c.wrote(packets, err)
}

// writeApart writes a run that the kernel refused as the packets that it stands
// for. Kernels differ in the runs that they take. It copies, since it is rare.
func (c *Coalescer) writeApart(s Super) {
	c.refused++
	s.Packet, s.Rest = slices.Concat(append([][]byte{s.Packet}, s.Rest...)...), nil
	var p Splitter
	if err := p.Load(&s); err != nil {
		c.wrote(1, err)
		return
	}
	for i := range p.Count() {
		packet := make([]byte, p.HeadLen(), p.InnerLen(i))
		p.Head(i, packet)
		c.writes++
		c.wrote(1, c.dev.Write(Super{Packet: append(packet, p.Body(i)...)}))
	}
}

// wrote notes what became of a write of so many packets.
func (c *Coalescer) wrote(packets int, err error) {
	if err == nil {
		return
	}
	c.lost += packets
	if c.err == nil {
		c.err = err
	}
}

func (c *Coalescer) flushOpen() {
	for i := range c.tags {
		if c.tags[i] != 0 {
			c.close(i)
		}
	}
}

// Flush writes all that is open. It returns how many packets were lost in
// writes since the last Flush, and the first error among those writes; a lost
// packet is no reason to stop (os.ErrClosed is).
func (c *Coalescer) Flush() (lost int, err error) {
	c.flushOpen()
	lost, err = c.lost, c.err
	c.lost, c.err = 0, nil
	return lost, err
}

// Refused is the number of runs since it was last asked for that the device
// refused, and that were written packet by packet.
func (c *Coalescer) Refused() int {
	n := c.refused
	c.refused = 0
	return n
}

// Writes is the number of Device.Write calls so far, to see what coalescing
// saves.
func (c *Coalescer) Writes() uint64 { return c.writes }

// flowTag mixes addresses, ports and protocol into a number other than 0.
func flowTag(packet []byte, h Header) uint64 {
	const prime = 0x9e3779b97f4a7c15
	var ports uint32
	if h.transport+4 <= h.end {
		ports = binary.LittleEndian.Uint32(packet[h.transport:])
	}
	tag := uint64(ports)<<8 | uint64(h.protocol)
	for a := addresses(packet); len(a) >= 8; a = a[8:] {
		hi, lo := bits.Mul64(tag^binary.LittleEndian.Uint64(a), prime)
		tag = hi ^ lo
	}
	return tag | 1<<63
}
