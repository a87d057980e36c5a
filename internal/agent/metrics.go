package agent

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/push"
	"pushrelay/internal/scrape"
)

// countingPusher counts pushes by result.
type countingPusher struct {
	pusher  push.Pusher
	metrics *prometheus.CounterVec
}

func newPushMetrics(reg prometheus.Registerer) *prometheus.CounterVec {
	return promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "relay_agent_pushes_total",
		Help: "Pushes that arrived at the agent, by HTTP status class of the answer.",
	}, []string{"code"})
}

// Push counts the push when its fate is known.
func (p *countingPusher) Push(ctx context.Context, r *push.Request) (push.Result, error) {
	result, err := p.pusher.Push(ctx, r)
	status := http.StatusOK
	if err != nil {
		status = push.StatusOf(err)
	}
	p.metrics.WithLabelValues(strconv.Itoa(status)).Inc()
	return result, err
}

type scrapeMetrics struct {
	scrapes  *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newScrapeMetrics(reg prometheus.Registerer) *scrapeMetrics {
	return &scrapeMetrics{
		scrapes: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "relay_agent_scrapes_total",
			Help: "Scrapes that relays asked for, by target and result: ok, or the reason of the failure.",
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

// countingScraper counts scrapes by target and result. A target that is not configured has no series of its own: its
// name is the relay's invention.
type countingScraper struct {
	scraper scrape.Scraper
	metrics *scrapeMetrics
}

// Scrape counts the scrape when its body ends or is closed.
func (s *countingScraper) Scrape(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
	startedAt := time.Now()
	resp, err := s.scraper.Scrape(ctx, r)
	if err != nil {
		named := scrape.AsError(ctx, err)
		target := r.Target
		if named.Reason == scrape.TargetUnknown {
			target = ""
		}
		s.metrics.scrapes.WithLabelValues(target, string(named.Reason)).Inc()
		return nil, err
	}
	scrape.Observe(ctx, resp, func(err *scrape.Error) {
		result := "ok"
		if err != nil {
			result = string(err.Reason)
		}
		s.metrics.scrapes.WithLabelValues(r.Target, result).Inc()
		s.metrics.duration.WithLabelValues(r.Target).Observe(time.Since(startedAt).Seconds())
	})
	return resp, nil
}
