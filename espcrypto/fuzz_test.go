package espcrypto

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzOpen feeds anything to an SA that has received one packet. Nothing but
// what was sealed may open or move the window, and what was sealed still opens.
func FuzzOpen(f *testing.F) {
	all := suites()
	for n, s := range all {
		p := newPair(f, s)
		whole, hollow := p.fixed(2, 0x45), p.fixed(3, 0)
		f.Add(uint8(n), p.fixed(1, 0x45))
		f.Add(uint8(n), whole)
		f.Add(uint8(n), hollow)
		f.Add(uint8(n), whole[:len(whole)-1])
		f.Add(uint8(n), whole[:p.InnerOffset()+p.in.icv])
		f.Add(uint8(n), slices.Concat(whole, hollow))
	}
	f.Add(uint8(0), []byte(nil))
	f.Fuzz(func(t *testing.T, n uint8, data []byte) {
		p := newPair(t, all[int(n)%len(all)])
		whole, hollow := p.fixed(2, 0x45), p.fixed(3, 0)
		p.wantDrop(t, 0, p.fixed(1, 0x45), "first packet")
		before := p.windowState()
		got := p.open(data)[0]
		moved := p.windowState() != before
		switch {
		case bytes.Equal(data, whole):
			if got.Drop != 0 || !moved {
				t.Fatalf("a sealed packet: %v, window moved: %v", got.Drop, moved)
			}
			return
		case bytes.Equal(data, hollow):
			if got.Drop != DropBadNextHeader || !moved {
				t.Fatalf("a sealed packet that carries nothing: %v, window moved: %v", got.Drop, moved)
			}
		case got.Drop == 0 || got.Inner != nil || moved:
			t.Fatalf("a forged packet: %v, window moved: %v", got.Drop, moved)
		}
		p.wantDrop(t, 0, whole, "second packet")
	})
}

// fixed is a sealed packet that is the same each time, its inner packet 41
// bytes of first.
func (p *pair) fixed(seq uint64, first byte) []byte {
	iv := bytes.Repeat([]byte{byte(seq)}, p.InnerOffset()-8)
	return p.reference(seq, iv, p.trailer(bytes.Repeat([]byte{first}, 41)))
}
