//go:build !amd64

package tun

const hasAVX2 = false

func sumAVX2(*byte, int) int32 { panic("not on this processor") }
