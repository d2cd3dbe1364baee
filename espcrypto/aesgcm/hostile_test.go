package aesgcm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestEveryBitCounts flips each bit of ciphertext, tag, associated data and IV,
// in lengths that take every way through a path. Nothing is left of what was
// refused, and the packets before and behind it are as if it had not been there.
func TestEveryBitCounts(t *testing.T) {
	forPaths(t, func(t *testing.T, path *path) {
		for _, keyLen := range []int{16, 32} {
			for _, n := range []int{0, 1, 4, 15, 16, 17, 31, 33, 68, 255, 256, 257, 300, 530, 580} {
				t.Run(fmt.Sprintf("AES-%d/%d", 8*keyLen, n), func(t *testing.T) { everyBit(t, path, keyLen, n, 8+4*(n&1)) })
			}
		}
	})
}

func everyBit(t *testing.T, path *path, keyLen, n, aadLen int) {
	rng := rand.New(rand.NewPCG(uint64(n), uint64(keyLen)))
	a, plain := path.aeadFor(t, random(rng, keyLen), random(rng, 4)), random(rng, n)
	original := Packet{Text: append(slices.Clone(plain), make([]byte, TagLen)...), Body: plain, IV: rng.Uint64(), AADLen: aadLen}
	copy(original.AAD[:], random(rng, aadLen))
	a.Seal([]Packet{original})
	var bounds [3]Packet
	text := make([]byte, 3*len(original.Text)) // side by side, as in a receive buffer
	for bit := range 8 * (n + TagLen + aadLen + 8) {
		for i := range bounds {
			bounds[i] = original
			bounds[i].Text = text[i*len(original.Text):][:len(original.Text):len(original.Text)]
			copy(bounds[i].Text, original.Text)
		}
		flip(&bounds[1], bit)
		a.Open(bounds[:])
		for _, i := range []int{0, 2} {
			if !bounds[i].OK || !bytes.Equal(bounds[i].Text[:n], plain) {
				t.Fatalf("bit %d: neighbour %d suffered", bit, i)
			}
		}
		if bounds[1].OK || !zero(bounds[1].Text) {
			t.Fatalf("bit %d: OK=%v, text %x", bit, bounds[1].OK, bounds[1].Text)
		}
	}
}

func zero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// TestTooShort: less than a tag is no packet.
func TestTooShort(t *testing.T) {
	forPaths(t, func(t *testing.T, path *path) {
		a := path.aeadFor(t, make([]byte, 16), make([]byte, 4))
		for n := range TagLen {
			batch := []Packet{{Text: make([]byte, n), AADLen: 8, OK: true}}
			if a.Open(batch); batch[0].OK {
				t.Errorf("%d bytes open", n)
			}
		}
	})
}

// TestLongTexts are around the most that the assembly takes, and beyond.
func TestLongTexts(t *testing.T) {
	forPaths(t, func(t *testing.T, path *path) {
		rng := rand.New(rand.NewPCG(7, 7))
		key, salt := random(rng, 32), random(rng, 4)
		a, reference := path.aeadFor(t, key, salt), standard(t, key)
		var trials []*trial
		for _, n := range []int{4000, 4031, 4032, 4033, 4064, 4096, 8900, 65520} {
			trials = append(trials, newTrial(rng, n, 12))
		}
		checkSeal(t, a, reference, salt, trials)
		checkOpen(t, a, trials, 2)
	})
}

// FuzzAgainstStandardLibrary seals and opens one packet on every path, cut
// anywhere into head, body and tail.
func FuzzAgainstStandardLibrary(f *testing.F) {
	for n, seed := range []int{0, 4, 68, 255, 256, 257, 512, 1412, 2000, 4032, 4033} {
		f.Add(uint64(n), seed, 20, 4, n%2 == 0, n%3 == 0, uint16(n))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n, head, tail int, long, esn bool, spoiled uint16) {
		if n < 0 || n > 1<<17 || head < 0 || tail < 0 || head+tail < 0 || head+tail > n {
			return
		}
		keyLen, aadLen := 16, 8
		if long {
			keyLen = 32
		}
		if esn {
			aadLen = 12
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		key, salt := random(rng, keyLen), random(rng, 4)
		for _, path := range ablePaths() {
			a, reference := path.aeadFor(t, key, salt), standard(t, key)
			r := newTrial(rng, n, aadLen)
			r.cut(head, tail)
			other := newTrial(rng, 100, aadLen)
			checkSeal(t, a, reference, salt, []*trial{r, other})
			r.Text[int(spoiled)%len(r.Text)] ^= 1 << (spoiled % 8)
			run([]*trial{r, other}, a.Open)
			if r.OK || !zero(r.Text) || !other.OK || !bytes.Equal(other.Text[:100], other.plain) {
				t.Fatalf("%s: OK=%v, its neighbour %v", path.name, r.OK, other.OK)
			}
			r.checkAround(t)
		}
	})
}
