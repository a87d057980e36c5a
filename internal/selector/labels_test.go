package selector_test

import (
	"testing"

	"pushrelay/internal/selector"
)

// TestMatchesLabels: also of what is no group, and has no job.
func TestMatchesLabels(t *testing.T) {
	labels := map[string]string{"agent": "site-a", "team": "web"}
	valueOf := func(name string) string { return labels[name] }
	for texts, want := range map[[2]string]bool{
		{`{agent="site-a"}`, `{agent="x"}`}:        true,
		{`{agent="x"}`, `{team=~"w.*"}`}:           true,
		{`{agent="site-a",job="node"}`, `{a="b"}`}: false,
		{`{job=""}`, `{a="b"}`}:                    true,
		{`{job!="node"}`, `{a="b"}`}:               true,
		{`{team!~"web|db"}`, `{a="b"}`}:            false,
	} {
		s, err := selector.Parse(texts[:])
		if err != nil {
			t.Fatal(err)
		}
		if got := s.MatchesLabels(valueOf); got != want {
			t.Errorf("%q match: %v, want %v", texts, got, want)
		}
	}
	if new(selector.Selector).MatchesLabels(valueOf) {
		t.Error("no selector matches")
	}
}
