//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A toldTarget is what a relay tells of a target and its last scrape.
type toldTarget struct {
	Target      string
	LastStatus  *int       `json:"last_status"`
	LastError   string     `json:"last_error"`
	ListedUntil *time.Time `json:"listed_until"`
}

// toldTargets returns what the relay tells of an agent's targets, and how many are down.
func (r *relay) toldTargets(t testing.TB, agent string) (targets map[string]toldTarget, down int) {
	t.Helper()
	targets = map[string]toldTarget{}
	for _, a := range decodeData[struct {
		Agent       string
		Targets     []toldTarget
		TargetsDown int `json:"targets_down"`
	}](t, mustGet(t, r.url+"/api/v1/agents")) {
		if a.Agent != agent {
			continue
		}
		down = a.TargetsDown
		for _, told := range a.Targets {
			targets[told.Target] = told
		}
	}
	return targets, down
}

// wantListed waits until service discovery has just these instances of an agent.
func (r *relay) wantListed(t testing.TB, when string, instances ...string) {
	t.Helper()
	eventually(t, 20*time.Second, when, func() error {
		var got []string
		for _, g := range r.discovered(t) {
			got = append(got, g.Labels["instance"])
		}
		slices.Sort(got)
		if !slices.Equal(got, instances) {
			return fmt.Errorf("%q are listed, want %q", got, instances)
		}
		return nil
	})
}

// reload gives the agent another configuration.
func (a *agent) reload(t testing.TB, config string) {
	t.Helper()
	writeFile(t, filepath.Join(a.command.dir, "agent.yml"), config)
	if r, err := fetch(http.MethodPost, a.url+"/-/reload", nil); err != nil || r.status != http.StatusOK {
		t.Fatalf("reload: %d %s %v", r.status, r.body, err)
	}
}

// TestTargetsGoKnowingly: what is emptied by accident stays listed and is down; what is taken away knowingly goes (T24).
func TestTargetsGoKnowingly(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, &rowsTarget{})
	config := func(instances ...string) string {
		text := "scrape_configs:\n  - job_name: metrics\n    static_configs:\n"
		for _, i := range instances {
			text += fmt.Sprintf("      - {targets: [%q], labels: {instance: %s}}\n", address, i)
		}
		return text
	}
	r := startRelay(t)
	a := startAgent(t, r, "site-a", config("a", "b"))
	r.wantListed(t, "at the start", "a", "b")
	prometheus := startPrometheus(t, r.url)
	prometheus.wantValue(t, `count(up{agent="site-a"} == 1)`, 2)

	wantDown := func(when string, names int) {
		t.Helper()
		targets, down := r.toldTargets(t, "site-a")
		if down != names {
			t.Errorf("%s: %d targets are down, want %d", when, down, names)
		}
		for name, told := range targets {
			if (told.ListedUntil == nil) != (names == 0) {
				t.Errorf("%s: %s is listed until %v", when, name, told.ListedUntil)
			}
			if told.ListedUntil == nil {
				continue
			}
			got, err := scrape(r.url + "/agents/site-a/targets/" + name + "/metrics")
			wantReason(t, got, err, http.StatusGone, "target_gone")
		}
	}
	a.reload(t, "# somebody is still writing\n")
	eventually(t, 20*time.Second, "the relay knows", func() error {
		if _, down := r.toldTargets(t, "site-a"); down != 2 {
			return fmt.Errorf("%d targets are down", down)
		}
		return nil
	})
	r.wantListed(t, "after an empty configuration", "a", "b")
	wantDown("after an empty configuration", 2)
	prometheus.wantValue(t, `count(up{agent="site-a"} == 0)`, 2)
	if got := output(t, a.at("status")); !strings.Contains(got.stdout, "some may be missing: no configuration says which targets there are") {
		t.Errorf("status says %q", got.stdout)
	}
	for what, log := range map[string]string{"the agent's": a.log.String(), "the relay's": r.log.String()} {
		if !strings.Contains(log, "targets") || !strings.Contains(log, "for a while") {
			t.Errorf("%s log does not say it", what)
		}
	}
	if page := mustGet(t, r.url+"/targets?state=down"); !strings.Contains(page, "the agent announces it no more") {
		t.Error("the page does not say it")
	}

	a.reload(t, config("a", "b"))
	prometheus.wantValue(t, `count(up{agent="site-a"} == 1)`, 2)
	wantDown("after the configuration is there again", 0)

	// A second process with the same certificate, without a configuration.
	twinURL := "http://" + freeAddress(t)
	flags := []string{"--web.listen-address=" + strings.TrimPrefix(twinURL, "http://"), "--data.dir="}
	for _, arg := range a.command.args {
		if !strings.HasPrefix(arg, "--config.file=") && !strings.HasPrefix(arg, "--web.listen-address=") {
			flags = append(flags, arg)
		}
	}
	twin := start(t, command{path: a.command.path, args: flags})
	waitReady(t, twin, twinURL)
	eventually(t, 20*time.Second, "the relay knows of the twin", func() error {
		if _, down := r.toldTargets(t, "site-a"); down != 2 {
			return fmt.Errorf("%d targets are down", down)
		}
		return nil
	})
	r.wantListed(t, "with a twin without a configuration", "a", "b")
	wantDown("with a twin", 2)
	r.stop(t)
	r.start(t)
	r.wantListed(t, "after a restart of the relay", "a", "b")
	twin.stop(t)
	a.stop(t)

	// A new process with fewer, and then the same with none, expressly.
	writeFile(t, filepath.Join(a.command.dir, "agent.yml"), config("a"))
	a.start(t)
	r.wantListed(t, "a new process with fewer targets", "a", "b")
	if _, down := r.toldTargets(t, "site-a"); down != 1 {
		t.Errorf("a new process with fewer targets: %d are down", down)
	}
	a.reload(t, config("a", "c"))
	a.reload(t, config("c"))
	r.wantListed(t, "a reload with other targets", "b", "c")
	a.reload(t, "scrape_configs: []\n")
	r.wantListed(t, "a configuration that says that there are none")
}

// TestAnswersThatAreNoSuccess: what Prometheus counts as down is down wherever somebody looks.
func TestAnswersThatAreNoSuccess(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		w.WriteHeader(status)
		fmt.Fprintln(w, "m 1")
	}))
	r := startRelay(t)
	a := startAgent(t, r, "site-a", configOf(address, "200", "401", "404", "500"))
	for _, path := range []string{"200", "401", "404", "500"} {
		if got, err := scrape(r.targetURL("site-a", path, address)); err != nil || fmt.Sprint(got.status) != path || got.body != "m 1\n" {
			t.Errorf("the answer %s arrives as %d %q, %v", path, got.status, got.body, err)
		}
	}
	targets, down := r.toldTargets(t, "site-a")
	if down != 3 {
		t.Errorf("the relay tells of %d targets that are down, want 3", down)
	}
	var told struct {
		Data struct {
			Targets []toldTarget
		}
	}
	if err := json.Unmarshal([]byte(mustOutput(t, a.at("status", "--json"))), &told); err != nil {
		t.Fatal(err)
	}
	at := map[string]toldTarget{}
	for _, target := range told.Data.Targets {
		at[target.Target] = target
	}
	for path, want := range map[string]string{
		"200": "", "401": "401 Unauthorized", "404": "404 Not Found", "500": "500 Internal Server Error",
	} {
		for where, target := range map[string]toldTarget{"relay": targets[path+"-"+address], "agent": at[path+"-"+address]} {
			if target.LastStatus == nil || fmt.Sprint(*target.LastStatus) != path || !strings.Contains(target.LastError, want) || (want == "") != (target.LastError == "") {
				t.Errorf("the %s tells of %s: %v %q", where, path, target.LastStatus, target.LastError)
			}
		}
	}
	got := output(t, a.at("status"))
	for _, words := range []string{"targets  4, 3 DOWN", "  401     bad_status: the target answered 401 Unauthorized", "  200     -"} {
		if !strings.Contains(got.stdout, words) {
			t.Errorf("status does not say %q:\n%s", words, got.stdout)
		}
	}
	if page := mustGet(t, r.url+"/targets?state=down"); !strings.Contains(page, "3 targets of 4") || !strings.Contains(page, "the target answered 500 Internal Server Error") {
		t.Error("the page does not count what is down")
	}
	for url, want := range map[string]string{
		r.url: `relay_scrapes_total{result="bad_status"} 3`, a.url: fmt.Sprintf(`relay_agent_scrapes_total{result="bad_status",target="404-%s"} 1`, address),
	} {
		if page := mustGet(t, url+"/metrics"); !strings.Contains(page, want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
}

// TestTextfilesInTheStatus: a text file that is refused, or that a relay hides, is in the status with its reason.
func TestTextfilesInTheStatus(t *testing.T) {
	t.Parallel()
	r := startRelay(t, "--push.disable-consistency-check")
	if got, err := fetch(http.MethodPut, r.url+"/metrics/job/other", strings.NewReader("# TYPE clash gauge\nclash 1\n")); err != nil || got.status != http.StatusAccepted {
		t.Fatalf("a push: %d %v", got.status, err)
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "good.prom"), "good 1\n")
	writeFile(t, filepath.Join(dir, "half.prom"), "half")
	writeFile(t, filepath.Join(dir, "hidden.prom"), "# TYPE clash counter\nclash 1\n")
	a := startAgent(t, r, "site-a", fmt.Sprintf("textfile_configs: [{directory: %q, job: scripts}]\n", dir))
	eventually(t, 20*time.Second, "the status names both files", func() error {
		got := output(t, a.at("status"))
		for _, words := range []string{"text file  " + dir + "/half.prom: ", "text file  " + dir + "/hidden.prom: hidden by the relay: not exposed: "} {
			if !strings.Contains(got.stdout, words) {
				return fmt.Errorf("status does not say %q:\n%s", words, got.stdout)
			}
		}
		if strings.Contains(got.stdout, "good.prom") {
			return fmt.Errorf("status tells of a good file:\n%s", got.stdout)
		}
		return nil
	})
	// A configuration that says nothing is not the way to lose what the files pushed.
	a.reload(t, "")
	if page := mustGet(t, r.url+"/metrics"); !strings.Contains(page, "\ngood{") {
		t.Error("the groups of the text files are gone with an empty configuration")
	}
	a.reload(t, "textfile_configs: []\n")
	eventually(t, 20*time.Second, "the groups go when the configuration says so", func() error {
		if page := mustGet(t, r.url+"/metrics"); strings.Contains(page, "\ngood{") {
			return fmt.Errorf("good is still there")
		}
		return nil
	})
}
