package tun

import "golang.org/x/sys/cpu"

//go:generate go run -C gen . -pkg tun -out ../sum_amd64.s -stubs ../sum_amd64.go

var hasAVX2 = cpu.X86.HasAVX2

// sumWide adds up the bulk of b, where that is worth it, and returns the rest.
// The bound is that of sumAVX2.
func sumWide(b []byte, s uint64) ([]byte, uint64) {
	for hasAVX2 && len(b) >= 128 {
		n := min(len(b), 1<<16) &^ 31
		s = add64(s, uint64(int64(sumAVX2(&b[0], n))+int64(n)<<14))
		b = b[n:]
	}
	return b, s
}
