//go:build linux

package alerts_test

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"pushrelay/internal/e2e/certificate"
	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/document"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
)

const rulesDir = "../../../deploy/prometheus"

// A rule is one of a rule file: an alert or a record.
type rule struct {
	Alert, Record, Expr string
	Labels, Annotations map[string]string
}

// rulesOf returns the rules of all files in deploy/prometheus, and the names of these files.
func rulesOf(t testing.TB) (rules []rule, files []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(rulesDir, "*.rules.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no rule files: %v", err)
	}
	for i, file := range files {
		var content struct{ Groups []struct{ Rules []rule } }
		if err := yaml.Unmarshal([]byte(client.ReadFile(t, file)), &content); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, g := range content.Groups {
			rules = append(rules, g.Rules...)
		}
		if files[i], err = filepath.Abs(file); err != nil {
			t.Fatal(err)
		}
	}
	return rules, files
}

// A ruleTest is what promtool's unit test has for one alert, as far as is looked at here.
type ruleTest struct {
	Name   string
	Checks []struct {
		Expr    string
		Samples []struct{ Labels string } `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

// TestAlerts: promtool takes the rules and passes their unit tests, of which every alert has one in which it fires and does not; and whoever
// is woken by it is told what is broken, what that means, what to do first, and where the rest stands.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool := program.RequireProgram(t, "/usr/bin/promtool", "prometheus")
	rules, files := rulesOf(t)
	if r := program.Output(t, program.Command{Path: promtool, Args: append([]string{"check", "rules"}, files...)}); r.Code != 0 {
		t.Fatalf("promtool check rules:\n%s%s", r.Stdout, r.Stderr)
	}

	testFiles, err := filepath.Glob("testdata/rules/*.test.yml")
	if err != nil || len(testFiles) == 0 {
		t.Fatalf("no unit tests: %v", err)
	}
	fired, silent := map[string]string{}, map[string]bool{} // by alert: the labels with which it fired; whether it did not at some time
	for _, file := range testFiles {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			// Weeks go by in it, minute by minute: it may take longer on a busy machine than [output] lets a program run.
			tests := program.Command{Path: promtool, Dir: filepath.Dir(file), Args: []string{"test", "rules", filepath.Base(file)}}.Cmd(t)
			if out, err := tests.CombinedOutput(); err != nil {
				t.Errorf("promtool test rules: %v\n%s", err, out)
			}
		})
		var content struct{ Tests []ruleTest }
		if err := yaml.Unmarshal([]byte(client.ReadFile(t, file)), &content); err != nil {
			t.Fatal(err)
		}
		for _, test := range content.Tests {
			for _, check := range test.Checks {
				if check.Expr != fmt.Sprintf(`ALERTS{alertname=%q,alertstate="firing"}`, test.Name) {
					t.Errorf("%s: the test %s checks %s", file, test.Name, check.Expr)
				}
				silent[test.Name] = silent[test.Name] || len(check.Samples) == 0
				for _, s := range check.Samples {
					fired[test.Name] = s.Labels
				}
			}
		}
	}

	sections := document.HeadingsOf(client.ReadFile(t, "../../../docs/runbook.md"))
	used := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, r := range rules {
		if r.Alert == "" {
			continue
		}
		if fired[r.Alert] == "" || !silent[r.Alert] {
			t.Errorf("%s: unit tests show it firing: %t, and not firing: %t", r.Alert, fired[r.Alert] != "", silent[r.Alert])
		}
		if !slices.Contains([]string{"page", "warn", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		for _, part := range []string{"What is broken: ", " For the data: ", " First: "} {
			if strings.Count(r.Annotations["description"], part) != 1 {
				t.Errorf("%s: the description does not have %q once", r.Alert, part)
			}
		}
		section, ok := strings.CutPrefix(r.Annotations["runbook"], "docs/runbook.md#")
		if !ok || !slices.Contains(sections, section) {
			t.Errorf("%s: there is no section %s", r.Alert, r.Annotations["runbook"])
		}
		for _, text := range r.Annotations {
			for _, label := range used.FindAllStringSubmatch(text, -1) {
				if !strings.Contains(fired[r.Alert], label[1]+"=") {
					t.Errorf("%s: its text has the label %s, and it fires as %s", r.Alert, label[1], fired[r.Alert])
				}
			}
		}
	}
}

// metricsIn returns the names of the metrics in an expression of PromQL.
func metricsIn(t testing.TB, expr string) (names []string) {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("%s\n%v", expr, err)
		return nil
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			names = append(names, selector.Name)
		}
		return nil
	})
	return names
}

// watched starts a relay and an agent that have all their metrics: of jobs, also one whose next push is expected, of text files, of a target, of
// a Pushgateway's file, of an authority's revocation list, of a policy, and of what happened. The agent is a target of itself.
func watched(t testing.TB) (*house.Relay, *house.Agent) {
	t.Helper()
	policy := filepath.Join(t.TempDir(), "policy.yml")
	client.WriteFile(t, policy, "agents:\n- {name: site-*, push: '{job=~\".+\"}', serve: '*', max_groups: 100, max_series: 10000}\n")
	ca := certificate.New(t, "CA")
	relay := house.StartRelay(t, append(ca.Sign(t, "relay", certificate.Lasting(certificate.RelayTemplate(), 90*24*time.Hour)).RelayFlags(ca), "--policy.file="+policy, "--grpc.tls.also-own-ca", "--grpc.tls.crl-file="+ca.List(t),
		"--store.max-groups=1000", "--store.max-series=100000", "--persistence.file="+filepath.Join(t.TempDir(), "pushgateway.data"))...)
	textfiles := t.TempDir()
	client.WriteFile(t, filepath.Join(textfiles, "disk.prom"), "# TYPE disk_health gauge\ndisk_health 1\n")
	agent := house.StartEnrolledAgent(t, relay, "site-a", "scrape_configs: []\n")
	config := fmt.Sprintf("scrape_configs:\n  - job_name: relay-agent\n    static_configs:\n      - targets: [%q]\n"+
		"textfile_configs:\n  - directory: %q\n    job: scripts\n", strings.TrimPrefix(agent.URL, "http://"), textfiles)
	client.WriteFile(t, filepath.Join(agent.Command.Dir, "agent.yml"), config)
	if r, err := client.Fetch(http.MethodPost, agent.URL+"/-/reload", nil); err != nil || r.Status != http.StatusOK {
		t.Fatalf("reload: %d %s %v", r.Status, r.Body, err)
	}
	agent.Stop(t) // a session that ended
	agent.Start(t)
	client.Push(t, relay.URL+"/metrics/job/direct", "# TYPE rows gauge\nrows 12\n")
	program.MustOutput(t, program.Command{Path: program.RelayAgent(), Env: []string{"RELAY_AGENT_ADDRESS=" + agent.URL}, Args: []string{
		"exec", "--job=backup", "--grouping=instance=db-1", "--report-start", "--every=1h", "--ttl=1d", "--", "sleep", "0.2", // a shorter command shows no memory
	}})
	client.Eventually(t, program.StopTimeout, "the agent's own page through the relay", func() error {
		for _, target := range relay.Discovered(t) {
			if _, err := client.WantOK(relay.URL + target.Labels["__metrics_path__"]); err != nil {
				return err
			}
		}
		if page := client.MustGet(t, relay.URL+"/metrics"); !strings.Contains(page, "relay_agent_clock_skew_seconds{") {
			return fmt.Errorf("no heartbeat yet: %s", program.Tail(page, 40))
		}
		if page := client.MustGet(t, agent.URL+"/metrics"); !strings.Contains(page, "relay_agent_textfile_mtime_seconds{") || !strings.Contains(page, "relay_agent_scrapes_total{") {
			return fmt.Errorf("it is not whole: %s", program.Tail(page, 40))
		}
		return nil
	})
	return relay, agent
}

// ofClusters are the metrics of rules and dashboards that only a member of a cluster has. The programs that run here are none; internal/e2e/cluster has members, and
// looks for each of these.
func ofClusters(t testing.TB) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for name := range strings.Lines(client.ReadFile(t, "testdata/cluster-metrics.txt")) {
		names[strings.TrimSpace(name)] = true
	}
	return names
}

// TestMetricsOfClusters: the list has what rules and dashboards ask a cluster for, and nothing else.
func TestMetricsOfClusters(t *testing.T) {
	t.Parallel()
	rules, _ := rulesOf(t)
	var exprs []string
	for _, r := range rules {
		exprs = append(exprs, r.Expr)
	}
	for _, q := range queriesOf(t, dashboardValues) {
		exprs = append(exprs, q.expr)
	}
	asked := map[string]bool{}
	for _, expr := range exprs {
		for _, name := range metricsIn(t, expr) {
			if strings.HasPrefix(name, "relay_cluster_") {
				asked[name] = true
			}
		}
	}
	if got := ofClusters(t); !maps.Equal(got, asked) {
		t.Errorf("testdata/cluster-metrics.txt has %v, and asked for are %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(asked)))
	}
}

// exposed returns the names of the series of pages, and those that Prometheus itself, the rules and members of a cluster add.
func exposed(t testing.TB, rules []rule, pages ...string) map[string]bool {
	t.Helper()
	names := ofClusters(t)
	for _, name := range []string{"up", "scrape_duration_seconds", "ALERTS"} {
		names[name] = true
	}
	for _, r := range rules {
		names[r.Record] = true
	}
	for _, page := range pages {
		for line := range strings.Lines(page) {
			if line[0] != '#' {
				names[line[:strings.IndexAny(line, "{ ")]] = true
			}
		}
	}
	return names
}

// startWatchingPrometheus starts a Prometheus with all rules, which it evaluates every second.
func startWatchingPrometheus(t testing.TB, r *house.Relay) *promserver.Server {
	t.Helper()
	_, files := rulesOf(t)
	return promserver.StartWith(t, strings.Replace(promserver.PrometheusConfig(r.URL), "global:\n", "global:\n  evaluation_interval: 1s\n", 1)+
		fmt.Sprintf("rule_files: [%s]\n", strings.Join(files, ", ")))
}

// TestRulesOfAHealthySystem: all that the rules ask for is exposed by the programs that run, no alert fires or is about to, and what the
// rules record is there. Then the agent is killed, and there is one alert, of that agent.
func TestRulesOfAHealthySystem(t *testing.T) {
	t.Parallel()
	program.RequireProgram(t, "/usr/bin/prometheus", "prometheus")
	relay, agent := watched(t)
	rules, _ := rulesOf(t)
	names := exposed(t, rules, client.MustGet(t, relay.URL+"/metrics"), client.MustGet(t, agent.URL+"/metrics"))
	for _, r := range rules {
		for _, name := range metricsIn(t, r.Expr) {
			if !names[name] {
				t.Errorf("%s%s asks for %s, which nothing exposes", r.Alert, r.Record, name)
			}
		}
	}

	prom := startWatchingPrometheus(t, relay)
	prom.WantValue(t, "pushrelay:agents:count", 1)
	prom.WantValue(t, "pushrelay:agents_connected:sum", 1)
	prom.WantValue(t, `up{job="relay-agent",agent="site-a"}`, 1)
	prom.WantValue(t, "agent:relay_agent_spool_used:ratio > bool 0", 1)
	prom.WantValue(t, "agent:relay_agent_quota_used:ratio > bool 0", 1)
	prom.WantValue(t, "instance:relay_store_used:ratio > bool 0", 1)
	// RelayNotWatched is about to fire until the first scrape.
	client.Eventually(t, program.StopTimeout, "no alert", func() error {
		alerts, err := prom.Query("ALERTS")
		if err == nil && len(alerts) != 0 {
			err = fmt.Errorf("there are %v", alerts)
		}
		return err
	})
	if alerts, err := prom.Query(`max_over_time(ALERTS{alertname!="RelayNotWatched"}[1m])`); err != nil || len(alerts) != 0 {
		t.Errorf("alerts of a healthy system: %v %v", alerts, err)
	}

	agent.Kill(t)
	labels := prom.WantValue(t, `ALERTS{severity="page"}`, 1)
	want := map[string]string{"__name__": "ALERTS", "alertname": "AgentOffline", "alertstate": "pending", "severity": "page", "agent": "site-a"}
	if !maps.Equal(labels, want) {
		t.Errorf("the alert of a dead agent is %v, want %v", labels, want)
	}
}

// TestRulesAreExplained: the page says where the rules are, and names every file.
func TestRulesAreExplained(t *testing.T) {
	t.Parallel()
	_, files := rulesOf(t)
	for _, page := range []string{"../../../docs/how-to/alerts-and-dashboards.md", "../../../deploy/README.md"} {
		text := client.ReadFile(t, page)
		for _, file := range files {
			if !strings.Contains(text, filepath.Base(file)) {
				t.Errorf("%s does not name %s", page, filepath.Base(file))
			}
		}
		if strings.Contains(text, "- alert:") {
			t.Errorf("%s has a copy of a rule", page)
		}
	}
}
