package tunnelclient

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are those of all links of an agent.
type Metrics struct {
	sessions *prometheus.CounterVec
	failures *prometheus.CounterVec

	mu    sync.Mutex
	links []*Link // guarded by mu
}

var (
	connectedDesc = prometheus.NewDesc("relay_agent_connected", "Whether the agent has a session with the relay.", []string{"relay"}, nil)
	revokedDesc   = prometheus.NewDesc("relay_agent_revoked", "Whether the relay has said that the agent is revoked, and has not let it in since.", []string{"relay"}, nil)
	deniedDesc    = prometheus.NewDesc("relay_agent_targets_denied", "Targets that the relay does not list, since its policy does not let the agent serve them.", []string{"relay"}, nil)
	roundTripDesc = prometheus.NewDesc("relay_agent_relay_round_trip_seconds", "Round trip to the relay, as the last heartbeat measured it.", []string{"relay"}, nil)
)

// NewMetrics registers the metrics of links.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		sessions: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "relay_agent_sessions_total",
			Help: "Sessions that the agent opened.",
		}, []string{"relay"}),
		failures: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "relay_agent_session_failures_total",
			Help: "Attempts to open a session that failed.",
		}, []string{"relay"}),
	}
	reg.MustRegister(m)
	return m
}

// watch exports the state of a link; its address is configured, so that the label has no values that an outsider invents.
func (m *Metrics) watch(l *Link) {
	m.sessions.WithLabelValues(l.cfg.Address)
	m.failures.WithLabelValues(l.cfg.Address)
	m.mu.Lock()
	m.links = append(m.links, l)
	m.mu.Unlock()
}

func (m *Metrics) attached(relay string)     { m.sessions.WithLabelValues(relay).Inc() }
func (m *Metrics) attachFailed(relay string) { m.failures.WithLabelValues(relay).Inc() }

// Describe sends the descriptions of the metrics per relay.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- connectedDesc
	ch <- revokedDesc
	ch <- deniedDesc
	ch <- roundTripDesc
}

// Collect sends the state of every link.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		st := l.Status()
		ch <- prometheus.MustNewConstMetric(connectedDesc, prometheus.GaugeValue, one(st.Connected), st.Address)
		ch <- prometheus.MustNewConstMetric(revokedDesc, prometheus.GaugeValue, one(st.Revoked), st.Address)
		ch <- prometheus.MustNewConstMetric(deniedDesc, prometheus.GaugeValue, float64(st.Denied.Count), st.Address)
		if st.RoundTrip > 0 {
			ch <- prometheus.MustNewConstMetric(roundTripDesc, prometheus.GaugeValue, st.RoundTrip.Seconds(), st.Address)
		}
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
