package gateway

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"culvert/natt"
	"culvert/natt/nattest"
)

// TestCaptureBound: a reader that does not read costs so much memory and no more,
// and the file says how many packets are not in it.
func TestCaptureBound(t *testing.T) {
	p := &capture{more: make(chan struct{}, 1), full: make(chan struct{})}
	p.begin()
	packet := make([]byte, 60_000)
	const n = 200
	for range n {
		p.add(captureInner, 1, true, packet, nil, nil)
	}
	if len(p.waiting) > captureWaiting+1000 || p.received[captureInner] != n || p.dropped[captureInner] == 0 {
		t.Fatalf("%d bytes wait, %v received, %v dropped", len(p.waiting), p.received, p.dropped)
	}
	if p.seen+int(p.dropped[captureInner]) != n {
		t.Errorf("%d kept, %v dropped, of %d", p.seen, p.dropped, n)
	}
	if got := len(p.take()); got < captureWaiting/2 {
		t.Errorf("%d bytes to read", got)
	}
	if got := len(p.take()); got != 0 {
		t.Errorf("%d bytes twice", got)
	}
	before := p.seen
	p.add(captureInner, 1, true, packet, nil, nil)
	if p.seen != before+1 {
		t.Error("no room after reading")
	}
	var none *tap
	if none.capture() != nil {
		t.Error("a capture without a tap")
	}
	if got := testing.AllocsPerRun(100, func() { none.capture().inbound(0, "", natt.Path{}, 0, nil) }); got != 0 {
		t.Errorf("%v allocations with none running", got)
	}
}

// TestCaptureGateway: one at a time, of both ends, and without keys unless asked.
func TestCaptureGateway(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne, Latency: time.Millisecond}, func(w *world) {
		a, b := w.pair(textA, textB)
		record := func(opts CaptureOptions) (*bytes.Buffer, chan error) {
			var file bytes.Buffer
			ended := make(chan error, 1)
			go func() { ended <- b.Capture(context.Background(), &file, opts) }()
			w.settle()
			return &file, ended
		}
		file, ended := record(CaptureOptions{Packets: 4})
		var refused *Refused
		if err := b.Capture(context.Background(), &bytes.Buffer{}, CaptureOptions{}); !errors.As(err, &refused) || refused.Unknown {
			t.Errorf("a second one: %v", err)
		}
		if err := b.Capture(context.Background(), &bytes.Buffer{}, CaptureOptions{Peer: "nobody"}); !errors.As(err, &refused) || !refused.Unknown {
			t.Errorf("of nobody: %v", err)
		}
		w.crosses(b, a, fromB(1, 333))
		w.crosses(a, b, fromA(1, 444))
		noError(w, <-ended)
		for _, packet := range [][]byte{fromB(1, 333), fromA(1, 444)} {
			if bytes.Count(file.Bytes(), packet) != 1 {
				t.Error("an inner packet is not in it once")
			}
		}
		if bytes.Contains(file.Bytes(), []byte("esp_sa")) || bytes.Contains(file.Bytes(), []byte("ikev2_decryption_table")) {
			t.Error("keys that nobody asked for")
		}
		file, ended = record(CaptureOptions{Packets: 2, Keys: true, Peer: "remote"})
		w.crosses(b, a, fromB(2, 333))
		noError(w, <-ended)
		if n, m := bytes.Count(file.Bytes(), []byte("esp_sa ")), bytes.Count(file.Bytes(), []byte("ikev2_decryption_table ")); n < 2 || m != 1 {
			t.Errorf("%d rows of ESP keys, %d of IKE keys", n, m)
		}
		if len(b.log.of("capture_keys")) != 1 {
			t.Error("the log says nothing of the keys")
		}
	})
}
