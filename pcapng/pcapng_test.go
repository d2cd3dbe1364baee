package pcapng

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"slices"
	"testing"
)

// capture is a file with everything in it.
func capture() []byte {
	b := AppendSection(nil, "esp_sa row", "another")
	b = AppendInterface(b, Raw, "outer")
	b = AppendInterface(b, Ethernet, "")
	for n := range 9 {
		p := Packet{Interface: n % 2, Time: 1_700_000_000_123_456_789 + int64(n), Direction: Direction(n % 3), Comments: slices.Repeat([]string{"x"}, n/4)}
		piece := bytes.Repeat([]byte{byte(n)}, n)
		b = p.Append(b, piece[:n/3], piece[n/3:n/2], piece[n/2:])
	}
	return AppendStatistics(b, 0, 1_700_000_001_000_000_000, 5, 1)
}

func TestRoundTrip(t *testing.T) {
	in := bytes.NewReader(capture())
	var packets [][]byte
	var comments []string
	var again []byte
	for {
		b, err := Read(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		again = append(again, b...)
		comments = append(comments, b.Comments()...)
		if p, ns, ok := b.Packet(); ok {
			if want := 1_700_000_000_123_456_789 + int64(len(packets)); ns != want {
				t.Errorf("packet %d is of %d, want %d", len(packets), ns, want)
			}
			packets = append(packets, p)
		}
	}
	if !bytes.Equal(again, capture()) {
		t.Error("the blocks are not the file")
	}
	for n, p := range packets {
		if !bytes.Equal(p, bytes.Repeat([]byte{byte(n)}, n)) {
			t.Errorf("packet %d is %x", n, p)
		}
	}
	if want := []string{"esp_sa row", "another", "x", "x", "x", "x", "x", "x"}; len(packets) != 9 || !reflect.DeepEqual(comments, want) {
		t.Errorf("%d packets, comments %q", len(packets), comments)
	}
}

// TestBytes is a packet as the draft's section 4.3 lays it out.
func TestBytes(t *testing.T) {
	p := Packet{Interface: 1, Time: 0x0102030405060708, Direction: Inbound, Comments: []string{"hi"}}
	const want = "06000000" + "3c000000" + "01000000" + "04030201" + "08070605" + "05000000" + "05000000" + "aabbccddee000000" +
		"02000400" + "01000000" + "01000200" + "68690000" + "00000000" + "3c000000"
	if got := hex.EncodeToString(p.Append(nil, []byte{0xaa, 0xbb}, []byte{0xcc, 0xdd, 0xee})); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	room, piece := make([]byte, 0, 1024), make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { p.Append(room, piece, nil, piece) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestCut: a file that ends anywhere but between blocks is not whole.
func TestCut(t *testing.T) {
	whole := capture()
	ends := map[int]bool{0: true}
	for in := bytes.NewReader(whole); in.Len() > 0; ends[len(whole)-in.Len()] = true {
		if _, err := Read(in); err != nil {
			t.Fatal(err)
		}
	}
	for n := range whole {
		in := bytes.NewReader(whole[:n])
		var err error
		for err == nil {
			_, err = Read(in)
		}
		want := io.ErrUnexpectedEOF
		if ends[n] {
			want = io.EOF
		}
		if !errors.Is(err, want) {
			t.Errorf("%d bytes: %v, want %v", n, err, want)
		}
	}
}

// FuzzRead: whatever comes is read or refused, and what is read can be asked.
func FuzzRead(f *testing.F) {
	f.Add(capture())
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte{6, 0, 0, 0, 12, 0, 0, 0, 12, 0, 0, 0})
	f.Add([]byte{6, 0, 0, 0, 32, 0, 0, 0, 20: 255, 21: 255, 22: 255, 23: 255, 28: 32, 31: 0})
	f.Fuzz(func(t *testing.T, file []byte) {
		for in := bytes.NewReader(file); ; {
			b, err := Read(in)
			if err != nil {
				return
			}
			b.Packet()
			b.Comments()
		}
	})
}
