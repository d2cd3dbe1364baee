package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// didYouMean is a hint towards the known word that is nearest to the unknown
// one, or the list of the known words where none is near.
func didYouMean(unknown string, known []string) string {
	if near := nearest(unknown, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	slices.Sort(known)
	return "known here: " + strings.Join(known, ", ")
}

// nearest is the known word at most a third of its letters away, or "".
func nearest(unknown string, known []string) string {
	best, bestDistance := "", 0
	fold := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	for _, k := range slices.Sorted(slices.Values(known)) {
		d := distance(fold(unknown), fold(k))
		if d <= (len(k)+2)/3 && (best == "" || d < bestDistance) {
			best, bestDistance = k, d
		}
	}
	return best
}

func keysOf[V any](m map[string]V) []string { return slices.Collect(maps.Keys(m)) }

// distance counts the letters to insert, delete, replace or swap with their
// neighbour to get from a to b (optimal string alignment).
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
