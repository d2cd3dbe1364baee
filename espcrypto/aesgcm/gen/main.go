// Command gen writes asm_amd64.s and its declarations, asm_amd64.go: AES-GCM
// on 256-bit registers, two blocks in each. The package's vaes_amd64.go says
// what lies where; here stand the instructions.
//
// It is a module of its own, so that what it is made with is no dependency of
// the gateway.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The layout of schedule in vaes_amd64.go, which checks it when it is compiled.
const (
	keysAt      = 0    // 15 round keys, each in both lanes
	powersAt    = 480  // 18 powers of H of 16 bytes, downwards; the first is not in use
	karatsubaAt = 768  // of each power the sum of its halves, in both halves
	longAt      = 1056 // not 0 with AES-256
	saltAt      = 1064 // in the upper half

	firstPower = 18 // would be at index 0
	shortSkip  = 4  // round keys 1 to 4 are AES-256's alone: with AES-128, slot 5 follows slot 0
	lastKey    = 14

	groupLen = 256
	vectors  = groupLen / 32
)

// Which register is for what, all the way.
var (
	state   = [vectors]VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7} // counters becoming key stream
	key     = Y8                                                   // of the round
	lo      = Y9                                                   // GHASH: the product so far,
	mid     = Y10                                                  // not reduced,
	hi      = Y11                                                  // and once reduced, here in lane 0
	x, t    = Y12, Y13                                             // at work
	swap    = Y14                                                  // a shuffle that turns a block round
	counter = Y15                                                  // the next two counter blocks, turned round

	k, text, src, n, rest, power, scratch, pending = RAX, RDI, RSI, RCX, RDX, R8, R9, R10
)

var (
	turned    = constant("turned", 0x08090a0b0c0d0e0f, 0x0001020304050607, 0x08090a0b0c0d0e0f, 0x0001020304050607)
	oneOne    = constant("oneOne", 1, 0, 1, 0)
	oneTwo    = constant("oneTwo", 1, 0, 2, 0)
	twoTwo    = constant("twoTwo", 2, 0, 2, 0)
	poly      = constant("poly", 1, 0xc200000000000000, 1, 0xc200000000000000)
	firstOnly = constant("firstOnly", ^uint64(0), ^uint64(0), 0, 0) // read from 16-m, keeps m bytes
)

func constant(name string, words ...uint64) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i, w := range words {
		DATA(8*i, U64(w))
	}
	return m
}

func main() {
	ConstraintExpr("amd64")
	cpuid()
	expand(128)
	expand(256)
	powers()
	seal()
	open()
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
		VINSERTI128(Imm(1), v.AsX(), v.AsY(), Y3)
		VMOVDQU(Y3, Mem{Base: k, Disp: keysAt + 32*slot})
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
		slot += shortSkip
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

// powers multiplies H by itself, from the last place of the table upwards.
func powers() {
	TEXT("powers", NOSPLIT, "func(k *byte)")
	Doc("powers fills in the powers of H, of which the last is there, and the sums of their halves.")
	Pragma("noescape")
	Load(Param("k"), k)
	at := func(offset, index int) Mem { return Mem{Base: k, Disp: offset + 16*index} }
	const h = firstPower - 1
	VMOVDQU(at(powersAt, h), hi.AsX())
	for index := h; ; index-- {
		VMOVDQU(hi.AsX(), at(powersAt, index))
		VPSHUFD(Imm(0x4e), hi.AsX(), t.AsX())
		VPXOR(hi.AsX(), t.AsX(), t.AsX())
		VMOVDQU(t.AsX(), at(karatsubaAt, index))
		if index == 1 {
			break
		}
		VMOVDQA(hi, x)
		multiply(x.AsX(), at(powersAt, h), at(karatsubaAt, h), true)
		reduce()
	}
	VZEROALL()
	RET()
}

// turn loads the shuffle.
func turn() { VMOVDQU(turned, swap) }

// multiply adds v times a power to the product, or makes it the product. 256
// bits are two blocks and two powers. It spoils v and t.
func multiply(v Register, power, karatsuba Mem, first bool) {
	sum := t.AsX()
	if v == x {
		sum = t
	}
	into := func(acc, p Register) {
		if !first {
			VPXOR(p, acc, acc)
		}
	}
	target := func(acc VecPhysical, temporary Register) Register {
		switch {
		case !first:
			return temporary
		case v == x:
			return acc
		}
		return acc.AsX()
	}
	VPSHUFD(Imm(0x4e), v, sum)
	VPXOR(v, sum, sum)
	VPCLMULQDQ(Imm(0x00), karatsuba, sum, target(mid, sum))
	into(mid, t)
	VPCLMULQDQ(Imm(0x11), power, v, target(hi, sum))
	into(hi, t)
	VPCLMULQDQ(Imm(0x00), power, v, target(lo, v))
	into(lo, x)
}

// reduce leaves in hi, lane 0, the sum of the lanes modulo the polynomial.
func reduce() {
	VPXOR(lo, mid, mid)
	VPCLMULQDQ(Imm(0x10), poly, lo, t)
	VPSHUFD(Imm(0x4e), lo, lo)
	VPXOR(hi, mid, mid)
	VPXOR(t, lo, lo)
	VPXOR(lo, mid, mid)
	VPCLMULQDQ(Imm(0x10), poly, mid, t)
	VPSHUFD(Imm(0x4e), mid, mid)
	VPXOR(t, hi, hi)
	VPXOR(mid, hi, hi)
	VEXTRACTI128(Imm(1), hi, t.AsX())
	VPXOR(t.AsX(), hi.AsX(), hi.AsX())
}

// ghashGroup gives the steps that hash a group of ciphertext into hi: one a
// vector and the reduction, for as many rounds.
func ghashGroup(base Register, disp int) (steps []func()) {
	for i := range vectors {
		steps = append(steps, func() {
			VMOVDQU(Mem{Base: base, Disp: disp + 32*i}, x)
			VPSHUFB(swap, x, x)
			if i == 0 {
				VPXOR(hi, x, x)
			}
			index := firstPower - 2*vectors + 2*i
			multiply(x, Mem{Base: k, Disp: powersAt + 16*index}, Mem{Base: k, Disp: karatsubaAt + 16*index}, i == 0)
		})
	}
	return append(steps, reduce)
}

// rounds runs AES but for its last round over blocks that have been through
// the first addition, with a step of other work in each of nine rounds.
func rounds(label string, of []VecPhysical, steps []func()) {
	round := func(slot int) {
		VMOVDQU(Mem{Base: k, Disp: keysAt + 32*slot}, key)
		for _, v := range of {
			VAESENC(key, v, v)
		}
	}
	CMPQ(Mem{Base: k, Disp: longAt}, Imm(0))
	JEQ(LabelRef(label))
	for slot := 1; slot <= shortSkip; slot++ {
		round(slot)
	}
	Label(label)
	for slot := shortSkip + 1; slot < lastKey; slot++ {
		round(slot)
		if i := slot - shortSkip - 1; i < len(steps) {
			steps[i]()
		}
	}
	VMOVDQU(Mem{Base: k, Disp: keysAt + 32*lastKey}, key)
}

// counters fills vectors with the next counter blocks, after AES's first addition.
func counters(of []VecPhysical) {
	VMOVDQU(Mem{Base: k, Disp: keysAt}, key)
	for _, v := range of {
		VPSHUFB(swap, counter, v)
		VPADDD(twoTwo, counter, counter)
		VPXOR(key, v, v)
	}
}

// group turns 256 bytes at src over into text. src may be text.
func group(label string, src Register, steps []func()) {
	counters(state[:])
	rounds(label, state[:], steps)
	for i, v := range state {
		VPXOR(Mem{Base: src, Disp: 32 * i}, key, t)
		VAESENCLAST(t, v, v)
		VMOVDQU(v, Mem{Base: text, Disp: 32 * i})
	}
}

// begin loads the counter and the hash of the associated data.
func begin() {
	turn()
	Load(Param("k"), k)
	Load(Param("text"), text)
	Load(Param("n"), n)
	firstCounter()
	VINSERTI128(Imm(1), counter.AsX(), counter, counter)
	VPADDD(oneTwo, counter, counter)
	VMOVQ(arg("aadLow"), x.AsX())
	VPINSRQ(Imm(1), arg("aadHigh"), x.AsX(), x.AsX())
	index := firstPower - 1
	multiply(x.AsX(), Mem{Base: k, Disp: powersAt + 16*index}, Mem{Base: k, Disp: karatsubaAt + 16*index}, true)
	reduce()
	MOVQ(n, rest)
	ANDQ(Imm(groupLen-1), rest)
	SHRQ(Imm(8), n)
}

// firstCounter makes the block whose encryption hides the tag, turned round:
// salt, IV and a 1 (RFC 4106 section 4).
func firstCounter() {
	Load(Param("iv"), scratch)
	MOVQ(scratch, power)
	SHLQ(Imm(32), scratch)
	ORQ(Imm(1), scratch)
	VMOVQ(scratch, counter.AsX())
	SHRQ(Imm(32), power)
	ORQ(Mem{Base: k, Disp: saltAt}, power)
	VPINSRQ(Imm(1), power, counter.AsX(), counter.AsX())
}

// keystream puts on the stack the key stream for what is left after the last
// group, and behind it, the encryption of the first counter.
func keystream(stream, first, mask Mem) {
	MOVQ(rest, scratch)
	ADDQ(Imm(31), scratch)
	SHRQ(Imm(5), scratch)
	for v := range vectors {
		CMPQ(scratch, Imm(uint64(v)))
		JEQ(LabelRef(label("stream", v)))
	}
	for v := vectors; v >= 0; v-- {
		Label(label("stream", v))
		of := state[:v]
		counters(of)
		VPSHUFB(swap.AsX(), counter0(first), t.AsX())
		VPXOR(key.AsX(), t.AsX(), t.AsX())
		rounds(label("long", v), append(of[:v:v], t), nil)
		for i, s := range of {
			VAESENCLAST(key, s, s)
			VMOVDQU(s, stream.Offset(32*i))
		}
		VAESENCLAST(key.AsX(), t.AsX(), t.AsX())
		VMOVDQU(t.AsX(), mask)
		if v > 0 {
			JMP(LabelRef("finish"))
		}
	}
	Label("finish")
}

func counter0(first Mem) Register {
	VMOVDQU(first, x.AsX())
	return x.AsX()
}

func label(of string, v int) string { return of + string(rune('0'+v)) }

// finish hashes and turns over the rest, two blocks, one block and a part of
// one, then the lengths, and leaves the tag in x.
//
// A part of a block is loaded and stored as a whole one: the tag's place
// follows the text.
func finish(stream, mask Mem, decrypt bool) {
	pendingHash := state[0] // of all before, to be added to the first block
	VMOVDQA(hi, pendingHash)
	for _, acc := range []VecPhysical{lo, mid, hi} {
		VPXOR(acc, acc, acc)
	}
	// With b blocks and the one of the lengths to come, the first is for H^(b+1).
	MOVQ(rest, power)
	ADDQ(Imm(15), power)
	ANDQ(I8(-16), power)
	NEGQ(power)
	LEAQ(Mem{Base: k, Index: power, Scale: 1, Disp: 16 * (firstPower - 1)}, power)
	LEAQ(stream, scratch)

	// crypt leaves ciphertext in x, and stores what it becomes or came from.
	crypt := func(x, t Register, mask bool) {
		VMOVDQU(Mem{Base: text}, x)
		VPXOR(Mem{Base: scratch}, x, t)
		if decrypt {
			if mask {
				VPAND(state[1].AsX(), x, x)
				VPAND(state[1].AsX(), t, t)
			}
			VMOVDQU(t, Mem{Base: text})
			return
		}
		if mask {
			VPAND(state[1].AsX(), t, t)
		}
		VMOVDQU(t, Mem{Base: text})
		VMOVDQA(t, x)
	}
	hash := func(x Register) {
		VPSHUFB(swapLike(x), x, x)
		VPXOR(like(x, pendingHash), x, x)
		VPXOR(pendingHash, pendingHash, pendingHash)
		multiply(x, Mem{Base: power, Disp: powersAt}, Mem{Base: power, Disp: karatsubaAt}, false)
	}
	Label("two")
	CMPQ(rest, Imm(32))
	JLT(LabelRef("one"))
	crypt(x, t, false)
	hash(x)
	for _, p := range []Register{text, scratch, power} {
		ADDQ(Imm(32), p)
	}
	SUBQ(Imm(32), rest)
	JMP(LabelRef("two"))

	Label("one")
	CMPQ(rest, Imm(16))
	JLT(LabelRef("part"))
	crypt(x.AsX(), t.AsX(), false)
	hash(x.AsX())
	for _, p := range []Register{text, scratch, power} {
		ADDQ(Imm(16), p)
	}
	SUBQ(Imm(16), rest)

	Label("part")
	TESTQ(rest, rest)
	JEQ(LabelRef("lengths"))
	LEAQ(firstOnly.Offset(16), n)
	SUBQ(rest, n)
	VMOVDQU(Mem{Base: n}, state[1].AsX())
	crypt(x.AsX(), t.AsX(), true)
	hash(x.AsX())
	ADDQ(Imm(16), power)
	ADDQ(rest, text)

	Label("lengths")
	Load(Param("n"), n)
	SHLQ(Imm(3), n)
	VMOVQ(n, x.AsX())
	VPINSRQ(Imm(1), arg("aadBits"), x.AsX(), x.AsX())
	VPXOR(pendingHash, x, x)
	multiply(x.AsX(), Mem{Base: power, Disp: powersAt}, Mem{Base: power, Disp: karatsubaAt}, false)
	reduce()
	VPSHUFB(swap.AsX(), hi.AsX(), x.AsX())
	VPXOR(mask, x.AsX(), x.AsX())
}

func swapLike(v Register) Register { return like(v, swap) }

// like is of as wide as v.
func like(v Register, of VecPhysical) Register {
	if v == x {
		return of
	}
	return of.AsX()
}

func seal() {
	TEXT("sealVAES", NOSPLIT, "func(k *byte, text *byte, n int, aadHigh, aadLow, aadBits, iv uint64, middle *byte)")
	Doc("sealVAES seals the n bytes of text, and puts the tag behind them. From byte 256 on", "whole groups are read from middle.")
	Pragma("noescape")
	stream, mask, first := AllocLocal(32*vectors), AllocLocal(16), AllocLocal(16)
	begin()
	firstToStack(first)
	MOVQ(n, pending)
	TESTQ(n, n)
	JEQ(LabelRef("stream"))
	// Only ciphertext is hashed, so that each group is while the next is encrypted.
	group("longFirst", text, nil)
	Load(Param("middle"), src)
	ADDQ(U32(groupLen), text)
	Label("groups")
	DECQ(n)
	JEQ(LabelRef("stream"))
	group("longGroup", src, ghashGroup(text, -groupLen))
	ADDQ(U32(groupLen), text)
	ADDQ(U32(groupLen), src)
	JMP(LabelRef("groups"))

	Label("stream")
	keystream(stream, first, mask)
	TESTQ(pending, pending)
	JEQ(LabelRef("hashed"))
	for _, step := range ghashGroup(text, -groupLen) {
		step()
	}
	Label("hashed")
	finish(stream, mask, false)
	VMOVDQU(x.AsX(), Mem{Base: text})
	VZEROUPPER()
	RET()
}

// firstToStack keeps the first counter for keystream.
func firstToStack(first Mem) {
	VPSUBD(oneOne, counter, t)
	VMOVDQU(t.AsX(), first)
}

func open() {
	TEXT("openVAES", NOSPLIT, "func(k *byte, text *byte, n int, aadHigh, aadLow, aadBits, iv uint64) bool")
	Doc("openVAES opens the n bytes of text and tells whether the tag behind them is theirs.")
	Pragma("noescape")
	stream, mask, first, tag := AllocLocal(32*vectors), AllocLocal(16), AllocLocal(16), AllocLocal(16)
	Load(Param("text"), text)
	Load(Param("n"), n)
	VMOVDQU(Mem{Base: text, Index: n, Scale: 1}, X0)
	VMOVDQU(X0, tag)
	begin()
	firstToStack(first)
	Label("groups")
	TESTQ(n, n)
	JEQ(LabelRef("stream"))
	group("longGroup", text, ghashGroup(text, 0))
	ADDQ(U32(groupLen), text)
	DECQ(n)
	JMP(LabelRef("groups"))

	Label("stream")
	keystream(stream, first, mask)
	finish(stream, mask, true)
	VPXOR(tag, x.AsX(), x.AsX())
	VPTEST(x.AsX(), x.AsX())
	VZEROUPPER()
	SETEQ(AL)
	Store(AL, ReturnIndex(0))
	RET()
}

// arg is where an argument lies.
func arg(name string) Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}
