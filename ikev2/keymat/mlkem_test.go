package keymat

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	circl "github.com/cloudflare/circl/kem"
	mlkem1024scheme "github.com/cloudflare/circl/kem/mlkem/mlkem1024"
	"github.com/cloudflare/circl/kem/mlkem/mlkem512"
	mlkem768scheme "github.com/cloudflare/circl/kem/mlkem/mlkem768"
)

// kemLens are the lengths of key, ciphertext and secret (FIPS 203 table 3).
var kemLens = map[uint16][3]int{35: {800, 768, 32}, 36: {1184, 1088, 32}, 37: {1568, 1568, 32}}

// TestMLKEMPublished makes keys and ciphertexts of the seeds that C2SP's accumulated vectors of ML-KEM-768 prescribe and compares the hash of all of
// them with the published one (github.com/C2SP/CCTV, as the standard library has it, without the decapsulation keys).
func TestMLKEMPublished(t *testing.T) {
	in, out := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	for range 100 {
		own := mustKey(t, 36, in)
		ciphertext, shared, err := Respond(36, own.Public(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{own.Public(), ciphertext, shared} {
			_, _ = out.Write(b)
		}
		if same, err := own.Shared(ciphertext); err != nil || !bytes.Equal(same, shared) {
			t.Fatalf("the sides do not agree: %v", err)
		}
		random := make([]byte, len(ciphertext))
		_, _ = in.Read(random)
		rejected, err := own.Shared(random)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = out.Write(rejected)
	}
	hash := make([]byte, 32)
	_, _ = out.Read(hash)
	if got := hex.EncodeToString(hash); got != "1114b1b6699ed191734fa339376afa7e285c9e6acf6ff0177d346696ce564415" {
		t.Errorf("the vectors' hash is %s", got)
	}
}

// TestMLKEMAgainstAnother holds the standard library's sizes, and the way in which the third is called, to another implementation.
func TestMLKEMAgainstAnother(t *testing.T) {
	for method, other := range map[uint16]circl.Scheme{35: mlkem512.Scheme(), 36: mlkem768scheme.Scheme(), 37: mlkem1024scheme.Scheme()} {
		for seed := range byte(20) {
			own := mustKey(t, method, seeded(seed))
			d, m := make([]byte, 64), make([]byte, 32)
			_, _ = io.ReadFull(seeded(seed), d)
			_, _ = io.ReadFull(seeded(seed+100), m)
			public, private := other.DeriveKeyPair(d)
			theirs, _ := public.MarshalBinary()
			ciphertext, shared, err := Respond(method, own.Public(), seeded(seed+100))
			if err != nil {
				t.Fatal(err)
			}
			theirCiphertext, theirShared, _ := other.EncapsulateDeterministically(public, m)
			if !bytes.Equal(own.Public(), theirs) || !bytes.Equal(ciphertext, theirCiphertext) || !bytes.Equal(shared, theirShared) {
				t.Errorf("method %d: another implementation gives something else", method)
			}
			random := make([]byte, len(ciphertext))
			_, _ = io.ReadFull(seeded(seed+200), random)
			mine, err := own.Shared(random)
			if rejected, _ := other.Decapsulate(private, random); err != nil || !bytes.Equal(mine, rejected) {
				t.Errorf("method %d: another implementation rejects differently", method)
			}
		}
	}
}

func TestMLKEMAgrees(t *testing.T) {
	for method, lens := range kemLens {
		i, again := mustKey(t, method, seeded(1)), mustKey(t, method, seeded(1))
		if i.Group() != method || !bytes.Equal(i.Public(), again.Public()) || !IsKEM(method) {
			t.Errorf("method %d: the key is not a function of its reader", method)
		}
		ciphertext, shared, err := Respond(method, i.Public(), seeded(2))
		if err != nil {
			t.Fatal(err)
		}
		same, _, _ := Respond(method, i.Public(), seeded(2))
		other, _, _ := Respond(method, i.Public(), seeded(3))
		if !bytes.Equal(ciphertext, same) || bytes.Equal(ciphertext, other) {
			t.Errorf("method %d: the ciphertext is not a function of its reader", method)
		}
		mine, err := i.Shared(ciphertext)
		if err != nil || !bytes.Equal(mine, shared) {
			t.Errorf("method %d: %v, secrets equal %v", method, err, bytes.Equal(mine, shared))
		}
		if got := [3]int{len(i.Public()), len(ciphertext), len(shared)}; got != lens || PublicLen(method) != lens[0] {
			t.Errorf("method %d: lengths %v", method, got)
		}
	}
}

// A responder in any group has what two sides would have.
func TestRespond(t *testing.T) {
	for group := range groupLens {
		i := mustKey(t, group, seeded(1))
		public, shared, err := Respond(group, i.Public(), seeded(2))
		if err != nil || !bytes.Equal(public, mustKey(t, group, seeded(2)).Public()) || IsKEM(group) {
			t.Errorf("group %d: %v", group, err)
		}
		if mine, err := i.Shared(public); err != nil || !bytes.Equal(mine, shared) {
			t.Errorf("group %d: %v", group, err)
		}
	}
	if _, _, err := Respond(34, make([]byte, 800), seeded(1)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("method 34: %v", err)
	}
}

// A key of the wrong length, or with a coefficient that is not below the modulus, is refused (FIPS 203 7.2); so is a ciphertext of the wrong length.
func TestMLKEMBadPeers(t *testing.T) {
	for method, lens := range kemLens {
		valid := mustKey(t, method, seeded(1)).Public()
		modulus := slices.Clone(valid)
		modulus[0], modulus[1] = 0x01, modulus[1]&0xF0|0x0D // 3329
		for n, peer := range [][]byte{nil, valid[1:], append(slices.Clone(valid), 0), modulus, bytes.Repeat([]byte{0xFF}, len(valid))} {
			if public, shared, err := Respond(method, peer, seeded(2)); err != ErrPeerKey || public != nil || shared != nil {
				t.Errorf("method %d, key %d: %v", method, n, err)
			}
		}
		own := mustKey(t, method, seeded(1))
		for _, length := range []int{0, 1, lens[1] - 1, lens[1] + 1} {
			if shared, err := own.Shared(make([]byte, length)); err != ErrPeerKey || shared != nil {
				t.Errorf("method %d, ciphertext of %d bytes: %v", method, length, err)
			}
		}
		for _, r := range []io.Reader{bytes.NewReader(nil), bytes.NewReader(make([]byte, 31)), iotest.ErrReader(errors.New("private"))} {
			if _, err := NewKeyExchange(method, r); err != ErrRandom {
				t.Errorf("method %d: %v", method, err)
			}
			if _, _, err := Respond(method, valid, r); err != ErrRandom {
				t.Errorf("method %d: %v", method, err)
			}
		}
	}
}

// The formulas of RFC 9370 2.2.2 and 2.2.4 and of RFC 8784 3, each written out once more with HMAC alone.
func TestMoreKeysByDefinition(t *testing.T) {
	prf := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		h.Write(slices.Concat(parts...))
		return h.Sum(nil)
	}
	plus := func(key, seed []byte, n int) (out []byte) {
		var block []byte
		for i := byte(1); len(out) < n; i++ {
			block = prf(key, block, seed, []byte{i})
			out = append(out, block...)
		}
		return out[:n]
	}
	s := IKESuite{Encr: 20, KeyBits: 256, PRF: 5, Group: 31, AddKE: [7]uint16{36}}
	skd, ni, nr, shared, more := random(1, 32), random(2, 32), random(3, 48), random(4, 32), random(5, 64)
	spii, spir := [8]byte{1}, [8]byte{2}
	seed := slices.Concat(ni, nr, spii[:], spir[:])
	total := 3*32 + 2*36

	next, err := DeriveIKENext(s, skd, ni, nr, shared, spii, spir)
	if want := plus(prf(skd, shared, ni, nr), seed, total); err != nil || !bytes.Equal(next.joined(), want) {
		t.Errorf("after IKE_INTERMEDIATE: %v", err)
	}
	rekeyed, err := DeriveIKERekey(s, 5, skd, ni, nr, shared, more, spii, spir)
	if want := plus(prf(skd, shared, ni, nr, more), seed, total); err != nil || !bytes.Equal(rekeyed.joined(), want) {
		t.Errorf("a rekey: %v", err)
	}
	child, err := DeriveChild(5, skd, shared, ni, nr, more, 72)
	if want := plus(skd, slices.Concat(shared, ni, nr, more), 72); err != nil || !bytes.Equal(child, want) {
		t.Errorf("a child: %v", err)
	}
	mixed := next.WithPPK(mustPRF(t, 5), []byte("ppk"))
	if !bytes.Equal(mixed.SKd, plus([]byte("ppk"), next.SKd, 32)) || !bytes.Equal(mixed.SKpi, plus([]byte("ppk"), next.SKpi, 32)) ||
		!bytes.Equal(mixed.SKpr, plus([]byte("ppk"), next.SKpr, 32)) || !bytes.Equal(mixed.SKei, next.SKei) || !bytes.Equal(mixed.SKer, next.SKer) {
		t.Error("RFC 8784")
	}
}

func BenchmarkMLKEM(b *testing.B) {
	for b.Loop() {
		own := mustKey(b, 36, seeded(1))
		ciphertext, _, err := Respond(36, own.Public(), seeded(2))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := own.Shared(ciphertext); err != nil {
			b.Fatal(err)
		}
	}
}
