//go:build linux && earlier

package durability_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// TestEarlierRelease does the main job between this release and an earlier one, in both directions (T9): pushes of each kind, a refusal, a text file,
// an outage of the relay, and scrapes through the tunnel by path and as a proxy. scripts/earlier.sh builds what it needs.
func TestEarlierRelease(t *testing.T) {
	relayServer, relayAgent := program.Earlier(t)
	t.Run("relay", func(t *testing.T) { mainJobBetween(t, relayServer, program.RelayAgent()) })
	t.Run("agent", func(t *testing.T) { mainJobBetween(t, program.RelayServer(), relayAgent) })
	t.Run("backup", func(t *testing.T) { backupsBetween(t, relayServer, program.RelayServer()) })
}

// backupsBetween: a backup of the earlier release is restored, and said to have no ledger. One of this release has it, and the earlier one refuses it by name, since it
// would lose it without a word.
func backupsBetween(t *testing.T, earlier, now string) {
	file := filepath.Join(t.TempDir(), "relay.backup")
	restore := func(by string) program.Result {
		return program.Output(t, program.Command{Path: by, Args: []string{"--data.dir=" + filepath.Join(t.TempDir(), "restored"), "restore", "--from=" + file}})
	}
	r := house.NewRelay(t)
	for _, by := range []string{earlier, now} {
		r.Command.Path = by
		r.Start(t)
		client.PushOne(t, r.URL, "one", 1)
		program.MustOutput(t, program.Command{Path: by, Args: []string{"--data.dir=" + r.DataDir, "backup", "--to=" + file}})
		r.Stop(t)
		got := restore(now)
		if got.Code != 0 || strings.Contains(got.Stdout, "has no ledger") != (by == earlier) {
			t.Errorf("a backup by %s: exit code %d\n%s%s", by, got.Code, got.Stdout, got.Stderr)
		}
	}
	if got := restore(earlier); got.Code != 1 || !strings.Contains(got.Stderr, "newer release") || !strings.Contains(got.Stderr, "in format 4") {
		t.Errorf("the earlier release restores a backup of this one: exit code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
}

// mainJobBetween does it with these programs.
func mainJobBetween(t *testing.T, relayServer, relayAgent string) {
	files := t.TempDir()
	client.WriteFile(t, filepath.Join(files, "disk.prom"), "# TYPE disk_bytes gauge\ndisk_bytes 1\n")
	r := house.NewRelay(t)
	r.Command.Path = relayServer
	r.Start(t)
	scraped := strings.TrimPrefix(r.URL, "http://")
	a := house.NewAgentVia(t, r, r.GRPC, "site", fmt.Sprintf("textfile_configs:\n  - {directory: %q, job: scripts}\nscrape_configs:\n  - job_name: self\n    static_configs: [{targets: [%q]}]\n", files, scraped))
	a.Command.Path = relayAgent
	a.Start(t)

	client.Push(t, a.URL+"/metrics/job/put", "# TYPE done gauge\ndone 1\n")
	client.Push(t, a.URL+"/metrics/job/gone", "gone 1\n")
	client.Push(t, a.URL+"/metrics/job/own", "m{agent=\"x\"} 1\n")
	for _, request := range []struct {
		method, job, body string
		want              int
	}{
		{http.MethodPost, "put", "added 2\n", http.StatusOK},
		{http.MethodDelete, "gone", "", http.StatusAccepted},
		{http.MethodPut, "refused", "# TYPE done counter\ndone 1\n", http.StatusBadRequest},
		{http.MethodPut, "malformed", "done\n", http.StatusBadRequest},
	} {
		resp, err := client.Fetch(request.method, a.URL+"/metrics/job/"+request.job, strings.NewReader(request.body))
		if err != nil || resp.Status != request.want {
			t.Errorf("%s of job %s: %d %q %v, want %d", request.method, request.job, resp.Status, resp.Body, err, request.want)
		}
	}
	wantExposed(t, r, `done{agent="site",instance="",job="put"} 1`, `added{agent="site",instance="",job="put"} 2`,
		`disk_bytes{agent="site",instance="",job="scripts",textfile="disk"} 1`, `m{agent="site",exported_agent="x",instance="",job="own"} 1`)
	if page := client.MustGet(t, r.URL+"/metrics"); strings.Contains(page, "\ngone{") {
		t.Error("what was deleted is exposed")
	}

	for _, group := range r.Discovered(t) {
		if page := client.MustGet(t, r.URL+group.Labels["__metrics_path__"]); !strings.Contains(page, "relay_build_info") {
			t.Errorf("a scrape by path brings %.200q", page)
		}
	}
	if got := program.MustOutput(t, program.Command{Path: "/usr/bin/curl", Args: []string{"-sS", "--noproxy", "", "-x", r.URL, "http://" + scraped + "/metrics"}}); !strings.Contains(got, "relay_build_info") {
		t.Errorf("a scrape as a proxy brings %.200q", got)
	}

	r.Kill(t)
	resp, err := client.Fetch(http.MethodPut, a.URL+"/metrics/job/away", strings.NewReader("away 1\n"))
	if err != nil || resp.Status != http.StatusAccepted {
		t.Errorf("a push while the relay is away: %d %q %v", resp.Status, resp.Body, err)
	}
	a.Back(t, r)
	wantExposed(t, r, `away{agent="site",instance="",job="away"} 1`, `done{agent="site",instance="",job="put"} 1`)
}

// wantExposed waits until the relay exposes these lines.
func wantExposed(t *testing.T, r *house.Relay, lines ...string) {
	t.Helper()
	client.Eventually(t, 20*time.Second, "the pushes are exposed", func() error {
		page, err := client.WantOK(r.URL + "/metrics")
		if err != nil {
			return err
		}
		for _, line := range lines {
			if !strings.Contains("\n"+page, "\n"+line+"\n") {
				return fmt.Errorf("%w: %s is not there", house.ErrModel, line)
			}
		}
		return nil
	})
}
