package ingest_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/ingest"
	"pushrelay/internal/policy"
)

// policyOf returns a guard with so many rules, of which the last are about the agents of the benchmark.
func policyOf(b *testing.B, rules int) *policy.Guard {
	b.Helper()
	var text strings.Builder
	text.WriteString("agents:\n")
	for i := range rules - 1 {
		fmt.Fprintf(&text, "- {name: 'dc%04d-*', push: ['{job=~\"backup|report\"}', '{team=\"t%d\"}'], max_groups: %d}\n", i, i, 1000+i)
	}
	text.WriteString("- {name: 'site-*', push: ['{job=\"other\"}', '{job=~\"j|k\",instance=~\"i.*\"}']}\n")
	p, err := policy.Parse("policy.yml", []byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	guard := policy.NewGuard(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	guard.Set(p)
	return guard
}

// BenchmarkPolicy measures pushes of 50 series of 100 agents under a policy of 1,000 rules, the last of which is about them, beside the same pushes to
// the same relay without a policy; they take turns. It is what a relay does beside the tunnel and the disk, which are the same for both.
func BenchmarkPolicy(b *testing.B) {
	guard := policyOf(b, 1000)
	bench := newBench(b, ingest.Config{
		Limits: exposition.Limits{MaxSeries: 100_000, MaxLabels: 64, MaxLabelLength: 16 << 10}, AgentLabel: "agent",
		Permit: func(agent string, key grouping.Key) error {
			if refused := guard.Push(agent, key); refused != nil {
				return refused
			}
			return nil
		},
	}, groupstore.Config{AccountLabel: "agent", AccountLimits: func(name string) groupstore.AccountLimits {
		groups, rule := guard.Agent(name).Quota().Groups.Or(50_000)
		return groupstore.AccountLimits{Groups: groups, GroupsBy: rule}
	}})
	var agents []string
	for i := range 100 {
		agents = append(agents, fmt.Sprint("site-", i))
	}
	policies := []*policy.Policy{nil, guard.Policy()}
	bodies := [][]byte{text(50, 1), text(50, 2)}
	var took [2][]float64
	for turn := 0; b.Loop(); turn++ {
		for i := range policies {
			which := (turn + i) % 2 // each is first every other time
			guard.Set(policies[which])
			c := &change.Change{Operation: change.Replace, Key: key(b, "job", "j", "instance", "i"), At: noon}
			start := time.Now()
			for i := range 200 {
				c.Agent, c.Body = agents[i%len(agents)], bodies[i%2]
				if err := bench.ingester.Apply(b.Context(), c).Err(); err != nil {
					b.Fatal(err)
				}
			}
			took[which] = append(took[which], time.Since(start).Seconds())
		}
	}
	parts := make([]float64, len(took[0]))
	for i := range parts {
		parts[i] = took[1][i] / took[0][i]
	}
	slices.Sort(parts)
	slices.Sort(took[0])
	b.ReportMetric(100*parts[len(parts)/2], "%-of-none")
	b.ReportMetric(took[0][len(parts)/2]/200*1e6, "µs-none")
}
