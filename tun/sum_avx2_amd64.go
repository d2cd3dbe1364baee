package tun

import "golang.org/x/sys/cpu"

//go:generate go run -C gen . -pkg tun -out ../sum_amd64.s -stubs ../sum_amd64.go

var hasAVX2 = cpu.X86.HasAVX2
