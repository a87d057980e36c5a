package roster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/scrape"
)

type metrics struct {
	scrapes   *prometheus.CounterVec
	duration  prometheus.Histogram
	unsaved   prometheus.Counter
	contested prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *Registry) *metrics {
	reg.MustRegister(&collector{registry: r})
	return &metrics{
		unsaved: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "relay_agents_file_failures_total",
			Help: "Writes of the file of known agents that failed. What is lost at a restart is agents that were not known before.",
		}),
		scrapes: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "relay_scrapes_total",
			Help: "Scrapes of targets behind agents, by result: ok, bad_status if the target answered something else than 200, or the reason of the failure.",
		}, []string{"result"}),
		contested: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "relay_targets_contested_total",
			Help: "Targets that an agent announced with an instance or address that another agent had first: as a proxy, the relay asks that one, unless a request says _agent.",
		}),
		duration: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name:                            "relay_scrape_duration_seconds",
			Help:                            "Time from a scrape's arrival at the relay to the last byte of its body, of scrapes that reached an agent.",
			Buckets:                         []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}),
	}
}

// scraped counts a scrape; err is nil for one whose body came whole.
func (m *metrics) scraped(duration time.Duration, err *scrape.Error) {
	result := "ok"
	if err != nil {
		result = string(err.Reason)
	}
	m.scrapes.WithLabelValues(result).Inc()
	if duration > 0 {
		m.duration.Observe(duration.Seconds())
	}
}

// The metrics per known agent. Agents are certified, so that the label has no values that an outsider invents.
var (
	upDesc        = prometheus.NewDesc("relay_agent_up", "Whether the agent is connected to this relay.", []string{"agent"}, nil)
	lastSeenDesc  = prometheus.NewDesc("relay_agent_last_seen_timestamp_seconds", "When the agent was last heard, in seconds since the epoch.", []string{"agent"}, nil)
	roundTripDesc = prometheus.NewDesc("relay_agent_round_trip_seconds", "Round trip to the agent, as the last heartbeat measured it.", []string{"agent"}, nil)
	skewDesc      = prometheus.NewDesc("relay_agent_clock_skew_seconds", "How far the agent's clock is ahead of the relay's, as the last heartbeat measured it.", []string{"agent"}, nil)
	pendingDesc   = prometheus.NewDesc("relay_agent_spool_pending", "Changes of groups that wait at the agent for this relay.", []string{"agent"}, nil)
	conflictDesc  = prometheus.NewDesc("relay_agent_conflict", "Whether two processes with the identity of the agent take the session from each other.", []string{"agent"}, nil)
)

// collector exports what is known of each agent at the time of the scrape.
type collector struct {
	registry *Registry
}

// Describe sends the descriptions of all metrics per agent.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upDesc, lastSeenDesc, roundTripDesc, skewDesc, pendingDesc, conflictDesc} {
		ch <- d
	}
}

// Collect sends the metrics of every known agent. Of several relays that know the same agents each sends those of agents that have a session with it, and one
// sends those of agents that have none: or each agent would be there as often as there are relays.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, a := range c.registry.own() {
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, a.Name)
		}
		gauge(upDesc, one(a.Connected))
		gauge(conflictDesc, one(a.Conflict))
		gauge(lastSeenDesc, float64(a.LastSeen.UnixMilli())/1e3)
		gauge(pendingDesc, float64(a.SpoolPending))
		if a.RoundTrip != nil {
			gauge(roundTripDesc, a.RoundTrip.Seconds())
		}
		if a.ClockSkew != nil {
			gauge(skewDesc, a.ClockSkew.Seconds())
		}
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
