//go:build linux

package alerts_test

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// A dashboard is one of Grafana's, as far as is looked at here.
type dashboard struct {
	UID           string
	Title         string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID         int
		Type       string
		Title      string
		Datasource struct{ UID string }
		GridPos    struct{ X, Y, W, H int }
		Targets    []struct {
			RefID      string
			Datasource struct{ UID string }
			Expr       string
		}
	}
}

// A panelQuery is an expression of a dashboard, with its variables replaced by values.
type panelQuery struct{ place, expr string }

// queriesOf returns what all dashboards in deploy/grafana ask for. Grafana cannot be had here; what it would not load, or show one over the
// other, is found all the same.
func queriesOf(t testing.TB, values map[string]string) (queries []panelQuery) {
	t.Helper()
	files, err := filepath.Glob("../../../deploy/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	variable := regexp.MustCompile(`\$(\w+)`)
	uids := map[string]bool{}
	for _, file := range files {
		name := filepath.Base(file)
		var d dashboard
		if err := json.Unmarshal([]byte(client.ReadFile(t, file)), &d); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d.UID == "" || uids[d.UID] || d.Title == "" || d.SchemaVersion < 39 {
			t.Errorf("%s: uid %q, title %q, schema %d", name, d.UID, d.Title, d.SchemaVersion)
		}
		uids[d.UID] = true
		known := map[string]bool{"__rate_interval": true}
		for i, v := range d.Templating.List {
			known[v.Name] = true
			if (i == 0) != (v.Name == "datasource" && v.Type == "datasource") {
				t.Errorf("%s: variable %d is %s of type %s; the data source comes first", name, i, v.Name, v.Type)
			}
			if i > 0 {
				metric, ok := strings.CutPrefix(v.Definition, "label_values(")
				metric, _, ok2 := strings.Cut(metric, ", ")
				if !ok || !ok2 {
					t.Errorf("%s: the variable %s is %s", name, v.Name, v.Definition)
				}
				queries = append(queries, panelQuery{name + ": $" + v.Name, metric})
			}
		}
		ids, cells := map[int]bool{}, map[[2]int]string{}
		for _, p := range d.Panels {
			place := name + ": " + p.Title
			if p.ID == 0 || ids[p.ID] || p.Title == "" {
				t.Errorf("%s: panel %d has no title, or an id that another one has", place, p.ID)
			}
			ids[p.ID] = true
			if p.GridPos.W < 1 || p.GridPos.H < 1 || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: %+v is not on the page", place, p.GridPos)
			}
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if cells[[2]int{x, y}] != "" {
						t.Fatalf("%s lies over %s", place, cells[[2]int{x, y}])
					}
					cells[[2]int{x, y}] = place
				}
			}
			if p.Type == "row" {
				continue
			}
			if len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
				t.Errorf("%s: %d queries to %q", place, len(p.Targets), p.Datasource.UID)
			}
			for _, q := range p.Targets {
				if q.Datasource.UID != "${datasource}" || q.RefID == "" {
					t.Errorf("%s: query %q goes to %q", place, q.RefID, q.Datasource.UID)
				}
				queries = append(queries, panelQuery{place, variable.ReplaceAllStringFunc(q.Expr, func(v string) string {
					if !known[v[1:]] || values[v[1:]] == "" {
						t.Errorf("%s: there is no variable %s", place, v)
					}
					return values[v[1:]]
				})})
			}
		}
	}
	return queries
}

// dashboardValues are what the variables of the dashboards are for a test.
var dashboardValues = map[string]string{"__rate_interval": "1m", "agent": "site-a", "job": ".*"}

// TestDashboards: Prometheus takes every query of the dashboards, each metric in them is exposed by the programs that run, and what shows
// no fault has something to show.
func TestDashboards(t *testing.T) {
	t.Parallel()
	queries := queriesOf(t, dashboardValues)
	program.RequireProgram(t, "/usr/bin/prometheus", "prometheus")
	relay, agent := watched(t)
	rules, _ := rulesOf(t)
	names := exposed(t, rules, client.MustGet(t, relay.URL+"/metrics"), client.MustGet(t, agent.URL+"/metrics"))
	for _, q := range queries {
		for _, name := range metricsIn(t, q.expr) {
			if !names[name] {
				t.Errorf("%s asks for %s, which nothing exposes", q.place, name)
			}
		}
	}
	prom := startWatchingPrometheus(t, relay)
	prom.WantValue(t, `count_over_time(up{job="relay-agent"}[1m]) > bool 3`, 1) // rates need two samples
	prom.WantValue(t, "pushrelay:agents:count", 1)
	empty := map[string]bool{} // a comparison in them leaves nothing of a healthy system, a job has to run twice, or it is of a cluster
	for _, q := range queries {
		found, err := prom.Query(q.expr)
		if err != nil {
			t.Errorf("%s: %s: %v", q.place, q.expr, err)
		}
		if len(found) == 0 && !regexp.MustCompile(` (==|>) |ALERTS|max14d|relay_cluster_`).MatchString(q.expr) {
			empty[q.place+": "+q.expr] = true
		}
	}
	for q := range empty {
		t.Errorf("nothing is shown: %s", q)
	}
}
