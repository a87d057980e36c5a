package groupstore_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/selector"
)

// BenchmarkSelect measures scrapes of 100,000 groups of ten lines: of all of them, and of one in a hundred by selectors. They take turns, so
// that what else the machine does falls on all of them; what counts are the medians of the part that each takes of a whole scrape.
func BenchmarkSelect(b *testing.B) {
	if testing.Short() {
		b.Skip("makes 100,000 groups")
	}
	s := groupstore.New(groupstore.Config{})
	body := benchBody(b, 10, 31, false)
	for i := range 100_000 {
		k := key(b, "job", "batch", "instance", fmt.Sprintf("host-%06d.example.com:9091", i), "team", fmt.Sprintf("team-%02d", i%100))
		if _, err := apply(b.Context(), s, pushing{Operation: put, Key: k, Body: body, At: noon}); err != nil {
			b.Fatal(err)
		}
	}
	selectors := []struct{ name, text string }{
		{"equal", `{team="team-07"}`},
		{"list", `{team=~"team-07|other"}`},
		{"regexp", `{team=~"team-0[7]"}`},
		{"three", `{job="batch",instance=~"host-.*",team="team-07"}`},
		{"none", `{team="none"}`},
	}
	parts := map[string][]float64{}
	for b.Loop() {
		whole := scrapeTime(b, s.Snapshot)
		for _, tt := range selectors {
			took := scrapeTime(b, func() *groupstore.View {
				chosen, err := selector.Parse([]string{tt.text})
				if err != nil {
					b.Fatal(err)
				}
				view, err := s.Select(b.Context(), func(g groupstore.Group) bool { return chosen.Matches(g.Key()) })
				if err != nil {
					b.Fatal(err)
				}
				return view
			})
			parts[tt.name] = append(parts[tt.name], took.Seconds()/whole.Seconds())
		}
		parts["whole"] = append(parts["whole"], whole.Seconds())
	}
	for name, all := range parts {
		slices.Sort(all)
		if median := all[len(all)/2]; name == "whole" {
			b.ReportMetric(median*1000, "ms-whole")
		} else {
			b.ReportMetric(median*100, "%-"+name)
		}
	}
}

func scrapeTime(b *testing.B, view func() *groupstore.View) time.Duration {
	b.Helper()
	start := time.Now()
	if err := view().Write(&counter{}, groupstore.Form{Format: exposition.Text004}, nil); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}
