package aesgcm

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// A key's first packets and those after it has got its tables are sealed alike,
// and the caller's key may be wiped in between.
func TestSleeping(t *testing.T) { forPaths(t, testSleeping) }

func testSleeping(t *testing.T, path *path) {
	rng := rand.New(rand.NewPCG(11, 11))
	key, salt := random(rng, 16), [4]byte(random(rng, 4))
	reference := (&paths[len(paths)-1]).aeadFor(t, key, salt[:])
	seals, err := path.sleeping(key, salt)
	if err != nil {
		t.Fatal(err)
	}
	opens, err := path.sleeping(key, salt)
	if err != nil {
		t.Fatal(err)
	}
	clear(key)
	for n := 0; n < 2*sleepyPackets; n += 7 {
		if s := seals.engine.(*sleeping); (s.wake == nil) != (n > sleepyPackets) {
			t.Fatalf("after %d packets: awake %v", n, s.wake == nil)
		}
		var batch, want []Packet
		for k := range 7 {
			p := Packet{Text: make([]byte, 100+TagLen), Body: random(rng, 100), IV: uint64(n + k), AADLen: 8}
			batch = append(batch, p)
			p.Text = make([]byte, len(p.Text))
			want = append(want, p)
		}
		seals.Seal(batch)
		reference.Seal(want)
		for k := range batch {
			if !bytes.Equal(batch[k].Text, want[k].Text) {
				t.Fatalf("packet %d: %x, want %x", n+k, batch[k].Text, want[k].Text)
			}
		}
		opens.Open(batch)
		for k := range batch {
			if p := &batch[k]; !p.OK || !bytes.Equal(p.Text[:len(p.Body)], p.Body) {
				t.Fatalf("packet %d does not open", n+k)
			}
		}
	}
}
