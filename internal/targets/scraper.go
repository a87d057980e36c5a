package targets

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// A scraper counts scrapes by target and result, and remembers the last of each target. Only announced targets have
// series and memory of their own: any other name is the relay's invention.
type scraper struct {
	// static
	next     scrape.Scraper
	scrapes  *prometheus.CounterVec
	duration *prometheus.HistogramVec

	mu   sync.Mutex
	last map[string]Scrape // guarded by mu; by the name of an announced target, zero before its first scrape
}

// A Scrape is a scrape of a target that has ended.
type Scrape struct {
	// At is when it began; zero if there was none.
	At time.Time
	// Duration is how long it took, to the last byte of the body.
	Duration time.Duration
	// Status is what the target answered; 0 if it did not.
	Status int
	// Error is the reason and the words of its failure; empty if it went well.
	Error string
}

func newScraper(next scrape.Scraper, reg prometheus.Registerer) *scraper {
	return &scraper{
		next: next,
		last: map[string]Scrape{},
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
func (s *scraper) Scrape(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
	startedAt, target := time.Now(), r.Target
	resp, err := s.next.Scrape(ctx, r)
	if err != nil {
		s.ended(target, startedAt, 0, scrape.AsError(ctx, err))
		return nil, err
	}
	scrape.Observe(ctx, resp, func(_ int64, err *scrape.Error) { s.ended(target, startedAt, resp.Status, err) })
	return resp, nil
}

// ended counts a scrape. Under the lock, so that a target that is dropped meanwhile does not come back.
func (s *scraper) ended(target string, startedAt time.Time, status int, err *scrape.Error) {
	last, result := Scrape{At: startedAt, Duration: time.Since(startedAt), Status: status}, "ok"
	if err != nil {
		last.Error, result = err.Error(), string(err.Reason)
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
		s.duration.WithLabelValues(target).Observe(last.Duration.Seconds())
	}
}

// announce says which targets there are. The others and their series are forgotten.
func (s *scraper) announce(targets []target.Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	earlier := s.last
	s.last = make(map[string]Scrape, len(targets))
	for _, t := range targets {
		s.last[t.Name] = earlier[t.Name]
		delete(earlier, t.Name)
	}
	for gone := range earlier {
		s.scrapes.DeletePartialMatch(prometheus.Labels{"target": gone})
		s.duration.DeleteLabelValues(gone)
	}
}

// lastOf returns the last scrape of a target.
func (s *scraper) lastOf(name string) Scrape {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last[name]
}
