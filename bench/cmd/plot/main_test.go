package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"culvert/bench"
)

// TestPlotsAreOfTheData: the plots that are kept are what the data beside them
// gives; `go generate ./bench/cmd/plot` draws them.
func TestPlotsAreOfTheData(t *testing.T) {
	const dir = "../../results"
	report, err := bench.ReadReport(filepath.Join(dir, "sizes.json"))
	if err != nil {
		t.Fatal(err)
	}
	systems := report.Samples.Systems()
	if len(systems) != len(inks) {
		t.Errorf("there are runs of %q", systems)
	}
	for _, p := range plots {
		for _, system := range systems {
			for _, size := range bench.PacketSizes {
				if v := report.Samples.Median(system, p.figure(size)); v < p.ticks[0] || v > p.ticks[len(p.ticks)-1] {
					t.Errorf("%s: %s at %d bytes is %v, off the plot", p.file, system, size, v)
				}
			}
		}
		want, err := p.draw(report.Samples)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, p.file))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the data gives", p.file)
		}
	}
}
