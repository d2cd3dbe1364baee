package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"culvert/bench"
)

// TestBenchThroughTunnel: as root the whole path is measured as well, and what
// is printed last is the median.
func TestBenchThroughTunnel(t *testing.T) {
	if err := bench.Available(); err != nil {
		t.Skip(err)
	}
	t.Setenv(asCulvert, "1") // for the gateways, which are processes of this program
	var out bytes.Buffer
	b := &benchReport{out: &out, json: true}
	if err := b.throughTunnel(context.Background(), benchOptions{rounds: 2, duration: 200 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	var parts []string
	for line := range strings.Lines(out.String()) {
		var got struct {
			Part, System string
			Figures      map[string]float64
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.System != "culvert" || got.Figures["tcp1"] <= 0 || got.Figures["loaded_p99"] <= 0 {
			t.Errorf("%s: %v", line, err)
		}
		parts = append(parts, got.Part)
	}
	if got := strings.Join(parts, " "); got != "tunnel tunnel tunnel_median" {
		t.Errorf("the output has %q", got)
	}
}
