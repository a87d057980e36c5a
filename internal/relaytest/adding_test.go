package relaytest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

// TestWorkersAddUp: what many workers add through an agent whose relay is restarted meanwhile, and which is restarted itself then, comes to the
// exact sum. They set no header: the agent's rules say that they add (L11, L14).
func TestWorkersAddUp(t *testing.T) {
	const workers, pushes = 8, 30
	config := filepath.Join(t.TempDir(), "agent.yml")
	if err := os.WriteFile(config, []byte("push_rules:\n- match: '{job=\"workers\"}'\n  aggregate: sum\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	opts := relaytest.Options(t)
	r := relaytest.Start(t, opts)
	a := r.StartAgent(t, "site", config)
	address := r.GRPCAddr().String()

	var running sync.WaitGroup
	var accepted, spooled atomic.Int64
	for w := range workers {
		running.Go(func() {
			body := fmt.Sprintf("# TYPE done counter\ndone 1\ndone{worker=\"%d\"} 1\n# TYPE seconds histogram\nseconds_bucket{le=\"1\"} 1\nseconds_bucket{le=\"+Inf\"} 2\nseconds_sum 3\nseconds_count 2\n# TYPE items gauge\nitems 5\n", w)
			for range pushes {
				status, answer := relaytest.Do(t, "POST", a.URL+"/metrics/job/workers", body)
				switch status {
				case 202:
					spooled.Add(1)
				case 200:
				default:
					t.Errorf("a worker heard %d %s", status, answer)
				}
				accepted.Add(1)
			}
		})
	}
	for range 2 {
		before := accepted.Load()
		relaytest.Eventually(t, "more is added", func() bool { return accepted.Load() > before+workers || accepted.Load() == workers*pushes })
		r.Stop()
		r = relaytest.Start(t, restarted(t, opts, address))
	}
	running.Wait()
	r.Stop()
	for range 3 { // to an agent that has no relay, around its own restart
		if status, answer := relaytest.Do(t, "POST", a.URL+"/metrics/job/workers", "# TYPE done counter\ndone 1\n"); status != 202 {
			t.Errorf("without a relay: %d %s", status, answer)
		}
	}
	a = a.Restart(t, nil)
	if status, answer := relaytest.Do(t, "POST", a.URL+"/metrics/job/workers", "# TYPE done counter\ndone 1\n"); status != 202 {
		t.Errorf("without a relay: %d %s", status, answer)
	}
	r = relaytest.Start(t, restarted(t, opts, address))
	relaytest.Eventually(t, "all is at the relay", func() bool {
		_, metrics := relaytest.Get(t, r.URL+"/metrics")
		return strings.Contains(metrics, fmt.Sprintf("\ndone{agent=\"site\",instance=\"\",job=\"workers\"} %d\n", workers*pushes+4))
	})
	wantMetrics(t, r,
		fmt.Sprintf(`done{agent="site",instance="",job="workers",worker="3"} %d`, pushes),
		fmt.Sprintf(`seconds_bucket{agent="site",instance="",job="workers",le="1"} %d`, workers*pushes),
		fmt.Sprintf(`seconds_count{agent="site",instance="",job="workers"} %d`, 2*workers*pushes),
		fmt.Sprintf(`items{agent="site",instance="",job="workers"} %d`, 5*workers*pushes),
	)
	if spooled.Load() == 0 {
		t.Log("no push met a relay that was away")
	}
}

// restarted returns the options of a relay that goes on where another was stopped.
func restarted(t *testing.T, opts relay.Options, address string) relay.Options {
	t.Helper()
	next := again(t, opts)
	next.GRPCListenAddress = address
	return next
}
