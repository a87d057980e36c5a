package replicated

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those of one copy.
type metrics struct {
	commits     prometheus.Histogram
	batchBytes  prometheus.Histogram
	batchOps    prometheus.Histogram
	termChanges prometheus.Counter
	rebuilds    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, k *Keep) *metrics {
	factory := promauto.With(reg)
	for _, gauge := range []struct {
		name, help string
		value      func() float64
	}{
		{"relay_cluster_leader", "Whether this relay leads the cluster: it decides what is pushed (1), or not (0).", func() float64 { return number(k.Leads()) }},
		{"relay_cluster_has_quorum", "Whether this relay hears a majority of the members of the cluster's etcd (1), or not (0).", func() float64 { return number(k.hearsQuorum()) }},
		{"relay_cluster_lag_seconds", "For how long this relay's copy of the store has lacked something that is committed; 0 if it lacks nothing.", func() float64 { return k.Lag().Seconds() }},
		{"relay_cluster_clock_ahead_seconds", "How far the cluster's clock, by which groups are late and expire, is ahead of this relay's.", func() float64 {
			return k.Clock().Sub(k.clock.wall()).Seconds()
		}},
	} {
		factory.NewGaugeFunc(prometheus.GaugeOpts{Name: gauge.name, Help: gauge.help}, gauge.value)
	}
	return &metrics{
		commits: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "relay_cluster_commit_duration_seconds", Help: "Time that a majority took for one batch of changes, while this relay led.",
			Buckets: prometheus.ExponentialBuckets(250e-6, 2, 16),
		}),
		batchBytes: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "relay_cluster_batch_bytes", Help: "Size of a batch of changes as it was written, while this relay led; without those that say nothing but that it does.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 9),
		}),
		batchOps: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "relay_cluster_batch_records", Help: "Records in a batch of changes, while this relay led; two for each group, at most.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
		termChanges: factory.NewCounter(prometheus.CounterOpts{
			Name: "relay_cluster_term_changes_total", Help: "How often this relay has seen another leader of the cluster, or the same one begin anew.",
		}),
		rebuilds: factory.NewCounter(prometheus.CounterOpts{
			Name: "relay_cluster_rebuilds_total", Help: "How often this relay has read the whole store of the cluster again, since its copy could not go on from where it was.",
		}),
	}
}

// committed notes a batch of changes. One of none is a beat.
func (m *metrics) committed(took time.Duration, records, bytes int) {
	if records == 0 {
		return
	}
	m.commits.Observe(took.Seconds())
	m.batchBytes.Observe(float64(bytes))
	m.batchOps.Observe(float64(records))
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
