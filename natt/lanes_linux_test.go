package natt

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"
)

func loopbackLanes(t *testing.T, lanes int) []Conn {
	t.Helper()
	all, err := ListenLanes(netip.MustParseAddrPort("127.0.0.1:0"), lanes, Options{NATT: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range all {
			_ = c.Close()
		}
	})
	return all
}

// Each socket receives the ESP of its lane, from one and the same sender; the
// first one receives what has no SPI.
func TestLanesAreSteered(t *testing.T) {
	for _, lanes := range []int{1, 2, 3, 8} {
		conns := loopbackLanes(t, lanes)
		from, err := net.Dial("udp4", conns[0].LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = from.Close() }()
		want := make([][]uint32, lanes)
		send := func(b []byte, lane int, word uint32) {
			t.Helper()
			if _, err := from.Write(b); err != nil {
				t.Fatal(err)
			}
			want[lane] = append(want[lane], word)
		}
		for generation := range uint32(40) {
			spi := (generation+1)<<spiIndexBits | 0xabcde
			send(binary.BigEndian.AppendUint32(nil, spi), Lane(spi, lanes), spi)
		}
		send(make([]byte, 40), 0, 0)                           // IKE
		send([]byte{KeepaliveByte}, 0, uint32(KeepaliveByte))  // shorter than an SPI
		send(binary.BigEndian.AppendUint32(nil, 255), 0, 0xff) // reserved
		for lane, c := range conns {
			var got []uint32
			for runs := make([]Run, 8); len(got) < len(want[lane]); {
				n, err := receiveWithin(c, runs)
				if err != nil {
					t.Fatalf("%d lanes: lane %d has %x, want %x: %v", lanes, lane, got, want[lane], err)
				}
				for _, r := range runs[:n] {
					for i := range r.Segments() {
						word := make([]byte, 4)
						b := r.Segment(i)
						copy(word[max(0, 4-len(b)):], b)
						got = append(got, binary.BigEndian.Uint32(word))
					}
				}
			}
			if !slices.Equal(got, want[lane]) {
				t.Errorf("%d lanes: lane %d has %x, want %x", lanes, lane, got, want[lane])
			}
		}
	}
}

// receiveWithin ends a test that would wait for ever.
func receiveWithin(c Conn, runs []Run) (int, error) {
	stop := time.AfterFunc(10*time.Second, func() { _ = c.Close() })
	defer stop.Stop()
	return c.Receive(runs)
}

// A second gateway does not get a part of the first one's traffic, however many
// lanes either has.
func TestLanesKeepTheirPort(t *testing.T) {
	port := loopbackLanes(t, 2)[0].LocalAddr()
	for _, lanes := range []int{1, 2} {
		if _, err := ListenLanes(port, lanes, Options{NATT: true}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%d lanes more: %v", lanes, err)
		}
	}
}
