package wireguard

import (
	"encoding/json"
	"os"
	"runtime"
	"slices"
	"testing"

	"culvert/bench/pipeline"
	"culvert/espcrypto"
	"culvert/espcrypto/aesgcm"
)

// kept is what may be left of a ratio that was recorded: a quarter lost fails.
const kept = 0.75

// recorded gives the ratios of a path in results/ratios.json, as measured on the
// development machine: how many times as long wireguard-go takes.
func recorded(t *testing.T, path string) map[string]map[pipeline.Direction]float64 {
	t.Helper()
	text, err := os.ReadFile("../results/ratios.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]map[string]map[pipeline.Direction]float64
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	ratios, ok := all["pipeline"][path]
	if !ok {
		t.Fatalf("AES-GCM takes the path %s, of which results/ratios.json knows nothing", path)
	}
	return ratios
}

// TestRatio: the data path in memory stays ahead of wireguard-go's packages.
// The fastest of many short turns is what either can do on this machine; three
// times as many are taken before it is called a failure.
func TestRatio(t *testing.T) {
	if len(Systems()) == 0 {
		t.Skip("wireguard-go's segmentation and coalescing are for Linux; this is " + runtime.GOOS)
	}
	path, err := aesgcm.Path()
	if err != nil {
		t.Fatal(err)
	}
	references := recorded(t, path)
	options := pipeline.Options{}
	if testing.Short() { // nothing to be timed, as under the race detector
		options.Rounds = 1
	}
	for _, w := range pipeline.Workloads() {
		reference, ok := references[w.Name]
		if !ok {
			continue
		}
		best := map[pipeline.Direction]float64{}
		for attempt := range 3 {
			if attempt > 0 && !behind(best, reference) {
				break
			}
			for d, r := range measure(t, w, options) {
				best[d] = max(best[d], r)
			}
			if testing.Short() {
				break
			}
		}
		t.Logf("%s, %s: wireguard-go takes %.2f times as long out, %.2f in", path, w.Name, best[pipeline.Out], best[pipeline.In])
		if behind(best, reference) && !testing.Short() {
			t.Errorf("%s, %s: %v, a quarter less than %v", path, w.Name, best, reference)
		}
	}
}

func behind(ratio, reference map[pipeline.Direction]float64) bool {
	return slices.ContainsFunc(pipeline.Directions, func(d pipeline.Direction) bool { return ratio[d] < kept*reference[d] })
}

// TestGuard: it is a quarter, of each direction.
func TestGuard(t *testing.T) {
	both := func(out, in float64) map[pipeline.Direction]float64 {
		return map[pipeline.Direction]float64{pipeline.Out: out, pipeline.In: in}
	}
	reference := both(4, 2)
	for _, c := range []struct {
		got  map[pipeline.Direction]float64
		want bool
	}{{both(4, 2), false}, {both(3, 1.5), false}, {both(2.99, 2), true}, {both(9, 1.49), true}, {nil, true}} {
		if behind(c.got, reference) != c.want {
			t.Errorf("%v of %v: not %v", c.got, reference, c.want)
		}
	}
}

func measure(t *testing.T, w *pipeline.Workload, o pipeline.Options) map[pipeline.Direction]float64 {
	t.Helper()
	systems := []pipeline.System{pipeline.Culvert("culvert", espcrypto.Suite{Encr: 20, KeyBits: 128}), Systems()[0]}
	results, err := pipeline.Measure(w, systems, o)
	if err != nil {
		t.Fatal(err)
	}
	ratio := map[pipeline.Direction]float64{}
	for i := 0; i < len(results); i += 2 {
		ratio[results[i].Direction] = results[i+1].BestNanos / results[i].BestNanos
	}
	return ratio
}

// TestWorkloadsGoThrough: every workload, both ways, with each cipher.
func TestWorkloadsGoThrough(t *testing.T) {
	for _, w := range pipeline.Workloads() {
		for _, s := range Systems() {
			c, err := s.New(w)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := c.Out(2); err != nil {
					t.Fatalf("%s, %s out: %v", s.Name, w.Name, err)
				}
				if _, err := c.In(2); err != nil {
					t.Fatalf("%s, %s in: %v", s.Name, w.Name, err)
				}
			}
		}
	}
}
