package natt

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestClassify(t *testing.T) {
	ike := AppendMarker(nil)
	ike = append(ike, make([]byte, 28)...)
	for _, c := range []struct {
		name  string
		bytes []byte
		want  Kind
	}{
		{"nothing", nil, Runt},
		{"keepalive", []byte{0xFF}, Keepalive},
		{"one byte of another value", []byte{0}, Runt},
		{"two bytes of keepalive", []byte{0xFF, 0xFF}, Runt},
		{"marker alone", ike[:4], Runt},
		{"marker and an IKE header less a byte", ike[:31], Runt},
		{"the shortest IKE message", ike, IKE},
		{"ESP less a byte of sequence number", []byte{0, 0, 1, 0, 0, 0, 0}, Runt},
		{"the lowest SPI", []byte{0, 0, 1, 0, 0, 0, 0, 1}, ESP},
		{"the highest SPI", bytes.Repeat([]byte{0xFF}, 40), ESP},
		{"the highest reserved SPI", []byte{0, 0, 0, 0xFF, 0, 0, 0, 1}, Reserved},
		{"the lowest reserved SPI", append([]byte{0, 0, 0, 1}, make([]byte, 40)...), Reserved},
	} {
		if got := Classify(c.bytes); got != c.want {
			t.Errorf("%s is %v, want %v", c.name, got, c.want)
		}
	}
}

// FuzzClassify states what each answer promises to who acts on it.
func FuzzClassify(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{KeepaliveByte})
	f.Add(make([]byte, 31))
	f.Add(make([]byte, 32))
	f.Add([]byte{0, 0, 0, 255, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 1, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind := Classify(b)
		switch kind {
		case IKE:
			if len(b) < 32 || !bytes.Equal(AppendMarker(nil), b[:4]) || len(StripMarker(b)) != len(b)-4 {
				t.Errorf("%x is IKE", b)
			}
		case ESP:
			if len(b) < 8 || binary.BigEndian.Uint32(b) < 256 {
				t.Errorf("%x is ESP", b)
			}
		case Keepalive:
			if !bytes.Equal(b, []byte{0xFF}) {
				t.Errorf("%x is a keepalive", b)
			}
		case Reserved:
			if spi := binary.BigEndian.Uint32(b); spi == 0 || spi > 255 {
				t.Errorf("%x has a reserved SPI", b)
			}
		case Runt:
			if len(b) >= 32 {
				t.Errorf("%x is a runt", b)
			}
		}
		if kind.String() == "unknown" {
			t.Errorf("%x is a kind without a name", b)
		}
	})
}
