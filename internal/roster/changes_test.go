package roster_test

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"

	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
)

// TestChanges: who looks is told of what changed, and not of each scrape that is as the one before; and the last success is remembered.
func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type told struct {
			Agent  string
			Bytes  int64
			Failed bool
		}
		var scrapes []told
		r, err := roster.Open(roster.Config{
			ForgetAfter: time.Hour, MaxConcurrentScrapes: 1, Logger: promslog.NewNopLogger(), Registerer: prometheus.NewRegistry(),
			Scraped: func(agent string, bytes int64, fault string) {
				scrapes = append(scrapes, told{agent, bytes, fault != ""})
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		s := &session{body: "m 1\n"}
		var at *roster.Attachment
		ask := func() {
			resp, err := r.Scrape(t.Context(), &scrape.Request{Agent: "site", Target: "a"})
			if err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
		step := func(name string, want bool, do func()) {
			t.Helper()
			before := r.Changes()
			do()
			if changed := r.Changes() != before; changed != want {
				t.Errorf("%s: changed %v, want %v", name, changed, want)
			}
			time.Sleep(time.Second)
		}
		step("an agent that comes", true, func() { at = register(r, "site", s, 1) })
		step("targets", true, func() { at.SetTargets(complete("a")) })
		step("the same targets", false, func() { at.SetTargets(complete("a")) })
		step("the first scrape", true, ask)
		success := time.Now()
		step("a scrape as the one before", false, ask)
		s.err = errors.New("refused")
		step("a scrape that fails", true, ask)
		step("a scrape that fails in the same way", false, ask)
		a, known := r.Agent("site")
		if got := a.Targets[0]; !known || !got.LastSuccess.Equal(success) || !got.LastScrape.After(success) || got.LastError == "" || a.Sessions != 1 {
			t.Errorf("the agent is %+v", a)
		}
		step("a heartbeat", false, func() { at.Measured(time.Second, 0) })
		step("an agent that goes", true, at.Close)
		step("its scrape", true, ask)
		step("targets that are unlisted", true, func() { r.Unlist("site") })
		step("an agent that comes again", true, func() { register(r, "site", s, 1).Close() })
		if a, _ := r.Agent("site"); a.Sessions != 2 {
			t.Errorf("it began %d sessions, want 2", a.Sessions)
		}
		step("an agent that is forgotten", true, func() { r.Forget("site") })
		if _, known := r.Agent("site"); known {
			t.Error("an agent that is forgotten is known")
		}
		want := []told{{"site", 4, false}, {"site", 4, false}, {"site", 0, true}, {"site", 0, true}, {"site", 0, true}}
		if diff := cmp.Diff(want, scrapes); diff != "" {
			t.Errorf("scrapes that were told (-want +got):\n%s", diff)
		}
	})
}
