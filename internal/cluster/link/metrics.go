package link

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/change"
)

type metrics struct {
	pushes   *prometheus.CounterVec
	duration prometheus.Histogram
	scrapes  *prometheus.CounterVec
}

// The results of pushes that were handed on, beside the reasons of what is not taken.
const (
	resultTaken   = "taken"
	resultAnswer  = "answered"
	resultRefused = "refused"
	resultBroken  = "broken"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	m := &metrics{
		pushes: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_cluster_forwarded_pushes_total",
			Help: "Pushes and deletions that this relay handed on to the one that decides, by what became of them.",
		}, []string{"result"}),
		duration: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "relay_cluster_forward_duration_seconds",
			Help:    "How long it took until a push that was handed on was decided and this relay's copy had it.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		scrapes: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_cluster_forwarded_scrapes_total",
			Help: "Attempts to scrape over another relay, by whether the target's answer began, the other relay said why not, or it could not be asked.",
		}, []string{"result"}),
	}
	m.pushes.WithLabelValues(resultTaken)
	for _, kind := range change.Kinds() {
		if kind.Label() != "" {
			m.pushes.WithLabelValues(kind.Label())
		}
	}
	for _, result := range []string{resultAnswer, resultRefused, resultBroken} {
		m.scrapes.WithLabelValues(result)
	}
	return m
}

func (m *metrics) forwarded(o change.Outcome, took time.Duration) {
	result := cmp.Or(o.Kind.Label(), resultTaken)
	m.pushes.WithLabelValues(result).Inc()
	m.duration.Observe(took.Seconds())
}
