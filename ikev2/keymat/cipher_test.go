package keymat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"
	"testing/iotest"
)

type cipherCase struct{ encr, keyBits, integ uint16 }

var cipherCases = []cipherCase{
	{20, 128, 0}, {20, 192, 0}, {20, 256, 0}, {28, 0, 0},
	{12, 128, 12}, {12, 192, 13}, {12, 256, 14}, {12, 256, 12}, {12, 128, 14},
}

func (c cipherCase) String() string {
	return fmt.Sprintf("cipher %d-%d, integrity %d", c.encr, c.keyBits, c.integ)
}

func (c cipherCase) make(t testing.TB) *Cipher {
	t.Helper()
	encr, integ, err := cipherKeyLens(c.encr, c.keyBits, c.integ)
	if err != nil {
		t.Fatal(err)
	}
	cipher, err := NewCipher(c.encr, c.keyBits, c.integ, random(1, encr), random(2, integ))
	if err != nil {
		t.Fatal(err)
	}
	return cipher
}

const bodyAt = 32 // of an IKE header and a generic payload header

func sealed(t testing.TB, c *Cipher, plain []byte) []byte {
	t.Helper()
	out, err := c.Seal(random(3, bodyAt), plain, seeded(4))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSealOpen(t *testing.T) {
	for _, c := range cipherCases {
		ours, theirs := c.make(t), c.make(t)
		for n := range 70 {
			plain := random(5, n)
			datagram := sealed(t, ours, plain)
			if len(datagram) != bodyAt+ours.BodyLen(n) {
				t.Errorf("%v: %d bytes give a body of %d, not %d", c, n, len(datagram)-bodyAt, ours.BodyLen(n))
			}
			before := slices.Clone(datagram)
			got, err := theirs.Open(datagram, bodyAt)
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%v, %d bytes: %x, %v", c, n, got, err)
			}
			clear(got)
			if !bytes.Equal(datagram, before) {
				t.Errorf("%v: Open changed the datagram", c)
			}
		}
	}
}

// TestOpenIndependent opens what other implementations sealed, with padding of every length and content that RFC 7296 3.14 leaves to them.
func TestOpenIndependent(t *testing.T) {
	var v independent
	readJSON(t, "independent.json", &v)
	if len(v.Sealed) != 4*3*3+3*3*4*3 {
		t.Fatalf("%d vectors", len(v.Sealed))
	}
	for n, s := range v.Sealed {
		c, err := NewCipher(s.Encr, s.KeyBits, s.Integ, s.EncrKey, s.IntegKey)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Open(s.Datagram, bodyAt); err != nil || !bytes.Equal(got, s.Plain) {
			t.Errorf("%d: %x, %v", n, got, err)
		}
	}
}

func TestChaCha20Published(t *testing.T) {
	var v published
	readJSON(t, "published.json", &v)
	c, err := NewCipher(28, 0, 0, slices.Concat(v.ChaCha20.Key, v.ChaCha20.Salt), nil)
	if err != nil {
		t.Fatal(err)
	}
	packet := []byte(v.ChaCha20.Packet)
	if got, err := c.Open(packet, bodyAt); err != nil || !bytes.Equal(got, v.ChaCha20.Plain) {
		t.Errorf("open: %x, %v", got, err)
	}
	c.mode.(*aeadMode).used = binary.BigEndian.Uint64(packet[bodyAt:]) - 1
	if got, err := c.Seal(slices.Clone(packet[:bodyAt]), v.ChaCha20.Plain, nil); err != nil || !bytes.Equal(got, packet) {
		t.Errorf("seal: %x, %v", got, err)
	}
}

func TestEveryBitCounts(t *testing.T) {
	for _, c := range cipherCases {
		cipher := c.make(t)
		datagram := sealed(t, cipher, random(5, 37))
		for bit := range len(datagram) * 8 {
			flipped := slices.Clone(datagram)
			flipped[bit/8] ^= 1 << (bit % 8)
			if got, err := cipher.Open(flipped, bodyAt); err != ErrAuth || got != nil {
				t.Fatalf("%v: bit %d of %d: %v", c, bit, len(datagram)*8, err)
			}
		}
		if _, err := cipher.Open(datagram, bodyAt); err != nil {
			t.Errorf("%v: the datagram itself: %v", c, err)
		}
	}
}

func TestEveryTruncationFails(t *testing.T) {
	for _, c := range cipherCases {
		cipher := c.make(t)
		datagram := sealed(t, cipher, random(5, 37))
		for n := range len(datagram) {
			for _, offset := range []int{bodyAt, 0, n} {
				if _, err := cipher.Open(datagram[:n], offset); err != ErrAuth {
					t.Fatalf("%v: %d bytes, body at %d: %v", c, n, offset, err)
				}
			}
		}
		for _, offset := range []int{-1, math.MinInt, bodyAt - 1, bodyAt + 1, len(datagram) + 1, math.MaxInt} {
			// CBC's MAC covers the datagram whatever the offset, so that only alignment stops a wrong one.
			if _, err := cipher.Open(datagram, offset); err != ErrAuth {
				t.Errorf("%v: body at %d: %v", c, offset, err)
			}
		}
		if _, err := cipher.Open(append(slices.Clone(datagram), 0), bodyAt); err != ErrAuth {
			t.Errorf("%v: a byte more: %v", c, err)
		}
	}
}

// An authentic body whose pad length is more than there is comes from a broken peer, and takes nothing down.
func TestBadPadding(t *testing.T) {
	gcm := cipherCase{20, 256, 0}.make(t).mode.(*aeadMode)
	aead, err := gcm.aead()
	if err != nil {
		t.Fatal(err)
	}
	for n, body := range [][]byte{{1}, {0, 2}, {1, 2, 255}} {
		prefix := random(3, bodyAt)
		iv := []byte{0, 0, 0, 0, 0, 0, 1, byte(n)}
		datagram := aead.Seal(append(slices.Clone(prefix), iv...), gcm.nonce(iv), body, prefix)
		if _, err := (&Cipher{mode: gcm}).Open(datagram, bodyAt); err != ErrAuth {
			t.Errorf("pad length %d in %d bytes: %v", body[len(body)-1], len(body), err)
		}
	}
	datagram := aead.Seal(make([]byte, aeadIVLen), gcm.nonce(make([]byte, aeadIVLen)), nil, nil)
	if _, err := (&Cipher{mode: gcm}).Open(datagram, 0); err != ErrAuth {
		t.Errorf("no pad length: %v", err)
	}
	for _, pad := range []byte{16, 17, 255} {
		cbc := cipherCase{12, 128, 12}.make(t).mode.(*cbcMode)
		last := make([]byte, 16)
		last[15] = pad
		if _, err := (&Cipher{mode: cbc}).Open(cbcDatagram(cbc, last), bodyAt); err != ErrAuth {
			t.Errorf("CBC, pad length %d in 16 bytes: %v", pad, err)
		}
	}
}

// cbcDatagram seals one block of plaintext that has no correct padding.
func cbcDatagram(m *cbcMode, block []byte) []byte {
	d := append(random(3, bodyAt), make([]byte, 16)...)
	ciphertext := make([]byte, 16)
	m.block.Encrypt(ciphertext, block) // an IV of zeros
	d = append(d, ciphertext...)
	return append(d, m.integ.icv(m.integKey, d)...)
}

func TestIVs(t *testing.T) {
	for _, c := range cipherCases[:4] {
		cipher := c.make(t)
		seen := map[string]bool{}
		for range 1000 {
			iv := string(sealed(t, cipher, nil)[bodyAt : bodyAt+aeadIVLen])
			if seen[iv] {
				t.Fatalf("%v: an IV repeats", c)
			}
			seen[iv] = true
		}
		cipher.mode.(*aeadMode).used = math.MaxUint64 - 1
		sealed(t, cipher, nil)
		for range 2 {
			if out, err := cipher.Seal(nil, nil, nil); err != ErrExhausted || out != nil {
				t.Errorf("%v: after the last IV: %v", c, err)
			}
		}
	}
	cbc := cipherCase{12, 256, 12}.make(t)
	for name, r := range map[string]io.Reader{"short": bytes.NewReader(make([]byte, 15)), "failing": iotest.ErrReader(errors.New("private"))} {
		if out, err := cbc.Seal(nil, nil, r); err != ErrRandom || out != nil {
			t.Errorf("%s randomness: %v", name, err)
		}
	}
	if iv := sealed(t, cbc, nil)[bodyAt : bodyAt+16]; !bytes.Equal(iv, random(4, 16)) {
		t.Errorf("the IV of CBC is not what its reader gave: %x", iv)
	}
}

// Seal may write into the prefix's spare capacity and must keep the prefix.
func TestSealKeepsPrefix(t *testing.T) {
	for _, c := range cipherCases {
		prefix := random(3, bodyAt)
		for _, spare := range []int{0, 5, 4096} {
			cipher := c.make(t)
			in := append(make([]byte, 0, bodyAt+spare), prefix...)
			out, err := cipher.Seal(in, []byte("plaintext"), seeded(4))
			if err != nil || !bytes.HasPrefix(out, prefix) {
				t.Fatalf("%v: %v", c, err)
			}
			if got, err := cipher.Open(out, bodyAt); err != nil || string(got) != "plaintext" {
				t.Errorf("%v, %d bytes spare: %q, %v", c, spare, got, err)
			}
		}
	}
}

func TestCipherNumbers(t *testing.T) {
	type key struct{ encr, bits uint16 }
	lens := map[key]int{
		{20, 128}: 20, {20, 192}: 28, {20, 256}: 36, {28, 0}: 36, {12, 128}: 16, {12, 192}: 24, {12, 256}: 32,
	}
	for encr := range uint16(64) {
		for _, bits := range []uint16{0, 1, 64, 127, 128, 129, 192, 255, 256, 257, 512, 65535} {
			n, err := EncrKeyLen(encr, bits)
			want := lens[key{encr, bits}]
			if n != want || (err == nil) != (want > 0) || EncrSupported(encr, bits) != (want > 0) {
				t.Errorf("cipher %d-%d: %d, %v", encr, bits, n, err)
			}
		}
		if IsAEAD(encr) != (encr == 20 || encr == 28) {
			t.Errorf("cipher %d: AEAD %v", encr, IsAEAD(encr))
		}
		n, err := IntegKeyLen(encr)
		want := map[uint16]int{12: 32, 13: 48, 14: 64}[encr]
		if n != want || (err == nil) != (want > 0) || IntegSupported(encr) != (want > 0) {
			t.Errorf("integrity %d: %d, %v", encr, n, err)
		}
	}
}

func TestNewCipherRefuses(t *testing.T) {
	key := func(n int) []byte { return make([]byte, n) }
	for _, c := range []struct {
		encr, bits, integ uint16
		encrKey, integKey []byte
		want              error
	}{
		{20, 256, 0, key(35), nil, ErrKeyLength},
		{20, 256, 0, key(37), nil, ErrKeyLength},
		{20, 256, 0, nil, nil, ErrKeyLength},
		{20, 256, 0, key(36), key(32), ErrKeyLength},
		{20, 256, 12, key(36), key(32), ErrUnsupported},
		{28, 256, 0, key(36), nil, ErrUnsupported},
		{12, 256, 0, key(32), nil, ErrUnsupported},
		{12, 256, 2, key(32), key(20), ErrUnsupported},
		{12, 256, 12, key(16), key(32), ErrKeyLength},
		{12, 256, 12, key(32), key(31), ErrKeyLength},
		{3, 0, 12, key(24), key(32), ErrUnsupported},
		{11, 0, 12, nil, key(32), ErrUnsupported},
	} {
		if got, err := NewCipher(c.encr, c.bits, c.integ, c.encrKey, c.integKey); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%d-%d with %d: %v, not %v", c.encr, c.bits, c.integ, err, c.want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	for i, c := range cipherCases {
		f.Add(byte(i), sealed(f, c.make(f), random(5, 20)), bodyAt)
	}
	f.Add(byte(0), []byte{}, 0)
	f.Add(byte(4), make([]byte, 64), 17)
	f.Fuzz(func(t *testing.T, which byte, datagram []byte, offset int) {
		c := cipherCases[int(which)%len(cipherCases)].make(t)
		plain, err := c.Open(datagram, offset)
		if err != nil && (err != ErrAuth || plain != nil) {
			t.Fatalf("%v with %d bytes", err, len(plain))
		}
		if err == nil && c.BodyLen(len(plain)) > len(datagram)-offset {
			t.Fatalf("%d bytes out of a body of %d", len(plain), len(datagram)-offset)
		}
	})
}
