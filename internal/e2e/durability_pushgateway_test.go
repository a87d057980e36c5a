//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// pushedSeries returns what was pushed, times of groups included, as the exposition of either program shows it.
func pushedSeries(t *testing.T, url string) map[string]float64 {
	t.Helper()
	all, err := seriesOf(mustGet(t, url+"/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	for series := range all {
		for _, own := range []string{"go_", "process_", "pushgateway_", "relay_"} {
			if strings.HasPrefix(series, own) {
				delete(all, series)
			}
		}
	}
	return all
}

// samePushed compares the expositions of two programs.
func samePushed(t *testing.T, what string, want, got map[string]float64) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// fileRelay starts a relay where a Pushgateway was: with its file, and otherwise by its defaults.
func fileRelay(t *testing.T, file string, flags ...string) *gateway {
	t.Helper()
	return startGateway(t, programs.relayServer, append([]string{"--persistence.file=" + file, "--grpc.listen-address=" + freeAddress(t)}, flags...))
}

// filePushgateway starts Debian's Pushgateway with a file.
func filePushgateway(t *testing.T, file string) *gateway {
	t.Helper()
	path := requireProgram(t, "/usr/bin/prometheus-pushgateway", "prometheus-pushgateway")
	return startGateway(t, path, []string{"--persistence.file=" + file})
}

func (g *gateway) push(t *testing.T, method, path, body string, want int) {
	t.Helper()
	resp, err := fetch(method, g.url+"/metrics"+path, strings.NewReader(body))
	if err != nil || resp.status != want {
		t.Fatalf("%s %s: %d %s %v, want %d", method, path, resp.status, resp.body, err, want)
	}
}

// fillGateway pushes everything that a Pushgateway can hold.
func fillGateway(t *testing.T, g *gateway) {
	t.Helper()
	for i := range 20 {
		g.push(t, http.MethodPut, fmt.Sprintf("/job/many/instance/i%d", i), fmt.Sprintf("# TYPE m counter\n# HELP m Many.\nm{k=\"v\"} %d\n", i), http.StatusOK)
	}
	g.push(t, http.MethodPut, "/job/types", "# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 4.5\nh_count 3\n"+
		"# TYPE s summary\ns{quantile=\"0.5\"} 1.5\ns_sum 3\ns_count 2\nu NaN\n# TYPE g gauge\ng 1e9\n", http.StatusOK)
	g.push(t, http.MethodPost, "/job/types", "later 1\n", http.StatusOK)
	g.push(t, http.MethodPut, "/job/empty", "", http.StatusOK)
	g.push(t, http.MethodPut, "/job@base64/YS9i/label/%CE%A0", "odd{x=\"\\\\ \\\" \\n\"} 1\n", http.StatusOK)
	g.push(t, http.MethodPut, "/job/failed", "fine 1\n", http.StatusOK)
	g.push(t, http.MethodPut, "/job/failed", "fine 1 1000\n", http.StatusBadRequest)
}

// TestFromPushgatewayAndBack takes over the file of a real Pushgateway, changes something and goes back to it.
func TestFromPushgatewayAndBack(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pushgateway.data")
	before := filePushgateway(t, file)
	fillGateway(t, before)
	want := pushedSeries(t, before.url)
	before.stop(t)

	relay := fileRelay(t, file)
	waitReady(t, relay.process, relay.url)
	samePushed(t, "after the import", want, pushedSeries(t, relay.url))
	for _, part := range []string{"imported a Pushgateway's file", "groups=24", "left_out=0"} {
		if !strings.Contains(relay.log.String(), part) {
			t.Errorf("the relay's log does not say %q", part)
		}
	}
	relay.push(t, http.MethodDelete, "/job/many/instance/i7", "", http.StatusAccepted)
	relay.push(t, http.MethodPut, "/job/new", "# TYPE n gauge\nn 7\n", http.StatusOK)
	relay.push(t, http.MethodPut, "/job/new", "n 8 1\n", http.StatusBadRequest)
	want = pushedSeries(t, relay.url)
	relay.stop(t)
	if _, err := os.Stat(file + ".relay"); err != nil {
		t.Errorf("the default data dir beside the file: %v", err)
	}

	back := filePushgateway(t, file)
	samePushed(t, "back at the Pushgateway", want, pushedSeries(t, back.url))
	back.push(t, http.MethodPut, "/job/back", "n 9\n", http.StatusBadRequest) // n is a gauge: the types came along
	back.push(t, http.MethodPut, "/job/back", "# TYPE n gauge\nn 9\n", http.StatusOK)
}

// TestImportHappensOnce: what was deleted does not come back from the file, however the relay ends.
func TestImportHappensOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pushgateway.data")
	before := filePushgateway(t, file)
	before.push(t, http.MethodPut, "/job/a", "m 1\n", http.StatusOK)
	before.stop(t)
	original, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first := fileRelay(t, file)
	waitReady(t, first.process, first.url)
	first.push(t, http.MethodDelete, "/job/a", "", http.StatusAccepted)
	first.kill(t)
	if now, err := os.ReadFile(file); err != nil || string(now) != string(original) {
		t.Errorf("a relay that was killed within the interval has changed the file: %v", err)
	}
	second := fileRelay(t, file)
	waitReady(t, second.process, second.url)
	samePushed(t, "after the second start", map[string]float64{}, pushedSeries(t, second.url))
	second.stop(t)
}

// TestOwnExportIsNotImported: a file that the relay itself wrote first is never taken over.
func TestOwnExportIsNotImported(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pushgateway.data")
	relay := fileRelay(t, file, "--persistence.interval=100ms")
	waitReady(t, relay.process, relay.url)
	relay.push(t, http.MethodPut, "/job/a", "m 1\n", http.StatusOK)
	eventually(t, 10*time.Second, "the file is written", func() error {
		_, err := os.Stat(file)
		return err
	})
	relay.kill(t)
	again := fileRelay(t, file, "--persistence.interval=1h")
	waitReady(t, again.process, again.url)
	again.push(t, http.MethodDelete, "/job/a", "", http.StatusAccepted)
	again.kill(t)
	third := fileRelay(t, file)
	waitReady(t, third.process, third.url)
	samePushed(t, "after the third start", map[string]float64{}, pushedSeries(t, third.url))
	third.stop(t)
}

// TestUndecodableFile: a file that is none of a Pushgateway's ends the start and stays as it is.
func TestUndecodableFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pushgateway.data")
	if err := os.WriteFile(file, []byte("not a gob"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := output(t, command{path: programs.relayServer, args: []string{
		"--persistence.file=" + file, "--web.listen-address=" + freeAddress(t), "--grpc.listen-address=" + freeAddress(t),
	}})
	if refused.code != 1 || !strings.Contains(refused.stderr, "cannot be imported") || !strings.Contains(refused.stderr, file) {
		t.Errorf("exit code %d\n%s", refused.code, refused.stderr)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "not a gob" {
		t.Errorf("the file was changed: %q, %v", content, err)
	}
}

// TestFileInMemoryOnly: without a data dir the file is all there is, as at a Pushgateway; without the export it stays as it
// was.
func TestFileInMemoryOnly(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pushgateway.data")
	first := fileRelay(t, file, "--data.dir=")
	waitReady(t, first.process, first.url)
	first.push(t, http.MethodPut, "/job/a", "m 1\n", http.StatusOK)
	want := pushedSeries(t, first.url)
	first.stop(t)
	second := fileRelay(t, file, "--data.dir=", "--no-persistence.export")
	waitReady(t, second.process, second.url)
	samePushed(t, "after the second start", want, pushedSeries(t, second.url))
	second.push(t, http.MethodDelete, "/job/a", "", http.StatusAccepted)
	second.stop(t)
	third := fileRelay(t, file, "--data.dir=")
	waitReady(t, third.process, third.url)
	samePushed(t, "after a start without export", want, pushedSeries(t, third.url))
	third.stop(t)
}

// TestFailedExport: a Pushgateway's file that cannot be written shows in a metric, and is written once it can be.
func TestFailedExport(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pushgateway.data")
	relay := fileRelay(t, file, "--persistence.interval=100ms")
	waitReady(t, relay.process, relay.url)
	wantSeries(t, relay.url, "relay_pushgateway_file_failures_total", 0)
	if err := os.Mkdir(file, 0o700); err != nil { // in its place, where no file can come
		t.Fatal(err)
	}
	relay.push(t, http.MethodPut, "/job/a", "m 1\n", http.StatusOK)
	eventually(t, patience, "the failure is counted", func() error {
		failures, there, err := valueOf(relay.url, "relay_pushgateway_file_failures_total")
		if err == nil && (!there || failures == 0) {
			err = errNotCounted
		}
		return err
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the file is written", func() error {
		_, err := os.Stat(file)
		return err
	})
	relay.stop(t)
}

var errNotCounted = errors.New("no failure is counted")
