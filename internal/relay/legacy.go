package relay

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
	"pushrelay/internal/push"
)

// The Pushgateway's own metrics, which dashboards and alerts use (S17).
const (
	legacyProgram      = "pushgateway"
	legacyRequests     = "pushgateway_http_requests_total"
	legacyPushSize     = "pushgateway_http_push_size_bytes"
	legacyPushDuration = "pushgateway_http_push_duration_seconds"
)

// legacyFamilies are those that have no series before the first request, and which the store therefore cannot find by
// gathering: a push of such a name would otherwise be taken first and contradict the metric of ours that comes later.
var legacyFamilies = []groupstore.OwnFamily{
	{Name: legacyRequests, Type: metric.Counter},
	{Name: legacyPushSize, Type: metric.Summary},
	{Name: legacyPushDuration, Type: metric.Summary},
}

// uncounted is the instrument of a relay without legacy metrics.
func uncounted(_ string, h http.HandlerFunc) http.HandlerFunc { return h }

// newLegacyInstrument registers the Pushgateway's own metrics and returns what counts for them.
func newLegacyInstrument(reg prometheus.Registerer) push.Instrument {
	reg.MustRegister(versioncollector.NewCollector(legacyProgram))
	factory := promauto.With(reg)
	requests := factory.NewCounterVec(prometheus.CounterOpts{
		Name: legacyRequests,
		Help: "HTTP requests by handler, as a Pushgateway counts them: without scrapes and unknown paths.",
	}, []string{"handler", "code", "method"})
	objectives := map[float64]float64{0.1: 0.01, 0.5: 0.05, 0.9: 0.01}
	size := factory.NewSummaryVec(prometheus.SummaryOpts{
		Name: legacyPushSize, Objectives: objectives,
		Help: "Size of the HTTP requests of pushes, headers included.",
	}, []string{"method"})
	duration := factory.NewSummaryVec(prometheus.SummaryOpts{
		Name: legacyPushDuration, Objectives: objectives,
		Help: "Time to answer the HTTP requests of pushes.",
	}, []string{"method"})

	return func(name string, h http.HandlerFunc) http.HandlerFunc {
		counted := promhttp.InstrumentHandlerCounter(requests.MustCurryWith(prometheus.Labels{"handler": name}), h)
		if name != "push" {
			return counted
		}
		return promhttp.InstrumentHandlerRequestSize(size, promhttp.InstrumentHandlerDuration(duration, counted))
	}
}
