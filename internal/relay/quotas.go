package relay

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/roster"
)

const (
	// quotaLook is how often it is seen how much agents hold.
	quotaLook = time.Minute
	// quotaWarning is the part of a limit from which on an agent is warned of.
	quotaWarning = 0.8
)

// quotaLimits are what one agent, or the whole store, may have; 0 is no limit.
type quotaLimits struct{ groups, series int }

// quotas tells how much each known agent holds of what it may: as metrics, and in the log when that becomes much. It is the store that
// applies the limits.
type quotas struct {
	// Static.
	agents   func() []roster.Agent
	accounts accounts
	limits   quotaLimits                                 // unless a rule says otherwise
	limitsOf func(agent string) groupstore.AccountLimits // those that hold
	logger   *slog.Logger

	warned map[string]bool // owned by Run; the agents that were warned of
}

// accounts is what the quotas need of groupstore.Store.
type accounts interface {
	Account(name string) (groups, series int)
}

func newQuotas(known func() []roster.Agent, held accounts, limits quotaLimits, limitsOf func(agent string) groupstore.AccountLimits, logger *slog.Logger) *quotas {
	return &quotas{agents: known, accounts: held, limits: limits, limitsOf: limitsOf, logger: logger, warned: map[string]bool{}}
}

var (
	agentGroupsDesc = prometheus.NewDesc("relay_agent_groups", "Groups of the agent in the store.", []string{"agent"}, nil)
	agentSeriesDesc = prometheus.NewDesc("relay_agent_series", "Series of the agent's groups in the store, also of families that are not exposed.", []string{"agent"}, nil)
	ownGroupsDesc   = prometheus.NewDesc("relay_agent_limit_groups", "Groups that the agent may have, where a rule of the policy file says so (max_groups); 0 means no limit.", []string{"agent"}, nil)
	ownSeriesDesc   = prometheus.NewDesc("relay_agent_limit_series", "Series that the agent's groups may have, where a rule of the policy file says so (max_series); 0 means no limit.", []string{"agent"}, nil)
	maxGroupsDesc   = prometheus.NewDesc("relay_agents_limit_groups", "Groups that one agent may have (--agents.max-groups); 0 means no limit.", nil, nil)
	maxSeriesDesc   = prometheus.NewDesc("relay_agents_limit_series", "Series that the groups of one agent may have (--agents.max-series); 0 means no limit.", nil, nil)
)

// Describe sends the descriptions of the metrics.
func (q *quotas) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{agentGroupsDesc, agentSeriesDesc, ownGroupsDesc, ownSeriesDesc, maxGroupsDesc, maxSeriesDesc} {
		ch <- d
	}
}

// Collect sends what every known agent holds.
func (q *quotas) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(maxGroupsDesc, prometheus.GaugeValue, float64(q.limits.groups))
	ch <- prometheus.MustNewConstMetric(maxSeriesDesc, prometheus.GaugeValue, float64(q.limits.series))
	for _, a := range q.agents() {
		groups, series := q.accounts.Account(a.Name)
		ch <- prometheus.MustNewConstMetric(agentGroupsDesc, prometheus.GaugeValue, float64(groups), a.Name)
		ch <- prometheus.MustNewConstMetric(agentSeriesDesc, prometheus.GaugeValue, float64(series), a.Name)
		limits := q.limitsOf(a.Name)
		if limits.GroupsBy != groupstore.GroupsFlag {
			ch <- prometheus.MustNewConstMetric(ownGroupsDesc, prometheus.GaugeValue, float64(limits.Groups), a.Name)
		}
		if limits.SeriesBy != groupstore.SeriesFlag {
			ch <- prometheus.MustNewConstMetric(ownSeriesDesc, prometheus.GaugeValue, float64(limits.Series), a.Name)
		}
	}
}

// Run warns of agents that hold much, once each time that they come to do so, until ctx ends.
func (q *quotas) Run(ctx context.Context) error {
	look := time.NewTicker(quotaLook)
	defer look.Stop()
	for {
		q.look()
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

func (q *quotas) look() {
	warned := map[string]bool{}
	for _, a := range q.agents() {
		groups, series := q.accounts.Account(a.Name)
		limits := q.limitsOf(a.Name)
		much := isMuch(groups, limits.Groups) || isMuch(series, limits.Series)
		if much && !q.warned[a.Name] {
			q.logger.Warn("an agent has nearly all that it may have, or more: what would be too much comes later, and what it has stays",
				slog.String("agent", a.Name), slog.Int("groups", groups), slog.Int("max_groups", limits.Groups),
				slog.Int("series", series), slog.Int("max_series", limits.Series))
		}
		if much {
			warned[a.Name] = true
		}
	}
	q.warned = warned
}

func isMuch(held, limit int) bool { return limit > 0 && float64(held) >= quotaWarning*float64(limit) }
