package control

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/ledger"
)

type metrics struct {
	issued *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, l *ledger.Ledger) *metrics {
	m := &metrics{issued: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "relay_certificates_issued_total",
		Help: "Certificates of agents that were issued and noted by the running relay, by how: command, token or renewal.",
	}, []string{"by"})}
	for _, by := range ledger.Ways() {
		m.issued.WithLabelValues(string(by))
	}
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_agents_revoked",
		Help: "Agents that are thrown out: their names are revoked, and they have got no certificate since that is good.",
	}, func() float64 { return float64(l.Revoked()) })
	return m
}
