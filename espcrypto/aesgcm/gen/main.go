// Command gen writes asm_amd64.s and its declarations, asm_amd64.go: AES-GCM
// with VAES and VPCLMULQDQ, on vectors of two blocks (AVX2) and of four (AVX-512).
// The package's vaes_amd64.go says what lies where and why; here stand the instructions.
//
// It is a module of its own, so that what it is made with is no dependency of
// the gateway.
package main

import (
	"fmt"
	"math/bits"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The layout of schedule and job in vaes_amd64.go, which checks it when it is
// compiled.
const (
	keysAt   = 0    // 15 round keys; AES-128 has none in slots 2 to 5
	countsAt = 288  // of each counter of 8 bits, what it does to a block after the first round
	powersAt = 4384 // 256 powers of H, downwards to the first, and room for a vector to reach beyond
	sumsAt   = 8544 // of each power the sum of its halves, in both halves
	longAt   = 12704

	textAt  = 0
	jointAt = 8
	bodyAt  = 16
	lenAt   = 24
	blockAt = 32
	pairAt  = 48
	goodAt  = 80
	headLen = 64 // of text, which is read from nowhere else
	jobLen  = 88

	powerCount = 256
	shortSkip  = 4
	lastKey    = 14

	vectors = 8 // of a group
)

// How wide vectors are, and which register is for what, all the way.
var (
	vectorLen, groupLen int
	state               []VecPhysical // counters becoming key stream
	key                 VecPhysical   // of the round
	lo, mid, hi         VecPhysical   // GHASH: the product so far, not reduced; and once reduced, hi's lane 0
	x, t                VecPhysical   // at work
	turner              VecPhysical   // a shuffle that turns a block round

	last = K1 // AVX-512: which bytes of the last vector are the text's

	k, job, jobs, text, body = RAX, RBX, RCX, RDI, RSI
	power, count, groups     = R8, R9, R10 // where in the tables, and how many groups are left
	end, tail, keep, scratch = R11, R12, R13, RDX
)

// useVectors sets the width in bytes.
func useVectors(width int) {
	vectorLen, groupLen = width, vectors*width
	of := []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15}
	if width == 64 {
		of = []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15}
	}
	state, key, lo, mid, hi, x, t, turner = of[:9], of[9], of[10], of[11], of[12], of[13], of[14], of[15]
}

func wide() bool { return vectorLen == 64 }

var (
	turned = constant("turned", repeat(0x08090a0b0c0d0e0f, 0x0001020304050607)...)
	poly   = constant("poly", repeat(1, 0xc200000000000000)...)
	only   = constant("only", ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), 0, 0, 0, 0) // read from 32-m, keeps m bytes
)

func constant(name string, words ...uint64) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i, w := range words {
		DATA(8*i, U64(w))
	}
	return m
}

// repeat fills 64 bytes.
func repeat(low, high uint64) []uint64 { return []uint64{low, high, low, high, low, high, low, high} }

func main() {
	ConstraintExpr("amd64")
	useVectors(32)
	cpuid()
	expand(128)
	expand(256)
	tables()
	for _, width := range []int{32, 64} {
		useVectors(width)
		crypt(true)
		crypt(false)
	}
	Generate()
}

func cpuid() {
	TEXT("leaf7", NOSPLIT, "func() (ecx uint32)")
	Doc("leaf7 gives ECX of CPUID leaf 7.")
	MOVL(U32(7), EAX)
	XORL(ECX, ECX)
	CPUID()
	Store(ECX, ReturnIndex(0))
	RET()
}

// expand is FIPS 197 section 5.2 with the instruction made for it, which has no
// table that could tell of the key through the cache.
func expand(bits int) {
	if bits == 128 {
		TEXT("expand128", NOSPLIT, "func(k *byte, key *[16]byte)")
		Doc("expand128 fills in the round keys.")
	} else {
		TEXT("expand256", NOSPLIT, "func(k *byte, key *[32]byte)")
		Doc("expand256 fills in the round keys.")
	}
	Pragma("noescape")
	Load(Param("k"), k)
	Load(Param("key"), text)
	slot := 0
	put := func(v VecPhysical) {
		if slot == 2 && bits == 128 {
			slot += shortSkip
		}
		VMOVDQU(v, roundKey(slot))
		slot++
	}
	// step makes the next key out of the one 128 or 256 bits ago.
	step := func(of, last VecPhysical, rcon, column uint64) {
		VAESKEYGENASSIST(U8(rcon), last, X4)
		VPSHUFD(U8(column), X4, X4)
		VPSLLDQ(Imm(4), of, X5)
		VPXOR(X5, of, of)
		VPSLLDQ(Imm(8), of, X5)
		VPXOR(X5, of, of)
		VPXOR(X4, of, of)
		put(of)
	}
	VMOVDQU(Mem{Base: text}, X0)
	put(X0)
	if bits == 128 {
		for _, rcon := range []uint64{1, 2, 4, 8, 16, 32, 64, 128, 0x1b, 0x36} {
			step(X0, X0, rcon, 0xff)
		}
	} else {
		VMOVDQU(Mem{Base: text, Disp: 16}, X1)
		put(X1)
		for _, rcon := range []uint64{1, 2, 4, 8, 16, 32} {
			step(X0, X1, rcon, 0xff)
			step(X1, X0, 0, 0xaa)
		}
		step(X0, X1, 64, 0xff)
	}
	VZEROALL()
	RET()
}

// What has a name of its own for each width.

func load(m Mem, v VecPhysical) {
	if wide() {
		VMOVDQU64(m, v)
	} else {
		VMOVDQU(m, v)
	}
}

func store(v VecPhysical, m Mem) {
	if wide() {
		VMOVDQU64(v, m)
	} else {
		VMOVDQU(v, m)
	}
}

func xor(a Op, b, sum VecPhysical) {
	if wide() {
		VPXORQ(a, b, sum)
	} else {
		VPXOR(a, b, sum)
	}
}

// spread loads a block into every lane.
func spread(m Mem, v VecPhysical) {
	if wide() {
		VBROADCASTI32X4(m, v)
	} else {
		VBROADCASTI128(m, v)
	}
}

// spreadFirst copies lane 0 into the others.
func spreadFirst(v VecPhysical) {
	if wide() {
		VSHUFI32X4(Imm(0), v, v, v)
	} else {
		VINSERTI128(Imm(1), v.AsX(), v, v)
	}
}

// lastLane stores it.
func lastLane(v VecPhysical, m Mem) {
	if wide() {
		VEXTRACTI32X4(Imm(3), v, m)
	} else {
		VEXTRACTI128(Imm(1), v, m)
	}
}

func roundKey(slot int) Mem { return Mem{Base: k, Disp: keysAt + 16*slot} }

// tables multiplies H by itself, from the last place upwards, and sends every
// counter through the first round.
func tables() {
	TEXT("tables", NOSPLIT, "func(k *byte)")
	Doc("tables fills in the powers of H, of which the last is there, the sums of their", "halves, and what the counters do.")
	Pragma("noescape")
	Load(Param("k"), k)
	const last = 16 * (powerCount - 1)
	h, sum := Mem{Base: k, Disp: powersAt + last}, Mem{Base: k, Disp: sumsAt + last}
	LEAQ(Mem{Base: k, Disp: last}, power)
	MOVL(U32(powerCount), end.As32())
	VMOVDQU(h, hi.AsX())
	Label("powers")
	VMOVDQU(hi.AsX(), Mem{Base: power, Disp: powersAt})
	VPSHUFD(Imm(0x4e), hi.AsX(), t.AsX())
	VPXOR(hi.AsX(), t.AsX(), t.AsX())
	VMOVDQU(t.AsX(), Mem{Base: power, Disp: sumsAt})
	VMOVDQA(hi.AsX(), x.AsX())
	product(h, sum) // by whatever is behind, for the other lane is 0
	reduce()
	SUBQ(Imm(16), power)
	DECQ(end)
	JNE(LabelRef("powers"))

	// A counter is the last byte of a block. In the first round, what one byte
	// makes of the others is added to what those make of each other.
	of := state[:3]
	VPXOR(t, t, t)
	VAESENC(t.AsX(), loaded(roundKey(0), of[0]).AsX(), of[1].AsX())
	LEAQ(Mem{Base: k, Disp: countsAt}, count)
	Label("counts")
	MOVQ(end, scratch)
	SHLQ(Imm(56), scratch)
	VMOVQ(scratch, x.AsX())
	VPSLLDQ(Imm(8), x.AsX(), x.AsX())
	VPXOR(of[0].AsX(), x.AsX(), x.AsX())
	VAESENC(t.AsX(), x.AsX(), x.AsX())
	VPXOR(of[1].AsX(), x.AsX(), x.AsX())
	VMOVDQU(x.AsX(), Mem{Base: count})
	ADDQ(Imm(16), count)
	INCQ(end)
	CMPQ(end, U32(256))
	JNE(LabelRef("counts"))
	VZEROALL()
	RET()
}

func loaded(m Mem, v VecPhysical) VecPhysical {
	VMOVDQU(m, v.AsX())
	return v
}

// stream is a sequence of instructions that may have others between them.
type stream []func()

func run(s stream) {
	for _, instruction := range s {
		instruction()
	}
}

// merge runs two streams evenly mixed, to keep the processor's units for AES and for
// products both busy.
func merge(a, b stream) {
	done := 0
	for i, instruction := range a {
		instruction()
		for ; done*len(a) < (i+1)*len(b); done++ {
			b[done]()
		}
	}
	run(b[done:])
}

// multiply adds x times powers to the product (Karatsuba), a block and a power a
// lane. It spoils x and t.
func multiply(power, sum Op) stream {
	return stream{
		func() { VPSHUFD(Imm(0x4e), x, t) },
		func() { xor(x, t, t) },
		func() { VPCLMULQDQ(Imm(0x00), sum, t, t) },
		func() { xor(t, mid, mid) },
		func() { VPCLMULQDQ(Imm(0x11), power, x, t) },
		func() { xor(t, hi, hi) },
		func() { VPCLMULQDQ(Imm(0x00), power, x, x) },
		func() { xor(x, lo, lo) },
	}
}

// product makes two lanes' product all there is.
func product(power, sum Op) {
	x, t := x.AsY(), t.AsY()
	VPSHUFD(Imm(0x4e), x, t)
	VPXOR(x, t, t)
	VPCLMULQDQ(Imm(0x00), sum, t, mid.AsY())
	VPCLMULQDQ(Imm(0x11), power, x, hi.AsY())
	VPCLMULQDQ(Imm(0x00), power, x, lo.AsY())
}

// reduce leaves in hi, lane 0, the sum of the lanes modulo the polynomial.
func reduce() {
	xor(lo, mid, mid)
	VPCLMULQDQ(Imm(0x10), poly, lo, t)
	VPSHUFD(Imm(0x4e), lo, lo)
	xor(hi, mid, mid)
	xor(t, lo, lo)
	xor(lo, mid, mid)
	VPCLMULQDQ(Imm(0x10), poly, mid, t)
	VPSHUFD(Imm(0x4e), mid, mid)
	xor(t, hi, hi)
	xor(mid, hi, hi)
	if wide() {
		VEXTRACTI64X4(Imm(1), hi, t.AsY())
		VPXOR(t.AsY(), hi.AsY(), hi.AsY())
	}
	VEXTRACTI128(Imm(1), hi.AsY(), t.AsX())
	VPXOR(t.AsX(), hi.AsX(), hi.AsX())
}

// powerOf is vector i of the tables from where power points.
func powerOf(i int) (of, sum Mem) {
	return Mem{Base: power, Disp: powersAt + vectorLen*i}, Mem{Base: power, Disp: sumsAt + vectorLen*i}
}

// hash adds ciphertext to the product: whole vectors from base, for the powers from index on.
func hash(base Register, disp, index, vectors int) (s stream) {
	for i := range vectors {
		s = append(s, func() { load(Mem{Base: base, Disp: disp + vectorLen*i}, x) })
		s = append(s, hashFrom(x, index+i)...)
	}
	return s
}

// hashFrom adds ciphertext that is in a register.
func hashFrom(v VecPhysical, index int) stream {
	of, sum := powerOf(index)
	return append(stream{func() { VPSHUFB(turner, v, x) }}, multiply(of, sum)...)
}

// encrypt makes the key stream of the counters from count on, of which the
// first round is in the tables but for what the packet's block adds, in key.
func (c *cryptor) encrypt(label string, of []VecPhysical) (s stream) {
	for i, v := range of {
		s = append(s, func() { xor(Mem{Base: count, Disp: countsAt + vectorLen*i}, key, v) })
	}
	round := func(slot int) (s stream) {
		s = append(s, func() { spread(roundKey(slot), key) })
		for _, v := range of {
			s = append(s, func() { VAESENC(key, v, v) })
		}
		return s
	}
	s = append(s, func() { // in one piece, for it is jumped over
		CMPQ(Mem{Base: k, Disp: longAt}, Imm(0))
		JEQ(LabelRef(label))
		for slot := 2; slot < 2+shortSkip; slot++ {
			run(round(slot))
		}
		Label(label)
	})
	for slot := 2 + shortSkip; slot < lastKey; slot++ {
		s = append(s, round(slot)...)
	}
	s = append(s, func() { spread(roundKey(lastKey), key) })
	for _, v := range of {
		s = append(s, func() { VAESENCLAST(key, v, v) })
	}
	return s
}

// turnOver makes plaintext into ciphertext, or the other way round, with the key
// stream. It is read from the body but for the first vectors and the last.
func turnOver(of []VecPhysical, src Register, at int) {
	for i, v := range of {
		from := Mem{Base: src, Disp: at + vectorLen*i}
		if src == body {
			from.Disp -= headLen + vectorLen
		}
		xor(from, v, v)
		store(v, Mem{Base: text, Disp: at + vectorLen*i})
	}
}

// cryptor writes a function. A text of more than a group goes
//
//	first  the block that hides the tag, and a group
//	main   whole groups
//	last   1 to 8 vectors, of which the last may end early
//
// and a shorter one goes all at once. Sealing hashes a group while it encrypts
// the next, opening hashes what it decrypts.
type cryptor struct {
	seal            bool
	base, mask, tag Mem // on the stack
}

func crypt(seal bool) {
	c := &cryptor{seal: seal}
	operation, after := "seal", "puts the tags behind them."
	if !seal {
		operation, after = "open", "tells of each whether the tag behind it is its own."
	}
	width := fmt.Sprint(8 * vectorLen)
	TEXT(operation+width, NOSPLIT, "func(k *byte, jobs *byte, n int)")
	Doc(operation + width + " " + operation + "s n texts, at least one, and " + after)
	Pragma("noescape")
	c.base, c.mask, c.tag = AllocLocal(16), AllocLocal(16), AllocLocal(16)
	Load(Param("k"), k)
	Load(Param("jobs"), job)
	Load(Param("n"), jobs)
	load(turned, turner)

	Label("job")
	c.begin()
	CMPQ(scratch, Imm(vectors))
	JLE(LabelRef("short"))
	c.long()
	Label("short")
	choose("short", scratch, 1, vectors)
	for q := 1; q <= vectors; q++ {
		Label(label("short", q))
		c.short(q)
		JMP(LabelRef("finish"))
	}
	Label("finish")
	c.finish()
	ADDQ(Imm(jobLen), job)
	DECQ(jobs)
	JNE(LabelRef("job"))
	VPXOR(t.AsX(), t.AsX(), t.AsX())
	VMOVDQU(t.AsX(), c.base)
	VMOVDQU(t.AsX(), c.mask)
	VZEROUPPER()
	RET()
}

func label(of string, q int) string { return of + string(rune('0'+q)) }

// choose jumps to the label of the number, which is a length and no secret.
func choose(of string, number Register, from, to int) {
	if from == to {
		JMP(LabelRef(label(of, from)))
		return
	}
	middle := (from + to) / 2
	below := of + "To" + string(rune('0'+middle))
	CMPQ(number, Imm(uint64(middle)))
	JLE(LabelRef(below))
	choose(of, number, middle+1, to)
	Label(below)
	choose(of, number, from, middle)
}

// begin readies a job: scratch is how many vectors its text has, tail what of the
// last is the text's or where its second half begins, power that of the first block.
func (c *cryptor) begin() {
	field(text, textAt)
	field(end, lenAt)
	base, of, sum := key, state[1], state[2]
	VMOVDQU(Mem{Base: job, Disp: blockAt}, base.AsX())
	VPXOR(roundKey(0), base.AsX(), base.AsX())
	VAESENC(roundKey(1), base.AsX(), base.AsX())
	VMOVDQU(base.AsX(), c.base)
	spreadFirst(base)

	LEAQ(Mem{Base: end, Disp: 15}, power)
	ANDQ(I8(-16), power)
	NEGQ(power)
	LEAQ(Mem{Base: k, Index: power, Scale: 1, Disp: 16 * (powerCount - 1)}, power)
	// In one lane associated data, whose power is the highest, in the other the
	// lengths, whose is the first.
	pairOf := func(table int, v VecPhysical) {
		VMOVDQU(Mem{Base: power, Disp: table - 16}, v.AsX())
		VINSERTI128(Imm(1), Mem{Base: k, Disp: table + 16*(powerCount-1)}, v.AsY(), v.AsY())
	}
	pairOf(powersAt, of)
	pairOf(sumsAt, sum)
	VMOVDQU(Mem{Base: job, Disp: pairAt}, x.AsY())
	product(of.AsY(), sum.AsY())

	LEAQ(Mem{Base: end, Disp: vectorLen - 1}, scratch)
	SHRQ(Imm(uint64(bits.TrailingZeros(uint(vectorLen)))), scratch)
	LEAQ(Mem{Base: end, Disp: -1}, tail)
	ANDQ(Imm(uint64(vectorLen-1)), tail)
	INCQ(tail)
	if wide() {
		MOVQ(I32(-1), groups)
		BZHIQ(tail, groups, groups)
		KMOVQ(groups, last)
	} else {
		LEAQ(only.Offset(vectorLen), keep)
		SUBQ(tail, keep)
		MOVL(U32(16), groups.As32())
		CMPQ(tail, groups)
		CMOVQGT(groups, tail)
	}
	ADDQ(text, end)
	LEAQ(Mem{Base: k, Disp: 32 - vectorLen}, count) // so that the text begins with a vector
	if !c.seal {
		VMOVDQU(Mem{Base: end}, t.AsX())
		VMOVDQU(t.AsX(), c.tag)
	}
}

// field loads a field of the job.
func field(r GPPhysical, at int) { MOVQ(Mem{Base: job, Disp: at}, r) }

func (c *cryptor) long() {
	SUBQ(Imm(vectors+1), scratch)
	MOVQ(scratch, groups)
	ANDQ(Imm(vectors-1), scratch)
	SHRQ(Imm(3), groups)
	var hashed stream
	if !c.seal {
		hashed = hash(text, 0, 0, vectors)
	}
	merge(c.encrypt("longFirst", state), hashed)
	lastLane(state[0], c.mask)
	head := headLen / vectorLen
	turnOver(state[1:1+head], text, 0)
	field(body, jointAt)
	xor(Mem{Base: body}, state[1+head], state[1+head])
	store(state[1+head], Mem{Base: text, Disp: headLen})
	field(body, bodyAt)
	turnOver(state[2+head:], body, headLen+vectorLen)
	ADDQ(U32(uint32(groupLen)), text)
	ADDQ(U32(uint32(groupLen)), body)
	ADDQ(U32(uint32(groupLen+vectorLen)), count)
	if !c.seal {
		ADDQ(U32(uint32(groupLen)), power)
	}
	TESTQ(groups, groups)
	JEQ(LabelRef("last"))

	Label("main")
	if c.seal {
		hashed = hash(text, -groupLen, 0, vectors)
	}
	of := state[:vectors]
	spread(c.base, key)
	merge(c.encrypt("longMain", of), hashed)
	turnOver(of, body, 0)
	ADDQ(U32(uint32(groupLen)), text)
	ADDQ(U32(uint32(groupLen)), body)
	ADDQ(U32(uint32(groupLen)), power)
	ADDQ(U32(uint32(groupLen)), count)
	DECQ(groups)
	JNE(LabelRef("main"))

	Label("last")
	INCQ(scratch)
	choose("last", scratch, 1, vectors)
	for q := 1; q <= vectors; q++ {
		Label(label("last", q))
		c.last(q)
		JMP(LabelRef("finish"))
	}
}

func (c *cryptor) last(q int) {
	of := state[:q]
	spread(c.base, key)
	if c.seal {
		merge(c.encrypt(label("longLast", q), of), hash(text, -groupLen, 0, vectors))
		c.turnOverLast(of, body)
		run(hashRegisters(of, vectors))
		return
	}
	merge(c.encrypt(label("longLast", q), of), c.hashLast(q))
	c.turnOverLast(of, body)
}

func (c *cryptor) short(q int) {
	of := state[:q+1]
	if c.seal {
		run(c.encrypt(label("longShort", q), of))
	} else {
		merge(c.encrypt(label("longShort", q), of), c.hashLast(q))
	}
	lastLane(of[0], c.mask)
	c.turnOverLast(of[1:], text)
	if c.seal {
		run(hashRegisters(of[1:], 0))
	}
}

// hashRegisters adds ciphertext that is in registers.
func hashRegisters(of []VecPhysical, index int) (s stream) {
	for i, v := range of {
		s = append(s, hashFrom(v, index+i)...)
	}
	return s
}

// loadLast loads the last vector of a text, which may end early. With AVX2 its
// halves are loaded apart, the second so that it ends with the tag at the latest.
func (c *cryptor) loadLast(at int, v VecPhysical) {
	if wide() {
		VMOVDQU8_Z(Mem{Base: text, Disp: at}, last, v)
		return
	}
	VMOVDQU(Mem{Base: text, Disp: at}, v.AsX())
	VINSERTI128(Imm(1), Mem{Base: text, Index: tail, Scale: 1, Disp: at}, v, v)
}

// storeLast is its reverse.
func (c *cryptor) storeLast(v VecPhysical, at int) {
	if wide() {
		VMOVDQU8(v, last, Mem{Base: text, Disp: at})
		return
	}
	VMOVDQU(v.AsX(), Mem{Base: text, Disp: at})
	VEXTRACTI128(Imm(1), v, Mem{Base: text, Index: tail, Scale: 1, Disp: at})
}

// keepText clears what is not the text's in its last vector.
func keepText(v VecPhysical) {
	if wide() {
		VMOVDQU8_Z(v, last, v)
	} else {
		VPAND(Mem{Base: keep}, v, v)
	}
}

func (c *cryptor) hashLast(q int) stream {
	s := append(hash(text, 0, 0, q-1), func() {
		c.loadLast(vectorLen*(q-1), x)
		keepText(x)
	})
	return append(s, hashFrom(x, q-1)...)
}

// turnOverLast is turnOver for the end of a text: no bytes remain in the last
// vector that are not the text's.
func (c *cryptor) turnOverLast(of []VecPhysical, src Register) {
	end := len(of) - 1
	turnOver(of[:end], src, 0)
	v, at := of[end], vectorLen*end
	c.loadLast(at, x)
	xor(x, v, v)
	keepText(v)
	c.storeLast(v, at)
}

// finish makes the tag.
func (c *cryptor) finish() {
	reduce()
	VPSHUFB(turner.AsX(), hi.AsX(), x.AsX())
	VPXOR(c.mask, x.AsX(), x.AsX())
	if c.seal {
		VMOVDQU(x.AsX(), Mem{Base: end})
		return
	}
	VPXOR(c.tag, x.AsX(), x.AsX())
	VPTEST(x.AsX(), x.AsX())
	SETEQ(Mem{Base: job, Disp: goodAt})
}
