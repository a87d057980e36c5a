package relaytest_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/relaytest"
)

// TestTextfilesThatChangeTogether: two files that change the type of a family are both seen with the new one, whichever is pushed first; and what
// a file says of job and agent itself is kept beside the labels of its group.
func TestTextfilesThatChangeTogether(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			t.Fatal(err)
		}
	}
	files := []string{"a", "b"}
	for _, name := range files {
		write(name+".prom", "# TYPE t gauge\nt 1\n")
	}
	write("own.prom", "bk{job=\"nightly\",agent=\"linux-1\"} 1\nbk{job=\"weekly\"} 2\n")
	config := filepath.Join(t.TempDir(), "agent.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "textfile_configs:\n  - directory: %s\n    job: node\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	relay := relaytest.Start(t, relaytest.Options(t))
	agent := relay.StartAgent(t, "site", config)
	exposes := func(what string, lines ...string) {
		t.Helper()
		relaytest.Eventually(t, what, func() bool {
			_, got := relaytest.Get(t, relay.URL+"/metrics")
			for _, line := range lines {
				if !strings.Contains(got, line+"\n") {
					return false
				}
			}
			return true
		})
	}
	exposes("both files are exposed, and the labels of samples are kept",
		"# TYPE t gauge", `t{agent="site",instance="",job="node",textfile="a"} 1`, `t{agent="site",instance="",job="node",textfile="b"} 1`,
		`bk{agent="site",exported_agent="linux-1",exported_job="nightly",instance="",job="node",textfile="own"} 1`,
		`bk{agent="site",exported_job="weekly",instance="",job="node",textfile="own"} 2`)
	for _, name := range files {
		write(name+".prom", "# TYPE t counter\nt 2\n")
	}
	exposes("both files are exposed with their new type",
		"# TYPE t counter", `t{agent="site",instance="",job="node",textfile="a"} 2`, `t{agent="site",instance="",job="node",textfile="b"} 2`)

	// A label that the agent's own pusher did not choose takes the place of none; those of the key that he did choose do.
	if status, answer := relaytest.Do(t, http.MethodPut, agent.URL+"/metrics/job/ci", "builds{agent=\"linux-1\",job=\"x\"} 3\nbuilds{agent=\"linux-2\",job=\"x\"} 4\n"); status != http.StatusOK {
		t.Fatalf("PUT = %d %s", status, answer)
	}
	exposes("the push keeps its own agent label",
		`builds{agent="site",exported_agent="linux-1",instance="",job="ci"} 3`, `builds{agent="site",exported_agent="linux-2",instance="",job="ci"} 4`)
}
