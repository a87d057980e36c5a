//go:build linux

package scrape_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/e2e/promserver"
)

// TestTargetsGoKnowingly: what is emptied by accident stays listed and is down; what is taken away knowingly goes (T24).
func TestTargetsGoKnowingly(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, &exporter.Rows{})
	config := func(instances ...string) string {
		text := "scrape_configs:\n  - job_name: metrics\n    static_configs:\n"
		for _, i := range instances {
			text += fmt.Sprintf("      - {targets: [%q], labels: {instance: %s}}\n", address, i)
		}
		return text
	}
	r := house.StartRelay(t)
	a := house.StartAgent(t, r, "site-a", config("a", "b"))
	r.WantListed(t, "at the start", "a", "b")
	prometheus := promserver.Start(t, r.URL)
	prometheus.WantValue(t, `count(up{agent="site-a"} == 1)`, 2)

	wantDown := func(when string, names int) {
		t.Helper()
		targets, down := r.ToldTargets(t, "site-a")
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
			got, err := client.Scrape(r.URL + "/agents/site-a/targets/" + name + "/metrics")
			client.WantReason(t, got, err, http.StatusGone, "target_gone")
		}
	}
	a.Reload(t, "# somebody is still writing\n")
	client.Eventually(t, 20*time.Second, "the relay knows", func() error {
		if _, down := r.ToldTargets(t, "site-a"); down != 2 {
			return fmt.Errorf("%d targets are down", down)
		}
		return nil
	})
	r.WantListed(t, "after an empty configuration", "a", "b")
	wantDown("after an empty configuration", 2)
	prometheus.WantValue(t, `count(up{agent="site-a"} == 0)`, 2)
	if got := program.Output(t, a.At("status")); !strings.Contains(got.Stdout, "some may be missing: no configuration says which targets there are") {
		t.Errorf("status says %q", got.Stdout)
	}
	for what, log := range map[string]string{"the agent's": a.Log.String(), "the relay's": r.Log.String()} {
		if !strings.Contains(log, "targets") || !strings.Contains(log, "for a while") {
			t.Errorf("%s log does not say it", what)
		}
	}
	if page := client.MustGet(t, r.URL+"/targets?state=down"); !strings.Contains(page, "the agent announces it no more") {
		t.Error("the page does not say it")
	}

	a.Reload(t, config("a", "b"))
	prometheus.WantValue(t, `count(up{agent="site-a"} == 1)`, 2)
	wantDown("after the configuration is there again", 0)

	// A second process with the same certificate, without a configuration.
	twinURL := "http://" + program.FreeAddress(t)
	flags := []string{"--web.listen-address=" + strings.TrimPrefix(twinURL, "http://"), "--data.dir="}
	for _, arg := range a.Command.Args {
		if !strings.HasPrefix(arg, "--config.file=") && !strings.HasPrefix(arg, "--web.listen-address=") {
			flags = append(flags, arg)
		}
	}
	twin := program.Start(t, program.Command{Path: a.Command.Path, Args: flags})
	program.WaitReady(t, twin, twinURL)
	client.Eventually(t, 20*time.Second, "the relay knows of the twin", func() error {
		if _, down := r.ToldTargets(t, "site-a"); down != 2 {
			return fmt.Errorf("%d targets are down", down)
		}
		return nil
	})
	r.WantListed(t, "with a twin without a configuration", "a", "b")
	wantDown("with a twin", 2)
	r.Stop(t)
	r.Start(t)
	r.WantListed(t, "after a restart of the relay", "a", "b")
	twin.Stop(t)
	a.Stop(t)

	// A new process with fewer, and then the same with none, expressly.
	client.WriteFile(t, filepath.Join(a.Command.Dir, "agent.yml"), config("a"))
	a.Start(t)
	r.WantListed(t, "a new process with fewer targets", "a", "b")
	if _, down := r.ToldTargets(t, "site-a"); down != 1 {
		t.Errorf("a new process with fewer targets: %d are down", down)
	}
	a.Reload(t, config("a", "c"))
	a.Reload(t, config("c"))
	r.WantListed(t, "a reload with other targets", "b", "c")
	a.Reload(t, "scrape_configs: []\n")
	r.WantListed(t, "a configuration that says that there are none")
}

// TestAnswersThatAreNoSuccess: what Prometheus counts as down is down wherever somebody looks.
func TestAnswersThatAreNoSuccess(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		w.WriteHeader(status)
		fmt.Fprintln(w, "m 1")
	}))
	r := house.StartRelay(t)
	a := house.StartAgent(t, r, "site-a", house.ConfigOf(address, "200", "401", "404", "500"))
	for _, path := range []string{"200", "401", "404", "500"} {
		if got, err := client.Scrape(r.TargetURL("site-a", path, address)); err != nil || fmt.Sprint(got.Status) != path || got.Body != "m 1\n" {
			t.Errorf("the answer %s arrives as %d %q, %v", path, got.Status, got.Body, err)
		}
	}
	targets, down := r.ToldTargets(t, "site-a")
	if down != 3 {
		t.Errorf("the relay tells of %d targets that are down, want 3", down)
	}
	var told struct {
		Data struct {
			Targets []house.ToldTarget
		}
	}
	if err := json.Unmarshal([]byte(program.MustOutput(t, a.At("status", "--json"))), &told); err != nil {
		t.Fatal(err)
	}
	at := map[string]house.ToldTarget{}
	for _, target := range told.Data.Targets {
		at[target.Target] = target
	}
	for path, want := range map[string]string{
		"200": "", "401": "401 Unauthorized", "404": "404 Not Found", "500": "500 Internal Server Error",
	} {
		for where, target := range map[string]house.ToldTarget{"relay": targets[path+"-"+address], "agent": at[path+"-"+address]} {
			if target.LastStatus == nil || fmt.Sprint(*target.LastStatus) != path || !strings.Contains(target.LastError, want) || (want == "") != (target.LastError == "") {
				t.Errorf("the %s tells of %s: %v %q", where, path, target.LastStatus, target.LastError)
			}
		}
	}
	got := program.Output(t, a.At("status"))
	for _, words := range []string{"targets  4, 3 DOWN", "  401     bad_status: the target answered 401 Unauthorized", "  200     -"} {
		if !strings.Contains(got.Stdout, words) {
			t.Errorf("status does not say %q:\n%s", words, got.Stdout)
		}
	}
	if page := client.MustGet(t, r.URL+"/targets?state=down"); !strings.Contains(page, "3 targets of 4") || !strings.Contains(page, "the target answered 500 Internal Server Error") {
		t.Error("the page does not count what is down")
	}
	for url, want := range map[string]string{
		r.URL: `relay_scrapes_total{result="bad_status"} 3`, a.URL: fmt.Sprintf(`relay_agent_scrapes_total{result="bad_status",target="404-%s"} 1`, address),
	} {
		if page := client.MustGet(t, url+"/metrics"); !strings.Contains(page, want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
}

// TestTextfilesInTheStatus: a text file that is refused, or that a relay hides, is in the status with its reason.
func TestTextfilesInTheStatus(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t, "--push.disable-consistency-check")
	if got, err := client.Fetch(http.MethodPut, r.URL+"/metrics/job/other", strings.NewReader("# TYPE clash gauge\nclash 1\n")); err != nil || got.Status != http.StatusAccepted {
		t.Fatalf("a push: %d %v", got.Status, err)
	}
	dir := t.TempDir()
	client.WriteFile(t, filepath.Join(dir, "good.prom"), "good 1\n")
	client.WriteFile(t, filepath.Join(dir, "half.prom"), "half")
	client.WriteFile(t, filepath.Join(dir, "hidden.prom"), "# TYPE clash counter\nclash 1\n")
	a := house.StartAgent(t, r, "site-a", fmt.Sprintf("textfile_configs: [{directory: %q, job: scripts}]\n", dir))
	client.Eventually(t, 20*time.Second, "the status names both files", func() error {
		got := program.Output(t, a.At("status"))
		for _, words := range []string{"text file  " + dir + "/half.prom: ", "text file  " + dir + "/hidden.prom: hidden by the relay: not exposed: "} {
			if !strings.Contains(got.Stdout, words) {
				return fmt.Errorf("status does not say %q:\n%s", words, got.Stdout)
			}
		}
		if strings.Contains(got.Stdout, "good.prom") {
			return fmt.Errorf("status tells of a good file:\n%s", got.Stdout)
		}
		return nil
	})
	// A configuration that says nothing is not the way to lose what the files pushed.
	a.Reload(t, "")
	if page := client.MustGet(t, r.URL+"/metrics"); !strings.Contains(page, "\ngood{") {
		t.Error("the groups of the text files are gone with an empty configuration")
	}
	a.Reload(t, "textfile_configs: []\n")
	client.Eventually(t, 20*time.Second, "the groups go when the configuration says so", func() error {
		if page := client.MustGet(t, r.URL+"/metrics"); strings.Contains(page, "\ngood{") {
			return fmt.Errorf("good is still there")
		}
		return nil
	})
}
