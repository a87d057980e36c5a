package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/push"
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

// reasons are the kinds of refusal as metric labels: the one place where they are.
var reasons = []struct {
	kind  error
	label string
}{
	{push.ErrInvalid, "invalid"},
	{push.ErrInconsistent, "inconsistent"},
	{push.ErrForbidden, "forbidden"},
	{push.ErrTooLarge, "too_large"},
	{push.ErrSuperseded, "superseded"},
	{push.ErrFull, "full"},
	{context.DeadlineExceeded, "timeout"},
	{context.Canceled, "canceled"},
	{push.ErrUnavailable, "unavailable"},
}

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
	for _, r := range reasons {
		m.pushes.WithLabelValues(resultRejected, r.label)
	}
	return m
}

func (m *metrics) pushed(result push.Result, err error, size int, duration time.Duration) {
	switch {
	case result.Duplicate:
		m.pushes.WithLabelValues(resultDuplicate, "").Inc()
	case err != nil:
		m.pushes.WithLabelValues(resultRejected, reasonOf(err)).Inc()
	case result.Outcome == push.Unchecked:
		m.pushes.WithLabelValues(resultUnchecked, "").Inc()
	default:
		m.pushes.WithLabelValues(resultApplied, "").Inc()
	}
	m.duration.Observe(duration.Seconds())
	m.size.Observe(float64(size))
}

func reasonOf(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.kind) {
			return r.label
		}
	}
	return "unavailable"
}
