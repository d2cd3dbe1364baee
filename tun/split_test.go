package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSumAgreesWithOracle: at every length, alignment and pattern of carries and
// signs, in one part and in two, wide and narrow.
func TestSumAgreesWithOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	patterns := map[string]func(i int) byte{
		"random":      func(int) byte { return byte(r.Uint32()) },
		"carries":     func(int) byte { return 0xff },
		"zeros":       func(int) byte { return 0 },
		"most":        func(i int) byte { return 0x7f | byte(i%2<<7) }, // words of 0x7fff, turned round
		"least":       func(i int) byte { return byte(i % 2 << 7) },
		"all but one": func(i int) byte { return byte(min(i, 1)) - 1 },
	}
	lengths := []int{2048, 4095, 9000, 65534, 65535, 65536, 65537, 65536 + 127, 200001}
	for n := range 700 {
		lengths = append(lengths, n)
	}
	for name, pattern := range patterns {
		for _, n := range lengths {
			at := r.IntN(64)
			b := make([]byte, at+n)[at:]
			for i := range b {
				b[i] = pattern(i)
			}
			checkSum(t, name, b)
		}
	}
}

func checkSum(t *testing.T, name string, b []byte) {
	t.Helper()
	want := plainSum(b)
	cut := len(b) / 2 &^ 1
	for how, sum := range map[string]uint64{
		"whole": sum64(b, 0), "narrow": sumNarrow(b, 0), "two parts": sum64(b[cut:], sum64(b[:cut], 0)),
	} {
		var got [2]byte
		putSum(got[:], fold(sum))
		if g := binary.BigEndian.Uint16(got[:]); g != want {
			t.Fatalf("%s: sum of %d bytes, %s: %#x, want %#x", name, len(b), how, g, want)
		}
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add([]byte{0xff, 0xff, 0xff}, uint8(1))
	f.Add(bytes.Repeat([]byte{0x80, 0, 0x7f, 0xff}, 100), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, times uint8) {
		checkSum(t, "fuzzed", bytes.Repeat(b, 1+int(times)))
	})
}

func TestReplaceSum(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 10000 {
		b := binary.BigEndian.AppendUint64(nil, r.Uint64())
		if r.IntN(4) == 0 {
			clear(b[4:])
		}
		binary.BigEndian.PutUint16(b, 0)
		binary.BigEndian.PutUint16(b, ^plainSum(b))
		old, new := binary.BigEndian.Uint16(b[4:]), uint16(r.Uint32())>>(r.IntN(2)*16)
		binary.BigEndian.PutUint16(b[4:], new)
		replaceSum(b, old, new)
		if s := plainSum(b); s != 0xffff && s != 0 {
			t.Fatalf("%x -> %x: sums to %#x", old, new, s)
		}
	}
}

// TestSplitIsSegmentation: whatever run, its packets are those that a sender
// without offload would have sent.
func TestSplitIsSegmentation(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 400 {
		p, size := randomRun(r)
		if i%7 == 0 {
			p.flags |= flagCWR
		}
		if i%5 == 0 {
			p.flags |= flagFIN
		}
		got, err := split(p.super(size))
		if err != nil {
			t.Fatal(err)
		}
		if want := p.segments(size); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("run %d (%+v, size %d): %d packets, want %d, or some differ", i, p.proto, size, len(got), len(want))
		}
	}
}

func TestSplitSingleCompletesChecksum(t *testing.T) {
	for _, proto := range []uint8{protoTCP, protoUDP} {
		for _, v6 := range []bool{false, true} {
			p := pkt{v6: v6, proto: proto, src: 1, dst: 2, ttl: 64, flags: flagACK, payload: []byte("odd")}
			s := p.super(0)
			got, err := split(s)
			if err != nil || len(got) != 1 || !bytes.Equal(got[0], p.bytes()) {
				t.Errorf("proto %d, v6 %v: %x, %v, want %x", proto, v6, got, err, p.bytes())
			}
			// Padding behind the packet is not sent.
			got, err = split(Super{Packet: append(p.bytes(), 0, 0, 0)})
			if err != nil || !bytes.Equal(got[0], p.bytes()) {
				t.Errorf("padded: %x, %v", got, err)
			}
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	run := func() Super {
		return pkt{proto: protoTCP, flags: flagACK, payload: make([]byte, 3000)}.super(1000)
	}
	single := func() Super { return pkt{proto: protoUDP, payload: make([]byte, 30)}.super(0) }
	for name, s := range map[string]func() Super{
		"empty":                  func() Super { return Super{} },
		"version 5":              func() Super { s := run(); s.Packet[0] = 0x55; return s },
		"checksum elsewhere":     func() Super { s := run(); s.ChecksumStart++; return s },
		"checksum past the end":  func() Super { s := single(); s.ChecksumStart = len(s.Packet) - 1; return s },
		"checksum far past":      func() Super { s := single(); s.ChecksumOffset = 1 << 15; return s },
		"negative offset":        func() Super { s := single(); s.ChecksumOffset = -30; return s },
		"negative segment":       func() Super { s := run(); s.SegmentSize = -1; return s },
		"TCP header too short":   func() Super { s := run(); s.Packet[ipv4Len+tcpOffset] = 4 << 4; return s },
		"TCP header past end":    func() Super { return pkt{proto: protoTCP, options: make([]byte, 40)}.cut(30) },
		"run of ICMP":            func() Super { s := run(); s.Packet[9] = protoICMP; return s },
		"run of fragments":       func() Super { s := run(); s.Packet[6] = 0x20; return s },
		"total length too long":  func() Super { s := run(); s.Packet[2] = 0xff; return s },
		"total length too short": func() Super { s := run(); s.Packet[2], s.Packet[3] = 0, 19; return s },
	} {
		var p Splitter
		bad := s()
		if err := p.Load(&bad); err == nil || p.Count() != 0 {
			t.Errorf("%s: error %v, count %d", name, err, p.Count())
		}
	}
}

// cut is the run with its packet and its length shortened to n bytes.
func (p pkt) cut(n int) Super {
	s := p.super(1)
	s.Packet = s.Packet[:n]
	binary.BigEndian.PutUint16(s.Packet[2:], uint16(n))
	return s
}

func TestSplitEveryPrefixFails(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := pkt{v6: v6, proto: protoTCP, flags: flagACK, payload: make([]byte, 100)}.super(30)
		for n := range s.Packet {
			cut := s
			cut.Packet = s.Packet[:n]
			var p Splitter
			if err := p.Load(&cut); err == nil {
				t.Fatalf("v6 %v: %d of %d bytes accepted", v6, n, len(s.Packet))
			}
		}
	}
}

// otherGSO is the type of run that does not fit the packet.
var otherGSO = map[uint8]uint8{gsoTCPv4: gsoTCPv6, gsoTCPv6: gsoTCPv4, gsoUDP: 3}

func TestVirtio(t *testing.T) {
	for _, p := range []pkt{
		{proto: protoTCP, flags: flagACK, payload: make([]byte, 3000)},
		{proto: protoTCP, v6: true, options: make([]byte, 12), payload: make([]byte, 3000)},
		{proto: protoUDP, payload: make([]byte, 3000)},
		{proto: protoUDP, v6: true, payload: make([]byte, 3000)},
	} {
		for _, size := range []int{0, 1000} {
			want := p.super(size)
			var head [virtioLen]byte
			if err := encodeVirtio(&head, want); err != nil {
				t.Fatal(err)
			}
			raw := append(head[:], want.Packet...)
			binary.LittleEndian.PutUint16(raw[2:], 0xffff) // hdr_len is not to be trusted
			got, err := decodeVirtio(raw)
			if err != nil || got.SegmentSize != want.SegmentSize || got.ChecksumStart != want.ChecksumStart ||
				got.ChecksumOffset != want.ChecksumOffset || !bytes.Equal(got.Packet, want.Packet) {
				t.Errorf("%+v came back as %+v, %v", want, got, err)
			}
			if size == 0 {
				continue
			}
			raw[1] |= gsoECN
			if _, err := decodeVirtio(raw); err != nil {
				t.Errorf("with the ECN bit: %v", err)
			}
			kind := raw[1] &^ gsoECN
			for name, spoil := range map[string]func([]byte){
				"unknown type":     func(b []byte) { b[1] = 3 },
				"other IP version": func(b []byte) { b[1] = otherGSO[kind] },
				"segments of 0":    func(b []byte) { b[4], b[5] = 0, 0 },
				"checksum in IP":   func(b []byte) { b[6] = 4 },
			} {
				bad := slices.Clone(raw)
				spoil(bad)
				if _, err := decodeVirtio(bad); err == nil {
					t.Errorf("%s accepted", name)
				}
			}
		}
	}
	for n := range virtioLen + ipv4Len {
		if _, err := decodeVirtio(make([]byte, n)); !errors.Is(err, ErrTruncated) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func FuzzSplitter(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 12 {
		p, size := randomRun(r)
		p.payload = p.payload[:min(len(p.payload), 300)]
		s := p.super(min(size, 100))
		f.Add(s.Packet, s.SegmentSize, s.ChecksumStart, s.ChecksumOffset)
	}
	f.Fuzz(func(t *testing.T, packet []byte, size, start, offset int) {
		got, err := split(Super{Packet: packet, SegmentSize: size, ChecksumStart: start, ChecksumOffset: offset})
		if err != nil {
			return
		}
		for i, b := range got {
			if n, err := innerLen(b); err != nil || n != len(b) {
				t.Fatalf("packet %d of %d: %d bytes, header says %d, %v", i, len(got), len(b), n, err)
			}
		}
	})
}

func BenchmarkSplit64K(b *testing.B) {
	s := pkt{proto: protoTCP, flags: flagACK, options: make([]byte, 12), payload: make([]byte, 47*1348)}.super(1348)
	var p Splitter
	head := make([]byte, 128)
	b.SetBytes(int64(len(s.Packet)))
	b.ReportAllocs()
	for b.Loop() {
		if p.Load(&s) != nil {
			b.Fatal("refused")
		}
		for i := range p.Count() {
			p.Head(i, head)
		}
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{64, 128, 512, 1380} {
		data := make([]byte, n)
		for name, sum := range map[string]func([]byte, uint64) uint64{"sum64": sum64, "narrow": sumNarrow} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.SetBytes(int64(n))
				var s uint64
				for b.Loop() {
					s = sum(data, s)
				}
			})
		}
	}
}
