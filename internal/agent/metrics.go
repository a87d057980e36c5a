package agent

import (
	"context"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/change"
	"pushrelay/internal/push"
)

type reloadMetrics struct {
	successful, at prometheus.Gauge
}

func (a *Agent) registerMetrics() {
	a.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("relay_agent"),
	)
	promauto.With(a.registry).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_agent_certificate_not_after_seconds",
		Help: "When the certificate that the agent shows to relays expires, in seconds since the epoch; of several the first.",
	}, func() float64 {
		first := a.credentials[0].certificates.NotAfter()
		for _, c := range a.credentials[1:] {
			if end := c.certificates.NotAfter(); end.Before(first) {
				first = end
			}
		}
		return float64(first.Unix())
	})
	for _, c := range a.credentials {
		if c.keeper == nil {
			continue
		}
		promauto.With(a.registry).NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "relay_agent_identity_not_after_seconds",
			Help:        "When the certificate of an identity of the agent expires, in seconds since the epoch, by the fingerprint of the authority that it enrolled at.",
			ConstLabels: prometheus.Labels{"authority": c.keeper.Status().Authority.String()},
		}, func() float64 { return float64(c.certificates.NotAfter().Unix()) })
		promauto.With(a.registry).NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "relay_agent_identity_renewal_due_seconds",
			Help:        "From when on the certificate of an identity of the agent is renewed, in seconds since the epoch.",
			ConstLabels: prometheus.Labels{"authority": c.keeper.Status().Authority.String()},
		}, func() float64 { return float64(c.keeper.Status().Due.Unix()) })
	}
	a.reloads = &reloadMetrics{
		successful: promauto.With(a.registry).NewGauge(prometheus.GaugeOpts{
			Name: "relay_agent_config_last_reload_successful",
			Help: "Whether the configuration file could be put to use when it was last read.",
		}),
		at: promauto.With(a.registry).NewGauge(prometheus.GaugeOpts{
			Name: "relay_agent_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration file was last put to use, in seconds since the epoch.",
		}),
	}
}

// countingApplier counts pushes by result.
type countingApplier struct {
	applier push.Applier
	metrics *prometheus.CounterVec
}

func newPushMetrics(reg prometheus.Registerer) *prometheus.CounterVec {
	return promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "relay_agent_pushes_total",
		Help: "Pushes that arrived at the agent, by HTTP status class of the answer.",
	}, []string{"code"})
}

// Apply counts the push when its fate is known.
func (a *countingApplier) Apply(ctx context.Context, c *change.Change) change.Outcome {
	o := a.applier.Apply(ctx, c)
	status := http.StatusOK
	if !o.IsTaken() {
		status = o.Kind.Status()
	}
	a.metrics.WithLabelValues(strconv.Itoa(status)).Inc()
	return o
}
