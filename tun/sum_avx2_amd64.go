package tun

import "golang.org/x/sys/cpu"

//go:generate go run -C gen . -pkg tun -out ../sum_amd64.s -stubs ../sum_amd64.go

var hasAVX2 = cpu.X86.HasAVX2

// sumWide adds up b, of at least 32 bytes, where it can, and returns the rest.
func sumWide(b []byte, s uint64) ([]byte, uint64) {
	for hasAVX2 && len(b) >= 32 {
		n := min(len(b)&^1, 1<<16)
		s = add64(s, uint64(int64(sumAVX2(&b[0], n))+int64(n)<<14))
		b = b[n:]
	}
	return b, s
}
