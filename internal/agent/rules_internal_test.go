package agent

import (
	"context"
	"testing"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
)

type lastChange struct{ last *change.Change }

func (l *lastChange) Apply(_ context.Context, c *change.Change) change.Outcome {
	l.last = c
	return change.Outcome{Kind: change.Spooled}
}

// job matches groups of one job.
type job string

func (j job) String() string { return string(j) }

func (j job) Matches(key grouping.Key) bool { return key.Job() == string(j) }

// TestPushRules: pushes of jobs are added up by the rules that hold when they come, and what is asked for stays (L11).
func TestPushRules(t *testing.T) {
	key := func(name string) grouping.Key {
		k, err := grouping.New(grouping.Label{Name: "job", Value: name})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	var rules pushRules
	spooled := &lastChange{}
	a := &addingApplier{applier: spooled, rules: &rules}
	want := func(job string, op, becomes change.Operation, gauges addup.Gauges) {
		t.Helper()
		c := &change.Change{Operation: op, Key: key(job)}
		if o := a.Apply(t.Context(), c); o.Kind != change.Spooled || spooled.last.Operation != becomes || spooled.last.Gauges != gauges {
			t.Errorf("%v to %s: %v with %v, want %v with %v", op, job, spooled.last.Operation, spooled.last.Gauges, becomes, gauges)
		}
	}
	want("j", change.Merge, change.Merge, addup.Last)
	rules.set([]lifetime.Rule{
		{Match: job("none"), Adding: &addup.Rule{None: true}},
		{Match: job("j"), Adding: &addup.Rule{Gauges: addup.Sum}},
	})
	want("j", change.Merge, change.Add, addup.Sum)
	want("j", change.Replace, change.Replace, addup.Last)
	want("j", change.Delete, change.Delete, addup.Last)
	want("none", change.Merge, change.Merge, addup.Last)
	want("none", change.Add, change.Add, addup.Last)
	rules.set(nil)
	want("j", change.Merge, change.Merge, addup.Last)
}
