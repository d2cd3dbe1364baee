package bench

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
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
	binary, err := Build(t.Context(), dir, CulvertProgram)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := Culvert(binary, dir), StrongSwan()
	tcp, err := Named("tcp1")
	if err != nil {
		t.Fatal(err)
	}
	var all Samples
	for attempt := 0; attempt < 3 && !(all.Ratio("tcp1", ours.Name, theirs.Name) >= want); attempt++ {
		samples, err := Compare(t.Context(), []System{ours, theirs}, Options{Duration: 2 * time.Second, Measures: tcp})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, samples...)
	}
	for _, s := range all {
		t.Logf("%-10s %5.2f Gbit/s", s.System, s.Figures["tcp1"])
	}
	t.Logf("ratio: %.1f", all.Ratio("tcp1", ours.Name, theirs.Name))
	if !(all.Ratio("tcp1", ours.Name, theirs.Name) >= want) {
		t.Errorf("culvert carries %.1f times what strongSwan does, want %d", all.Ratio("tcp1", ours.Name, theirs.Name), want)
	}
}

func TestMedian(t *testing.T) {
	figure := func(v float64) map[string]float64 { return map[string]float64{"x": v} }
	s := Samples{{1, "a", figure(9)}, {1, "b", figure(2)}, {2, "b", figure(4)}, {2, "a", figure(1)}, {3, "a", figure(8)}, {3, "a", nil}}
	if a, b, none, other := s.Median("a", "x"), s.Median("b", "x"), s.Median("c", "x"), s.Median("a", "y"); a != 8 || b != 3 || none != 0 || other != 0 {
		t.Errorf("medians %v, %v, %v, %v", a, b, none, other)
	}
	if r, none := s.Ratio("x", "a", "b"), s.Ratio("x", "a", "c"); r != (9.0/2+1.0/4)/2 || none != 0 { // of two rounds
		t.Errorf("ratios %v, %v", r, none)
	}
	if names := s.Systems(); !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("systems %q", names)
	}
}

func TestPercentile(t *testing.T) {
	var v []time.Duration
	for i := range 200 {
		v = append(v, time.Duration(200-i))
	}
	for _, c := range []struct {
		of   []time.Duration
		p    int
		want time.Duration
	}{{v, 50, 100}, {v, 99, 198}, {v, 100, 200}, {v, 0, 1}, {v[:1], 99, 200}, {v[:3], 50, 199}, {nil, 50, 0}} {
		if got := Percentile(c.of, c.p); got != c.want {
			t.Errorf("%d%% of %d: %v, want %v", c.p, len(c.of), got, c.want)
		}
	}
	if v[0] != 200 {
		t.Error("what was given is sorted now")
	}
}

func TestNamed(t *testing.T) {
	if all, err := Named(""); err != nil || len(all) != len(Measures()) {
		t.Errorf("%d measures, %v", len(all), err)
	}
	two, err := Named("idle,tcp4")
	if err != nil || len(two) != 2 || two[0].Name != "idle" || two[1].Name != "tcp4" {
		t.Errorf("%v, %v", two, err)
	}
	if _, err := Named("tcp4,pigeon"); err == nil || !strings.Contains(err.Error(), `"pigeon"`) {
		t.Errorf("%v", err)
	}
	names := map[string]bool{}
	for _, f := range Figures(Measures()) {
		if names[f.Name] {
			t.Errorf("two figures are called %s", f.Name)
		}
		names[f.Name] = true
	}
}

func TestTable(t *testing.T) {
	s := Samples{
		{1, "ours", map[string]float64{"speed": 4, "wait": 150}}, {1, "theirs", map[string]float64{"speed": 2, "wait": 45}},
	}
	var out strings.Builder
	if err := WriteTable(&out, s, []Figure{{Name: "speed", Title: "How fast", Unit: "m/s"}, {Name: "wait", Title: "How long", Unit: "µs"}}); err != nil {
		t.Fatal(err)
	}
	const want = "               ours  theirs\nHow fast  m/s  4.00  2.00 (0.50)\nHow long  µs   150   45.0 (0.30)\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// TestReadmeHasTheTable: what the README shows is what the data gives.
func TestReadmeHasTheTable(t *testing.T) {
	report, err := ReadReport("results/traffic.json")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := WriteTable(&table, report.Samples, report.Figures()); err != nil {
		t.Fatal(err)
	}
	if want := report.Headline() + "\n" + table.String(); !strings.Contains(string(readme), want) {
		t.Errorf("the README has not this table:\n%s", want)
	}
}

// TestReportsAddUp: what is saved is read again, and runs of one machine join.
func TestReportsAddUp(t *testing.T) {
	r := NewReport([]System{{Name: "a", Version: "v1"}, {Name: "b"}}, Samples{{1, "a", map[string]float64{"tcp1": 4}}})
	file := t.TempDir() + "/report.json"
	if err := r.Save(file); err != nil {
		t.Fatal(err)
	}
	read, err := ReadReport(file)
	if err != nil || !reflect.DeepEqual(read, r) {
		t.Errorf("%+v, %v; want %+v", read, err, r)
	}
	both, err := r.With(read)
	if err != nil || len(both.Samples) != 2 || both.Samples[1].Round != 2 || len(both.Figures()) != 1 {
		t.Errorf("%+v, %v", both, err)
	}
	if alone, err := (Report{}).With(r); err != nil || !reflect.DeepEqual(alone, r) {
		t.Errorf("%+v, %v", alone, err)
	}
	read.Versions["a"] = "v2"
	if _, err := r.With(read); err == nil {
		t.Error("runs of two versions are one report")
	}
	if _, err := ReadReport(file + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestSystemsCarry: everything that is compared starts, carries all that is
// measured, and has figures that are none of them nothing.
func TestSystemsCarry(t *testing.T) {
	need(t, Available())
	need(t, lab.StrongSwanAvailable())
	dir := t.TempDir()
	build := func(program string) string {
		binary, err := Build(t.Context(), dir, program)
		if err != nil {
			t.Fatal(err)
		}
		return binary
	}
	systems := []System{Culvert(build(CulvertProgram), dir), Relay(build(RelayProgram)), WireGuard(build(WireGuardProgram)), StrongSwan()}
	samples, err := Compare(t.Context(), systems, Options{Rounds: 1, Duration: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if len(samples) != len(systems) {
		t.Fatalf("%d runs", len(samples))
	}
	for _, s := range samples {
		for _, f := range Figures(Measures()) {
			if v, ok := s.Figures[f.Name]; !ok || v <= 0 {
				t.Errorf("%s: %s is %v", s.System, f.Name, v)
			}
		}
	}
}
