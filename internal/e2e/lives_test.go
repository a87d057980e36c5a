//go:build linux

package e2e_test

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// quickJobRules are the rules of jobs as they are installed, evaluated each second and with shorter patience.
func quickJobRules(t testing.TB) string {
	t.Helper()
	text := readFile(t, filepath.Join(rulesDir, "pushrelay-jobs.rules.yml"))
	for _, slow := range []string{"interval: 1m", "for: 1m"} {
		if strings.Count(text, slow) != 1 {
			t.Fatalf("the rules of jobs do not have %q once", slow)
		}
		text = strings.Replace(text, slow, strings.Replace(slow, "1m", "1s", 1), 1)
	}
	file := filepath.Join(t.TempDir(), "jobs.rules.yml")
	writeFile(t, file, text)
	return file
}

// TestPushersThatDie: Prometheus sees a pusher die by push_up, as it sees a target die by up. What it pushed is gone at its TTL, or with its
// agent; the alert stays, and ends with the next push. All of it outlives a relay that is killed.
func TestPushersThatDie(t *testing.T) {
	t.Parallel()
	rules := filepath.Join(t.TempDir(), "relay.yml")
	writeFile(t, rules, "push_rules:\n  - match: '{agent=\"site-a\"}'\n    every: 3s\n    while_agent: 1s\n")
	relay := startRelay(t, "--config.file="+rules)
	agent := startAgent(t, relay, "site-a", "scrape_configs: []\n")
	prom := startPrometheusWith(t, strings.Replace(prometheusConfig(relay.url), "global:\n", "global:\n  evaluation_interval: 1s\n", 1)+
		fmt.Sprintf("rule_files: [%s]\n", quickJobRules(t)))
	// empty waits until an expression gives nothing.
	empty := func(expr string) {
		t.Helper()
		eventually(t, 30*time.Second, "nothing of "+expr, func() error {
			found, err := prom.query(expr)
			if err == nil && len(found) != 0 {
				err = fmt.Errorf("there is %v", found)
			}
			return err
		})
	}
	direct := &gateway{url: relay.url}
	const body = "# TYPE rows gauge\nrows 12\n"
	eventually(t, 30*time.Second, "both are up", func() error { // they push until Prometheus has seen that
		direct.check(t, post("/job/direct", body).with("Push-Every", "2s").with("Push-TTL", "6s"))
		push(t, agent.url+"/metrics/job/behind", body)
		found, err := prom.query("rows and push_up == 1")
		if err == nil && len(found) != 2 {
			err = fmt.Errorf("up are %v", found)
		}
		return err
	})

	agent.stop(t)
	before, err := scrapeSeries(relay.url)
	if err != nil {
		t.Fatal(err)
	}
	relay.kill(t)
	relay.start(t)
	after, err := scrapeSeries(relay.url)
	if err != nil {
		t.Fatal(err)
	}
	times := func(all map[string]float64) map[string]float64 {
		all = maps.Clone(all)
		maps.DeleteFunc(all, func(name string, _ float64) bool {
			return !strings.HasPrefix(name, "push_") || strings.HasPrefix(name, "push_up")
		})
		return all
	}
	if want := times(before); len(want) != 7 || !maps.Equal(want, times(after)) {
		t.Errorf("after kill -9 the times of the groups are %v, want %v", times(after), want)
	}

	const alert = `ALERTS{alertname="JobDown",alertstate="firing",job=%q}`
	for _, job := range []string{"direct", "behind"} {
		prom.wantValue(t, fmt.Sprintf(`push_up{job=%q}`, job), 0)
		prom.wantValue(t, fmt.Sprintf(alert, job), 1)
		empty(fmt.Sprintf(`rows{job=%q}`, job))
	}
	gone := time.Now()
	t.Run("the content is there until it expires", func(t *testing.T) {
		expiry := prom.valueOf(t, `push_expiry_timestamp_seconds{job="direct"}`)
		shown, err := prom.one(`rows{job="direct"}[1m]`)
		if err != nil {
			t.Fatal(err)
		}
		const apart = 0.01 // Prometheus moves the times of scrapes by some milliseconds
		if last := seconds(shown.samples[len(shown.samples)-1].at); last > expiry+apart {
			t.Errorf("it is shown at %.3f, and has expired at %.3f", last, expiry)
		}
		if due := prom.valueOf(t, `push_due_timestamp_seconds{job="direct"}`); due != expiry-4 {
			t.Errorf("it is due at %.3f, and expires at %.3f", due, expiry)
		}
		prom.wantValue(t, `count_over_time((rows{job="direct"} and push_up == 0)[1m:1s]) > bool 0`, 1)
	})
	t.Run("the alert goes on without it", func(t *testing.T) {
		for _, job := range []string{"direct", "behind"} {
			firing := fmt.Sprintf(alert, job)
			eventually(t, 20*time.Second, "evaluations of "+firing, func() error {
				samples, err := prom.after(firing, gone)
				if err == nil && len(samples) < 3 {
					err = fmt.Errorf("%d so far", len(samples))
				}
				return err
			})
			pending, err := prom.one(strings.Replace(firing, "firing", "pending", 1) + "[1m]")
			if err != nil {
				t.Fatal(err)
			}
			if last := pending.samples[len(pending.samples)-1].at; last.After(gone) {
				t.Errorf("%s was pending again at %v", job, last)
			}
			prom.wantValue(t, fmt.Sprintf(`push_up{job=%q}`, job), 0)
		}
	})
	t.Run("what is left is listed", func(t *testing.T) {
		list := command{path: programs.relayServer, args: []string{
			"groups", "list", "--relay.address=" + relay.url, `--match={job="direct"}`, "--state=expired",
		}}
		if out := mustOutput(t, list); !strings.Contains(out, `job="direct"`) {
			t.Errorf("groups list: %s", out)
		}
	})

	agent.start(t)
	wantSeries(t, relay.url, `rows{agent="site-a", instance="", job="behind"}`, 12) // it was hidden, and not deleted
	direct.check(t, post("/job/direct", body).with("Push-Every", "1h"))
	push(t, agent.url+"/metrics/job/behind", body)
	prom.wantValue(t, `push_up{job="direct"}`, 1)
	empty(fmt.Sprintf(alert, "direct"))
	prom.wantValue(t, `max_over_time(push_up{job="behind"}[2s])`, 1)
}

// TestExecThatFails: a job that fails is down, whatever it pushes, until it is good again.
func TestExecThatFails(t *testing.T) {
	t.Parallel()
	relay := startRelay(t)
	agent := startAgent(t, relay, "site-a", "scrape_configs: []\n")
	exec := func(code int) {
		t.Helper()
		r := output(t, command{path: programs.relayAgent, env: []string{"RELAY_AGENT_ADDRESS=" + agent.url}, args: []string{
			"exec", "--job=backup", "--schedule=15 3 * * *", "--grace=1h", "--", "sh", "-c", fmt.Sprint("exit ", code),
		}})
		if r.code != code {
			t.Fatalf("exec: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	}
	up := func(want float64) {
		t.Helper()
		wantSeries(t, relay.url, `push_up{agent="site-a", instance="", job="backup"}`, want)
	}
	exec(0)
	up(1)
	exec(2)
	up(0)
	if page := mustGet(t, relay.url+"/api/v1/metrics"); !strings.Contains(page, `"job_failure":"exit status 2"`) {
		t.Errorf("the reason is not told: %s", page)
	}
	exec(0)
	up(1)
	if r, err := fetch(http.MethodPost, agent.url+"/metrics/job/backup", strings.NewReader("push_up 1\n")); err != nil || r.status != http.StatusBadRequest {
		t.Errorf("push_up is taken from a pusher: %d %v", r.status, err)
	}
}

// valueOf returns the value of an expression that gives exactly one.
func (p *prometheusProcess) valueOf(t testing.TB, expr string) float64 {
	t.Helper()
	s, err := p.one(expr)
	if err != nil {
		t.Fatal(err)
	}
	return s.samples[0].value
}

// seconds returns a time in seconds since the epoch.
func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
