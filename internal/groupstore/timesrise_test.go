package groupstore_test

import (
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
)

// TestTimesRise: pushes that come by clocks which disagree, or were held up on their way, set no time of their group back where several relays take them; a group
// that is new begins where its first push says.
func TestTimesRise(t *testing.T) {
	for _, rise := range []bool{true, false} {
		s := groupstore.New(groupstore.Config{TimesRise: rise})
		k := key(t, "job", "j")
		apply := func(op change.Operation, text, fault string, at time.Time) {
			t.Helper()
			content := groupstore.Content{Fault: fault}
			if text != "" {
				body, err := new(exposition.Parser).ParseText([]byte(text), exposition.Options{})
				if err != nil {
					t.Fatal(err)
				}
				content.Body = body
			}
			s.Apply(t.Context(), &change.Change{Operation: op, Key: k, At: at}, content)
		}
		want := func(what string, pushed, failed time.Time) {
			t.Helper()
			g, found := s.Group(k)
			if !rise || !found {
				if rise {
					t.Errorf("%s: there is no group", what)
				}
				return
			}
			if !g.PushTime().Equal(pushed) || !g.FailureTime().Equal(failed) {
				t.Errorf("%s: pushed at %v, failed at %v, want %v and %v", what, g.PushTime(), g.FailureTime(), pushed, failed)
			}
		}
		early, late := noon.Add(-time.Minute), noon.Add(time.Minute)
		apply(change.Replace, "m 1\n", "", noon)
		for _, op := range []change.Operation{change.Replace, change.Merge, change.MergeSeries, change.Add} {
			apply(op, "m 2\n", "", early)
			want(op.String(), noon, time.Time{})
			if g, _ := s.Group(k); !rise && !g.PushTime().Equal(early) {
				t.Errorf("%v to a relay alone: pushed at %v, want %v", op, g.PushTime(), early)
			}
		}
		apply(change.Replace, "m 3\n", "", late)
		want("a later push", late, time.Time{})
		apply(change.Replace, "", "odd", noon)
		want("a failure", late, noon)
		apply(change.Replace, "", "odd", early)
		want("one that comes with an earlier time", late, noon)
		apply(change.Delete, "", "", noon)
		apply(change.Replace, "m 1\n", "", early)
		want("a new group", early, time.Time{})
	}
}
