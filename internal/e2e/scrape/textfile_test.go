//go:build linux

package scrape_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// TestTextfiles: a file of a directory is a group at the relay for as long as it is there, whatever happens to the agent.
func TestTextfiles(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	dir := t.TempDir()
	config := func(labels string) string {
		return fmt.Sprintf("textfile_configs:\n  - directory: %q\n    job: scripts\n    labels: {%s}\n", dir, labels)
	}
	agent := house.StartAgent(t, relay, "site-a", config("zone: z"))
	write := func(name, content string) {
		t.Helper()
		client.WriteFile(t, filepath.Join(dir, name+".tmp"), content)
		if err := os.Rename(filepath.Join(dir, name+".tmp"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	// shows wants series at the relay, and that of the others there are none.
	shows := func(what string, series []string, without ...string) {
		t.Helper()
		client.Eventually(t, 10*time.Second, what, func() error {
			page := client.MustGet(t, relay.URL+"/metrics")
			for _, s := range series {
				if !strings.Contains(page, "\n"+s) {
					return fmt.Errorf("there is no %s", s)
				}
			}
			for _, s := range without {
				if strings.Contains(page, s) {
					return fmt.Errorf("there is %s", s)
				}
			}
			return nil
		})
	}
	const labels = `{agent="site-a",instance="",job="scripts",textfile="backup",zone="z"} `
	write("backup.prom", "# TYPE backup_bytes gauge\nbackup_bytes 1\n")
	shows("a new file", []string{
		"backup_bytes" + labels + "1\n",
		fmt.Sprintf(`node_textfile_mtime_seconds{agent="site-a",file="%s/backup.prom",instance="",job="scripts",textfile="backup",zone="z"} `, dir),
	})
	write("backup.prom", "backup_bytes{")
	client.Eventually(t, 5*time.Second, "half a file is reported", func() error {
		if page := client.MustGet(t, agent.URL+"/metrics"); !strings.Contains(page, fmt.Sprintf(`relay_agent_textfile_error{file="%s/backup.prom"} 1`, dir)) {
			return fmt.Errorf("no error:\n%s", program.Tail(page, 20))
		}
		return nil
	})
	shows("half a file", []string{"backup_bytes" + labels + "1\n"})
	write("backup.prom", "\uFEFF# TYPE backup_bytes gauge\r\nbackup_bytes 2")
	write("other.prom", "other 1\n")
	shows("a whole file", []string{"backup_bytes" + labels + "2\n", "other{"})
	pushed := pushTime(t, relay, "backup")

	agent.Signal(t, syscall.SIGKILL)
	agent.Ended(10 * time.Second)
	remove("other.prom")
	agent.Start(t)
	shows("a file that was removed while the agent was dead", []string{"backup_bytes" + labels + "2\n"}, `textfile="other"`)
	if again := pushTime(t, relay, "backup"); again != pushed {
		t.Errorf("a file that did not change was pushed again: %s, then %s", pushed, again)
	}

	client.WriteFile(t, filepath.Join(agent.Command.Dir, "agent.yml"), config(""))
	if r, err := client.Fetch(http.MethodPost, agent.URL+"/-/reload", nil); err != nil || r.Status != http.StatusOK {
		t.Fatalf("reload: %d %v", r.Status, err)
	}
	shows("a reload with other labels", []string{`backup_bytes{agent="site-a",instance="",job="scripts",textfile="backup"} 2`}, `zone="z"`)
	remove("backup.prom")
	shows("the last file is removed", nil, `job="scripts"`)
}

// pushTime returns when the group of a file was pushed, as the relay shows it.
func pushTime(t *testing.T, r *house.Relay, name string) string {
	t.Helper()
	for line := range strings.Lines(client.MustGet(t, r.URL+"/metrics")) {
		if strings.HasPrefix(line, "push_time_seconds{") && strings.Contains(line, `textfile="`+name+`"`) {
			return line
		}
	}
	t.Fatalf("there is no group of %s", name)
	return ""
}
