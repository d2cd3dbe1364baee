package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report is a comparison as it is kept.
type Report struct {
	Machine  string            `json:"machine"`
	Versions map[string]string `json:"versions"` // of the systems that have one
	Samples  Samples           `json:"samples"`
}

// NewReport is of systems that ran on this machine.
func NewReport(systems []System, s Samples) Report {
	r := Report{Machine: ThisMachine(), Versions: map[string]string{}, Samples: s}
	for _, system := range systems {
		if system.Version != "" {
			r.Versions[system.Name] = system.Version
		}
	}
	return r
}

// ReadReport reads one that Save wrote.
func ReadReport(file string) (r Report, err error) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, fmt.Errorf("bench: report %s: %w", file, err)
	}
	return r, nil
}

// Save writes the report to a file for ReadReport.
func (r Report) Save(file string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// With is r and, as further rounds, the runs of another report of the same
// machine and versions.
func (r Report) With(other Report) (Report, error) {
	if r.Samples == nil {
		return other, nil
	}
	if r.Machine != other.Machine || !maps.Equal(r.Versions, other.Versions) {
		return r, fmt.Errorf("bench: runs on %s do not compare with those on %s", other.Headline(), r.Headline())
	}
	last := 0
	for _, x := range r.Samples {
		last = max(last, x.Round)
	}
	r.Samples = slices.Clone(r.Samples)
	for _, x := range other.Samples {
		x.Round += last
		r.Samples = append(r.Samples, x)
	}
	return r, nil
}

// Figures are those that the runs have, in the order of Measures and Sizes.
func (r Report) Figures() []Figure {
	return slices.DeleteFunc(Figures(slices.Concat(Measures(), Sizes())), func(f Figure) bool {
		return !slices.ContainsFunc(r.Samples, func(s Sample) bool { _, ok := s.Figures[f.Name]; return ok })
	})
}

// Headline says in a line where, of what, and how.
func (r Report) Headline() string {
	var b strings.Builder
	b.WriteString(r.Machine)
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, "; %s %s", name, r.Versions[name])
	}
	b.WriteString("; medians, and in brackets how many times the first's, the median of the rounds")
	return b.String()
}

// ThisMachine says in a few words where this runs.
func ThisMachine() string {
	words := []string{fmt.Sprintf("%d processors", runtime.NumCPU())}
	if name := field("/proc/cpuinfo", "model name"); name != "" {
		words = append(words, name)
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		words = append(words, "Linux "+strings.TrimSpace(string(release)))
	}
	return strings.Join(append(words, runtime.Version()), ", ")
}

// field is the value of the first "name : value" of a file, or "".
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// WriteTable prints the medians of every system, and beside those of all but
// the first the Ratio to the first's.
func WriteTable(w io.Writer, s Samples, figures []Figure) error {
	systems := s.Systems()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\t\t%s\n", strings.Join(systems, "\t"))
	for _, f := range figures {
		fmt.Fprintf(t, "%s\t%s", f.Title, f.Unit)
		for i, system := range systems {
			fmt.Fprintf(t, "\t%s", short(s.Median(system, f.Name)))
			if i > 0 {
				fmt.Fprintf(t, " (%.2f)", s.Ratio(f.Name, system, systems[0]))
			}
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// short is a number with the three digits that mean something.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
