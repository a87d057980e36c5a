//go:build linux

package durability_test

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

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/gateway"
	"pushrelay/internal/e2e/program"
)

// pushedSeries returns what was pushed, times of groups included, as the exposition of either program shows it.
func pushedSeries(t *testing.T, url string) map[string]float64 {
	t.Helper()
	all, err := client.SeriesOf(client.MustGet(t, url+"/metrics"))
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
func fileRelay(t *testing.T, file string, flags ...string) *gateway.Gateway {
	t.Helper()
	return gateway.Start(t, program.RelayServer(), append([]string{"--persistence.file=" + file, "--grpc.listen-address=" + program.FreeAddress(t)}, flags...))
}

// filePushgateway starts Debian's Pushgateway with a file.
func filePushgateway(t *testing.T, file string) *gateway.Gateway {
	t.Helper()
	path := program.RequireProgram(t, "/usr/bin/prometheus-pushgateway", "prometheus-pushgateway")
	return gateway.Start(t, path, []string{"--persistence.file=" + file})
}

// fillGateway pushes everything that a Pushgateway can hold.
func fillGateway(t *testing.T, g *gateway.Gateway) {
	t.Helper()
	for i := range 20 {
		g.Push(t, http.MethodPut, fmt.Sprintf("/job/many/instance/i%d", i), fmt.Sprintf("# TYPE m counter\n# HELP m Many.\nm{k=\"v\"} %d\n", i), http.StatusOK)
	}
	g.Push(t, http.MethodPut, "/job/types", "# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 4.5\nh_count 3\n"+
		"# TYPE s summary\ns{quantile=\"0.5\"} 1.5\ns_sum 3\ns_count 2\nu NaN\n# TYPE g gauge\ng 1e9\n", http.StatusOK)
	g.Push(t, http.MethodPost, "/job/types", "later 1\n", http.StatusOK)
	g.Push(t, http.MethodPut, "/job/empty", "", http.StatusOK)
	g.Push(t, http.MethodPut, "/job@base64/YS9i/label/%CE%A0", "odd{x=\"\\\\ \\\" \\n\"} 1\n", http.StatusOK)
	g.Push(t, http.MethodPut, "/job/failed", "fine 1\n", http.StatusOK)
	g.Push(t, http.MethodPut, "/job/failed", "fine 1 1000\n", http.StatusBadRequest)
}

// TestFromPushgatewayAndBack takes over the file of a real Pushgateway, changes something and goes back to it.
func TestFromPushgatewayAndBack(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pushgateway.data")
	before := filePushgateway(t, file)
	fillGateway(t, before)
	want := pushedSeries(t, before.URL)
	before.Stop(t)

	relay := fileRelay(t, file)
	program.WaitReady(t, relay.Process, relay.URL)
	samePushed(t, "after the import", want, pushedSeries(t, relay.URL))
	for _, part := range []string{"imported a Pushgateway's file", "groups=24", "left_out=0"} {
		if !strings.Contains(relay.Log.String(), part) {
			t.Errorf("the relay's log does not say %q", part)
		}
	}
	relay.Push(t, http.MethodDelete, "/job/many/instance/i7", "", http.StatusAccepted)
	relay.Push(t, http.MethodPut, "/job/new", "# TYPE n gauge\nn 7\n", http.StatusOK)
	relay.Push(t, http.MethodPut, "/job/new", "n 8 1\n", http.StatusBadRequest)
	want = pushedSeries(t, relay.URL)
	relay.Stop(t)
	if _, err := os.Stat(file + ".relay"); err != nil {
		t.Errorf("the default data dir beside the file: %v", err)
	}

	back := filePushgateway(t, file)
	samePushed(t, "back at the Pushgateway", want, pushedSeries(t, back.URL))
	back.Push(t, http.MethodPut, "/job/back", "n 9\n", http.StatusBadRequest) // n is a gauge: the types came along
	back.Push(t, http.MethodPut, "/job/back", "# TYPE n gauge\nn 9\n", http.StatusOK)
}

// TestImportHappensOnce: what was deleted does not come back from the file, however the relay ends.
func TestImportHappensOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pushgateway.data")
	before := filePushgateway(t, file)
	before.Push(t, http.MethodPut, "/job/a", "m 1\n", http.StatusOK)
	before.Stop(t)
	original, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first := fileRelay(t, file)
	program.WaitReady(t, first.Process, first.URL)
	first.Push(t, http.MethodDelete, "/job/a", "", http.StatusAccepted)
	first.Kill(t)
	if now, err := os.ReadFile(file); err != nil || string(now) != string(original) {
		t.Errorf("a relay that was killed within the interval has changed the file: %v", err)
	}
	second := fileRelay(t, file)
	program.WaitReady(t, second.Process, second.URL)
	samePushed(t, "after the second start", map[string]float64{}, pushedSeries(t, second.URL))
	second.Stop(t)
}

// TestOwnExportIsNotImported: a file that the relay itself wrote first is never taken over.
func TestOwnExportIsNotImported(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pushgateway.data")
	relay := fileRelay(t, file, "--persistence.interval=100ms")
	program.WaitReady(t, relay.Process, relay.URL)
	relay.Push(t, http.MethodPut, "/job/a", "m 1\n", http.StatusOK)
	client.Eventually(t, 10*time.Second, "the file is written", func() error {
		_, err := os.Stat(file)
		return err
	})
	relay.Kill(t)
	again := fileRelay(t, file, "--persistence.interval=1h")
	program.WaitReady(t, again.Process, again.URL)
	again.Push(t, http.MethodDelete, "/job/a", "", http.StatusAccepted)
	again.Kill(t)
	third := fileRelay(t, file)
	program.WaitReady(t, third.Process, third.URL)
	samePushed(t, "after the third start", map[string]float64{}, pushedSeries(t, third.URL))
	third.Stop(t)
}

// TestUndecodableFile: a file that is none of a Pushgateway's ends the start and stays as it is.
func TestUndecodableFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pushgateway.data")
	if err := os.WriteFile(file, []byte("not a gob"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := program.Output(t, program.Command{Path: program.RelayServer(), Args: []string{
		"--persistence.file=" + file, "--web.listen-address=" + program.FreeAddress(t), "--grpc.listen-address=" + program.FreeAddress(t),
	}})
	if refused.Code != 1 || !strings.Contains(refused.Stderr, "cannot be imported") || !strings.Contains(refused.Stderr, file) {
		t.Errorf("exit code %d\n%s", refused.Code, refused.Stderr)
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
	program.WaitReady(t, first.Process, first.URL)
	first.Push(t, http.MethodPut, "/job/a", "m 1\n", http.StatusOK)
	want := pushedSeries(t, first.URL)
	first.Stop(t)
	second := fileRelay(t, file, "--data.dir=", "--no-persistence.export")
	program.WaitReady(t, second.Process, second.URL)
	samePushed(t, "after the second start", want, pushedSeries(t, second.URL))
	second.Push(t, http.MethodDelete, "/job/a", "", http.StatusAccepted)
	second.Stop(t)
	third := fileRelay(t, file, "--data.dir=")
	program.WaitReady(t, third.Process, third.URL)
	samePushed(t, "after a start without export", want, pushedSeries(t, third.URL))
	third.Stop(t)
}

// TestFailedExport: a Pushgateway's file that cannot be written shows in a metric, and is written once it can be.
func TestFailedExport(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pushgateway.data")
	relay := fileRelay(t, file, "--persistence.interval=100ms")
	program.WaitReady(t, relay.Process, relay.URL)
	client.WantSeries(t, relay.URL, "relay_pushgateway_file_failures_total", 0)
	client.Eventually(t, client.Patience, "a folder is in its place, where no file can come", func() error {
		os.Remove(file) // one that was written in between
		return os.Mkdir(file, 0o700)
	})
	relay.Push(t, http.MethodPut, "/job/a", "m 1\n", http.StatusOK)
	client.Eventually(t, client.Patience, "the failure is counted", func() error {
		failures, there, err := client.ValueOf(relay.URL, "relay_pushgateway_file_failures_total")
		if err == nil && (!there || failures == 0) {
			err = errNotCounted
		}
		return err
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	client.Eventually(t, client.Patience, "the file is written", func() error {
		_, err := os.Stat(file)
		return err
	})
	relay.Stop(t)
}

var errNotCounted = errors.New("no failure is counted")
