package ingest

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/change"
)

type metrics struct {
	pushes   *prometheus.CounterVec
	duration prometheus.Histogram
	size     prometheus.Histogram
}

// The results of a push as metric labels.
const (
	resultApplied   = "applied"
	resultUnchecked = "unchecked"
	resultDuplicate = "duplicate"
	resultRejected  = "rejected"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		pushes: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "relay_pushes_total",
			Help: "Pushes and deletes that reached the store, by result (applied, unchecked, duplicate, rejected) and by the reason of a rejection.",
		}, []string{"result", "reason"}),
		duration: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name:                            "relay_push_duration_seconds",
			Help:                            "Time from the body of a push being read to its answer.",
			Buckets:                         []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}),
		size: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name:                            "relay_push_size_bytes",
			Help:                            "Size of the bodies of pushes, with their content encoding removed.",
			Buckets:                         prometheus.ExponentialBuckets(256, 4, 10),
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}),
	}
	m.pushes.WithLabelValues(resultApplied, "")
	m.pushes.WithLabelValues(resultUnchecked, "")
	m.pushes.WithLabelValues(resultDuplicate, "")
	for _, k := range change.Kinds() {
		if k.Label() != "" {
			m.pushes.WithLabelValues(resultRejected, k.Label())
		}
	}
	return m
}

func (m *metrics) pushed(o change.Outcome, size int, duration time.Duration) {
	switch {
	case o.Duplicate:
		m.pushes.WithLabelValues(resultDuplicate, "").Inc()
	case !o.IsTaken():
		m.pushes.WithLabelValues(resultRejected, o.Kind.Label()).Inc()
	case o.Kind == change.Unchecked:
		m.pushes.WithLabelValues(resultUnchecked, "").Inc()
	default:
		m.pushes.WithLabelValues(resultApplied, "").Inc()
	}
	m.duration.Observe(duration.Seconds())
	m.size.Observe(float64(size))
}
