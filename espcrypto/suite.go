package espcrypto

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"culvert/espcrypto/aesgcm"
)

// Suite is what IKE negotiates for a child SA, in IANA's numbers (IKEv2
// transform types 1, 3 and 5). Supported are AES-GCM with a 16-byte ICV
// (RFC 4106), ChaCha20-Poly1305 (RFC 7634), and AES-CBC with HMAC-SHA2
// (RFC 3602, RFC 4868).
type Suite struct {
	Encr    uint16 // 12 AES-CBC, 20 AES-GCM-16, 28 ChaCha20-Poly1305
	KeyBits uint16 // 128, 192, 256; 0 for ChaCha20-Poly1305
	Integ   uint16 // 12, 13, 14 beside AES-CBC; 0 for an AEAD
	ESN     bool   // extended (64-bit) sequence numbers
}

const (
	encrAESCBC           = 12
	encrAESGCM16         = 20
	encrChaCha20Poly1305 = 28

	headerLen  = 8 // SPI and sequence number
	trailerLen = 2 // pad length and next header
	saltLen    = 4 // behind an AEAD's key
)

// Layout is what a suite makes of a packet: its methods without finding it out
// anew each time. The zero Layout is that of an unsupported suite.
type Layout struct { // in bytes; keys include the salt
	encrKey, integKey, iv, icv, align int
}

// Layout is for who asks for the lengths of every packet.
func (s Suite) Layout() Layout {
	aes := s.KeyBits == 128 || s.KeyBits == 192 || s.KeyBits == 256
	switch {
	case s.Encr == encrAESGCM16 && aes && s.Integ == 0:
		return Layout{encrKey: int(s.KeyBits)/8 + saltLen, iv: 8, icv: aesgcm.TagLen, align: 4}
	case s.Encr == encrChaCha20Poly1305 && s.KeyBits == 0 && s.Integ == 0:
		return Layout{encrKey: chacha20poly1305.KeySize + saltLen, iv: 8, icv: chacha20poly1305.Overhead, align: 4}
	case s.Encr == encrAESCBC && aes:
		if h, ok := hmacs[s.Integ]; ok {
			return Layout{encrKey: int(s.KeyBits) / 8, integKey: h.key, iv: 16, icv: h.icv, align: 16}
		}
	}
	return Layout{}
}

// KeyLens gives the bytes of keying material that each direction takes, encr
// with the 4-byte salt of an AEAD. It fails with ErrUnsupported.
func (s Suite) KeyLens() (encr, integ int, err error) {
	l := s.Layout()
	if l.encrKey == 0 {
		return 0, 0, fmt.Errorf("%w: encryption %d with %d key bits, integrity %d", ErrUnsupported, s.Encr, s.KeyBits, s.Integ)
	}
	return l.encrKey, l.integKey, nil
}

// InnerOffset is where the inner packet starts in an ESP packet.
func (s Suite) InnerOffset() int {
	l := s.Layout()
	return l.InnerOffset()
}

// PacketLen is the length of the ESP packet around inner bytes.
func (s Suite) PacketLen(inner int) int {
	l := s.Layout()
	return l.PacketLen(inner)
}

// MaxInner is the reverse of PacketLen: the most inner bytes whose ESP packet
// is not longer than espLen, or 0.
func (s Suite) MaxInner(espLen int) int {
	l := s.Layout()
	return max(0, (espLen-l.InnerOffset()-l.icv)&^(l.align-1)-trailerLen)
}

// InnerOffset is Suite.InnerOffset.
func (l *Layout) InnerOffset() int { return headerLen + l.iv }

// PacketLen is Suite.PacketLen.
func (l *Layout) PacketLen(inner int) int {
	return l.InnerOffset() + (inner+trailerLen+l.align-1)&^(l.align-1) + l.icv
}

// transform seals and opens batches with one SA's keys. Text of a packet is
// what follows the IV, but for CBC, where it includes the IV.
type transform interface {
	Seal([]aesgcm.Packet)
	Open([]aesgcm.Packet)
}

// sa is what the two directions have in common.
type sa struct {
	Layout
	transform
	spi        uint32
	esn        bool
	textOffset int
	batch      []aesgcm.Packet // in work; the memory serves batch after batch
}

func newSA(spi uint32, s Suite, k Keys) (sa, error) {
	if spi < 256 {
		return sa{}, ErrSPI
	}
	encr, integ, err := s.KeyLens()
	if err != nil {
		return sa{}, err
	}
	if len(k.Encr) != encr || len(k.Integ) != integ {
		return sa{}, fmt.Errorf("%w: %d and %d bytes, not %d and %d", ErrKeyLength, len(k.Encr), len(k.Integ), encr, integ)
	}
	a := sa{Layout: s.Layout(), spi: spi, esn: s.ESN, textOffset: s.InnerOffset()}
	key, salt := k.Encr, [saltLen]byte{}
	if integ == 0 {
		key = k.Encr[:encr-saltLen]
		copy(salt[:], k.Encr[encr-saltLen:])
	}
	switch s.Encr {
	case encrAESGCM16:
		a.transform, err = aesgcm.New(key, salt)
	case encrChaCha20Poly1305:
		a.transform, err = newChaCha(key, salt)
	case encrAESCBC:
		a.transform, err = newCBC(key, k.Integ, hmacs[s.Integ])
		a.textOffset = headerLen
	}
	return a, err
}

// cover puts beside the text what the ICV covers besides: SPI and sequence
// number, all 64 bits of it with ESN (RFC 4106 section 5, RFC 7634 section 2.1).
func (a *sa) cover(p *aesgcm.Packet, seq uint64) {
	binary.BigEndian.PutUint32(p.AAD[:], a.spi)
	if a.esn {
		binary.BigEndian.PutUint64(p.AAD[4:], seq)
		p.AADLen = 12
	} else {
		binary.BigEndian.PutUint32(p.AAD[4:], uint32(seq))
		p.AADLen = 8
	}
}

// number is the sequence number that cover wrote.
func (a *sa) number(p *aesgcm.Packet) uint64 {
	if a.esn {
		return binary.BigEndian.Uint64(p.AAD[4:])
	}
	return uint64(binary.BigEndian.Uint32(p.AAD[4:]))
}
