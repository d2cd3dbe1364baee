//go:build !amd64

package aesgcm

const ableVAES, ableAVX512 = false, false

func newVAES([]byte, [4]byte) (engine, error) { panic("aesgcm: no VAES") }

func newAVX512([]byte, [4]byte) (engine, error) { panic("aesgcm: no AVX-512") }
