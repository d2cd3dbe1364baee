package aesgcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// hexBytes is a JSON string of hex digits.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode(nil, text)
	return err
}

type vector struct {
	Key, Nonce, Plaintext, AAD, CT, Tag hexBytes
}

func loadVectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/mcgrew_gcm_esp_01.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Tests []vector }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Tests) != 14 {
		t.Fatalf("%d vectors, not 14", len(file.Tests))
	}
	return file.Tests
}

// ablePaths are all that this processor has: each goes through every test.
func ablePaths() (able []*path) {
	for i := range paths {
		if paths[i].able {
			able = append(able, &paths[i])
		}
	}
	return able
}

func forPaths(t *testing.T, run func(*testing.T, *path)) {
	for _, p := range ablePaths() {
		t.Run(p.name, func(t *testing.T) { run(t, p) })
	}
}

func (p *path) aeadFor(t testing.TB, key, salt []byte) *AEAD {
	t.Helper()
	a, err := p.aead(key, [4]byte(salt))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// packet is the shared part of sealing and opening v.
func (v *vector) packet() Packet {
	p := Packet{IV: binary.BigEndian.Uint64(v.Nonce[4:])}
	p.AADLen = copy(p.AAD[:], v.AAD)
	return p
}

// TestVectorsSeal seals each vector cut at every place into head, body, tail.
func TestVectorsSeal(t *testing.T) { forPaths(t, testVectorsSeal) }

func testVectorsSeal(t *testing.T, path *path) {
	for n, v := range loadVectors(t) {
		want := slices.Concat(v.CT, v.Tag)
		a := path.aeadFor(t, v.Key, v.Nonce[:4])
		for head := range len(v.Plaintext) + 1 {
			for end := head; end <= len(v.Plaintext); end++ {
				p := v.packet()
				p.Text = slices.Concat(v.Plaintext, make([]byte, TagLen))
				clear(p.Text[head:end])
				p.Head, p.Body = head, v.Plaintext[head:end]
				a.Seal([]Packet{p})
				if !bytes.Equal(p.Text, want) {
					t.Fatalf("vector %d cut at %d and %d: %x, not %x", n+1, head, end, p.Text, want)
				}
			}
		}
	}
}

// TestVectorsOpen opens all vectors, and then each with every single bit of
// ciphertext, tag, associated data and IV flipped: none of those opens.
func TestVectorsOpen(t *testing.T) { forPaths(t, testVectorsOpen) }

func testVectorsOpen(t *testing.T, path *path) {
	for n, v := range loadVectors(t) {
		sealed := slices.Concat(v.CT, v.Tag)
		bits := 8 * (len(sealed) + len(v.AAD) + 8)
		batch := make([]Packet, bits+1)
		for bit := range batch {
			p := v.packet()
			p.Text = slices.Clone(sealed)
			flip(&p, bit)
			p.OK = true // left from the batch before
			batch[bit] = p
		}
		path.aeadFor(t, v.Key, v.Nonce[:4]).Open(batch)
		for bit, p := range batch {
			if intact := bit == bits; p.OK != intact {
				t.Fatalf("vector %d, bit %d of %d: OK=%v", n+1, bit, bits, p.OK)
			}
		}
		if got := batch[bits].Text[:len(v.CT)]; !bytes.Equal(got, v.Plaintext) {
			t.Fatalf("vector %d: %x, not %x", n+1, got, v.Plaintext)
		}
	}
}

func flip(p *Packet, bit int) {
	iv := binary.BigEndian.AppendUint64(nil, p.IV)
	for _, part := range [][]byte{p.Text, p.AAD[:p.AADLen], iv} {
		if bit < 8*len(part) {
			part[bit/8] ^= 1 << (bit % 8)
			break
		}
		bit -= 8 * len(part)
	}
	p.IV = binary.BigEndian.Uint64(iv)
}

// TestAgainstStandardLibrary seals and opens batches of every length up to
// 2048 and many alignments, under all key sizes, and compares each packet with
// one call of crypto/cipher.
func TestAgainstStandardLibrary(t *testing.T) { forPaths(t, testAgainstStandardLibrary) }

func testAgainstStandardLibrary(t *testing.T, path *path) {
	for _, keyLen := range []int{16, 24, 32} {
		for _, aadLen := range []int{8, 12} {
			t.Run(fmt.Sprintf("AES-%d/AAD-%d", 8*keyLen, aadLen), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(keyLen), uint64(aadLen)))
				key, salt := random(rng, keyLen), random(rng, 4)
				a, reference := path.aeadFor(t, key, salt), standard(t, key)
				var trials []*trial
				for n := range 2049 {
					trials = append(trials, newTrial(rng, n, aadLen))
				}
				rng.Shuffle(len(trials), func(i, j int) { trials[i], trials[j] = trials[j], trials[i] })
				for batch := range slices.Chunk(trials, 44) {
					checkSeal(t, a, reference, salt, batch)
					checkOpen(t, a, batch, rng.IntN(len(batch)))
				}
			})
		}
	}
}

// trial is a packet with what is to become of it. Bytes around its text stand
// guard against writing there.
type trial struct {
	Packet
	around, aroundBefore []byte
	at                   int // of the text
	plain, body, sealed  []byte
}

func newTrial(rng *rand.Rand, n, aadLen int) *trial {
	r := &trial{at: 64 + rng.IntN(64), plain: random(rng, n)}
	r.around = random(rng, r.at+n+TagLen+64)
	r.Text = r.around[r.at : r.at+n+TagLen : r.at+n+TagLen]
	head := min(n, []int{0, 20, 40, 52, 63, 64, 65, 300}[rng.IntN(8)])
	tail := min(n-head, rng.IntN(6)) // as in ESP
	if rng.IntN(4) == 0 {
		tail = rng.IntN(n - head + 1)
	}
	r.IV, r.AADLen = rng.Uint64(), aadLen
	copy(r.AAD[:], random(rng, len(r.AAD)))
	r.cut(head, tail)
	return r
}

// cut lays the plaintext out, the body elsewhere.
func (r *trial) cut(head, tail int) {
	n := len(r.plain)
	r.Head, r.body = head, r.plain[head:n-tail]
	r.Body = slices.Clone(r.body)
	copy(r.Text, r.plain[:head])
	copy(r.Text[n-tail:], r.plain[n-tail:])
	r.aroundBefore = slices.Clone(r.around)
}

func checkSeal(t *testing.T, a *AEAD, reference cipher.AEAD, salt []byte, trials []*trial) {
	t.Helper()
	run(trials, a.Seal)
	for _, r := range trials {
		nonce := binary.BigEndian.AppendUint64(slices.Clone(salt), r.IV)
		r.sealed = reference.Seal(nil, nonce, r.plain, r.AAD[:r.AADLen])
		if !bytes.Equal(r.Text, r.sealed) {
			t.Fatalf("%d bytes, head %d, body %d: not what the standard library seals", len(r.plain), r.Head, len(r.Body))
		}
		if !bytes.Equal(r.Body, r.body) {
			t.Fatalf("%d bytes: body written to", len(r.plain))
		}
		r.checkAround(t)
	}
}

// checkOpen spoils one packet of the batch; it alone may fail.
func checkOpen(t *testing.T, a *AEAD, trials []*trial, spoiled int) {
	t.Helper()
	trials[spoiled].Text[len(trials[spoiled].plain)/2] ^= 0x10
	run(trials, a.Open)
	for k, r := range trials {
		if r.OK == (k == spoiled) {
			t.Fatalf("%d bytes, spoiled=%v: OK=%v", len(r.plain), k == spoiled, r.OK)
		}
		if r.OK && !bytes.Equal(r.Text[:len(r.plain)], r.plain) {
			t.Fatalf("%d bytes do not come back", len(r.plain))
		}
		r.checkAround(t)
	}
}

func run(trials []*trial, operation func([]Packet)) {
	batch := make([]Packet, len(trials))
	for k, r := range trials {
		batch[k] = r.Packet
	}
	operation(batch)
	for k, r := range trials {
		r.Packet = batch[k]
	}
}

func (r *trial) checkAround(t *testing.T) {
	t.Helper()
	end := r.at + len(r.Text)
	if !bytes.Equal(r.around[:r.at], r.aroundBefore[:r.at]) || !bytes.Equal(r.around[end:], r.aroundBefore[end:]) {
		t.Fatalf("%d bytes: a byte outside the text changed", len(r.plain))
	}
}

func standard(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm
}

func random(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for k := range b {
		b[k] = byte(rng.Uint32())
	}
	return b
}

func TestNewRefusesOddKeys(t *testing.T) {
	for n := range 65 {
		_, err := New(make([]byte, n), [4]byte{})
		if good := n == 16 || n == 24 || n == 32; good != (err == nil) {
			t.Errorf("key of %d bytes: %v", n, err)
		}
	}
}

func TestNoAllocation(t *testing.T) { forPaths(t, testNoAllocation) }

func testNoAllocation(t *testing.T, path *path) {
	a, batch := benchmarkBatch(t, path, 16, 1408)
	allocs := testing.AllocsPerRun(100, func() {
		a.Seal(batch)
		a.Open(batch)
	})
	if allocs != 0 {
		t.Errorf("%v allocations a batch", allocs)
	}
	for k := range batch {
		if !batch[k].OK {
			t.Fatalf("packet %d does not open", k)
		}
	}
}

func benchmarkBatch(t testing.TB, p *path, keyLen, n int) (*AEAD, []Packet) {
	rng := rand.New(rand.NewPCG(5, 5))
	batch := make([]Packet, 44)
	for k := range batch {
		const head, tail = 52, 4
		batch[k] = Packet{Text: random(rng, n+TagLen), Head: head, Body: random(rng, n-head-tail), IV: uint64(k), AADLen: 8}
	}
	return p.aeadFor(t, random(rng, keyLen), random(rng, 4)), batch
}

func BenchmarkSeal(b *testing.B) {
	forSizes(b, func(b *testing.B, a *AEAD, batch []Packet) {
		for b.Loop() {
			a.Seal(batch)
		}
	})
}

// BenchmarkOpen brings back the ciphertext each time, which is part of the figure.
func BenchmarkOpen(b *testing.B) {
	forSizes(b, func(b *testing.B, a *AEAD, batch []Packet) {
		a.Seal(batch)
		sealed := make([][]byte, len(batch))
		for k := range batch {
			sealed[k] = slices.Clone(batch[k].Text)
		}
		for b.Loop() {
			for k := range batch {
				copy(batch[k].Text, sealed[k])
			}
			a.Open(batch)
		}
		if !batch[0].OK {
			b.Fatal("does not open")
		}
	})
}

func forSizes(b *testing.B, run func(*testing.B, *AEAD, []Packet)) {
	for _, keyLen := range []int{16, 32} {
		for _, n := range []int{64, 1408} {
			for _, p := range ablePaths() {
				b.Run(fmt.Sprintf("AES-%d/44x%d/path=%s", 8*keyLen, n, p.name), func(b *testing.B) {
					a, batch := benchmarkBatch(b, p, keyLen, n)
					b.SetBytes(int64(len(batch) * n))
					b.ReportAllocs()
					run(b, a, batch)
				})
			}
		}
	}
}
