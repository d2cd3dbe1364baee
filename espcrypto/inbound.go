package espcrypto

import (
	"encoding/binary"
	"slices"
	"sync/atomic"

	"culvert/espcrypto/aesgcm"
	"culvert/espcrypto/replay"
)

// DefaultWindow is a replay window for a gateway, in packets: a few
// milliseconds at 10 Gbit/s.
const DefaultWindow = 4096

// Inbound is the receiving end of an SA. One goroutine opens with it.
type Inbound struct {
	sa
	window                   *replay.Window
	sequence, packets, bytes atomic.Uint64
}

// NewInbound makes the receiving end of an SA, with a replay window of that
// many packets (see DefaultWindow), but not less than replay.MinSize. It fails with ErrSPI,
// ErrUnsupported or ErrKeyLength.
func NewInbound(spi uint32, s Suite, k Keys, window int) (*Inbound, error) {
	a, err := newSA(spi, s, k)
	if err != nil {
		return nil, err
	}
	return &Inbound{sa: a, window: replay.New(window)}, nil
}

// Stats may be called from any goroutine.
func (i *Inbound) Stats() Stats {
	return Stats{i.packets.Load(), i.bytes.Load(), i.sequence.Load()}
}

// Open decrypts ESP packets of this SA in place and writes to out, which has
// room for as many, what became of each. The order is RFC 4303 section 3.4's:
// length, replay check, authentication, replay commit, padding, next header;
// every packet stands or falls alone. The content of a dropped packet is lost.
func (i *Inbound) Open(packets [][]byte, out []Opened) {
	out = out[:len(packets)]
	i.batch = slices.Grow(i.batch[:0], len(packets))
	for k, packet := range packets {
		out[k].Inner, out[k].NextHeader, out[k].Drop = nil, 0, i.admit(packet)
	}
	i.transform.Open(i.batch)
	var admitted, count, bytes int
	for k := range out {
		if out[k].Drop != 0 {
			continue
		}
		i.accept(&i.batch[admitted], &out[k])
		admitted++
		if out[k].Drop == 0 {
			count++
			bytes += len(out[k].Inner)
		}
	}
	i.packets.Add(uint64(count))
	i.bytes.Add(uint64(bytes))
	i.sequence.Store(i.window.Top())
}

// admit queues a packet for authentication unless its length, SPI or number speaks
// against it.
func (i *Inbound) admit(packet []byte) Drop {
	text := len(packet) - i.InnerOffset() - i.icv
	if text < trailerLen || text%i.align != 0 {
		return DropTruncated
	}
	if binary.BigEndian.Uint32(packet) != i.spi {
		return DropAuthenticationFailed // was not sealed for this SA, whatever the keys
	}
	seq := uint64(binary.BigEndian.Uint32(packet[4:]))
	if i.esn {
		seq = i.window.Extend(uint32(seq))
	}
	if drop := verdicts[i.window.Check(seq)]; drop != 0 {
		return drop
	}
	i.batch = i.batch[:len(i.batch)+1] // Open made room
	p := &i.batch[len(i.batch)-1]
	p.Text = packet[i.textOffset:]
	p.IV = binary.BigEndian.Uint64(packet[headerLen:])
	i.cover(p, seq)
	return 0
}

var verdicts = [...]Drop{replay.Fresh: 0, replay.Replayed: DropReplayed, replay.Stale: DropStale}

// accept judges a packet that has been through authentication.
func (i *Inbound) accept(p *aesgcm.Packet, o *Opened) {
	if !p.OK {
		o.Drop = DropAuthenticationFailed
		return
	}
	if o.Drop = verdicts[i.window.Commit(i.number(p))]; o.Drop == 0 {
		o.unwrap(p.Text[i.InnerOffset()-i.textOffset : len(p.Text)-i.icv])
	}
}

// unwrap takes the trailer off a plaintext of at least its length.
func (o *Opened) unwrap(text []byte) {
	end := len(text) - trailerLen
	padLen := int(text[end])
	o.NextHeader = text[end+1]
	switch {
	case o.NextHeader == NextHeaderDummy: // RFC 4303 section 2.6
		o.Drop = DropDummy
	case padLen > end || !paddingOK(text[end-padLen:end]):
		o.Drop = DropBadPadding
	case !carries(o.NextHeader, text[:end-padLen]):
		o.Drop = DropBadNextHeader
	default:
		o.Inner = text[:end-padLen]
	}
}

// paddingOK inspects the padding as RFC 4303 section 2.4 asks: 1, 2, 3, ...
func paddingOK(padding []byte) bool {
	for k, b := range padding {
		if b != byte(k+1) {
			return false
		}
	}
	return true
}

// carries tells whether inner starts like the IP version that nextHeader announces.
func carries(nextHeader uint8, inner []byte) bool {
	if len(inner) == 0 {
		return false
	}
	version := inner[0] >> 4
	return nextHeader == NextHeaderIPv4 && version == 4 || nextHeader == NextHeaderIPv6 && version == 6
}
