package lifecycle

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	removed, massExpiries prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	with := promauto.With(reg)
	return &metrics{
		removed: with.NewCounter(prometheus.CounterOpts{
			Name: "relay_groups_expired_total",
			Help: "Groups of which what had expired was removed, at least an hour after it was hidden.",
		}),
		massExpiries: with.NewCounter(prometheus.CounterOpts{
			Name: "relay_mass_expiries_total",
			Help: "Reloads of the push rules by which more than a tenth of all groups expired at once.",
		}),
	}
}
