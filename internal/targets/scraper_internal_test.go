package targets

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// scraperFunc is a scraper that a test writes.
type scraperFunc func() (*scrape.Response, error)

func (f scraperFunc) Scrape(context.Context, *scrape.Request) (*scrape.Response, error) { return f() }

func answers(body io.Reader) scraperFunc {
	return func() (*scrape.Response, error) { return &scrape.Response{Status: 200, Body: io.NopCloser(body)}, nil }
}

var errBroken = errors.New("connection reset")

func TestScrapesAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		s := newScraper(nil, reg)
		app := target.Target{Name: "app"}
		var want Scrape
		s.announce([]target.Target{app, {Name: "other"}})
		check := func(when string) {
			t.Helper()
			if diff := cmp.Diff(want, s.lastOf("app")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		check("before the first scrape")

		run := func(name string, with scraperFunc) {
			s.next = with
			resp, err := s.Scrape(t.Context(), &scrape.Request{Target: name})
			if err != nil {
				return
			}
			time.Sleep(3 * time.Second)
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		at := time.Now()
		run("app", answers(strings.NewReader("m 1\n")))
		want.At, want.Duration, want.Status = at, 3*time.Second, 200
		check("after a whole body")

		failedAt := time.Now()
		run("app", answers(io.MultiReader(strings.NewReader("m"), errReader{})))
		want.At, want.Error = failedAt, "target_unreachable: connection reset"
		check("after a body that broke off")

		refusedAt := time.Now()
		run("app", func() (*scrape.Response, error) { return nil, scrape.Errorf(scrape.TargetUnreachable, "refused") })
		want.At, want.Duration, want.Status, want.Error = refusedAt, 0, 0, "target_unreachable: refused"
		check("after a refused connection")

		// What the agent does not have is the relay's invention, whatever becomes of it.
		run("invented-1", func() (*scrape.Response, error) { return nil, scrape.Errorf(scrape.TargetUnknown, "no") })
		run("invented-2", answers(strings.NewReader("m 1\n")))
		run("other", answers(strings.NewReader("m 1\n")))
		const help = "# HELP relay_agent_scrapes_total Scrapes that relays asked for, by target and result: ok, bad_status if the target answered something else than 200, or the reason of the failure.\n# TYPE relay_agent_scrapes_total counter\n"
		const rest = `relay_agent_scrapes_total{result="ok",target=""} 1
relay_agent_scrapes_total{result="ok",target="app"} 1
relay_agent_scrapes_total{result="target_unknown",target=""} 1
relay_agent_scrapes_total{result="target_unreachable",target="app"} 2
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(help+rest+`relay_agent_scrapes_total{result="ok",target="other"} 1`+"\n"), "relay_agent_scrapes_total"); err != nil {
			t.Error(err)
		}
		s.announce([]target.Target{app})
		check("after another target is gone")
		if err := testutil.GatherAndCompare(reg, strings.NewReader(help+rest), "relay_agent_scrapes_total"); err != nil {
			t.Errorf("the series of a target outlive it: %v", err)
		}
		if n, err := testutil.GatherAndCount(reg, "relay_agent_scrape_duration_seconds"); err != nil || n != 1 {
			t.Errorf("%d series of durations, %v, want 1", n, err)
		}
	})
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errBroken }
