package load

import (
	"context"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	ServeIfAsked()
	os.Exit(m.Run())
}

// A tunnel that does nothing takes at most 16 KB of live heap, and every peer of a
// gateway that was killed comes back: with a ticket where the gateway has kept its
// key.
func TestManyPeers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const peers = 200
	r, err := Run(ctx, Options{
		Peers: peers, Window: 32, PostQuantum: "prefer", Restarts: []Restart{WithTickets}, DPD: time.Second,
		Progress: func(s string) { t.Log(s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.HeapPerTunnel(); got > 16<<10 || got < 1<<10 {
		t.Errorf("%d bytes of heap a tunnel", got)
	}
	if back := r.Restarts[0]; back.Resumed != peers {
		t.Errorf("%d of %d peers resumed", back.Resumed, peers)
	}
}
