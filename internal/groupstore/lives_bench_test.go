package groupstore_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/selector"
)

// BenchmarkScrapeOfLives measures scrapes of 100,000 groups of ten lines under several regimes. They take turns, so that what else the machine does
// falls on all of them; what counts are the medians of the part that each takes of a scrape without rules. Where all groups have a life they have
// one line more each, or three: that is to be seen beside groups without rules to which so many lines more are pushed.
func BenchmarkScrapeOfLives(b *testing.B) {
	if testing.Short() {
		b.Skip("makes 400,000 groups")
	}
	now := noon
	fill := func(more string) *groupstore.Store {
		s := groupstore.New(groupstore.Config{Now: func() time.Time { return now }})
		body := bodyOf(parse(b, benchText(10, 31, false)+more)...)
		for i := range 100_000 {
			k := key(b, "job", "batch", "instance", fmt.Sprintf("host-%06d.example.com:9091", i), "team", fmt.Sprintf("team-%02d", i%100))
			if _, err := apply(b.Context(), s, pushing{Operation: put, Key: k, Body: body, At: noon}); err != nil {
				b.Fatal(err)
			}
		}
		return s
	}
	const due, expiry, up = "# TYPE a_due gauge\na_due 1.7000003e+09\n", "# TYPE a_expiry gauge\na_expiry 1.7000003e+09\n", "# TYPE an_up gauge\nan_up 1\n"
	s, one, three := fill(""), fill(expiry), fill(due+expiry+up)
	rule := func(match string, texts lifetime.Texts) lifetime.Rule {
		chosen, err := selector.Parse([]string{match})
		if err != nil {
			b.Fatal(err)
		}
		return lifetime.Rule{Match: chosen, Declaration: declared(b, texts)}
	}
	regimes := []struct {
		name  string
		rules []lifetime.Rule
	}{
		{"none", nil},
		{"others", []lifetime.Rule{rule(`{job="other"}`, lifetime.Texts{TTL: "1h"})}},
		{"ttl", []lifetime.Rule{rule(`{job="batch"}`, lifetime.Texts{TTL: "1h"})}},
		{"schedule", []lifetime.Rule{rule(`{job="batch"}`, lifetime.Texts{TTL: "3d", Schedule: "15 3 * * *", Grace: "1h"})}},
		{"expired", []lifetime.Rule{rule(`{team=~"team-.7"}`, lifetime.Texts{TTL: "1s"})}},
	}
	parts := map[string][]float64{}
	for b.Loop() {
		var plain time.Duration
		note := func(name string, s *groupstore.Store) {
			runtime.GC()
			took := scrapeTime(b, s.Snapshot)
			if plain == 0 {
				plain = took
			}
			parts[name] = append(parts[name], took.Seconds()/plain.Seconds())
		}
		for _, r := range regimes {
			now = noon.Add(time.Minute)
			s.SetRegime(lifetime.Regime{Rules: r.rules})
			note(r.name, s)
		}
		note("one-more", one)
		note("three-more", three)
	}
	for name, all := range parts {
		slices.Sort(all)
		b.ReportMetric(all[len(all)/2]*100, "%-"+name)
	}
}
