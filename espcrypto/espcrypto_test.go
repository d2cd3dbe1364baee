package espcrypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// suites are all that there are, each without and with ESN.
func suites() (all []Suite) {
	for _, bits := range []uint16{128, 192, 256} {
		all = append(all, Suite{Encr: 20, KeyBits: bits})
		for _, integ := range []uint16{12, 13, 14} {
			all = append(all, Suite{Encr: 12, KeyBits: bits, Integ: integ})
		}
	}
	all = append(all, Suite{Encr: 28})
	for _, s := range slices.Clone(all) {
		s.ESN = true
		all = append(all, s)
	}
	return all
}

func forSuites(t *testing.T, run func(t *testing.T, s Suite)) {
	for _, s := range suites() {
		t.Run(s.name(), func(t *testing.T) { run(t, s) })
	}
}

func (s Suite) name() string {
	name := map[uint16]string{12: "AES-CBC", 20: "AES-GCM", 28: "ChaCha20-Poly1305"}[s.Encr]
	if s.KeyBits != 0 {
		name += fmt.Sprintf("-%d", s.KeyBits)
	}
	if s.Integ != 0 {
		name += map[uint16]string{12: "+SHA2-256-128", 13: "+SHA2-384-192", 14: "+SHA2-512-256"}[s.Integ]
	}
	if s.ESN {
		name += "+ESN"
	}
	return name
}

const testSPI = 0xc0ffee42

// pair is an SA with both its ends.
type pair struct {
	Suite
	keys Keys
	out  *Outbound
	in   *Inbound
}

func newPair(t testing.TB, s Suite) *pair {
	t.Helper()
	encr, integ, err := s.KeyLens()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(uint64(encr), uint64(integ)))
	p := &pair{Suite: s, keys: Keys{Encr: random(rng, encr), Integ: random(rng, integ)}}
	if p.out, err = NewOutbound(testSPI, s, p.keys); err != nil {
		t.Fatal(err)
	}
	if p.in, err = NewInbound(testSPI, s, p.keys, 1024); err != nil {
		t.Fatal(err)
	}
	return p
}

// segment cuts an inner packet in two and puts the head where it belongs.
func (p *pair) segment(inner []byte, head int) Segment {
	head = min(head, len(inner))
	packet := make([]byte, p.PacketLen(len(inner)))
	copy(packet[p.InnerOffset():], inner[:head])
	return Segment{Packet: packet, HeadLen: head, Body: slices.Clone(inner[head:]), NextHeader: nextHeader(inner)}
}

func nextHeader(inner []byte) uint8 {
	if len(inner) > 0 && inner[0]>>4 == 6 {
		return NextHeaderIPv6
	}
	return NextHeaderIPv4
}

// seal makes one ESP packet an inner packet.
func (p *pair) seal(t testing.TB, inners ...[]byte) (packets [][]byte) {
	t.Helper()
	var batch []Segment
	for _, inner := range inners {
		batch = append(batch, p.segment(inner, 40))
	}
	if err := p.out.Seal(batch); err != nil {
		t.Fatal(err)
	}
	for _, s := range batch {
		packets = append(packets, s.Packet)
	}
	return packets
}

// open opens copies of packets and says what became of them.
func (p *pair) open(packets ...[]byte) []Opened {
	out := make([]Opened, len(packets))
	var copies [][]byte
	for _, packet := range packets {
		copies = append(copies, slices.Clone(packet))
	}
	p.in.Open(copies, out)
	return out
}

func (p *pair) wantDrop(t testing.TB, want Drop, packet []byte, what string) {
	t.Helper()
	if got := p.open(packet)[0]; got.Drop != want || want != 0 && got.Inner != nil {
		t.Errorf("%s: %v, not %v", what, got.Drop, want)
	}
}

// reference seals one packet with the standard library alone, from RFC 4303
// and the suites' RFCs. text is the inner packet with its trailer.
func (p *pair) reference(seq uint64, iv, text []byte) []byte {
	header := binary.BigEndian.AppendUint32(nil, testSPI)
	packet := slices.Concat(binary.BigEndian.AppendUint32(header, uint32(seq)), iv)
	aad := binary.BigEndian.AppendUint32(slices.Clone(header), uint32(seq))
	if p.ESN {
		aad = binary.BigEndian.AppendUint64(slices.Clone(header), seq)
	}
	if p.Encr != 12 {
		aead, salt := p.standardAEAD()
		return aead.Seal(packet, slices.Concat(salt, iv), text, aad)
	}
	block, err := aes.NewCipher(p.keys.Encr)
	if err != nil {
		panic(err)
	}
	text = slices.Clone(text)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
	packet = append(packet, text...)
	mac := hmac.New(hmacs[p.Integ].hash, p.keys.Integ)
	mac.Write(packet)
	if p.ESN {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(seq>>32)))
	}
	return append(packet, mac.Sum(nil)[:len(p.keys.Integ)/2]...)
}

func (p *pair) standardAEAD() (aead cipher.AEAD, salt []byte) {
	key, salt := p.keys.Encr[:len(p.keys.Encr)-4], p.keys.Encr[len(p.keys.Encr)-4:]
	var err error
	if p.Encr == 28 {
		aead, err = chacha20poly1305.New(key)
	} else {
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil {
			aead, err = cipher.NewGCM(block)
		}
	}
	if err != nil {
		panic(err)
	}
	return aead, salt
}

// trailer is inner with padding to the suite's blocks.
func (p *pair) trailer(inner []byte) []byte {
	block := 4
	if p.Encr == 12 {
		block = 16
	}
	text := slices.Clone(inner)
	for n := byte(1); (len(text)+2)%block != 0; n++ {
		text = append(text, n)
	}
	return append(text, byte(len(text)-len(inner)), nextHeader(inner))
}

// inner is an inner packet of n bytes, or what of one fits.
func inner(rng *rand.Rand, n int) []byte {
	b := random(rng, n)
	if n > 0 {
		b[0] = []byte{0x45, 0x60}[rng.IntN(2)]
	}
	return b
}

func random(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for k := range b {
		b[k] = byte(rng.Uint32())
	}
	return b
}

// TestSealIsTheStandardLibrarys seals inner packets of every length up to 2048,
// cut behind usual headers, in batches, and compares each with the reference.
func TestSealIsTheStandardLibrarys(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		t.Parallel()
		p := newPair(t, s)
		rng := rand.New(rand.NewPCG(1, 1))
		start := uint64(0)
		if s.ESN {
			start = 1<<32 - 3000 // so that the high half matters
		}
		p.out.sequence.Store(start)
		var inners [][]byte
		var batch []Segment
		for n := range 2049 {
			for _, head := range []int{20, 40, 52} {
				inners = append(inners, inner(rng, n))
				batch = append(batch, p.segment(inners[len(inners)-1], head))
			}
		}
		bodies := make([][]byte, len(batch))
		for k := range batch {
			bodies[k] = slices.Clone(batch[k].Body)
		}
		for part := range slices.Chunk(batch, 44) {
			if err := p.out.Seal(part); err != nil {
				t.Fatal(err)
			}
		}
		for k, segment := range batch {
			seq, iv := start+1+uint64(k), segment.Packet[8:p.InnerOffset()]
			if s.Encr != 12 && binary.BigEndian.Uint64(iv) != seq {
				t.Fatalf("IV of packet %d is %x", seq, iv)
			}
			if want := p.reference(seq, iv, p.trailer(inners[k])); !bytes.Equal(segment.Packet, want) {
				t.Fatalf("%d bytes, head %d: %x, not %x", len(inners[k]), segment.HeadLen, segment.Packet, want)
			}
			if !bytes.Equal(segment.Body, bodies[k]) {
				t.Fatalf("%d bytes: body written to", len(inners[k]))
			}
		}
	})
}

// TestRoundTrip sends random batches, loses and reorders some packets, and gets
// every other one back as it was.
func TestRoundTrip(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		t.Parallel()
		p := newPair(t, s)
		rng := rand.New(rand.NewPCG(2, 2))
		var packets, bytesIn uint64
		for range 100 {
			var inners [][]byte
			for range 1 + rng.IntN(50) {
				inners = append(inners, inner(rng, 1+rng.IntN(3000)))
			}
			sealed := p.seal(t, inners...)
			order := rng.Perm(len(sealed))[rng.IntN(len(sealed)):]
			var arrived [][]byte
			for _, k := range order {
				arrived = append(arrived, sealed[k])
			}
			for k, opened := range p.open(arrived...) {
				want := inners[order[k]]
				if opened.Drop != 0 || !bytes.Equal(opened.Inner, want) || opened.NextHeader != nextHeader(want) {
					t.Fatalf("%d bytes: %v, %d bytes, next header %d", len(want), opened.Drop, len(opened.Inner), opened.NextHeader)
				}
				packets++
				bytesIn += uint64(len(want))
			}
		}
		if got := p.in.Stats(); got.Packets != packets || got.Bytes != bytesIn || got.Sequence != p.in.window.Top() {
			t.Errorf("%+v, not %d packets of %d bytes", got, packets, bytesIn)
		}
	})
}

// TestLengths: PacketLen and MaxInner are each other's reverse, and InnerOffset
// and the growth are those of the RFCs.
func TestLengths(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		offset, block, icv := 16, 4, 16
		if s.Encr == 12 {
			offset, block, icv = 24, 16, map[uint16]int{12: 16, 13: 24, 14: 32}[s.Integ]
		}
		if s.InnerOffset() != offset {
			t.Errorf("inner packet at %d, not %d", s.InnerOffset(), offset)
		}
		for n := range 9001 {
			if got, want := s.PacketLen(n), offset+(n+2+block-1)/block*block+icv; got != want {
				t.Fatalf("%d bytes make %d, not %d", n, got, want)
			}
			if most := s.MaxInner(n); most != 0 && (s.PacketLen(most) > n || s.PacketLen(most+1) <= n) {
				t.Fatalf("%d bytes said to be the most that fit in %d", most, n)
			} else if most == 0 && s.PacketLen(1) <= n {
				t.Fatalf("nothing said to fit in %d", n)
			}
		}
		if s.MaxInner(-1) != 0 {
			t.Error("something fits in less than nothing")
		}
	})
}

func TestKeyLens(t *testing.T) {
	for s, want := range map[Suite][2]int{
		{Encr: 20, KeyBits: 128}:            {20, 0},
		{Encr: 20, KeyBits: 192}:            {28, 0},
		{Encr: 20, KeyBits: 256}:            {36, 0},
		{Encr: 28}:                          {36, 0},
		{Encr: 12, KeyBits: 128, Integ: 12}: {16, 32},
		{Encr: 12, KeyBits: 192, Integ: 13}: {24, 48},
		{Encr: 12, KeyBits: 256, Integ: 14}: {32, 64},
	} {
		encr, integ, err := s.KeyLens()
		if err != nil || [2]int{encr, integ} != want {
			t.Errorf("%+v: %d, %d, %v", s, encr, integ, err)
		}
	}
}

// TestUnsupported: what is not in the list of suites is refused everywhere.
func TestUnsupported(t *testing.T) {
	known := suites()
	for encr := range uint16(64) {
		for _, bits := range []uint16{0, 1, 64, 128, 160, 192, 256, 512, 65535} {
			for _, integ := range []uint16{0, 1, 2, 5, 12, 13, 14, 15, 1024, 65535} {
				s := Suite{Encr: encr, KeyBits: bits, Integ: integ}
				_, _, err := s.KeyLens()
				if slices.Contains(known, s) != (err == nil) {
					t.Errorf("%+v: %v", s, err)
				}
				if err == nil {
					continue
				}
				s.PacketLen(100)
				s.MaxInner(100)
				_, outErr := NewOutbound(testSPI, s, Keys{})
				_, inErr := NewInbound(testSPI, s, Keys{}, 0)
				for _, err := range []error{err, outErr, inErr} {
					if !errors.Is(err, ErrUnsupported) {
						t.Errorf("%+v: %v", s, err)
					}
				}
			}
		}
	}
}

// TestOddKeysAndSPIs: refused, without a word of the key.
func TestOddKeysAndSPIs(t *testing.T) {
	forSuites(t, func(t *testing.T, s Suite) {
		good := newPair(t, s).keys
		for _, k := range []Keys{
			{}, {Encr: good.Encr}, {Integ: good.Integ},
			{Encr: good.Encr[1:], Integ: good.Integ},
			{Encr: append(slices.Clone(good.Encr), 0), Integ: good.Integ},
			{Encr: good.Encr, Integ: append(slices.Clone(good.Integ), 0)},
		} {
			if len(k.Encr) == len(good.Encr) && len(k.Integ) == len(good.Integ) {
				continue
			}
			_, err := NewOutbound(testSPI, s, k)
			if !errors.Is(err, ErrKeyLength) || strings.Contains(err.Error(), fmt.Sprintf("%x", good.Encr[:4])) {
				t.Errorf("%d and %d bytes of key: %v", len(k.Encr), len(k.Integ), err)
			}
			if _, err = NewInbound(testSPI, s, k, 0); !errors.Is(err, ErrKeyLength) {
				t.Errorf("%d and %d bytes of key: %v", len(k.Encr), len(k.Integ), err)
			}
		}
		for _, spi := range []uint32{0, 1, 255} {
			if _, err := NewOutbound(spi, s, good); !errors.Is(err, ErrSPI) {
				t.Errorf("SPI %d: %v", spi, err)
			}
		}
		if _, err := NewOutbound(256, s, good); err != nil {
			t.Error(err)
		}
	})
}

func TestDropNames(t *testing.T) {
	seen := map[string]bool{"": true, "unknown": true}
	for d := range Drop(NumDrops) {
		if seen[d.String()] {
			t.Errorf("name %q of drop %d is empty or taken", d, d)
		}
		seen[d.String()] = true
	}
	if got := Drop(255).String(); got != "unknown" {
		t.Errorf("drop 255 is %q", got)
	}
	if DropDummy+1 != NumDrops {
		t.Errorf("%d drops, not %d", DropDummy+1, NumDrops)
	}
}
