package relay

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/roster"
)

// holdings is what accounts hold: groups and series.
type holdings map[string][2]int

func (h holdings) Account(name string) (groups, series int) { return h[name][0], h[name][1] }

// TestQuotas: an agent that holds much is warned of once each time, and everybody sees how much each holds.
func TestQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		limitsOf := func(string) groupstore.AccountLimits {
			return groupstore.AccountLimits{Groups: 100, Series: 1000, GroupsBy: groupstore.GroupsFlag, SeriesBy: groupstore.SeriesFlag}
		}
		held := holdings{"a": {79, 0}, "b": {0, 850}, "c": {500, 5}}
		q := newQuotas(func() []roster.Agent { return []roster.Agent{{Name: "a"}, {Name: "b"}, {Name: "c"}} }, held, quotaLimits{groups: 100, series: 1000}, limitsOf, slog.New(slog.NewTextHandler(&log, nil)))
		reg := prometheus.NewRegistry()
		reg.MustRegister(q)
		for _, st := range []struct {
			change func()
			warned string
		}{
			{func() {}, "bc"},
			{func() {}, ""},
			{func() { held["a"] = [2]int{80, 0} }, "a"},
			{func() { held["a"], held["c"] = [2]int{79, 0}, [2]int{} }, ""},
			{func() { held["a"] = [2]int{0, 1001} }, "a"},
		} {
			st.change()
			log.Reset()
			q.look()
			var warned string
			for _, agent := range []string{"a", "b", "c"} {
				if strings.Contains(log.String(), "agent="+agent+" ") {
					warned += agent
				}
			}
			if warned != st.warned {
				t.Errorf("warned of %q, want %q", warned, st.warned)
			}
			time.Sleep(quotaLook)
		}
		const want = `# HELP relay_agent_series Series of the agent's groups in the store, also of families that are not exposed.
# TYPE relay_agent_series gauge
relay_agent_series{agent="a"} 1001
relay_agent_series{agent="b"} 850
relay_agent_series{agent="c"} 0
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "relay_agent_series"); err != nil {
			t.Error(err)
		}
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("lint: %v, %v", problems, err)
		}
	})
}
