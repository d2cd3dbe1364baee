package iketest

import (
	"testing"
	"time"

	"culvert/ikev2"
)

func TestSituationConnects(t *testing.T) {
	n, a, b := Situation(Configs())
	n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
	n.Run(time.Minute)
	t.Log("\n" + n.Transcript())
	if len(a.In) != 1 || len(b.In) != 1 || len(a.Out) != 1 || len(b.Out) != 1 {
		t.Fatalf("child SAs installed: A %d/%d, B %d/%d", len(a.In), len(a.Out), len(b.In), len(b.Out))
	}
}
