package aesgcm

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGuardPages puts text and body each at the very end and the very start of
// memory that may be touched: what reads or writes a byte beyond does not live on.
func TestGuardPages(t *testing.T) { forPaths(t, testGuardPages) }

func testGuardPages(t *testing.T, path *path) {
	rng := rand.New(rand.NewPCG(3, 3))
	text, body := guarded(t, 8192), guarded(t, 8192)
	key, salt := random(rng, 16), random(rng, 4)
	a, reference := path.aeadFor(t, key, salt), standard(t, key)
	lengths := []int{2047, 2048, 4031, 4032, 4033}
	for n := range 1100 {
		lengths = append(lengths, n)
	}
	for _, n := range lengths {
		for _, end := range []bool{false, true} {
			r := newTrial(rng, n, 8)
			r.Text, r.Body = placed(text, r.Text, end), placed(body, r.Body, end)
			r.around, r.aroundBefore, r.at = r.Text, r.Text, 0
			checkSeal(t, a, reference, salt, []*trial{r})
			checkOpen(t, a, []*trial{r}, 0)
			copy(r.Text, r.sealed)
			run([]*trial{r}, a.Open)
			if !r.OK || !bytes.Equal(r.Text[:n], r.plain) {
				t.Fatalf("%d bytes do not come back", n)
			}
		}
	}
}

// placed moves b to the one or the other end of room.
func placed(room, b []byte, end bool) []byte {
	if end {
		room = room[len(room)-len(b):]
	}
	copy(room, b)
	return room[:len(b):len(b)]
}

// guarded is memory between two pages that nobody may touch.
func guarded(t *testing.T, n int) []byte {
	t.Helper()
	page := unix.Getpagesize()
	n = (n + page - 1) &^ (page - 1)
	all, err := unix.Mmap(-1, 0, n+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(all) })
	for _, guard := range [][]byte{all[:page], all[page+n:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return all[page : page+n : page+n]
}
