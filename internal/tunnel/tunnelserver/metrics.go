package tunnelserver

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/change"
	"pushrelay/internal/mtls"
)

type metrics struct {
	refused *prometheus.CounterVec
	// attachesRefused counts those of agents that are too many, or come too often.
	attachesRefused prometheus.Counter
	ends            *prometheus.CounterVec
	changes         *prometheus.CounterVec
	copies          prometheus.Gauge
	// of targets that agents announce
	refusedSets, clamped prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, certificates *mtls.Reloader) *metrics {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_certificate_not_after_seconds",
		Help: "When the certificate that the relay shows to agents expires, in seconds since the epoch.",
	}, func() float64 { return float64(certificates.NotAfter().Unix()) })
	m := &metrics{
		refused: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "relay_handshakes_refused_total",
			Help: "Connections to the agents' port that were refused in the TLS handshake, by reason; those of health checks are no_certificate, tls_version or broken_off.",
		}, []string{"reason"}),
		attachesRefused: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "relay_attaches_refused_total",
			Help: "Connections and attempts to open a session that were refused because the agent has too many, or comes too often.",
		}),
		ends: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "relay_sessions_ended_total",
			Help: "Sessions of agents that ended, by reason.",
		}, []string{"reason"}),
		changes: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "relay_changes_total",
			Help: "Changes of groups that agents sent, by verdict (applied, duplicate, rejected, later): applied and rejected together are the changes that took effect or never will.",
		}, []string{"result"}),
	}
	m.copies = promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "relay_store_copies_seen",
		Help: "Sessions whose agent sees another relay that runs on a copy of this relay's store: what is pushed to one of the two is not at the other.",
	})
	for _, fault := range mtls.Faults() {
		m.refused.WithLabelValues(string(fault))
	}
	m.refusedSets = promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "relay_target_sets_refused_total",
		Help: "Sets of targets that agents announced and that passed a bound or had something wrong in them; the earlier ones stay.",
	})
	m.clamped = promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "relay_target_times_clamped_total",
		Help: "Targets that agents announced with a scrape interval or timeout out of bounds, which the relay brought within them.",
	})
	for _, result := range []string{resultApplied, resultDuplicate, resultRejected, resultLater} {
		m.changes.WithLabelValues(result)
	}
	return m
}

// The results of a change as metric labels.
const (
	resultApplied   = "applied"
	resultDuplicate = "duplicate"
	resultRejected  = "rejected"
	resultLater     = "later"
)

// copySeen takes what an agent said of a copy before, and says now; empty for none.
func (m *metrics) copySeen(before, now string) {
	if before != "" {
		m.copies.Dec()
	}
	if now != "" {
		m.copies.Inc()
	}
}

func (m *metrics) ended(end *sessionEnd) { m.ends.WithLabelValues(end.name()).Inc() }

// decided counts a verdict, whether or not it reaches the agent. Of a change that was decided before it is the second.
func (m *metrics) decided(o change.Outcome) {
	result := resultApplied
	switch {
	case o.Duplicate:
		result = resultDuplicate
	case !o.IsFinal():
		result = resultLater
	case !o.IsTaken():
		result = resultRejected
	}
	m.changes.WithLabelValues(result).Inc()
}
