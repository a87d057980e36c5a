package agent

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// countingScraper counts scrapes by target and result, and remembers the last of each target. Only announced targets have
// series and memory of their own: any other name is the relay's invention.
type countingScraper struct {
	// static
	scraper  scrape.Scraper
	scrapes  *prometheus.CounterVec
	duration *prometheus.HistogramVec

	mu   sync.Mutex
	last map[string]lastScrape // guarded by mu; by the name of an announced target, zero before its first scrape
}

// lastScrape is the last scrape of a target that has ended.
type lastScrape struct {
	at       time.Time // when it began; zero if there was none
	duration time.Duration
	status   int    // that the target answered; 0 if it did not
	err      string // empty if it went well
}

func newCountingScraper(scraper scrape.Scraper, reg prometheus.Registerer) *countingScraper {
	return &countingScraper{
		scraper: scraper,
		last:    map[string]lastScrape{},
		scrapes: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "relay_agent_scrapes_total",
			Help: "Scrapes that relays asked for, by target and result: ok, bad_status if the target answered something else than 200, or the reason of the failure.",
		}, []string{"target", "result"}),
		duration: promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "relay_agent_scrape_duration_seconds",
			Help:                            "Time from a scrape's arrival at the agent to the last byte of the target's body.",
			Buckets:                         []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"target"}),
	}
}

// Scrape counts the scrape when it fails, or when its body ends or is closed.
func (s *countingScraper) Scrape(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
	startedAt, target := time.Now(), r.Target
	resp, err := s.scraper.Scrape(ctx, r)
	if err != nil {
		s.ended(target, startedAt, 0, scrape.AsError(ctx, err))
		return nil, err
	}
	scrape.Observe(ctx, resp, func(err *scrape.Error) { s.ended(target, startedAt, resp.Status, err) })
	return resp, nil
}

// ended counts a scrape. Under the lock, so that a target that is dropped meanwhile does not come back.
func (s *countingScraper) ended(target string, startedAt time.Time, status int, err *scrape.Error) {
	last, result := lastScrape{at: startedAt, duration: time.Since(startedAt), status: status}, "ok"
	if err != nil {
		last.err, result = err.Error(), string(err.Reason)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, announced := s.last[target]; !announced {
		s.scrapes.WithLabelValues("", result).Inc()
		return
	}
	s.last[target] = last
	s.scrapes.WithLabelValues(target, result).Inc()
	if err == nil || err.Reason == scrape.BadStatus {
		s.duration.WithLabelValues(target).Observe(last.duration.Seconds())
	}
}

// announce says which targets there are. The others and their series are forgotten.
func (s *countingScraper) announce(targets []target.Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	earlier := s.last
	s.last = make(map[string]lastScrape, len(targets))
	for _, t := range targets {
		s.last[t.Name] = earlier[t.Name]
		delete(earlier, t.Name)
	}
	for gone := range earlier {
		s.scrapes.DeletePartialMatch(prometheus.Labels{"target": gone})
		s.duration.DeleteLabelValues(gone)
	}
}

// describe returns what is told of a target.
func (s *countingScraper) describe(t target.Target) agentapi.Target {
	s.mu.Lock()
	last := s.last[t.Name]
	s.mu.Unlock()
	out := agentapi.Target{
		Target: t.Name, Job: t.Job, Instance: t.Instance, Address: t.Address, Labels: make(map[string]string, len(t.Labels)),
		LastDurationSeconds: last.duration.Seconds(), LastStatus: last.status, LastError: last.err,
	}
	for _, l := range t.Labels {
		out.Labels[l.Name] = l.Value
	}
	if !last.at.IsZero() {
		at := last.at.UTC()
		out.LastScrape = &at
	}
	return out
}
