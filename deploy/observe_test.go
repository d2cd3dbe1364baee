package deploy

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"culvert/gateway"
)

// families are the metrics that a gateway has, and its counters.
func families(t *testing.T) (names, counters []string) {
	t.Helper()
	var text strings.Builder
	s := gateway.Status{Drops: new(gateway.Counters).Snapshot()}
	if err := s.WriteMetrics(&text); err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+) `).FindAllStringSubmatch(text.String(), -1) {
		names = append(names, m[1])
	}
	for _, m := range regexp.MustCompile(`counter="(\w+)"`).FindAllStringSubmatch(text.String(), -1) {
		counters = append(counters, m[1])
	}
	return names, counters
}

// wantExpression: every metric and counter in it is one that the gateway has.
func wantExpression(t *testing.T, where, expr string) {
	t.Helper()
	names, counters := families(t)
	for _, name := range regexp.MustCompile(`culvert_\w+`).FindAllString(expr, -1) {
		if !slices.Contains(names, name) {
			t.Errorf("%s: there is no metric %s", where, name)
		}
	}
	for _, m := range regexp.MustCompile(`counter=~?"([^"$]+)"`).FindAllStringSubmatch(expr, -1) {
		for _, name := range strings.Split(m[1], "|") {
			if !slices.Contains(counters, name) {
				t.Errorf("%s: there is no counter %s", where, name)
			}
		}
	}
	if strings.Count(expr, "(") != strings.Count(expr, ")") || strings.Count(expr, "{") != strings.Count(expr, "}") {
		t.Errorf("%s: brackets of %q", where, expr)
	}
}

// TestAlerts: the rules parse, and ask for what there is.
func TestAlerts(t *testing.T) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(read(t, "prometheus/culvert.rules.yml")))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) < 7 {
		t.Fatalf("%+v", file)
	}
	for _, r := range file.Groups[0].Rules {
		if r.Alert == "" || r.Expr == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
			t.Errorf("%+v lacks something", r)
		}
		wantExpression(t, r.Alert, r.Expr)
	}
}

// TestDashboard: it parses, and every panel asks for what there is, of the
// gateways and peers that were chosen.
func TestDashboard(t *testing.T) {
	var board struct {
		UID        string
		Templating struct {
			List []struct{ Name, Query string }
		}
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, RefID string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/culvert.json")), &board); err != nil {
		t.Fatal(err)
	}
	for _, v := range board.Templating.List {
		wantExpression(t, v.Name, v.Query)
	}
	seen := map[int]bool{}
	for _, p := range board.Panels {
		if len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 || seen[p.ID] {
			t.Errorf("panel %+v", p)
		}
		seen[p.ID] = true
		for _, target := range p.Targets {
			wantExpression(t, p.Title, target.Expr)
			if !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("%s: %s is of every gateway", p.Title, target.Expr)
			}
		}
	}
	if len(board.Panels) < 8 || board.UID == "" {
		t.Errorf("%d panels, uid %q", len(board.Panels), board.UID)
	}
}
