package tun

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

const (
	openRuns      = 16  // flows whose runs can be open at once
	maxRunPackets = 128 // bounds the pieces of one gathering write
	maxPacket     = 1<<16 - 1
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

	writes uint64
	lost   int
	err    error
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
}

// NewCoalescer makes a Coalescer that writes to dev. With a device that takes
// no runs it writes every packet as it comes.
func NewCoalescer(dev Device) *Coalescer {
	c := &Coalescer{dev: dev, offload: dev.Offload()}
	for i := range c.runs {
		c.runs[i].rest = make([][]byte, 0, maxRunPackets)
	}
	return c
}

// Add takes one whole IP packet, exactly as long as its header says (see
// InnerLen). Errors of writes are kept for Flush.
func (c *Coalescer) Add(packet []byte) {
	h, err := parseHeader(packet)
	if err != nil || h.protocol != protoTCP && h.protocol != protoUDP || c.offload == (Offload{}) {
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

// addToFlow extends the run of the packet's flow, or ends it and begins another.
func (c *Coalescer) addToFlow(packet []byte, h header) {
	tag := flowTag(packet, h)
	i := c.find(tag)
	next, ok := c.begin(packet, h)
	if i >= 0 && ok && c.runs[i].extend(packet, next) {
		if c.runs[i].closed() {
			c.close(i)
		}
		return
	}
	if i >= 0 {
		c.close(i)
	}
	if !ok || next.push {
		c.write(Super{Packet: packet}, 1)
		return
	}
	if i < 0 {
		i = c.free()
	}
	c.open(i, tag, next)
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
	r.rest = c.runs[i].rest[:0]
	c.runs[i] = r
	c.tags[i] = tag
}

// begin is a run of this packet alone. It is not ok when the packet can be in
// no run: no payload, flags that mean more than data, a checksum that is absent or wrong.
func (c *Coalescer) begin(packet []byte, h header) (r run, ok bool) {
	headLen, checksum, err := transportHeader(packet, h)
	if err != nil || headLen == len(packet) {
		return run{}, false
	}
	r = run{first: packet, v6: h.v6(), transport: h.transport, headLen: headLen, segment: len(packet) - headLen, total: len(packet)}
	t := packet[h.transport:]
	if h.protocol == protoUDP {
		r.udp = true
		ok = c.offload.UDP && int(binary.BigEndian.Uint16(t[udpLength:])) == len(t) &&
			binary.BigEndian.Uint16(packet[checksum:]) != 0 // RFC 768: none; a run's packets all have one
	} else {
		r.push = t[tcpFlags]&flagPSH != 0
		ok = c.offload.TCP && t[tcpFlags]&^(flagPSH|flagECE) == flagACK
	}
	return r, ok && checksumsRight(packet, h)
}

// checksumsRight verifies the IPv4 header and the transport packet: whatever
// goes into a run comes out with fresh checksums, so that a broken one would
// be made good.
func checksumsRight(packet []byte, h header) bool {
	if !h.v6() && fold(sum64(packet[:ipv4Len], 0)) != 0xffff {
		return false
	}
	t := packet[h.transport:]
	return fold(sum64(t, pseudoSum(packet, h.protocol, len(t)))) == 0xffff
}

// extend takes the packet into the run if it is the very next of it.
func (r *run) extend(packet []byte, next run) bool {
	if next.segment > r.segment || r.total+next.segment > maxPacket || !r.sameHeaders(packet, next) {
		return false
	}
	r.rest = append(r.rest, packet[next.headLen:])
	r.total += next.segment
	r.push = next.push
	return true
}

// closed says that nothing can follow: after a short packet, a push, or too
// many packets.
func (r *run) closed() bool {
	return r.push || len(r.rest) == cap(r.rest) || len(r.rest[len(r.rest)-1]) < r.segment
}

// sameHeaders compares all that a run's packets share, and what must count up.
func (r *run) sameHeaders(packet []byte, next run) bool {
	if r.v6 != next.v6 || r.udp != next.udp || r.headLen != next.headLen || !r.sameIP(packet) {
		return false
	}
	a, b := r.first[r.transport:r.headLen], packet[r.transport:r.headLen]
	if r.udp {
		return bytes.Equal(a[:udpLength], b[:udpLength])
	}
	if binary.BigEndian.Uint32(b[tcpSeq:]) != binary.BigEndian.Uint32(a[tcpSeq:])+uint32(r.total-r.headLen) {
		return false
	}
	return bytes.Equal(a[:tcpSeq], b[:tcpSeq]) && // ports
		bytes.Equal(a[tcpAck:tcpFlags], b[tcpAck:tcpFlags]) && // acknowledgement, offset
		a[tcpFlags] == b[tcpFlags]&^flagPSH &&
		bytes.Equal(a[tcpFlags+1:tcpChecksum], b[tcpFlags+1:tcpChecksum]) && // window
		bytes.Equal(a[tcpChecksum+2:], b[tcpChecksum+2:]) // urgent pointer, options
}

// sameIP: version, DSCP, ECN, TTL, DF, flow label and addresses are equal.
func (r *run) sameIP(packet []byte) bool {
	a, b := r.first, packet
	if r.v6 {
		return bytes.Equal(a[:4], b[:4]) && bytes.Equal(a[6:ipv6Len], b[6:ipv6Len])
	}
	const dontFragment = 0x40
	if a[6]&dontFragment == 0 && binary.BigEndian.Uint16(b[4:]) != binary.BigEndian.Uint16(a[4:])+uint16(1+len(r.rest)) {
		return false
	}
	return bytes.Equal(a[:2], b[:2]) && bytes.Equal(a[6:10], b[6:10]) && bytes.Equal(a[12:ipv4Len], b[12:ipv4Len])
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
	if err := c.dev.Write(s); err != nil {
		c.lost += packets
		if c.err == nil {
			c.err = err
		}
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

// Writes is the number of Device.Write calls so far, to see what coalescing
// saves.
func (c *Coalescer) Writes() uint64 { return c.writes }

// flowTag mixes addresses, ports and protocol into a number other than 0.
func flowTag(packet []byte, h header) uint64 {
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
