package spool

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those of one spool.
type metrics struct {
	sent, resets, putBack, lost, superseded, full, snapshotFailures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Spool) *metrics {
	factory := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return factory.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		sent:             counter("relay_agent_changes_sent_total", "Changes of groups that a relay has decided, each counted once per relay: applied there plus rejected there."),
		resets:           counter("relay_agent_journal_resets_total", "How often the journal began anew, because the data dir turned out to be a copy."),
		putBack:          counter("relay_agent_stores_put_back_total", "How often the store of a relay was found to be put back to an older copy of itself; it got all groups and deletions anew."),
		superseded:       counter("relay_agent_superseded_total", "Pushes and deletions that waited, and that a relay rejected because a newer one of the same agent's identity had taken effect since."),
		lost:             counter("relay_agent_late_rejections_total", "Pushes that a relay rejected after they had been answered 202; what they replaced is lost."),
		full:             counter("relay_agent_spool_full_total", "Pushes that were answered 503 because the spool was full."),
		snapshotFailures: counter("relay_agent_spool_snapshot_failures_total", "Snapshots of the spool that could not be written."),
	}
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_agent_spool_losses",
		Help: "Losses of the spool, certain or possible, that nobody has taken note of (relay-agent acknowledge-loss).",
	}, func() float64 { return float64(len(s.Losses())) })
	gauge := func(name, help string, value func(Status) float64) {
		factory.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(s.Status()) })
	}
	gauge("relay_agent_spool_bytes", "What the spool holds: all that waits, and the newest content of each group.", func(st Status) float64 { return float64(st.Bytes) })
	gauge("relay_agent_spool_limit_bytes", "What the spool may hold (--spool.max-bytes); 0 means no limit.", func(st Status) float64 { return float64(st.MaxBytes) })
	gauge("relay_agent_spool_entries", "Changes that some relay has still to decide.", func(st Status) float64 { return float64(st.Entries) })
	gauge("relay_agent_store_copies", "Relays with a session that run on a copy of the store of another relay with a session; they get no pushes.", func(st Status) float64 { return float64(st.Copies) })
	gauge("relay_agent_spool_groups", "Groups that the spool knows.", func(st Status) float64 { return float64(st.Groups) })
	gauge("relay_agent_spool_oldest_seconds", "Age of the oldest change that some relay has still to decide; 0 if there is none.", func(st Status) float64 {
		if st.Oldest.IsZero() {
			return 0
		}
		return max(0, time.Since(st.Oldest).Seconds())
	})
	gauge("relay_agent_spool_writable", "Whether the spool can be written. If not, pushes are answered 503.", func(st Status) float64 {
		if st.Failure != nil {
			return 0
		}
		return 1
	})
	return m
}
