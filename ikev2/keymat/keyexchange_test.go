package keymat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"testing"
	"testing/iotest"
)

// lengths of the public value and of the secret of every group, in bytes (RFC 7296 3.4, RFC 5903 7, RFC 8031 3.1).
var groupLens = map[uint16][2]int{
	14: {256, 256}, 15: {384, 384}, 16: {512, 512}, 19: {64, 32}, 20: {96, 48}, 21: {132, 66}, 31: {32, 32},
}

func mustKey(t testing.TB, group uint16, r io.Reader) KeyExchange {
	t.Helper()
	k, err := NewKeyExchange(group, r)
	if err != nil {
		t.Fatalf("group %d: %v", group, err)
	}
	return k
}

func TestGroupsPublished(t *testing.T) {
	var v published
	readJSON(t, "published.json", &v)
	if len(v.Groups) != 4 {
		t.Fatalf("%d vectors", len(v.Groups))
	}
	for _, g := range v.Groups {
		i, r := mustKey(t, g.Group, bytes.NewReader(g.I)), mustKey(t, g.Group, bytes.NewReader(g.R))
		if !bytes.Equal(i.Public(), g.Gi) || !bytes.Equal(r.Public(), g.Gr) {
			t.Errorf("%s: public values %x and %x", g.Source, i.Public(), r.Public())
		}
		for _, s := range []struct {
			own  KeyExchange
			peer []byte
		}{{i, g.Gr}, {r, g.Gi}} {
			if secret, err := s.own.Shared(s.peer); err != nil || !bytes.Equal(secret, g.Shared) {
				t.Errorf("%s: secret %x, %v", g.Source, secret, err)
			}
		}
	}
}

func TestGroupsAgree(t *testing.T) {
	for group, lens := range groupLens {
		if !GroupSupported(group) || PublicLen(group) != lens[0] {
			t.Errorf("group %d: supported %v, public length %d", group, GroupSupported(group), PublicLen(group))
		}
		i, again, r := mustKey(t, group, seeded(1)), mustKey(t, group, seeded(1)), mustKey(t, group, seeded(2))
		if i.Group() != group || !bytes.Equal(i.Public(), again.Public()) || bytes.Equal(i.Public(), r.Public()) {
			t.Errorf("group %d: the key is not a function of its reader", group)
		}
		a, errA := i.Shared(r.Public())
		b, errB := r.Shared(i.Public())
		if errA != nil || errB != nil || !bytes.Equal(a, b) || len(a) != lens[1] || len(i.Public()) != lens[0] {
			t.Errorf("group %d: %d-byte secrets, equal %v, %v, %v", group, len(a), bytes.Equal(a, b), errA, errB)
		}
	}
	if len(groupLens)+len(kemLens) != len(groups) {
		t.Errorf("%d groups tested of %d", len(groupLens)+len(kemLens), len(groups))
	}
}

func TestGroupsUnsupported(t *testing.T) {
	for _, group := range []uint16{0, 1, 2, 5, 17, 18, 22, 23, 24, 25, 32, 34, 38, 1025, 65535} {
		_, err := NewKeyExchange(group, seeded(1))
		if !errors.Is(err, ErrUnsupported) || GroupSupported(group) || PublicLen(group) != 0 {
			t.Errorf("group %d: %v", group, err)
		}
	}
}

// TestRFC3526Primes makes the primes anew from their definition, 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) * pi) + k), and holds
// them to being safe.
func TestRFC3526Primes(t *testing.T) {
	for _, g := range []struct {
		group uint16
		bits  uint
		k     int64
	}{{14, 2048, 124476}, {15, 3072, 1690314}, {16, 4096, 240904}} {
		one := big.NewInt(1)
		power := func(n uint) *big.Int { return new(big.Int).Lsh(one, n) }
		p := new(big.Int).Add(piTimes(g.bits-130), big.NewInt(g.k))
		p.Lsh(p, 64).Add(p, power(g.bits)).Sub(p, power(g.bits-64)).Sub(p, one)
		if got := primeOf(t, g.group); got.Cmp(p) != 0 {
			t.Errorf("group %d: prime %x", g.group, got)
		}
		if !p.ProbablyPrime(0) || !new(big.Int).Rsh(p, 1).ProbablyPrime(0) {
			t.Errorf("group %d: no safe prime", g.group)
		}
	}
}

// piTimes is floor(2^n * pi) by Machin's formula.
func piTimes(n uint) *big.Int {
	const guard = 64
	arctan := func(x int64) *big.Int { // of 1/x, times 2^(n+guard)
		term := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), n+guard), big.NewInt(x))
		sum := new(big.Int).Set(term)
		for i := int64(3); term.Sign() != 0; i += 2 {
			term.Div(term.Neg(term), big.NewInt(x*x))
			sum.Add(sum, new(big.Int).Quo(term, big.NewInt(i)))
			if term.CmpAbs(big.NewInt(1)) <= 0 {
				break
			}
		}
		return sum
	}
	pi := new(big.Int).Mul(arctan(5), big.NewInt(4))
	pi.Sub(pi, arctan(239)).Mul(pi, big.NewInt(4))
	return pi.Rsh(pi, guard)
}

func primeOf(t testing.TB, group uint16) *big.Int {
	t.Helper()
	p, ok := new(big.Int).SetString(groups[group].(modp).primeHex, 16)
	if !ok {
		t.Fatal("malformed prime")
	}
	return p
}

// TestMODPAgainstBigInt takes math/big as the oracle, for random peers and for one whose value and secret begin with zeros.
func TestMODPAgainstBigInt(t *testing.T) {
	for _, group := range []uint16{14, 15, 16} {
		p := primeOf(t, group)
		size := PublicLen(group)
		k := mustKey(t, group, seeded(7)).(*modpKey)
		x := new(big.Int).SetBytes(k.exponent)
		if pub := new(big.Int).Exp(big.NewInt(2), x, p).FillBytes(make([]byte, size)); !bytes.Equal(pub, k.Public()) {
			t.Errorf("group %d: public value", group)
		}
		zero := leadingZero(p, x)
		peers := []*big.Int{big.NewInt(2), big.NewInt(3), new(big.Int).Sub(p, big.NewInt(2)), zero}
		for seed := range byte(4) {
			peers = append(peers, new(big.Int).Mod(new(big.Int).SetBytes(random(seed, size)), p))
		}
		for n, y := range peers {
			want := new(big.Int).Exp(y, x, p).FillBytes(make([]byte, size))
			got, err := k.Shared(y.FillBytes(make([]byte, size)))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("group %d, peer %d: %v, equal %v", group, n, err, bytes.Equal(got, want))
			}
		}
		got, err := k.Shared(zero.FillBytes(make([]byte, size)))
		if err != nil || len(got) != size || got[0] != 0 {
			t.Errorf("group %d: the secret's leading zero is lost", group)
		}
	}
}

// leadingZero finds a value y = 2^n whose power x begins with a zero byte: each (2^n)^x is the last one times 2^x.
func leadingZero(p, x *big.Int) *big.Int {
	bound := new(big.Int).Rsh(p, 8)
	step := new(big.Int).Exp(big.NewInt(2), x, p)
	power := big.NewInt(1)
	for y := big.NewInt(2); ; y.Lsh(y, 1).Mod(y, p) {
		if power.Mul(power, step).Mod(power, p); power.Cmp(bound) < 0 {
			return y
		}
	}
}

func TestBadPeers(t *testing.T) {
	bad := map[string]map[uint16][][]byte{"order or curve": {
		31: lowOrder25519(t),
	}}
	edge := map[uint16][][]byte{}
	for _, group := range []uint16{14, 15, 16} {
		p := primeOf(t, group)
		for _, y := range []*big.Int{new(big.Int), big.NewInt(1), new(big.Int).Sub(p, big.NewInt(1)), p, new(big.Int).Add(p, big.NewInt(2))} {
			edge[group] = append(edge[group], y.FillBytes(make([]byte, PublicLen(group))))
		}
		edge[group] = append(edge[group], bytes.Repeat([]byte{0xFF}, PublicLen(group)))
	}
	for _, group := range []uint16{19, 20, 21} {
		valid := mustKey(t, group, seeded(3)).Public()
		off := slices.Clone(valid)
		off[len(off)-1] ^= 1
		beyond := slices.Clone(valid) // x of p or more
		for i := range len(beyond) / 2 {
			beyond[i] = 0xFF
		}
		edge[group] = [][]byte{off, beyond, make([]byte, len(valid)), bytes.Repeat([]byte{0xFF}, len(valid))}
	}
	bad["range"] = edge
	lengths := map[uint16][][]byte{}
	for group := range groupLens {
		valid := mustKey(t, group, seeded(3)).Public()
		lengths[group] = [][]byte{nil, {4}, valid[1:], valid[:len(valid)-1], append([]byte{0}, valid...), append(slices.Clone(valid), 0), append([]byte{4}, valid...)}
	}
	bad["length"] = lengths
	for kind, perGroup := range bad {
		for group, peers := range perGroup {
			k := mustKey(t, group, seeded(4))
			for n, peer := range peers {
				if secret, err := k.Shared(peer); !errors.Is(err, ErrPeerKey) || secret != nil {
					t.Errorf("%s: group %d, peer %d: %v", kind, group, n, err)
				}
			}
		}
	}
}

// lowOrder25519 gives the points of small order and their unreduced forms, which all lead to a secret of zeros.
func lowOrder25519(t testing.TB) (points [][]byte) {
	t.Helper()
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	eight, ok := new(big.Int).SetString("325606250916557431795983626356110631294008115727848805560023387167927233504", 10)
	other, ok2 := new(big.Int).SetString("39382357235489614581723060781553021112529911719440698176882885853963445705823", 10)
	if !ok || !ok2 {
		t.Fatal("malformed point")
	}
	one := big.NewInt(1)
	for _, u := range []*big.Int{new(big.Int), one, eight, other, new(big.Int).Sub(p, one), p, new(big.Int).Add(p, one)} {
		for _, top := range []byte{0, 0x80} { // the bit that RFC 7748 5 masks
			b := u.FillBytes(make([]byte, 32))
			slices.Reverse(b)
			b[31] |= top
			points = append(points, b)
		}
	}
	return points
}

func TestBadRandomness(t *testing.T) {
	for group := range groupLens {
		for name, r := range map[string]io.Reader{
			"empty":   bytes.NewReader(nil),
			"short":   bytes.NewReader(make([]byte, 31)),
			"failing": iotest.ErrReader(errors.New("private")),
		} {
			if k, err := NewKeyExchange(group, r); err != ErrRandom || k != nil {
				t.Errorf("group %d, %s: %v", group, name, err)
			}
		}
	}
	for _, group := range []uint16{19, 20, 21} { // a scalar of 0 or of the order or more is drawn again, not for ever
		for _, b := range []byte{0x00, 0xFF} {
			stuck := bytes.NewReader(bytes.Repeat([]byte{b}, 1<<16))
			if _, err := NewKeyExchange(group, stuck); err != ErrRandom {
				t.Errorf("group %d, all %#x: %v", group, b, err)
			}
			length := groups[group].(curve).scalarLen
			again := io.MultiReader(bytes.NewReader(bytes.Repeat([]byte{b}, length)), seeded(1))
			if k := mustKey(t, group, again); !bytes.Equal(k.Public(), mustKey(t, group, seeded(1)).Public()) {
				t.Errorf("group %d: second draw", group)
			}
		}
	}
}

func TestNothingPrintsSecrets(t *testing.T) {
	c, err := NewCipher(20, 128, 0, random(1, 20), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{
		mustKey(t, 19, seeded(1)), mustKey(t, 14, seeded(1)), mustKey(t, 36, seeded(1)), c, *c,
		IKEKeys{SKd: []byte("topsecret")}, &IKEKeys{SKd: []byte("topsecret")},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			if got := fmt.Sprintf(verb, v); got != "(secret)" {
				t.Errorf("%T with %s prints %.40q", v, verb, got)
			}
		}
	}
}

func BenchmarkKeyExchange(b *testing.B) {
	for _, group := range []uint16{31, 19, 20, 21, 14, 15, 16} {
		peer := mustKey(b, group, seeded(1)).Public()
		b.Run(fmt.Sprint(group), func(b *testing.B) {
			for b.Loop() {
				if _, err := mustKey(b, group, seeded(2)).Shared(peer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
