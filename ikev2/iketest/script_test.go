package iketest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// script is what chance decides: each decision under its name and in words, in
// the order of those of that name. What failed is kept as one, in
// testdata/schedules, and played again whatever has become of the generator: a
// decision that is new takes its first choice, one that nobody asks for any more
// is left.
type script struct {
	seed  uint64
	rng   *rand.Rand // nil where the script was read
	words map[string][]string
	asked map[string]int
	wrong error // a word that is no choice
}

func newScript(seed uint64) *script {
	return &script{seed: seed, rng: newRand(seed), words: map[string][]string{}, asked: map[string]int{}}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// word is the next decision of that name, "" where the script has no more.
func (s *script) word(name string, draw func() string) string {
	if s.rng != nil {
		s.words[name] = append(s.words[name], draw())
	}
	i := s.asked[name]
	if i == len(s.words[name]) {
		return ""
	}
	s.asked[name]++
	return s.words[name][i]
}

func (s *script) among(name string, choices ...string) string {
	w := s.word(name, func() string { return choices[s.rng.IntN(len(choices))] })
	switch {
	case w == "":
	case slices.Contains(choices, w):
		return w
	default:
		s.wrong = errors.Join(s.wrong, fmt.Errorf("%s: %q is not among %q", name, w, choices))
	}
	return choices[0]
}

// whether is true in one of n cases.
func (s *script) whether(name string, n int) bool {
	return s.word(name, func() string { return yes(s.rng.IntN(n) == 0) }) == "yes"
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// number is below n, or any with n = 0.
func (s *script) number(name string, n uint64) uint64 {
	return s.decode(name, s.word(name, func() string {
		if n == 0 {
			return fmt.Sprint(s.rng.Uint64())
		}
		return fmt.Sprint(s.rng.Uint64N(n))
	}))
}

func (s *script) decode(name, w string) (n uint64) {
	if _, err := fmt.Sscan(w, &n); err != nil && w != "" {
		s.wrong = errors.Join(s.wrong, fmt.Errorf("%s: %q: %w", name, w, err))
	}
	return n
}

// span is a time of up to one of longest.
func (s *script) span(name string, longest ...time.Duration) time.Duration {
	return s.time(name, s.word(name, func() string { return s.drawTime(s.oneOf(longest)).String() }))
}

// oneOf is a measure for what is drawn later, and no decision; nor is fraction.
func (s *script) oneOf(ds []time.Duration) time.Duration {
	if s.rng == nil || len(ds) == 1 {
		return ds[0]
	}
	return ds[s.rng.IntN(len(ds))]
}

func (s *script) time(name, w string) time.Duration {
	if w == "" {
		return 10 * time.Millisecond
	}
	d, err := time.ParseDuration(w)
	if err != nil {
		s.wrong = errors.Join(s.wrong, fmt.Errorf("%s: %w", name, err))
	}
	return d
}

func (s *script) drawTime(longest time.Duration) time.Duration {
	return (time.Millisecond + time.Duration(s.rng.Int64N(int64(longest)))).Round(time.Microsecond)
}

func (s *script) fraction() float64 {
	if s.rng == nil {
		return 0
	}
	return s.rng.Float64()
}

// lineLength is where a list of decisions goes on in another line.
const lineLength = 110

// String is the script as a file has it.
func (s *script) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.words)) {
		line := name + ": "
		for i, w := range s.words[name] {
			if i > 0 && len(line)+len(w) > lineLength {
				b.WriteString(line + "\n")
				line = name + ": "
			} else if i > 0 {
				line += ", "
			}
			line += w
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// readScript leaves out comments, which begin with #. The first other line is
// the name of the test that the script is for.
func readScript(text string) (kind string, s *script, err error) {
	s = newScript(0)
	s.rng = nil
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, words, decision := strings.Cut(line, ": ")
		switch {
		case line == "" || line[0] == '#':
		case kind == "":
			kind = line
		case !decision:
			return "", nil, fmt.Errorf("%q is no decision", line)
		default:
			s.words[name] = append(s.words[name], strings.Split(words, ", ")...)
		}
	}
	return kind, s, nil
}

// random are the searches whose schedules are written down, by their tests.
var random = map[string]func(*script) *schedule{
	"TestRandomSchedules":        playSchedule,
	"TestRandomReconfigurations": playReconfigured,
}

// told is a failed schedule for somebody to read.
func (s *schedule) told() string {
	return fmt.Sprintf("seed %d: %s\n%s\nthe script:\n%s", s.seed, s.failure, s.n.Transcript(), s.script)
}

// keep writes the schedule of a seed down.
func (s *schedule) keep(t *testing.T) {
	file := filepath.Join("testdata", "schedules", fmt.Sprintf("%s-%d.txt", strings.TrimPrefix(t.Name(), "TestRandom"), s.seed))
	text := fmt.Sprintf("# seed %d: %s\n%s\n%v", s.seed, s.failure, t.Name(), s.script)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSchedulesThatFailed plays again what once failed.
func TestSchedulesThatFailed(t *testing.T) {
	files, err := filepath.Glob("testdata/schedules/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no schedules: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			kind, script, err := readScript(string(text))
			if err != nil || random[kind] == nil {
				t.Fatalf("a script for %q: %v", kind, err)
			}
			s := random[kind](script)
			if script.wrong != nil {
				t.Error(script.wrong)
			}
			if s.failure != "" {
				t.Error(s.told())
			}
		})
	}
}

// A script that was written down plays what its seed did.
func TestScriptsPlayTheSame(t *testing.T) {
	for kind, play := range random {
		for seed := uint64(1); seed <= 20; seed++ {
			one := play(newScript(seed))
			_, again, err := readScript(kind + "\n" + one.script.String())
			if err != nil {
				t.Fatal(err)
			}
			two := play(again)
			if again.wrong != nil || one.n.Digest() != two.n.Digest() || one.n.Transcript() != two.n.Transcript() {
				t.Errorf("%s, seed %d: %v:\n%s\nis not\n%s", kind, seed, again.wrong, one.n.Transcript(), two.n.Transcript())
			}
		}
	}
}

// One that is damaged says so.
func TestScriptsAreRead(t *testing.T) {
	for _, text := range []string{"pause: 1x", "act: A dances", "more children: many", "start: sometimes/never", "fate: 3ms+soon"} {
		_, script, err := readScript("TestRandomSchedules\nacts: 3\n" + text)
		if err != nil {
			t.Fatal(err)
		}
		if playSchedule(script); script.wrong == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if _, _, err := readScript("TestRandomSchedules\nnothing"); err == nil {
		t.Error("a line without a decision is taken")
	}
}
