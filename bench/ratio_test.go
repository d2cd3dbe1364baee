package bench

import (
	"os"
	"testing"
	"time"

	"culvert/lab"
)

// need skips where err says that a test cannot run, but never in CI.
func need(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// TestRatio holds culvert to four times the throughput of strongSwan's
// user-space ESP. Medians below that get more rounds to be judged by, in case
// the machine was busy with something else.
func TestRatio(t *testing.T) {
	need(t, Available())
	need(t, lab.StrongSwanAvailable())
	const want = 4
	dir := t.TempDir()
	binary, err := BuildCulvert(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := Culvert(binary, dir), StrongSwan()
	var all Samples
	for attempt := 0; attempt < 3 && !(all.Ratio(ours.Name, theirs.Name) >= want); attempt++ {
		samples, err := Compare(t.Context(), []System{ours, theirs}, Options{Duration: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, samples...)
	}
	for _, s := range all {
		t.Logf("%-10s %5.2f Gbit/s", s.System, s.BitsPerSecond/1e9)
	}
	t.Logf("ratio of medians: %.1f", all.Ratio(ours.Name, theirs.Name))
	if !(all.Ratio(ours.Name, theirs.Name) >= want) {
		t.Errorf("culvert carries %.1f times what strongSwan does, want %d", all.Ratio(ours.Name, theirs.Name), want)
	}
}

func TestMedian(t *testing.T) {
	s := Samples{{1, "a", 9}, {1, "b", 2}, {2, "b", 4}, {2, "a", 1}, {3, "a", 8}}
	if a, b, none := s.Median("a"), s.Median("b"), s.Median("c"); a != 8 || b != 3 || none != 0 {
		t.Errorf("medians %v, %v, %v", a, b, none)
	}
	if r := s.Ratio("a", "b"); r != 8.0/3 {
		t.Errorf("ratio %v", r)
	}
}
