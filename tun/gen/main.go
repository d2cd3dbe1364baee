// Command gen writes sum_amd64.s and its declarations, sum_amd64.go: the
// Internet checksum on 256-bit registers, alone and of a packet that must have a
// given header.
//
// It is a module of its own, so that what it is made with is no dependency of
// the gateway.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// lanes is how many sums run side by side, so that none waits for another.
const lanes = 4

// headLen is what a header is compared in: more than the longest of IPv6 and TCP.
const headLen = 128

func main() {
	ConstraintExpr("amd64")

	TEXT("sumAVX2", NOSPLIT, "func(b *byte, n int) int32")
	Doc("sumAVX2 adds up the 16-bit words of n bytes, n even, at least 32 and at most",
		"64 KB, each less 1<<15: so they are signed, as the instruction that adds",
		"neighbours takes them, and no sum of 32 bits overflows.")
	sum(Load(Param("b"), GP64()), Load(Param("n"), GP64()))

	TEXT("sumIfAVX2", NOSPLIT, "func(h, packet *byte, from, n int) (sum int32, same bool)")
	Doc("sumIfAVX2 says whether the packet, of 128 bytes at least, begins as the heading h wants it, and if so",
		"adds up its n bytes behind the first from, as sumAVX2 does.")
	h, packet := Load(Param("h"), GP64()), Load(Param("packet"), GP64())
	compare(h, packet)
	SETEQ(resolve(ReturnIndex(1)))
	JNE(LabelRef("differs"))
	ADDQ(Load(Param("from"), GP64()), packet)
	sum(packet, Load(Param("n"), GP64()))
	Label("differs")
	VZEROUPPER()
	RET()

	Generate()
}

// resolve is where a result lies.
func resolve(c gotypes.Component) Mem {
	b, err := c.Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// compare sets ZF when the packet has the bytes of the first half of h where
// the second half has bits set.
func compare(h, packet Register) {
	var differ VecVirtual
	for at := 0; at < headLen; at += 32 {
		d := YMM()
		VMOVDQU(Mem{Base: packet, Disp: at}, d)
		VPXOR(Mem{Base: h, Disp: at}, d, d)
		VPAND(Mem{Base: h, Disp: headLen + at}, d, d)
		if at == 0 {
			differ = d
		} else {
			VPOR(d, differ, differ)
		}
	}
	VPTEST(differ, differ)
}

// sum returns the sum of n bytes from b on.
func sum(b, n Register) {
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
	LEAQ(lastOnly, table)
	VPXOR(Mem{Base: b, Index: n, Scale: 1, Disp: -32}, flip, words)
	VPAND(Mem{Base: table, Index: n, Scale: 1}, words, words)
	VPMADDWD(words, ones, words)
	VPADDD(words, sums[1], sums[1])
	Label("done")
	reduce(sums)
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
var lastOnly = func() Mem {
	m := GLOBL("lastOnly", RODATA|NOPTR)
	for i := range 8 {
		var word uint64
		if i >= 4 {
			word = ^uint64(0)
		}
		DATA(8*i, U64(word))
	}
	return m
}()

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
