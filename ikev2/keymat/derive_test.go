package keymat

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"
)

func mustPRF(t testing.TB, id uint16) PRF {
	t.Helper()
	p, err := NewPRF(id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// joined puts the keys back into the one string that RFC 7296 2.14 cuts them from.
func (k IKEKeys) joined() []byte {
	return slices.Concat(k.SKd, k.SKai, k.SKar, k.SKei, k.SKer, k.SKpi, k.SKpr)
}

func TestHMACPublished(t *testing.T) {
	var v published
	readJSON(t, "published.json", &v)
	for n, c := range v.HMAC {
		for _, id := range []uint16{5, 6, 7} {
			p := mustPRF(t, id)
			got := p.Sum(c["key"], c["data"][:1], nil, c["data"][1:])
			if !bytes.Equal(got, c[strconv.Itoa(int(id))]) || len(got) != p.KeyLen() {
				t.Errorf("case %d, PRF %d: %x", n, id, got)
			}
		}
	}
	if len(v.HMAC) != 6 {
		t.Errorf("%d vectors", len(v.HMAC))
	}
}

// TestKDFPublished stays below DeriveIKE, which refuses the 8-byte nonces of NIST's samples.
func TestKDFPublished(t *testing.T) {
	var v published
	readJSON(t, "published.json", &v)
	if len(v.KDF) != 2 {
		t.Fatalf("%d vectors", len(v.KDF))
	}
	for _, c := range v.KDF {
		p := mustPRF(t, c.PRF)
		seed := firstSeed(p, c.Ni, c.Nr, c.Gir)
		encr, integ, err := cipherKeyLens(c.Encr, c.KeyBits, c.Integ)
		if err != nil {
			t.Fatal(err)
		}
		keys := cutIKE(p, encr, integ, seed, slices.Concat(c.Ni, c.Nr, c.Spii, c.Spir))
		if !bytes.Equal(seed, c.Skeyseed) || !bytes.HasPrefix(keys.joined(), c.Dkm) {
			t.Errorf("PRF %d: SKEYSEED or its keys", c.PRF)
		}
		if got := rekeySeed(p, keys.SKd, c.Ni, c.Nr, c.GirNew, nil); !bytes.Equal(got, c.SkeyseedRekey) {
			t.Errorf("PRF %d: SKEYSEED of a rekey", c.PRF)
		}
	}
}

func TestDeriveIndependent(t *testing.T) {
	var v independent
	readJSON(t, "independent.json", &v)
	if len(v.Derive) != 6 {
		t.Fatalf("%d vectors", len(v.Derive))
	}
	for n, c := range v.Derive {
		s := IKESuite{Encr: c.Encr, KeyBits: c.KeyBits, PRF: c.PRF, Integ: c.Integ}
		keys, err := DeriveIKE(s, c.Ni, c.Nr, c.Shared, [8]byte(c.Spii), [8]byte(c.Spir))
		if err != nil || !bytes.Equal(keys.joined(), c.Keys) {
			t.Errorf("%d: first keys, %v", n, err)
		}
		rekeyed, err := DeriveIKERekey(s, c.OldPRF, c.OldSKd, c.Ni, c.Nr, c.Shared, nil, [8]byte(c.Spii), [8]byte(c.Spir))
		if err != nil || !bytes.Equal(rekeyed.joined(), c.Rekeyed) {
			t.Errorf("%d: keys of a rekey, %v", n, err)
		}
		resumed, err := DeriveIKEResume(s, c.OldSKd, c.Ni, c.Nr, [8]byte(c.Spii), [8]byte(c.Spir))
		if err != nil || !bytes.Equal(resumed.joined(), c.Resumed) {
			t.Errorf("%d: keys of a resumption, %v", n, err)
		}
		if _, err := NewCipher(c.Encr, c.KeyBits, c.Integ, keys.SKei, keys.SKai); err != nil {
			t.Errorf("%d: the cipher does not take the keys: %v", n, err)
		}
		child, err := DeriveChild(c.PRF, keys.SKd, nil, c.Ni, c.Nr, nil, len(c.Child))
		if err != nil || !bytes.Equal(child, c.Child) {
			t.Errorf("%d: keys of a child, %v", n, err)
		}
		child, err = DeriveChild(c.PRF, keys.SKd, c.Shared, c.Ni, c.Nr, nil, len(c.ChildPFS))
		if err != nil || !bytes.Equal(child, c.ChildPFS) {
			t.Errorf("%d: keys of a child with a key exchange, %v", n, err)
		}
	}
}

// A key that is appended to must not grow into its neighbour.
func TestKeysAreApart(t *testing.T) {
	ni := random(1, 32)
	keys, err := DeriveIKE(IKESuite{Encr: 12, KeyBits: 128, PRF: 5, Integ: 12}, ni, ni, ni, [8]byte{1}, [8]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	for n, k := range [][]byte{keys.SKd, keys.SKai, keys.SKar, keys.SKei, keys.SKer, keys.SKpi, keys.SKpr} {
		if len(k) == 0 || cap(k) != len(k) {
			t.Errorf("key %d: length %d, capacity %d", n, len(k), cap(k))
		}
	}
}

func TestPlusEnds(t *testing.T) {
	p := mustPRF(t, 5)
	long := p.Plus([]byte("key"), []byte("seed"), 255*32)
	if len(long) != 255*32 {
		t.Fatalf("%d bytes", len(long))
	}
	for _, n := range []int{0, 1, 31, 32, 33, 255*32 - 1} {
		if got := p.Plus([]byte("key"), []byte("seed"), n); !bytes.Equal(got, long[:n]) || got == nil {
			t.Errorf("the first %d bytes differ", n)
		}
	}
	for _, n := range []int{-1, 255*32 + 1} {
		if p.Plus([]byte("key"), []byte("seed"), n) != nil {
			t.Errorf("%d bytes: prf+ has no end", n)
		}
		if _, err := DeriveChild(5, make([]byte, 32), nil, make([]byte, 32), make([]byte, 32), nil, n); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%d bytes of KEYMAT: %v", n, err)
		}
	}
}

func TestDeriveRefuses(t *testing.T) {
	good, n32 := IKESuite{Encr: 20, KeyBits: 256, PRF: 5}, make([]byte, 32)
	for _, c := range []struct {
		name   string
		s      IKESuite
		ni, nr []byte
		want   error
	}{
		{"no PRF", IKESuite{Encr: 20, KeyBits: 256}, n32, n32, ErrUnsupported},
		{"SHA-1", IKESuite{Encr: 20, KeyBits: 256, PRF: 2}, n32, n32, ErrUnsupported},
		{"AEAD with integrity", IKESuite{Encr: 20, KeyBits: 256, PRF: 5, Integ: 12}, n32, n32, ErrUnsupported},
		{"CBC without integrity", IKESuite{Encr: 12, KeyBits: 256, PRF: 5}, n32, n32, ErrUnsupported},
		{"no key length", IKESuite{Encr: 20, PRF: 5}, n32, n32, ErrUnsupported},
		{"short Ni", good, n32[:15], n32, ErrNonce},
		{"short Nr", good, n32, n32[:15], ErrNonce},
		{"Nr short for SHA-512", IKESuite{Encr: 20, KeyBits: 256, PRF: 7}, n32, n32[:31], ErrNonce},
		{"just long enough", good, n32[:16], n32[:16], nil},
	} {
		_, err := DeriveIKE(c.s, c.ni, c.nr, n32, [8]byte{}, [8]byte{})
		_, rekeyErr := DeriveIKERekey(c.s, 5, n32, c.ni, c.nr, n32, nil, [8]byte{}, [8]byte{})
		if !errors.Is(err, c.want) || !errors.Is(rekeyErr, c.want) {
			t.Errorf("%s: %v, %v", c.name, err, rekeyErr)
		}
	}
	if _, err := DeriveIKERekey(good, 2, n32, n32, n32, n32, nil, [8]byte{}, [8]byte{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("old PRF: %v", err)
	}
	if _, err := DeriveChild(5, n32, nil, n32[:15], n32, nil, 64); err != ErrNonce {
		t.Errorf("child: %v", err)
	}
	for id := range uint16(32) {
		if PRFSupported(id) != slices.Contains([]uint16{5, 6, 7}, id) {
			t.Errorf("PRF %d", id)
		}
	}
}

func TestPSKAuthIndependent(t *testing.T) {
	var v independent
	readJSON(t, "independent.json", &v)
	lengths := map[int]bool{}
	for _, c := range v.Auth {
		lengths[len(c.PSK)] = true
		if got := PSKAuth(mustPRF(t, c.PRF), c.PSK, c.InitMessage, c.PeerNonce, c.Skp, c.IDBody, nil); !bytes.Equal(got, c.Auth) {
			t.Errorf("PRF %d, a key of %d bytes: %x", c.PRF, len(c.PSK), got)
		}
		if got := ResumeAuth(mustPRF(t, c.PRF), c.InitMessage, c.PeerNonce, c.Skp, c.IDBody); !bytes.Equal(got, c.ResumeAuth) {
			t.Errorf("PRF %d, resumed: %x", c.PRF, got)
		}
	}
	for _, n := range []int{1, 63, 64, 65, 128} { // around HMAC's block, where a longer key is hashed first
		if !lengths[n] {
			t.Errorf("no key of %d bytes was tried", n)
		}
	}
}

// Every input of AUTH counts, and none slides into another.
func TestPSKAuthCoversAll(t *testing.T) {
	p, in := mustPRF(t, 5), [6][]byte{[]byte("psk"), []byte("message"), []byte("nonce"), []byte("skp"), []byte("id"), nil}
	auth := func(in [6][]byte) string { return string(PSKAuth(p, in[0], in[1], in[2], in[3], in[4], in[5])) }
	seen := map[string]string{auth(in): "as it is"}
	for n := range in {
		changed := in
		changed[n] = append(slices.Clone(in[n]), 'x')
		got := auth(changed)
		if what, ok := seen[got]; ok {
			t.Errorf("input %d changed nothing against %s", n, what)
		}
		seen[got] = fmt.Sprint("input ", n)
	}
}

func TestNATDetectionIndependent(t *testing.T) {
	var v independent
	readJSON(t, "independent.json", &v)
	for _, c := range v.NAT {
		a, ok := netip.AddrFromSlice(c.Address)
		if !ok {
			t.Fatal("malformed address")
		}
		got := NATDetection([8]byte(c.Spii), [8]byte(c.Spir), netip.AddrPortFrom(a, c.Port))
		if !bytes.Equal(got[:], c.Hash) {
			t.Errorf("%v: %x", a, got)
		}
		mapped := netip.AddrPortFrom(netip.AddrFrom16(a.As16()), c.Port)
		if NATDetection([8]byte(c.Spii), [8]byte(c.Spir), mapped) != got {
			t.Errorf("%v: the form of the address counts", a)
		}
	}
	if len(v.NAT) != 3 {
		t.Errorf("%d vectors", len(v.NAT))
	}
}
