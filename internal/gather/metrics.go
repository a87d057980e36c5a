package gather

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	duration     *prometheus.HistogramVec
	gatherErrors prometheus.Counter
}

// The results of a scrape of the exposition as metric labels.
const (
	resultComplete = "complete"
	resultAborted  = "aborted"
	resultBusy     = "busy"
	resultBehind   = "behind"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duration: promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "relay_exposition_duration_seconds",
			Help:                            "Time to answer a scrape of the relay's own exposition, waiting included, by result: complete, aborted, busy or behind (the copy of a cluster's store).",
			Buckets:                         []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"result"}),
		gatherErrors: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "relay_gather_errors_total",
			Help: "Scrapes in which some of the relay's own metrics could not be gathered.",
		}),
	}
	for _, result := range []string{resultComplete, resultAborted, resultBusy, resultBehind} {
		m.duration.WithLabelValues(result)
	}
	return m
}

func (m *metrics) observe(result string, d time.Duration) {
	m.duration.WithLabelValues(result).Observe(d.Seconds())
}
