package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// matrixFile in the environment names the file that the table of scenarios with
// strongSwan is written to.
const matrixFile = "CULVERT_MATRIX"

// A role is culvert's in a scenario: who begins the connection.
type role int

const (
	initiates role = iota
	responds
)

func roleOf(culvertInitiates bool) role {
	if culvertInitiates {
		return initiates
	}
	return responds
}

// areas are the parts of the table, in its order.
var areas = []string{"suites", "rekeys", "collisions", "children", "addresses", "packets", "roaming", "life and death", "extensions", "refusals", "configuration"}

// scenarioRow is a line of the table: what is shown, and how it went in each
// role; empty where it did not run.
type scenarioRow struct {
	area, what, test string
	outcome          [2]string
}

// scenarios is the register of all that this process has run with strongSwan.
var scenarios struct {
	sync.Mutex
	rows   []scenarioRow
	stated map[string]bool // names of tests
	peer   string          // strongSwan's version
}

// scenario states at the head of a test what it shows with strongSwan, and in
// which roles. Its outcome is entered in the end, unless it is skipped: what did
// not run is not in the table.
func scenario(t *testing.T, area, what string, roles ...role) {
	t.Helper()
	if !slices.Contains(areas, area) || len(roles) == 0 {
		t.Fatalf("a scenario of area %q with %d roles", area, len(roles))
	}
	scenarios.Lock()
	defer scenarios.Unlock()
	if scenarios.stated == nil {
		scenarios.stated = map[string]bool{}
	}
	scenarios.stated[t.Name()] = true
	t.Cleanup(func() { // the last to run of the test's
		if !t.Skipped() {
			enterScenario(t, area, what, roles)
		}
	})
}

func enterScenario(t *testing.T, area, what string, roles []role) {
	scenarios.Lock()
	defer scenarios.Unlock()
	i := slices.IndexFunc(scenarios.rows, func(r scenarioRow) bool { return r.area == area && r.what == what })
	if i < 0 {
		i = len(scenarios.rows)
		test, _, _ := strings.Cut(t.Name(), "/")
		scenarios.rows = append(scenarios.rows, scenarioRow{area: area, what: what, test: test})
	}
	for _, r := range roles {
		outcome := &scenarios.rows[i].outcome[r]
		switch {
		case t.Failed():
			*outcome = "FAILED"
		case *outcome == "":
			*outcome = "passed"
		}
	}
}

// metPeer notes the version of strongSwan that a log begins with.
func metPeer(log string) {
	_, rest, _ := strings.Cut(log, "(strongSwan ")
	if version, _, ok := strings.Cut(rest, ","); ok {
		scenarios.Lock()
		defer scenarios.Unlock()
		scenarios.peer = version
	}
}

// isScenario says whether the test, or one that it is part of, has stated what
// it shows.
func isScenario(t *testing.T) bool {
	scenarios.Lock()
	defer scenarios.Unlock()
	for name := t.Name(); ; {
		if scenarios.stated[name] {
			return true
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return false
		}
		name = name[:i]
	}
}

// printScenarios writes the table as aligned Markdown.
func printScenarios(w io.Writer) {
	scenarios.Lock()
	defer scenarios.Unlock()
	rows := slices.SortedFunc(slices.Values(scenarios.rows), func(a, b scenarioRow) int {
		return cmp.Or(slices.Index(areas, a.area)-slices.Index(areas, b.area), strings.Compare(a.what, b.what))
	})
	table := [][]string{{"area", "scenario", "culvert initiates", "culvert responds", "test"}}
	ran, failed := 0, 0
	for _, r := range rows {
		for _, o := range r.outcome {
			if o != "" {
				ran++
			}
			if o == "FAILED" {
				failed++
			}
		}
		table = append(table, []string{r.area, r.what, r.outcome[initiates], r.outcome[responds], r.test})
	}
	fmt.Fprintf(w, "# culvert with strongSwan %s\n\nWith kernel-libipsec, in namespaces: %d scenarios, %d failed. Empty where a scenario has one role only.\n\n",
		cmp.Or(scenarios.peer, "(none)"), ran, failed)
	printTable(w, table)
}

func printTable(w io.Writer, table [][]string) {
	widths := make([]int, len(table[0]))
	for _, row := range table {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	line := func(row []string) {
		for i, cell := range row {
			fmt.Fprintf(w, "| %-*s ", widths[i], cell)
		}
		fmt.Fprintln(w, "|")
	}
	line(table[0])
	for _, n := range widths {
		fmt.Fprintf(w, "| %s ", strings.Repeat("-", n))
	}
	fmt.Fprintln(w, "|")
	for _, row := range table[1:] {
		line(row)
	}
}

// writeScenarios writes the table to the file that the environment names.
func writeScenarios() error {
	name := os.Getenv(matrixFile)
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	printScenarios(f)
	return f.Close()
}
