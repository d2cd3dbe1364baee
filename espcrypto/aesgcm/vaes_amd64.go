package aesgcm

import (
	"crypto/aes"
	"encoding/binary"
	"math/bits"
	"runtime"
	"unsafe"

	"golang.org/x/sys/cpu"
)

//go:generate go run -C gen . -pkg aesgcm -out ../asm_amd64.s -stubs ../asm_amd64.go

// ableVAES: VAES and VPCLMULQDQ on 256-bit registers, without AVX-512, to which
// package cpu ties them.
var ableVAES = cpu.X86.HasAVX2 && cpu.X86.HasBMI2 && cpu.X86.HasAES && leaf7()&(1<<9|1<<10) == 1<<9|1<<10

// ableAVX512: the same on 512-bit registers, and masks for bytes.
var ableAVX512 = ableVAES && runtime.GOOS == "linux" &&
	cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ

const (
	// maxText is the most that counters of eight bits and the powers of H reach.
	maxText = 32 * 126
	// headLen is the start of a text that is read from nowhere else.
	headLen = 64
	// maxJobs bounds the time in one assembly call, which nothing can interrupt.
	maxJobs = 16
)

// schedule is what depends on the key alone.
type schedule struct {
	keys   [18][16]byte  // of the rounds; AES-128 has none in slots 2 to 5
	counts [256][16]byte // what a counter in the last byte makes of a block in the first round
	powers [260][16]byte // H^256 to H^1, as two little-endian halves; nothing behind
	sums   [260][16]byte // of those halves, twice
	long   uint64        // 1 with AES-256
}

// job is a packet as the assembly takes it.
type job struct {
	text  *byte
	joint *byte    // where the vector behind headLen is read, in the text or the body
	body  *byte    // where what follows is read, but for the last vector
	n     int      // bytes of text, 1 to maxText
	block [16]byte // salt and IV, and 0 for the counter
	// Associated data and the lengths: what is hashed before the text and behind.
	pair [4]uint64
	good bool // opened: whether the tag is the text's
}

// The offsets that the assembly counts on.
var (
	_ [288]struct{}   = [unsafe.Offsetof(schedule{}.counts)]struct{}{}
	_ [4384]struct{}  = [unsafe.Offsetof(schedule{}.powers)]struct{}{}
	_ [8544]struct{}  = [unsafe.Offsetof(schedule{}.sums)]struct{}{}
	_ [12704]struct{} = [unsafe.Offsetof(schedule{}.long)]struct{}{}
	_ [8]struct{}     = [unsafe.Offsetof(job{}.joint)]struct{}{}
	_ [16]struct{}    = [unsafe.Offsetof(job{}.body)]struct{}{}
	_ [24]struct{}    = [unsafe.Offsetof(job{}.n)]struct{}{}
	_ [32]struct{}    = [unsafe.Offsetof(job{}.block)]struct{}{}
	_ [48]struct{}    = [unsafe.Offsetof(job{}.pair)]struct{}{}
	_ [80]struct{}    = [unsafe.Offsetof(job{}.good)]struct{}{}
	_ [88]struct{}    = [unsafe.Sizeof(job{})]struct{}{}
)

type vaes struct {
	schedule
	salt uint32 // as it lies in memory
	jobs [maxJobs]job
	width
	stdlib *stdlib // for what does not fit
}

// width is how wide the vectors are. Of a text of more than 8 vectors, the first
// headLen bytes and the last vector are read where they are written, the vector
// behind headLen from the joint, and all else from the body.
type width struct {
	vector             int // bytes
	sealJobs, openJobs func(k, jobs *byte, n int)
}

func newVAES(key []byte, salt [4]byte) (engine, error) {
	return newVectors(key, salt, width{32, seal256, open256})
}

func newAVX512(key []byte, salt [4]byte) (engine, error) {
	return newVectors(key, salt, width{64, seal512, open512})
}

// newVectors leaves AES-192 to the standard library: IPsec hardly knows it.
func newVectors(key []byte, salt [4]byte, w width) (engine, error) {
	s, err := newStdlib(key, salt)
	if err != nil || len(key) == 24 {
		return s, err
	}
	v := &vaes{salt: binary.LittleEndian.Uint32(salt[:]), width: w, stdlib: s}
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

func (v *vaes) seal(batch []Packet) {
	for len(batch) > 0 {
		n := v.collect(batch, true)
		if n > 0 {
			v.sealJobs(v.start(), v.first(), n)
		} else {
			n = 1
			v.stdlib.seal(batch[:n])
		}
		batch = batch[n:]
	}
}

func (v *vaes) open(batch []Packet) {
	for len(batch) > 0 {
		n := v.collect(batch, false)
		if n > 0 {
			v.openJobs(v.start(), v.first(), n)
		} else {
			n = 1
			v.stdlib.open(batch[:n])
			v.jobs[0].good = batch[0].OK
		}
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
func (v *vaes) collect(batch []Packet, seal bool) (n int) {
	for n < min(len(batch), maxJobs) {
		p, j := &batch[n], &v.jobs[n]
		j.n = len(p.Text) - TagLen
		if j.n <= 0 || j.n > maxText {
			break
		}
		j.text = unsafe.SliceData(p.Text)
		if seal {
			j.joint, j.body = p.gather(v.vector)
		} else {
			j.joint, j.body = p.inText(v.vector)
		}
		binary.LittleEndian.PutUint32(j.block[:], v.salt)
		binary.BigEndian.PutUint64(j.block[4:], p.IV)
		j.pair = [4]uint64{0, binary.BigEndian.Uint64(p.AAD[:]), 8 * uint64(j.n), 8 * uint64(p.AADLen)}
		if p.AADLen == 12 {
			j.pair[0] = uint64(binary.BigEndian.Uint32(p.AAD[8:])) << 32
		}
		n++
	}
	return n
}

// gather puts into the text what the assembly reads there: its start and the
// last 64 bytes of the body, or all of it. It returns the joint, and where the rest is.
func (p *Packet) gather(vector int) (joint, body *byte) {
	n, end := len(p.Text)-TagLen, p.Head+len(p.Body)
	if n <= 8*vector || p.Head > headLen+vector || len(p.Body) < headLen+vector || end < (n-1)&^(vector-1) {
		p.Gather()
		return p.inText(vector)
	}
	*(*[headLen]byte)(p.Text[p.Head:]) = *(*[headLen]byte)(p.Body)
	*(*[headLen]byte)(p.Text[end-headLen:]) = *(*[headLen]byte)(p.Body[len(p.Body)-headLen:])
	if p.Head > headLen {
		return &p.Text[headLen], &p.Body[headLen+vector-p.Head]
	}
	return &p.Body[headLen-p.Head], &p.Body[headLen+vector-p.Head]
}

// inText returns the joint and the rest of a text that is all in its place. Of
// a short one neither is read.
func (p *Packet) inText(vector int) (joint, body *byte) {
	n := len(p.Text) - TagLen
	return &p.Text[min(headLen, n)], &p.Text[min(headLen+vector, n)]
}
