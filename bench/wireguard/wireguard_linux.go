package wireguard

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/net/ipv6"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/replay"

	"culvert/bench/pipeline"
)

// Systems are wireguard-go as it is, and with the standard library's
// AES-128-GCM in the place of ChaCha20-Poly1305.
func Systems() []pipeline.System {
	return []pipeline.System{
		system("wireguard-go", func() (cipher.AEAD, error) {
			return chacha20poly1305.New(make([]byte, chacha20poly1305.KeySize))
		}),
		system("wireguard-go, AES-128-GCM", func() (cipher.AEAD, error) {
			block, err := aes.NewCipher(make([]byte, 16))
			if err != nil {
				return nil, err
			}
			return cipher.NewGCM(block)
		}),
	}
}

func system(name string, aead func() (cipher.AEAD, error)) pipeline.System {
	return pipeline.System{Name: name, New: func(w *pipeline.Workload) (pipeline.Carrier, error) {
		a, err := aead()
		if err != nil {
			return nil, err
		}
		return newPair(w, a)
	}}
}

// What device keeps in constants of its own, and what the kernel delivers.
const (
	batchSize  = conn.IdealBatchSize
	headerLen  = device.MessageTransportHeaderSize
	contentAt  = device.MessageTransportOffsetContent
	counterAt  = device.MessageTransportOffsetCounter
	bufferLen  = device.MaxMessageSize
	virtioLen  = 10
	controlLen = 64
	groSlots   = 2 // of a batch of receive buffers, for joined datagrams
)

// pair is a sender and a receiver with one key.
type pair struct {
	w      *pipeline.Workload
	sender sender
	recv   receiver
}

func newPair(w *pipeline.Workload, aead cipher.AEAD) (*pair, error) {
	p := &pair{w: w}
	p.sender.init(aead, pipeline.NetworksB())
	p.recv.init(aead, pipeline.NetworksA())
	p.sender.endpoint = &conn.StdNetEndpoint{AddrPort: netip.MustParseAddrPort("192.0.2.10:51820")}
	p.recv.tcp, p.recv.udp = newTCPGROTable(), newUDPGROTable()
	for _, s := range w.Burst {
		read, err := asRead(w, s.Packet, s.SegmentSize, s.ChecksumStart, s.ChecksumOffset)
		if err != nil {
			return nil, err
		}
		p.sender.reads = append(p.sender.reads, read)
	}
	return p, nil
}

// asRead is a super-packet as the kernel gives it, with its virtio header.
func asRead(w *pipeline.Workload, packet []byte, segment, start, offset int) ([]byte, error) {
	b := make([]byte, virtioLen, virtioLen+len(packet))
	if segment != 0 {
		const needsChecksum, tcp4, tcp6, udp = 1, 1, 4, 5
		b[0], b[1] = needsChecksum, map[string]byte{"tcp4": tcp4, "tcp6": tcp6, "udp4": udp, "udp6": udp}[w.Name[:4]]
		if b[1] == 0 {
			return nil, fmt.Errorf("no type of run for %s", w.Name)
		}
		binary.LittleEndian.PutUint16(b[4:], uint16(segment))
		binary.LittleEndian.PutUint16(b[6:], uint16(start))
		binary.LittleEndian.PutUint16(b[8:], uint16(offset))
	}
	return append(b, packet...), nil
}

// end is what both have.
type end struct {
	aead    cipher.AEAD
	nonce   [12]byte
	allowed device.AllowedIPs
	peer    *device.Peer
	buffers [][]byte // a message each
	msgs    []ipv6.Message
}

func (e *end) init(aead cipher.AEAD, networks []netip.Prefix) {
	e.aead, e.peer, e.msgs = aead, new(device.Peer), make([]ipv6.Message, batchSize)
	for _, n := range networks {
		e.allowed.Insert(n, e.peer)
	}
	for i := range batchSize {
		e.buffers = append(e.buffers, new([bufferLen]byte)[:])
		e.msgs[i].Buffers = make(net.Buffers, 1)
		e.msgs[i].OOB = make([]byte, 0, controlLen)
	}
}

// address finds the peer of a packet by its source or destination.
func (e *end) address(packet []byte, at4, at6 int) *device.Peer {
	switch packet[0] >> 4 {
	case 4:
		return e.allowed.Lookup(packet[at4 : at4+4])
	case 6:
		return e.allowed.Lookup(packet[at6 : at6+16])
	}
	return nil
}

// sender is RoutineReadFromTUN, RoutineEncryption and the bind's Send in a row.
type sender struct {
	end
	reads    [][]byte
	counter  atomic.Uint64
	endpoint *conn.StdNetEndpoint
	addr     net.UDPAddr
	sizes    [batchSize]int
	packets  [][]byte
	sent     []ipv6.Message
}

var errFewer = errors.New("fewer packets came out than should")

func (s *sender) burst() error {
	n := 0
	for _, read := range s.reads {
		count, err := handleVirtioRead(read, s.buffers[n:], s.sizes[n:], contentAt)
		if err != nil {
			return err
		}
		n += count
	}
	s.packets = s.packets[:0]
	for i, buffer := range s.buffers[:n] {
		packet := buffer[contentAt : contentAt+s.sizes[i]]
		if s.address(packet, device.IPv4offsetDst, device.IPv6offsetDst) == nil {
			return errFewer
		}
		s.packets = append(s.packets, s.seal(buffer, packet, s.counter.Add(1)-1))
	}
	s.sent = s.msgs[:coalesceMessages(&s.addr, s.endpoint, s.packets, s.msgs, setGSOSize)]
	return nil
}

// seal leaves out the padding, of which packets of the MTU need none.
func (s *sender) seal(buffer, packet []byte, counter uint64) []byte {
	header := buffer[:headerLen]
	binary.LittleEndian.PutUint32(header, device.MessageTransportType)
	binary.LittleEndian.PutUint32(header[4:], 1)
	binary.LittleEndian.PutUint64(header[8:], counter)
	binary.LittleEndian.PutUint64(s.nonce[4:], counter)
	return s.aead.Seal(header, s.nonce[:], packet, nil)
}

func (p *pair) Out(bursts int) (time.Duration, error) {
	start := time.Now()
	for range bursts {
		if err := p.sender.burst(); err != nil {
			return 0, err
		}
		if len(p.sender.packets) != p.w.Packets() {
			return 0, errFewer
		}
	}
	return time.Since(start), nil
}

// receiver is the bind's receive function, RoutineDecryption,
// RoutineSequentialReceiver and the device's Write in a row.
type receiver struct {
	end
	filter   replay.Filter
	tcp, udp unsafe.Pointer
	packets  [][]byte
	toWrite  []int
}

func (p *pair) In(bursts int) (busy time.Duration, err error) {
	for range bursts {
		if err := p.sender.burst(); err != nil {
			return 0, err
		}
		p.recv.arrive(p.sender.sent)
		start := time.Now()
		n, err := p.recv.burst()
		busy += time.Since(start)
		if err != nil {
			return 0, err
		}
		if n != p.w.Packets() {
			return 0, errFewer
		}
	}
	return busy, nil
}

// arrive is the kernel's part: joined datagrams in the last buffers of a batch.
func (r *receiver) arrive(sent []ipv6.Message) {
	for i := range r.msgs {
		r.msgs[i].Buffers[0], r.msgs[i].N, r.msgs[i].NN = r.buffers[i], 0, 0
		r.msgs[i].OOB = r.msgs[i].OOB[:0]
	}
	for i := range sent {
		m := &r.msgs[batchSize-groSlots+i]
		m.N = copy(m.Buffers[0], sent[i].Buffers[0])
		if len(sent[i].OOB) > 0 {
			m.OOB = append(m.OOB, sent[i].OOB...)
			binary.LittleEndian.PutUint32(m.OOB[12:], udpGRO)
			m.NN = len(m.OOB)
		}
	}
}

// udpGRO is the type of the control message that says how long the datagrams
// are; UDP_SEGMENT, which the sender says it with, is one less.
const udpGRO = 104

func (r *receiver) burst() (int, error) {
	n, err := splitCoalescedMessages(r.msgs, batchSize-groSlots, getGSOSize)
	if err != nil {
		return 0, err
	}
	r.packets = r.packets[:0]
	for i := range n {
		packet := r.open(r.buffers[i][:r.msgs[i].N])
		if packet == nil || r.address(packet, device.IPv4offsetSrc, device.IPv6offsetSrc) != r.peer {
			continue
		}
		r.packets = append(r.packets, r.buffers[i][:contentAt+len(packet)])
	}
	r.toWrite = r.toWrite[:0]
	err = handleGRO(r.packets, contentAt, r.tcp, r.udp, true, &r.toWrite)
	resetTCP(r.tcp)
	resetUDP(r.udp)
	return len(r.packets), err
}

// open returns the inner packet without padding, or nil.
func (r *receiver) open(message []byte) []byte {
	counter := binary.LittleEndian.Uint64(message[counterAt:])
	binary.LittleEndian.PutUint64(r.nonce[4:], counter)
	content := message[contentAt:]
	packet, err := r.aead.Open(content[:0], r.nonce[:], content, nil)
	if err != nil || !r.filter.ValidateCounter(counter, device.RejectAfterMessages) || len(packet) < 20 {
		return nil
	}
	length := int(binary.BigEndian.Uint16(packet[device.IPv4offsetTotalLength:]))
	if packet[0]>>4 == 6 {
		length = int(binary.BigEndian.Uint16(packet[device.IPv6offsetPayloadLength:])) + ipv6.HeaderLen
	}
	if length > len(packet) {
		return nil
	}
	return packet[:length]
}
