//go:build !race

package aesgcm

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
	"time"
)

// BenchmarkRatio takes the paths in turns, a batch each, and reports the
// quickest batch of each in ns a packet, and how many times the standard
// library the best path is. On a busy machine that is all that compares.
func BenchmarkRatio(b *testing.B) {
	for _, keyLen := range []int{16, 32} {
		for _, n := range []int{64, 256, 1408} {
			b.Run(fmt.Sprintf("AES-%d/44x%d", 8*keyLen, n), func(b *testing.B) {
				var best []figures
				for b.Loop() {
					best = quickest(b, keyLen, n, 400)
				}
				for i, p := range ablePaths() {
					b.ReportMetric(best[i].seal, "seal-"+p.name+"-ns/packet")
					b.ReportMetric(best[i].open, "open-"+p.name+"-ns/packet")
				}
				last := best[len(best)-1]
				b.ReportMetric(last.seal/best[0].seal, "seal-ratio")
				b.ReportMetric(last.open/best[0].open, "open-ratio")
			})
		}
	}
}

// figures are nanoseconds a packet.
type figures struct{ seal, open float64 }

// quickest measures every path that the processor has.
func quickest(t testing.TB, keyLen, n, rounds int) (best []figures) {
	var aeads []*AEAD
	var batches [][]Packet
	for _, p := range ablePaths() {
		a, batch := benchmarkBatch(t, p, keyLen, n)
		aeads, batches = append(aeads, a), append(batches, batch)
		best = append(best, figures{math.Inf(1), math.Inf(1)})
	}
	for range rounds {
		for i, a := range aeads {
			start := time.Now()
			a.Seal(batches[i])
			sealed := time.Now()
			a.Open(batches[i])
			opened := time.Now()
			best[i].seal = min(best[i].seal, float64(sealed.Sub(start))/float64(len(batches[i])))
			best[i].open = min(best[i].open, float64(opened.Sub(sealed))/float64(len(batches[i])))
		}
	}
	for _, batch := range batches {
		if slices.ContainsFunc(batch, func(p Packet) bool { return !p.OK }) {
			t.Fatal("does not open")
		}
	}
	return best
}

// kept is what may be left of a ratio that was recorded: a quarter lost fails.
const kept = 0.75

// TestRatio guards how many times the standard library a path is, against what
// was measured on the development machine. Each round has both, one after the
// other; the median of the rounds counts, of the best of three tries.
func TestRatio(t *testing.T) {
	for _, p := range ablePaths() {
		for size, want := range recorded(t)[p.name] {
			for _, keyLen := range []int{16, 32} {
				got := bestRatio(t, p, keyLen, size, want)
				t.Logf("%s, AES-%d, 44x%d: seals %.2f and opens %.2f times the standard library", p.name, 8*keyLen, size, got.seal, got.open)
				if got.behind(want) {
					t.Errorf("that is a quarter less than %v", want)
				}
			}
		}
	}
}

// recorded is by path and bytes of a packet.
func recorded(t *testing.T) map[string]map[int]figures {
	t.Helper()
	text, err := os.ReadFile("../../bench/results/ratios.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		AESGCM map[string]map[int]struct{ Seal, Open float64 }
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	ratios := map[string]map[int]figures{}
	for path, sizes := range all.AESGCM {
		ratios[path] = map[int]figures{}
		for size, r := range sizes {
			ratios[path][size] = figures{r.Seal, r.Open}
		}
	}
	if ratios["vaes-avx2"][1408].seal < 1 {
		t.Fatalf("nothing is recorded: %v", ratios)
	}
	return ratios
}

// behind says whether one of them has lost a quarter of what was recorded.
func (f figures) behind(reference figures) bool {
	return f.seal < kept*reference.seal || f.open < kept*reference.open
}

// bestRatio tries up to three times to come up to what was recorded.
func bestRatio(t *testing.T, p *path, keyLen, n int, reference figures) (best figures) {
	for range 3 {
		r := medianRatio(t, p, keyLen, n)
		best = figures{max(best.seal, r.seal), max(best.open, r.open)}
		if !best.behind(reference) {
			break
		}
	}
	return best
}

// medianRatio is how many times the standard library p is.
func medianRatio(t *testing.T, p *path, keyLen, n int) figures {
	quick, batch := benchmarkBatch(t, p, keyLen, n)
	slow, slowBatch := benchmarkBatch(t, &paths[len(paths)-1], keyLen, n)
	took := func(operation func([]Packet), batch []Packet) float64 {
		start := time.Now()
		operation(batch)
		return float64(time.Since(start))
	}
	var seal, open []float64
	for range 300 {
		seal = append(seal, took(slow.Seal, slowBatch)/took(quick.Seal, batch))
		open = append(open, took(slow.Open, slowBatch)/took(quick.Open, batch))
	}
	slices.Sort(seal)
	slices.Sort(open)
	return figures{seal[len(seal)/2], open[len(open)/2]}
}
