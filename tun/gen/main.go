// Command gen writes sum_amd64.s and its declaration, sum_amd64.go: the
// Internet checksum on 256-bit registers.
//
// It is a module of its own, so that what it is made with is no dependency of
// the gateway.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// lanes is how many sums run side by side, so that none waits for another.
const lanes = 4

func main() {
	ConstraintExpr("amd64")
	TEXT("sumAVX2", NOSPLIT, "func(b *byte, n int) int32")
	Doc("sumAVX2 adds up the 16-bit words of n bytes, n even, at least 32 and at most",
		"64 KB, each less 1<<15: so they are signed, as the instruction that adds",
		"neighbours takes them, and no sum of 32 bits overflows.")
	b, n := Load(Param("b"), GP64()), Load(Param("n"), GP64())
	flip, ones := constants()
	sums := [lanes]VecVirtual{YMM(), YMM(), YMM(), YMM()}
	for _, s := range sums {
		VPXOR(s, s, s)
	}
	add := func(at int, sum VecVirtual) {
		words := YMM()
		VPXOR(Mem{Base: b, Disp: at}, flip, words)
		VPMADDWD(words, ones, words)
		VPADDD(words, sum, sum)
	}

	SUBQ(U32(32*lanes), n)
	JLT(LabelRef("few"))
	Label("many")
	for i, s := range sums {
		add(32*i, s)
	}
	ADDQ(Imm(32*lanes), b)
	SUBQ(U32(32*lanes), n)
	JGE(LabelRef("many"))
	Label("few")
	ADDQ(U32(32*lanes-32), n)
	JL(LabelRef("last"))
	Label("next")
	add(0, sums[0])
	ADDQ(Imm(32), b)
	SUBQ(Imm(32), n)
	JGE(LabelRef("next"))
	Label("last") // n is 32 less than what is left
	ADDQ(Imm(32), n)
	JZ(LabelRef("done"))
	table, words := GP64(), YMM()
	LEAQ(lastOnly(), table)
	VPXOR(Mem{Base: b, Index: n, Scale: 1, Disp: -32}, flip, words)
	VPAND(Mem{Base: table, Index: n, Scale: 1}, words, words)
	VPMADDWD(words, ones, words)
	VPADDD(words, sums[1], sums[1])
	Label("done")
	reduce(sums)
	Generate()
}

// constants makes 16 words of 1<<15 and of 1.
func constants() (flip, ones VecVirtual) {
	flip, ones = YMM(), YMM()
	VPCMPEQW(ones, ones, ones)
	VPSLLW(Imm(15), ones, flip)
	VPSRLW(Imm(15), ones, ones)
	return flip, ones
}

// lastOnly, read from n on, keeps the last n bytes of 32.
func lastOnly() Mem {
	m := GLOBL("lastOnly", RODATA|NOPTR)
	for i := range 8 {
		var word uint64
		if i >= 4 {
			word = ^uint64(0)
		}
		DATA(8*i, U64(word))
	}
	return m
}

// reduce returns the sum of all lanes.
func reduce(sums [lanes]VecVirtual) {
	VPADDD(sums[1], sums[0], sums[0])
	VPADDD(sums[3], sums[2], sums[2])
	VPADDD(sums[2], sums[0], sums[0])
	half, shuffled := XMM(), XMM()
	VEXTRACTI128(Imm(1), sums[0], half)
	low := sums[0].AsX()
	VPADDD(half, low, low)
	VPSHUFD(Imm(0x4e), low, shuffled)
	VPADDD(shuffled, low, low)
	VPSHUFD(Imm(0xb1), low, shuffled)
	VPADDD(shuffled, low, low)
	sum := GP32()
	VMOVD(low, sum)
	VZEROUPPER()
	Store(sum, ReturnIndex(0))
	RET()
}
