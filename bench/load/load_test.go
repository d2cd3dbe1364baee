package load

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// asGateway makes the test binary the gateway's process.
const asGateway = "CULVERT_LOAD_PEERS"

func TestMain(m *testing.M) {
	peers, err := strconv.Atoi(os.Getenv(asGateway))
	if err != nil {
		os.Exit(m.Run())
	}
	if err := Serve(context.Background(), peers, os.Stdin, os.Stdout); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

// A tunnel that does nothing takes at most 16 KB of live heap, and every peer
// of a gateway that was killed comes back.
func TestManyPeers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	const peers = 500
	results, err := Run(ctx, Options{Peers: peers, Window: 32, Progress: func(s string) { t.Log(s) }}, func(ctx context.Context, peers int) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), asGateway+"="+strconv.Itoa(peers))
		cmd.Stderr = os.Stderr
		return cmd
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := results[0].HeapPerTunnel(); got > 16<<10 || got < 1<<10 {
		t.Errorf("%d bytes of heap a tunnel", got)
	}
}
