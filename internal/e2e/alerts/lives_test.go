//go:build linux

package alerts_test

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/gateway"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
)

// quickJobRules are the rules of jobs as they are installed, evaluated each second and with shorter patience.
func quickJobRules(t testing.TB) string {
	t.Helper()
	text := client.ReadFile(t, filepath.Join(rulesDir, "pushrelay-jobs.rules.yml"))
	for _, slow := range []string{"interval: 1m", "for: 1m"} {
		if strings.Count(text, slow) != 1 {
			t.Fatalf("the rules of jobs do not have %q once", slow)
		}
		text = strings.Replace(text, slow, strings.Replace(slow, "1m", "1s", 1), 1)
	}
	file := filepath.Join(t.TempDir(), "jobs.rules.yml")
	client.WriteFile(t, file, text)
	return file
}

// TestPushersThatDie: Prometheus sees a pusher die by push_up, as it sees a target die by up. What it pushed is gone at its TTL, or with its
// agent; the alert stays, and ends with the next push. All of it outlives a relay that is killed.
func TestPushersThatDie(t *testing.T) {
	t.Parallel()
	rules := filepath.Join(t.TempDir(), "relay.yml")
	client.WriteFile(t, rules, "push_rules:\n  - match: '{agent=\"site-a\"}'\n    every: 3s\n    while_agent: 1s\n")
	relay := house.StartRelay(t, "--config.file="+rules)
	agent := house.StartAgent(t, relay, "site-a", "scrape_configs: []\n")
	prom := promserver.StartWith(t, strings.Replace(promserver.PrometheusConfig(relay.URL), "global:\n", "global:\n  evaluation_interval: 1s\n", 1)+
		fmt.Sprintf("rule_files: [%s]\n", quickJobRules(t)))
	// empty waits until an expression gives nothing.
	empty := func(expr string) {
		t.Helper()
		client.Eventually(t, 30*time.Second, "nothing of "+expr, func() error {
			found, err := prom.Query(expr)
			if err == nil && len(found) != 0 {
				err = fmt.Errorf("there is %v", found)
			}
			return err
		})
	}
	direct := &gateway.Gateway{URL: relay.URL}
	const body = "# TYPE rows gauge\nrows 12\n"
	client.Eventually(t, 30*time.Second, "both are up", func() error { // they push until Prometheus has seen that
		direct.Check(t, gateway.Post("/job/direct", body).With("Push-Every", "2s").With("Push-TTL", "6s"))
		client.Push(t, agent.URL+"/metrics/job/behind", body)
		found, err := prom.Query("rows and push_up == 1")
		if err == nil && len(found) != 2 {
			err = fmt.Errorf("up are %v", found)
		}
		return err
	})

	agent.Stop(t)
	before, err := client.ScrapeSeries(relay.URL)
	if err != nil {
		t.Fatal(err)
	}
	relay.Kill(t)
	relay.Start(t)
	after, err := client.ScrapeSeries(relay.URL)
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
		prom.WantValue(t, fmt.Sprintf(`push_up{job=%q}`, job), 0)
		prom.WantValue(t, fmt.Sprintf(alert, job), 1)
		empty(fmt.Sprintf(`rows{job=%q}`, job))
	}
	gone := time.Now()
	t.Run("the content is there until it expires", func(t *testing.T) {
		expiry := prom.ValueOf(t, `push_expiry_timestamp_seconds{job="direct"}`)
		shown, err := prom.One(`rows{job="direct"}[1m]`)
		if err != nil {
			t.Fatal(err)
		}
		const apart = 0.01 // Prometheus moves the times of scrapes by some milliseconds
		if last := seconds(shown.Samples[len(shown.Samples)-1].At); last > expiry+apart {
			t.Errorf("it is shown at %.3f, and has expired at %.3f", last, expiry)
		}
		if due := prom.ValueOf(t, `push_due_timestamp_seconds{job="direct"}`); due != expiry-4 {
			t.Errorf("it is due at %.3f, and expires at %.3f", due, expiry)
		}
		prom.WantValue(t, `count_over_time((rows{job="direct"} and push_up == 0)[1m:1s]) > bool 0`, 1)
	})
	t.Run("the alert goes on without it", func(t *testing.T) {
		for _, job := range []string{"direct", "behind"} {
			firing := fmt.Sprintf(alert, job)
			client.Eventually(t, 20*time.Second, "evaluations of "+firing, func() error {
				samples, err := prom.After(firing, gone)
				if err == nil && len(samples) < 3 {
					err = fmt.Errorf("%d so far", len(samples))
				}
				return err
			})
			pending, err := prom.One(strings.Replace(firing, "firing", "pending", 1) + "[1m]")
			if err != nil {
				t.Fatal(err)
			}
			if last := pending.Samples[len(pending.Samples)-1].At; last.After(gone) {
				t.Errorf("%s was pending again at %v", job, last)
			}
			prom.WantValue(t, fmt.Sprintf(`push_up{job=%q}`, job), 0)
		}
	})
	t.Run("what is left is listed", func(t *testing.T) {
		list := program.Command{Path: program.RelayServer(), Args: []string{
			"groups", "list", "--relay.address=" + relay.URL, `--match={job="direct"}`, "--state=expired",
		}}
		if out := program.MustOutput(t, list); !strings.Contains(out, `job="direct"`) {
			t.Errorf("groups list: %s", out)
		}
	})

	agent.Start(t)
	client.WantSeries(t, relay.URL, `rows{agent="site-a", instance="", job="behind"}`, 12) // it was hidden, and not deleted
	direct.Check(t, gateway.Post("/job/direct", body).With("Push-Every", "1h"))
	client.Push(t, agent.URL+"/metrics/job/behind", body)
	prom.WantValue(t, `push_up{job="direct"}`, 1)
	empty(fmt.Sprintf(alert, "direct"))
	prom.WantValue(t, `max_over_time(push_up{job="behind"}[2s])`, 1)
}

// TestExecThatFails: a job that fails is down, whatever it pushes, until it is good again.
func TestExecThatFails(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	agent := house.StartAgent(t, relay, "site-a", "scrape_configs: []\n")
	exec := func(code int) {
		t.Helper()
		r := program.Output(t, program.Command{Path: program.RelayAgent(), Env: []string{"RELAY_AGENT_ADDRESS=" + agent.URL}, Args: []string{
			"exec", "--job=backup", "--schedule=15 3 * * *", "--grace=1h", "--", "sh", "-c", fmt.Sprint("exit ", code),
		}})
		if r.Code != code {
			t.Fatalf("exec: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
	}
	up := func(want float64) {
		t.Helper()
		client.WantSeries(t, relay.URL, `push_up{agent="site-a", instance="", job="backup"}`, want)
	}
	exec(0)
	up(1)
	exec(2)
	up(0)
	if page := client.MustGet(t, relay.URL+"/api/v1/metrics"); !strings.Contains(page, `"job_failure":"exit status 2"`) {
		t.Errorf("the reason is not told: %s", page)
	}
	exec(0)
	up(1)
	if r, err := client.Fetch(http.MethodPost, agent.URL+"/metrics/job/backup", strings.NewReader("push_up 1\n")); err != nil || r.Status != http.StatusBadRequest {
		t.Errorf("push_up is taken from a pusher: %d %v", r.Status, err)
	}
}

// seconds returns a time in seconds since the epoch.
func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
