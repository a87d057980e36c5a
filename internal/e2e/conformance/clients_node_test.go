//go:build linux

package conformance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/need"
)

// nodeFolder is a folder with the script of testdata/node and the library that it needs, as the lock file has it.
func nodeFolder(t testing.TB) string {
	t.Helper()
	npm := program.RequireProgram(t, "/usr/bin/npm", "npm")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "node"))); err != nil {
		t.Fatal(err)
	}
	ci := program.Command{Path: npm, Dir: dir, Args: []string{"ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache=" + filepath.Join(dir, "cache")}}
	if r := program.Output(t, ci); r.Code != 0 {
		need.Missing(t, "npm ci: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	return dir
}

// TestPushWithNode: prom-client's Pushgateway class, plain and compressed. It percent-encodes values, so that none of them
// may have a slash: with one it fails at every gateway.
func TestPushWithNode(t *testing.T) {
	t.Parallel()
	node := program.RequireProgram(t, "/usr/bin/node", "nodejs")
	dir := nodeFolder(t)
	relayURL, all := destinations(t)
	const instance = "i 1%ü"
	for _, to := range all {
		for _, encoding := range []string{"", "gzip"} {
			t.Run(strings.TrimSpace("to the "+to.name+" "+encoding), func(t *testing.T) {
				t.Parallel()
				job := "node" + encoding
				run := func(verb, metric string, value float64, ttl string, operation ...string) {
					t.Helper()
					program.MustOutput(t, program.Command{Path: node, Dir: dir, Args: []string{
						"push.js", verb, to.url, job, instance, metric, fmt.Sprint(value), encoding, ttl, strings.Join(operation, ""),
					}})
				}
				series := func(metric string) string {
					return fmt.Sprintf(`%s{%sinstance=%q, job=%q}`, metric, to.agentLabel, instance, job)
				}
				run("push", "first", 1, "")
				client.WantSeries(t, relayURL, series("first"), 1)
				run("pushAdd", "second", 2.5, "1h")
				client.WantSeries(t, relayURL, series("second"), 2.5)
				client.WantSeries(t, relayURL, series("first"), 1)
				wantHourToLive(t, relayURL, series)
				run("pushAdd", "counted_total", 2, "", "add")
				run("pushAdd", "counted_total", 3, "", "add")
				client.WantSeries(t, relayURL, series("counted_total"), 5)
				run("push", "third", 3, "")
				client.WantSeries(t, relayURL, series("third"), 3)
				client.WantNoSeries(t, relayURL, series("first"))
				run("delete", "-", 0, "")
				client.WantNoSeries(t, relayURL, series("third"))
				client.WantNoSeries(t, relayURL, series("push_time_seconds"))
			})
		}
	}
}
