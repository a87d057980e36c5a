package renewal

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolclient"
)

// The results of attempts, beside the reasons of relays.
const (
	resultRenewed  = "renewed"
	resultLate     = "renewed_late"
	resultEnrolled = "enrolled"
	resultFailed   = "failed"
)

// Metrics are those of all keepers of an agent.
type Metrics struct{ renewals *prometheus.CounterVec }

// NewMetrics registers the metrics of renewals.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "relay_agent_certificate_renewals_total",
		Help: "Attempts to renew a certificate of the agent, by result.",
	}, []string{"result"})}
	for _, result := range []string{resultRenewed, resultLate, resultEnrolled, resultFailed} {
		m.renewals.WithLabelValues(result)
	}
	for _, reason := range enrol.Reasons() {
		m.renewals.WithLabelValues(string(reason))
	}
	return m
}

// resultOf returns the result of an attempt that failed.
func resultOf(err error) string {
	if refusal, ok := errors.AsType[*enrol.Refusal](err); ok {
		return string(refusal.Reason)
	}
	failed, ok := errors.AsType[*enrolclient.Error](err)
	switch {
	case ok && failed.Reason != "":
		return string(failed.Reason)
	case ok && failed.Later:
		return string(enrol.ReasonLater)
	default:
		return resultFailed
	}
}
