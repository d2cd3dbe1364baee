package aesgcm

import (
	"crypto/aes"
	"encoding/binary"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/cpu"
)

//go:generate go run -C gen . -pkg aesgcm -out ../asm_amd64.s -stubs ../asm_amd64.go

// ableVAES: VAES and VPCLMULQDQ on 256-bit registers, without AVX-512, to which
// package cpu ties them.
var ableVAES = cpu.X86.HasAVX2 && cpu.X86.HasAES && leaf7()&(1<<9|1<<10) == 1<<9|1<<10

// fits bounds the time in one assembly call, which nothing can interrupt.
func fits(p *Packet) bool { return len(p.Text) >= TagLen && len(p.Text) <= 64<<10 }

// schedule is what depends on the key and the salt alone.
type schedule struct {
	keys      [15][32]byte // of the rounds, twice each; AES-128 has none in slots 1 to 4
	powers    [18][16]byte // H^17 to H^1, from slot 1 on, as two little-endian halves
	karatsuba [18][16]byte // the sum of those halves, twice
	long      uint64       // 1 with AES-256
	salt      uint64       // in the upper half
}

// The offsets that the assembly counts on.
var (
	_ [480]struct{}  = [unsafe.Offsetof(schedule{}.powers)]struct{}{}
	_ [768]struct{}  = [unsafe.Offsetof(schedule{}.karatsuba)]struct{}{}
	_ [1056]struct{} = [unsafe.Offsetof(schedule{}.long)]struct{}{}
	_ [1064]struct{} = [unsafe.Offsetof(schedule{}.salt)]struct{}{}
)

type vaes struct {
	schedule
	stdlib *stdlib // for what does not fit
}

// newVAES leaves AES-192 to the standard library: IPsec hardly knows it.
func newVAES(key []byte, salt [4]byte) (engine, error) {
	s, err := newStdlib(key, salt)
	if err != nil || len(key) == 24 {
		return s, err
	}
	v := &vaes{stdlib: s}
	v.salt = uint64(binary.BigEndian.Uint32(salt[:])) << 32
	if len(key) == 16 {
		expand128(v.start(), (*[16]byte)(key))
	} else {
		v.long = 1
		expand256(v.start(), (*[32]byte)(key))
	}
	v.hashKey(key)
	return v, nil
}

// start is the schedule as the assembly takes it.
func (s *schedule) start() *byte { return &s.keys[0][0] }

// hashKey fills in the powers of H, which is the encryption of zeros. GHASH
// writes its bits the other way round, so that a product of two such numbers is
// one place short: every power is stored shifted by one, modulo the polynomial.
func (s *schedule) hashKey(key []byte) {
	var h [16]byte
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // newStdlib took it
	}
	block.Encrypt(h[:], h[:])
	high, low := binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:])
	low, carry := bits.Add64(low, low, 0)
	high, carry = bits.Add64(high, high, carry)
	binary.LittleEndian.PutUint64(s.powers[17][:], low^carry)
	binary.LittleEndian.PutUint64(s.powers[17][8:], high^-carry&0xc2<<56)
	powers(s.start())
}

func (v *vaes) seal(batch []Packet) {
	for i := range batch {
		p := &batch[i]
		if !fits(p) {
			v.stdlib.seal(batch[i : i+1])
			continue
		}
		n := len(p.Text) - TagLen
		high, low := p.associated()
		sealVAES(v.start(), unsafe.SliceData(p.Text), n, high, low, 8*uint64(p.AADLen), p.IV, p.middle(n))
	}
}

func (v *vaes) open(batch []Packet) {
	for i := range batch {
		p := &batch[i]
		if !fits(p) {
			v.stdlib.open(batch[i : i+1])
			continue
		}
		n := len(p.Text) - TagLen
		high, low := p.associated()
		if p.OK = openVAES(v.start(), unsafe.SliceData(p.Text), n, high, low, 8*uint64(p.AADLen), p.IV); !p.OK {
			clear(p.Text)
		}
	}
}

// associated is the block of associated data as a number.
func (p *Packet) associated() (high, low uint64) {
	high = binary.BigEndian.Uint64(p.AAD[:])
	if p.AADLen == 12 {
		low = uint64(binary.BigEndian.Uint32(p.AAD[8:])) << 32
	}
	return high, low
}

// group is the text that the assembly works on at once.
const group = 256

// middle is where the assembly reads the whole groups of n bytes of text after
// the first. What is around them is gathered in the text.
func (p *Packet) middle(n int) *byte {
	last := n &^ (group - 1)
	if last <= group || p.Head > group || p.Head+len(p.Body) < last {
		p.Gather()
		return unsafe.SliceData(p.Text[min(group, n):])
	}
	from, to := group-p.Head, last-p.Head
	copy(p.Text[p.Head:], p.Body[:from])
	copy(p.Text[last:], p.Body[to:])
	return &p.Body[from]
}
