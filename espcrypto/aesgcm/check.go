package aesgcm

import "bytes"

// right: the path seals as the standard library does, opens that again, and
// refuses a forged tag. A program meets processors that its tests have not.
func (p *path) right() bool {
	for _, keyLen := range []int{16, 32} {
		salt := [4]byte{1, 2, 3, 4}
		ours, err := p.new(counting(keyLen), salt)
		oracle, errOracle := newStdlib(counting(keyLen), salt)
		if err != nil || errOracle != nil || !agree(ours, oracle) {
			return false
		}
	}
	return true
}

// agree has both engines seal packets of every kind of length: less than a
// block, around the wide loops' strides, and of a full path.
func agree(ours, oracle engine) bool {
	mine, theirs, plain := checkBatch(), checkBatch(), checkBatch()
	ours.seal(mine)
	oracle.seal(theirs)
	for i := range mine {
		if !bytes.Equal(mine[i].Text, theirs[i].Text) {
			return false
		}
	}
	forged := len(mine) / 2
	mine[forged].Text[len(mine[forged].Text)-1] ^= 1
	ours.open(mine)
	for i, p := range mine {
		text := p.Text[:len(p.Text)-TagLen]
		if p.OK == (i == forged) || p.OK && !bytes.Equal(text, plain[i].Gather()) {
			return false
		}
	}
	return true
}

func checkBatch() (batch []Packet) {
	for n := 0; n <= 1500; n += 73 {
		batch = append(batch, Packet{Text: make([]byte, n+TagLen), Body: counting(n), IV: uint64(n), AAD: [12]byte{5, 6, 7}, AADLen: 8 + 4*(n%2)})
	}
	return batch
}

func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}
