//go:build linux && earlier

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// earlierVariable names the folder with the programs of an earlier release.
const earlierVariable = "EARLIER_PROGRAMS"

// TestEarlierRelease does the main job between this release and an earlier one, in both directions (T9): pushes of each kind, a refusal, a text file,
// an outage of the relay, and scrapes through the tunnel by path and as a proxy. scripts/earlier.sh builds what it needs.
func TestEarlierRelease(t *testing.T) {
	dir := os.Getenv(earlierVariable)
	if dir == "" {
		t.Fatalf("%s is not set: run `make earlier`", earlierVariable)
	}
	now := programs
	t.Cleanup(func() { programs = now })
	t.Run("relay", func(t *testing.T) {
		programs = now
		programs.relayServer = filepath.Join(dir, "relay-server")
		mainJobBetween(t, `m{agent="site",instance="",job="own"} 1`)
	})
	t.Run("agent", func(t *testing.T) {
		programs = now
		programs.relayAgent = filepath.Join(dir, "relay-agent")
		mainJobBetween(t, `m{agent="site",exported_agent="x",instance="",job="own"} 1`)
	})
}

// mainJobBetween does it with the present programs. own is what becomes of a sample's own agent label, which the relay decides.
func mainJobBetween(t *testing.T, own string) {
	files := t.TempDir()
	writeFile(t, filepath.Join(files, "disk.prom"), "# TYPE disk_bytes gauge\ndisk_bytes 1\n")
	r := startRelay(t)
	scraped := strings.TrimPrefix(r.url, "http://")
	a := startAgent(t, r, "site", fmt.Sprintf("textfile_configs:\n  - {directory: %q, job: scripts}\nscrape_configs:\n  - job_name: self\n    static_configs: [{targets: [%q]}]\n", files, scraped))

	push(t, a.url+"/metrics/job/put", "# TYPE done gauge\ndone 1\n")
	push(t, a.url+"/metrics/job/gone", "gone 1\n")
	push(t, a.url+"/metrics/job/own", "m{agent=\"x\"} 1\n")
	for _, request := range []struct {
		method, job, body string
		want              int
	}{
		{http.MethodPost, "put", "added 2\n", http.StatusOK},
		{http.MethodDelete, "gone", "", http.StatusAccepted},
		{http.MethodPut, "refused", "# TYPE done counter\ndone 1\n", http.StatusBadRequest},
		{http.MethodPut, "malformed", "done\n", http.StatusBadRequest},
	} {
		resp, err := fetch(request.method, a.url+"/metrics/job/"+request.job, strings.NewReader(request.body))
		if err != nil || resp.status != request.want {
			t.Errorf("%s of job %s: %d %q %v, want %d", request.method, request.job, resp.status, resp.body, err, request.want)
		}
	}
	wantExposed(t, r, `done{agent="site",instance="",job="put"} 1`, `added{agent="site",instance="",job="put"} 2`,
		`disk_bytes{agent="site",instance="",job="scripts",textfile="disk"} 1`, own)
	if page := mustGet(t, r.url+"/metrics"); strings.Contains(page, "\ngone{") {
		t.Error("what was deleted is exposed")
	}

	for _, group := range r.discovered(t) {
		if page := mustGet(t, r.url+group.Labels["__metrics_path__"]); !strings.Contains(page, "relay_build_info") {
			t.Errorf("a scrape by path brings %.200q", page)
		}
	}
	if got := mustOutput(t, command{path: "/usr/bin/curl", args: []string{"-sS", "--noproxy", "", "-x", r.url, "http://" + scraped + "/metrics"}}); !strings.Contains(got, "relay_build_info") {
		t.Errorf("a scrape as a proxy brings %.200q", got)
	}

	r.kill(t)
	resp, err := fetch(http.MethodPut, a.url+"/metrics/job/away", strings.NewReader("away 1\n"))
	if err != nil || resp.status != http.StatusAccepted {
		t.Errorf("a push while the relay is away: %d %q %v", resp.status, resp.body, err)
	}
	a.back(t, r)
	wantExposed(t, r, `away{agent="site",instance="",job="away"} 1`, `done{agent="site",instance="",job="put"} 1`)
}

// wantExposed waits until the relay exposes these lines.
func wantExposed(t *testing.T, r *relay, lines ...string) {
	t.Helper()
	eventually(t, 20*time.Second, "the pushes are exposed", func() error {
		page, err := wantOK(r.url + "/metrics")
		if err != nil {
			return err
		}
		for _, line := range lines {
			if !strings.Contains("\n"+page, "\n"+line+"\n") {
				return fmt.Errorf("%w: %s is not there", errModel, line)
			}
		}
		return nil
	})
}
