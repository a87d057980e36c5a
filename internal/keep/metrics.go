package keep

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/wal"
)

// metrics are those of one log.
type metrics struct {
	syncs            prometheus.Histogram
	snapshotFailures prometheus.Counter
	snapshotAt       atomic.Int64 // nanoseconds since the epoch; 0 for none since the start
}

func newMetrics(reg prometheus.Registerer, d *Disk) *metrics {
	factory := promauto.With(reg)
	m := &metrics{
		syncs: factory.NewHistogram(prometheus.HistogramOpts{
			Name:    "relay_store_log_sync_duration_seconds",
			Help:    "Time to make one batch of the store's log durable.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16),
		}),
		snapshotFailures: factory.NewCounter(prometheus.CounterOpts{
			Name: "relay_store_snapshot_failures_total",
			Help: "Snapshots of the store that could not be written.",
		}),
	}
	for _, gauge := range []struct {
		name, help string
		value      func(wal.Status) float64
	}{
		{"relay_store_log_segments", "Segments of the store's log.", func(s wal.Status) float64 { return float64(s.Segments) }},
		{"relay_store_log_bytes", "Size of the store's log on disk, without its snapshot.", func(s wal.Status) float64 { return float64(s.LogBytes) }},
		{"relay_store_snapshot_bytes", "Size of the store's snapshot on disk; 0 if there is none.", func(s wal.Status) float64 { return float64(s.SnapshotBytes) }},
		{"relay_store_log_queued_bytes", "Changes of the store that wait for the disk.", func(s wal.Status) float64 { return float64(s.QueuedBytes) }},
	} {
		factory.NewGaugeFunc(prometheus.GaugeOpts{Name: gauge.name, Help: gauge.help}, func() float64 {
			w := d.wal.Load()
			if w == nil {
				return 0
			}
			return gauge.value(w.Status())
		})
	}
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_store_losses",
		Help: "Losses of the store, certain or possible, that nobody has taken note of (relay-server acknowledge-loss).",
	}, func() float64 { return float64(len(d.Losses())) })
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_store_snapshot_timestamp_seconds",
		Help: "When the last snapshot of the store since the start was written; 0 if none was.",
	}, func() float64 { return float64(m.snapshotAt.Load()) / 1e9 })
	return m
}

func (m *metrics) synced(d time.Duration) { m.syncs.Observe(d.Seconds()) }

func (m *metrics) snapshotDone(at time.Time) { m.snapshotAt.Store(at.UnixNano()) }
