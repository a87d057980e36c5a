//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/need"
)

// nodeFolder is a folder with the script of testdata/node and the library that it needs, as the lock file has it.
func nodeFolder(t testing.TB) string {
	t.Helper()
	npm := requireProgram(t, "/usr/bin/npm", "npm")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "node"))); err != nil {
		t.Fatal(err)
	}
	ci := command{path: npm, dir: dir, args: []string{"ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache=" + filepath.Join(dir, "cache")}}
	if r := output(t, ci); r.code != 0 {
		need.Missing(t, "npm ci: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	return dir
}

// TestPushWithNode: prom-client's Pushgateway class, plain and compressed. It percent-encodes values, so that none of them
// may have a slash: with one it fails at every gateway.
func TestPushWithNode(t *testing.T) {
	t.Parallel()
	node := requireProgram(t, "/usr/bin/node", "nodejs")
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
					mustOutput(t, command{path: node, dir: dir, args: []string{
						"push.js", verb, to.url, job, instance, metric, fmt.Sprint(value), encoding, ttl, strings.Join(operation, ""),
					}})
				}
				series := func(metric string) string {
					return fmt.Sprintf(`%s{%sinstance=%q, job=%q}`, metric, to.agentLabel, instance, job)
				}
				run("push", "first", 1, "")
				wantSeries(t, relayURL, series("first"), 1)
				run("pushAdd", "second", 2.5, "1h")
				wantSeries(t, relayURL, series("second"), 2.5)
				wantSeries(t, relayURL, series("first"), 1)
				wantHourToLive(t, relayURL, series)
				run("pushAdd", "counted_total", 2, "", "add")
				run("pushAdd", "counted_total", 3, "", "add")
				wantSeries(t, relayURL, series("counted_total"), 5)
				run("push", "third", 3, "")
				wantSeries(t, relayURL, series("third"), 3)
				wantNoSeries(t, relayURL, series("first"))
				run("delete", "-", 0, "")
				wantNoSeries(t, relayURL, series("third"))
				wantNoSeries(t, relayURL, series("push_time_seconds"))
			})
		}
	}
}
