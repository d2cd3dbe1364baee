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

const (
	// maxText is the most that counters of eight bits and the powers of H reach.
	maxText = 32 * 126
	// maxJobs bounds the time in one assembly call, which nothing can interrupt.
	maxJobs = 16
)

// schedule is what depends on the key alone.
type schedule struct {
	keys   [16][16]byte  // of the rounds; AES-128 has none in slots 2 to 5
	counts [256][16]byte // what a counter in the last byte makes of a block in the first round
	powers [260][16]byte // H^256 to H^1, as two little-endian halves; nothing behind
	sums   [260][16]byte // of those halves, twice
	long   uint64        // 1 with AES-256
}

// job is a packet as the assembly takes it.
type job struct {
	text  *byte
	body  *byte    // to seal: where the whole groups behind the first are read
	n     int      // bytes of text, 1 to maxText
	block [16]byte // salt and IV, and 0 for the counter
	// Associated data and the lengths: what is hashed before the text and behind.
	pair [4]uint64
	good bool // opened: whether the tag is the text's
}

// The offsets that the assembly counts on.
var (
	_ [256]struct{}   = [unsafe.Offsetof(schedule{}.counts)]struct{}{}
	_ [4352]struct{}  = [unsafe.Offsetof(schedule{}.powers)]struct{}{}
	_ [8512]struct{}  = [unsafe.Offsetof(schedule{}.sums)]struct{}{}
	_ [12672]struct{} = [unsafe.Offsetof(schedule{}.long)]struct{}{}
	_ [8]struct{}     = [unsafe.Offsetof(job{}.body)]struct{}{}
	_ [16]struct{}    = [unsafe.Offsetof(job{}.n)]struct{}{}
	_ [24]struct{}    = [unsafe.Offsetof(job{}.block)]struct{}{}
	_ [40]struct{}    = [unsafe.Offsetof(job{}.pair)]struct{}{}
	_ [72]struct{}    = [unsafe.Offsetof(job{}.good)]struct{}{}
	_ [80]struct{}    = [unsafe.Sizeof(job{})]struct{}{}
)

type vaes struct {
	schedule
	salt   [4]byte
	jobs   [maxJobs]job
	stdlib *stdlib // for what does not fit
}

// newVAES leaves AES-192 to the standard library: IPsec hardly knows it.
func newVAES(key []byte, salt [4]byte) (engine, error) {
	s, err := newStdlib(key, salt)
	if err != nil || len(key) == 24 {
		return s, err
	}
	v := &vaes{salt: salt, stdlib: s}
	if len(key) == 16 {
		expand128(v.start(), (*[16]byte)(key))
	} else {
		v.long = 1
		expand256(v.start(), (*[32]byte)(key))
	}
	v.hashKey(key)
	tables(v.start())
	return v, nil
}

// start is the schedule as the assembly takes it.
func (s *schedule) start() *byte { return &s.keys[0][0] }

// first is the first job as the assembly takes it.
func (v *vaes) first() *byte { return (*byte)(unsafe.Pointer(&v.jobs[0])) }

// hashKey puts H, the encryption of zeros, at the end of its powers. GHASH
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
	binary.LittleEndian.PutUint64(s.powers[255][:], low^carry)
	binary.LittleEndian.PutUint64(s.powers[255][8:], high^-carry&0xc2<<56)
}

func fits(p *Packet) bool { return len(p.Text) > TagLen && len(p.Text) <= maxText+TagLen }

func (v *vaes) seal(batch []Packet) {
	for len(batch) > 0 {
		n := v.collect(batch)
		for i := range n {
			v.jobs[i].body = batch[i].middle(v.jobs[i].n)
		}
		if n > 0 {
			sealVAES(v.start(), v.first(), n)
		} else {
			n = 1
			v.stdlib.seal(batch[:n])
		}
		batch = batch[n:]
	}
}

func (v *vaes) open(batch []Packet) {
	for len(batch) > 0 {
		n := v.collect(batch)
		if n == 0 {
			v.stdlib.open(batch[:1])
			batch = batch[1:]
			continue
		}
		openVAES(v.start(), v.first(), n)
		for i := range n {
			p := &batch[i]
			if p.OK = v.jobs[i].good; !p.OK {
				clear(p.Text)
			}
		}
		batch = batch[n:]
	}
}

// collect makes jobs of the first n packets, all that fit and no more than maxJobs.
func (v *vaes) collect(batch []Packet) (n int) {
	for n < min(len(batch), maxJobs) && fits(&batch[n]) {
		p, j := &batch[n], &v.jobs[n]
		j.text, j.n = unsafe.SliceData(p.Text), len(p.Text)-TagLen
		copy(j.block[:], v.salt[:])
		binary.BigEndian.PutUint64(j.block[4:], p.IV)
		var low uint64
		if p.AADLen == 12 {
			low = uint64(binary.BigEndian.Uint32(p.AAD[8:])) << 32
		}
		j.pair = [4]uint64{low, binary.BigEndian.Uint64(p.AAD[:]), 8 * uint64(j.n), 8 * uint64(p.AADLen)}
		n++
	}
	return n
}

// group is the text that the assembly works on at once.
const group = 256

// middle is where the assembly reads the whole groups of n bytes of text after
// the first, but for the last 1 to 256 bytes. What is around them is gathered in the text.
func (p *Packet) middle(n int) *byte {
	last := (n - 1) &^ (group - 1)
	if last <= group || p.Head > group || p.Head+len(p.Body) < last {
		p.Gather()
		return unsafe.SliceData(p.Text[min(group, n):])
	}
	from, to := group-p.Head, last-p.Head
	copy(p.Text[p.Head:], p.Body[:from])
	copy(p.Text[last:], p.Body[to:])
	return &p.Body[from]
}
