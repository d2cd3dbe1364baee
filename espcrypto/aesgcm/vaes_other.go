//go:build !amd64

package aesgcm

const ableVAES = false

func newVAES([]byte, [4]byte) (engine, error) { panic("aesgcm: no VAES") }
