package wireguard

import (
	"runtime"
	"testing"

	"culvert/bench/pipeline"
	"culvert/espcrypto"
	"culvert/espcrypto/aesgcm"
)

// vectors are the floors of wide AES-GCM, as they were measured on 256 bits.
var vectors = map[string]map[pipeline.Direction]float64{
	"tcp4/1420": {pipeline.Out: 3, pipeline.In: 3},
	"udp4/1420": {pipeline.Out: 3, pipeline.In: 3},
	"tcp4/64":   {pipeline.Out: 1.5, pipeline.In: 2.7},
}

// floors are what TestRatio demands: how many times as long wireguard-go takes,
// a quarter less than what was measured when this was written.
var floors = map[string]map[string]map[pipeline.Direction]float64{
	"vaes-avx2": vectors, "vaes-avx512": vectors,
	"stdlib": {
		"tcp4/1420": {pipeline.Out: 1.5, pipeline.In: 1.6},
	},
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
	atLeast, ok := floors[path]
	if !ok {
		t.Fatalf("AES-GCM takes the path %s, of which this test knows nothing", path)
	}
	options := pipeline.Options{}
	if testing.Short() { // nothing to be timed, as under the race detector
		options.Rounds = 1
	}
	for _, w := range pipeline.Workloads() {
		floor, ok := atLeast[w.Name]
		if !ok {
			continue
		}
		best := map[pipeline.Direction]float64{}
		for attempt := range 3 {
			if attempt > 0 && !behind(best, floor) {
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
		if behind(best, floor) && !testing.Short() {
			t.Errorf("%s, %s: %v, want at least %v", path, w.Name, best, floor)
		}
	}
}

func behind(ratio, floor map[pipeline.Direction]float64) bool {
	return ratio[pipeline.Out] < floor[pipeline.Out] || ratio[pipeline.In] < floor[pipeline.In]
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
