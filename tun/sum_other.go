//go:build !amd64

package tun

const hasAVX2 = false

func sumAVX2(*byte, int) int32 { panic("not on this processor") }

func sumIfAVX2(_, _ *byte, _, _ int) (int32, bool) { panic("not on this processor") }
