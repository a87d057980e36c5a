package relay

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
)

// ownPrefix begins the names that nobody else may push (S17).
const ownPrefix = "relay_"

// newTelemetry returns the registry of the relay's own metrics, with those that concern no part of it.
func newTelemetry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("relay"),
	)
	return reg
}

// registerStoreMetrics registers those of the store, with what it may hold, so that a rule sees a limit coming.
func registerStoreMetrics(reg prometheus.Registerer, store *groupstore.Store, limits quotaLimits, failure func() error) {
	for _, gauge := range []struct {
		name, help string
		value      func(groupstore.Stats) float64
	}{
		{"relay_store_groups", "Groups in the store.", func(s groupstore.Stats) float64 { return float64(s.Groups) }},
		{"relay_store_series", "Series of all groups, in exposition lines.", func(s groupstore.Stats) float64 { return float64(s.Series) }},
		{"relay_store_tombstones", "Groups that were deleted and whose marks of agents' changes are kept until the agents have passed them.", func(s groupstore.Stats) float64 { return float64(s.Traces) }},
		{"relay_store_bytes", "Memory that the groups, and what is left of deleted ones, take, by the store's own account.", func(s groupstore.Stats) float64 { return float64(s.Bytes) }},
		{"relay_quarantined_families", "Metric families of groups that are kept but not exposed, because they do not fit.", func(s groupstore.Stats) float64 { return float64(s.Quarantined) }},
		{"relay_store_limit_groups", "Groups that the store may have (--store.max-groups); 0 means no limit.", func(groupstore.Stats) float64 { return float64(limits.groups) }},
		{"relay_store_limit_series", "Series that the store may have (--store.max-series); 0 means no limit.", func(groupstore.Stats) float64 { return float64(limits.series) }},
	} {
		promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: gauge.name, Help: gauge.help}, func() float64 { return gauge.value(store.Stats()) })
	}
	reg.MustRegister(stateCollector{store})
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_store_writable",
		Help: "Whether the store takes changes: 0 while its log cannot be written.",
	}, func() float64 {
		if failure() != nil {
			return 0
		}
		return 1
	})
}

// A stateCollector exposes how many groups there are in each state.
type stateCollector struct{ store *groupstore.Store }

var groupsByState = prometheus.NewDesc("relay_groups", "Groups by their state, at the last scrape of all groups: ok, away (its agent is gone, and it is not exposed), late, failed (the last push was rejected, or was that of a job that failed), expired.", []string{"state"}, nil)

// Describe implements prometheus.Collector.
func (c stateCollector) Describe(ch chan<- *prometheus.Desc) { ch <- groupsByState }

// Collect implements prometheus.Collector.
func (c stateCollector) Collect(ch chan<- prometheus.Metric) {
	counts := c.store.StateCounts()
	for state, n := range counts.All() {
		ch <- prometheus.MustNewConstMetric(groupsByState, prometheus.GaugeValue, float64(n), state.String())
	}
}

func newExportFailures(reg prometheus.Registerer) prometheus.Counter {
	return promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "relay_pushgateway_file_failures_total",
		Help: "Writes of the Pushgateway's file (--persistence.file) that failed; the store itself is not concerned.",
	})
}

// toldFamilies are the own families that agents are told of, so that they refuse a push of another type as this relay does (T14): of the others
// all know by their names, and without the check none are refused.
func (s *Server) toldFamilies() map[string]metric.Type {
	if s.opts.DisableConsistencyCheck {
		return nil
	}
	told := map[string]metric.Type{}
	for _, f := range s.ownFamilies {
		if !strings.HasPrefix(f.Name, ownPrefix) {
			told[f.Name] = f.Type
		}
	}
	return told
}

// ownFamilies lists the families that anybody might push as well: those that are there, and others that come later. Those that begin with relay_ nobody may push at all
// (S17), so that it does not matter which of them exist yet.
func ownFamilies(reg prometheus.Gatherer, later []groupstore.OwnFamily) ([]groupstore.OwnFamily, error) {
	families, err := reg.Gather()
	if err != nil {
		return nil, fmt.Errorf("listing the relay's own metrics: %w", err)
	}
	own := slices.Grow(slices.Clone(later), len(families))
	for _, f := range families {
		t, _ := metric.OfProto(f.GetType())
		own = append(own, groupstore.OwnFamily{Name: f.GetName(), Type: t})
	}
	return own, nil
}
