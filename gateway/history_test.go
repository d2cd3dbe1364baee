package gateway

import (
	"slices"
	"testing"
	"time"

	"culvert/natt"
	"culvert/natt/nattest"
	"culvert/tun"
)

// TestHistoryRing: a sample is a rate, the ring holds the last minutes, and a
// peer that came later begins with nothing.
func TestHistoryRing(t *testing.T) {
	h := history{peers: map[string]*past{"a": {}}}
	for i := range historyLen + 10 {
		if i == historyLen {
			h.peers["b"] = &past{}
		}
		for _, p := range h.peers {
			p.samples[i%historyLen] = sample{in: float32(i), roundTrip: 12}
		}
		h.n++
	}
	x := h.tell([]string{"b", "nobody", "a"})
	if len(x.Peers) != 2 || x.Peers[0].Name != "b" || len(x.Peers[0].BitsIn) != historyLen || len(x.Peers[1].RoundTrip) != historyLen {
		t.Fatalf("%+v", x)
	}
	if in := x.Peers[1].BitsIn; in[0] != 10 || in[historyLen-1] != historyLen+9 {
		t.Errorf("from %v to %v", in[0], in[historyLen-1])
	}
	if in := x.Peers[0].BitsIn; in[historyLen-11] != 0 || in[historyLen-10] != historyLen {
		t.Errorf("the late one: %v", in)
	}
	if got := h.last("a"); got.in != historyLen+9 {
		t.Errorf("last %v", got)
	}
	if bitRate(100, 300, 2) != 0 || bitRate(300, 50, 2) != 1000 || bitRate(3, 1, 0) != 0 {
		t.Error("rates")
	}
}

// TestHistory: a peer that is up is in it, with its rate, and with a round trip
// while somebody looks.
func TestHistory(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne, Latency: 5 * time.Millisecond}, func(w *world) {
		a, b := w.pair(textA, textB)
		w.measured(a, b)
		isIKE := func(d nattest.Datagram) bool { return natt.Classify(d.Bytes) == natt.IKE }
		before := len(w.sent(isIKE))
		time.Sleep(4 * historyInterval)
		if n := len(w.sent(isIKE)) - before; n != 0 {
			t.Errorf("%d IKE messages with nobody looking", n)
		}
		for range 10 {
			b.device.Inject(tun.Super{Packet: fromB(1, 1000)})
			w.settle()
			if _, ok := b.History(); !ok {
				t.Fatal("no history")
			}
			time.Sleep(historyInterval)
		}
		x, _ := b.History()
		if len(x.Peers) != 1 || x.Peers[0].Name != "remote" {
			t.Fatalf("%+v", x)
		}
		p := x.Peers[0]
		if got := slices.Max(p.BitsOut); got < 1000*8/2 || got > 1200*8/2 {
			t.Errorf("%v bits/s out", got)
		}
		if got := slices.Max(p.RoundTrip); got < 10 || got > 40 {
			t.Errorf("round trip %v ms, the way takes 5 ms a hop", got)
		}
		if got := b.peer(); got.RoundTrip < 0.01 || got.BitsOut == 0 {
			t.Errorf("status: round trip %v s, %v bits/s out", got.RoundTrip, got.BitsOut)
		}
	})
}
