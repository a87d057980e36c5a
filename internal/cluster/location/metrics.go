package location

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	registered, displaced, failed prometheus.Counter
	unwritten                     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, l *Location) *metrics {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_cluster_sessions_unregistered",
		Help: "Sessions of agents with this relay that the other relays do not know of yet, because no majority of the cluster has answered.",
	}, l.unregistered)
	registrations := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "relay_cluster_registrations_total",
		Help: "Attempts to have all relays know of a session, by result: registered, displaced if another process of the agent has one that is newer, or failed, after which it is tried again.",
	}, []string{"result"})
	return &metrics{
		registered: registrations.WithLabelValues("registered"), displaced: registrations.WithLabelValues("displaced"), failed: registrations.WithLabelValues("failed"),
		unwritten: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "relay_cluster_agents_write_failures_total",
			Help: "Attempts to have all relays know what is known here of agents that failed. They are made again.",
		}),
	}
}

// unregistered counts the sessions that are not registered.
func (l *Location) unregistered() float64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n := 0
	for _, s := range l.local {
		if s.epoch == 0 {
			n++
		}
	}
	return float64(n)
}
