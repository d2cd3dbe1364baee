package tun

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
)

// plainSum is the Internet checksum as RFC 1071 words it: the oracle.
func plainSum(pieces ...[]byte) uint16 {
	b := slices.Concat(pieces...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	var s uint32
	for i := 0; i < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// pkt is a packet to be made. The zero value with a protocol is a plain IPv4 one.
type pkt struct {
	v6         bool
	src, dst   byte // last byte of the address
	tos, ttl   uint8
	id         uint16
	fragment   uint16 // flags and offset field
	proto      uint8
	sport      uint16
	seq, ack   uint32
	flags      uint8
	window     uint16
	ipOptions  []byte
	options    []byte
	payload    []byte
	noChecksum bool
}

func (p pkt) transportHead() []byte {
	if p.proto == protoUDP {
		t := make([]byte, udpLen)
		binary.BigEndian.PutUint16(t, p.sport)
		binary.BigEndian.PutUint16(t[2:], 443)
		binary.BigEndian.PutUint16(t[4:], uint16(udpLen+len(p.payload)))
		return t
	}
	t := make([]byte, tcpLen, 60)
	binary.BigEndian.PutUint16(t, p.sport)
	binary.BigEndian.PutUint16(t[2:], 443)
	binary.BigEndian.PutUint32(t[4:], p.seq)
	binary.BigEndian.PutUint32(t[8:], p.ack)
	t[12] = byte((tcpLen + len(p.options)) / 4 << 4)
	t[13] = p.flags
	binary.BigEndian.PutUint16(t[14:], p.window)
	return append(t, p.options...)
}

func (p pkt) ipHead(payload int) []byte {
	if p.v6 {
		b := make([]byte, ipv6Len)
		b[0], b[1] = 6<<4|p.tos>>4, p.tos<<4
		binary.BigEndian.PutUint16(b[4:], uint16(payload))
		b[6], b[7] = p.proto, p.ttl
		b[8], b[23], b[24], b[39] = 0xfd, p.src, 0xfd, p.dst
		return b
	}
	b := make([]byte, ipv4Len, 60)
	b[0], b[1] = byte(0x40|(ipv4Len+len(p.ipOptions))/4), p.tos
	binary.BigEndian.PutUint16(b[2:], uint16(ipv4Len+len(p.ipOptions)+payload))
	binary.BigEndian.PutUint16(b[4:], p.id)
	binary.BigEndian.PutUint16(b[6:], p.fragment)
	b[8], b[9] = p.ttl, p.proto
	copy(b[12:], []byte{10, 103, 0, p.src, 10, 104, 0, p.dst})
	b = append(b, p.ipOptions...)
	binary.BigEndian.PutUint16(b[10:], ^plainSum(b))
	return b
}

func (p pkt) bytes() []byte {
	t := append(p.transportHead(), p.payload...)
	ip := p.ipHead(len(t))
	at := tcpChecksum
	if p.proto == protoUDP {
		at = udpChecksum
	}
	if !p.noChecksum {
		c := ^plainSum(plainPseudo(ip, p.proto, len(t)), t)
		if c == 0 {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(t[at:], c)
	}
	return append(ip, t...)
}

func plainPseudo(ip []byte, proto uint8, n int) []byte {
	if ip[0]>>4 == 4 {
		return append(slices.Clone(ip[12:20]), 0, proto, byte(n>>8), byte(n))
	}
	return append(slices.Clone(ip[8:40]), 0, 0, byte(n>>8), byte(n), 0, 0, 0, proto)
}

// super makes the run whose segments have size payload bytes, the way a kernel
// does: only the pseudo-header is summed.
func (p pkt) super(size int) Super {
	p.noChecksum = true
	b := p.bytes()
	h, err := ParseHeader(b)
	if err != nil {
		panic(err)
	}
	offset := tcpChecksum
	if p.proto == protoUDP {
		offset = udpChecksum
	}
	binary.BigEndian.PutUint16(b[h.transport+offset:], plainSum(plainPseudo(b, p.proto, len(b)-h.transport)))
	return Super{Packet: b, SegmentSize: size, ChecksumStart: h.transport, ChecksumOffset: offset}
}

// segments is what the run of p stands for, made plainly.
func (p pkt) segments(size int) [][]byte {
	var out [][]byte
	payload := p.payload
	for i := 0; i == 0 || len(payload) > 0; i++ {
		s := p
		n := min(size, len(payload))
		s.payload, payload = payload[:n], payload[n:]
		s.id += uint16(i)
		s.seq += uint32(i * size)
		if len(payload) > 0 {
			s.flags &^= flagPSH | flagFIN
		}
		if i > 0 {
			s.flags &^= flagCWR
		}
		out = append(out, s.bytes())
	}
	return out
}

// noise is random bytes, always the same.
var noise = func() []byte {
	b := make([]byte, 1<<16)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

// randomRun is a run of any kind.
func randomRun(r *rand.Rand) (pkt, int) {
	size := []int{1, 2, 17, 100, 536, 1360, 1448, 8000}[r.IntN(8)]
	p := pkt{
		v6: r.IntN(2) == 0, proto: protoTCP, src: byte(r.IntN(3)), dst: 9, sport: uint16(1000 + r.IntN(3)),
		tos: uint8(r.Uint32()), ttl: 64, id: uint16(r.Uint32()), seq: r.Uint32(), ack: r.Uint32(),
		flags: flagACK, window: uint16(r.Uint32()),
	}
	if r.IntN(2) == 0 {
		p.fragment = 0x4000
	}
	if r.IntN(2) == 0 {
		p.flags |= flagPSH
	}
	if r.IntN(2) == 0 {
		p.options = append([]byte{1, 1, 8, 10}, binary.BigEndian.AppendUint64(nil, r.Uint64())...)
	}
	if r.IntN(3) == 0 {
		p.proto, p.options = protoUDP, nil
	}
	p.payload = noise[r.IntN(1000):][:1+r.IntN(min(60000, size*130))]
	return p, size
}

// recorder is a Device that keeps what is written, as one slice each.
type recorder struct {
	offload Offload
	written []Super
	err     error
}

func (d *recorder) Name() string                  { return "recorder" }
func (d *recorder) MTU() int                      { return 1500 }
func (d *recorder) Offload() Offload              { return d.offload }
func (d *recorder) Read([]byte) (Super, error)    { return Super{}, os.ErrClosed }
func (d *recorder) TryRead([]byte) (Super, error) { return Super{}, ErrWouldBlock }
func (d *recorder) Close() error                  { return nil }
func (d *recorder) Events() <-chan Event          { return nil }
func (d *recorder) Write(s Super) error {
	s.Packet = slices.Concat(append([][]byte{s.Packet}, s.Rest...)...)
	s.Rest = nil
	d.written = append(d.written, s)
	return d.err
}

// split is every packet of s as a Splitter gives it.
func split(s Super) ([][]byte, error) {
	var p Splitter
	if err := p.Load(&s); err != nil {
		return nil, err
	}
	var out [][]byte
	for i := range p.Count() {
		b := make([]byte, p.HeadLen(), p.InnerLen(i))
		p.Head(i, b)
		out = append(out, append(b, p.Body(i)...))
	}
	return out, nil
}

// innerLen is the length that the packet's header says.
func innerLen(packet []byte) (int, error) {
	h, err := ParseHeader(packet)
	return h.Len(), err
}

// clampMSS leaves alone what is no packet.
func clampMSS(packet []byte, mtu int) bool {
	h, err := ParseHeader(packet)
	return err == nil && h.ClampMSS(packet, mtu)
}
