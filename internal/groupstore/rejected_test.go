package groupstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/series"
)

// groups returns what a view says of each group in one line.
func (t *tester) groups() []string {
	var lines []string
	for g := range t.store.Snapshot().Groups() {
		lines = append(lines, lineOf(g))
	}
	return lines
}

func lineOf(g groupstore.Group) string {
	line := g.Key().String() + " pushed " + when(g.PushTime()) + " failed " + when(g.FailureTime())
	for f := range g.Families() {
		if f.Name() != series.PushTimeFamily && f.Name() != series.FailureTimeFamily {
			line += " " + f.Name() + "@" + when(f.PushTime())
		}
		if f.Quarantined() != "" {
			line += "!"
		}
	}
	return line
}

func when(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.Sub(noon).String()
}

// TestRejectedPush checks what a rejected push leaves behind (S10).
func TestRejectedPush(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	j, twin := key(t, "job", "j"), key(t, "job", "j", "instance", "")
	tests := []struct {
		name string
		op   change.Operation
		key  grouping.Key
		body string
		fine bool
		want []string
	}{
		{"a new group", put, j, "m 1 5\n", false, []string{`{job="j"} pushed never failed 1s`}},
		{"a good push keeps the failure", put, j, "m 1\n", true, []string{`{job="j"} pushed 2s failed 1s m@2s`}},
		{"a bad push keeps the families", put, j, "n 1\nn{a=\"\"} 1\n", false, []string{`{job="j"} pushed 2s failed 3s m@2s`}},
		{"a merge", post, j, "n 1\n", true, []string{`{job="j"} pushed 4s failed 3s m@2s n@4s`}},
		{"a group that cannot be is not made", put, twin, "n 1\n", false, []string{`{job="j"} pushed 4s failed 3s m@2s n@4s`}},
		{"nor deleted", change.Delete, twin, "", true, []string{`{job="j"} pushed 4s failed 3s m@2s n@4s`}},
		{"delete takes the failure along", change.Delete, j, "", true, nil},
		{"and now it can be", put, twin, "n 1\n", true, []string{`{job="j",instance=""} pushed 8s failed never n@8s`}},
		{"which keeps the other from being", put, j, "n 1 5\n", false, []string{`{job="j",instance=""} pushed 8s failed never n@8s`}},
	}
	for i, tt := range tests {
		at := noon.Add(time.Duration(i+1) * time.Second)
		_, err := apply(t.Context(), s.store, pushing{Operation: tt.op, Key: tt.key, Body: bodyOf(parse(t, tt.body)...), At: at})
		if (err == nil) != tt.fine {
			t.Fatalf("%s: Push = %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, s.groups()); diff != "" {
			t.Fatalf("%s: groups (-want +got):\n%s", tt.name, diff)
		}
	}
}

// fail notes a rejection that nobody sends twice.
func (t *tester) fail(k grouping.Key, at time.Time, reason string) {
	t.tb.Helper()
	if _, err := fail(t.tb.Context(), t.store, pushing{Key: k, At: at}, reason); err != nil {
		t.tb.Fatal(err)
	}
}

func TestFail(t *testing.T) {
	s := newTester(t, groupstore.Config{MaxGroups: 2})
	s.put(key(t, "job", "j"), "m 1\n")
	s.fail(key(t, "job", "j"), noon, "m is odd")
	s.fail(key(t, "job", "j", "k", ""), noon, "m is odd")
	s.fail(key(t, "job", "k"), noon.Add(time.Second), "")
	s.fail(key(t, "job", "too many"), noon, "m is odd")
	want := []string{`{job="j"} pushed 0s failed 0s m@0s`, `{job="k"} pushed never failed 1s`}
	if diff := cmp.Diff(want, s.groups()); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	for g := range s.store.Snapshot().Groups() {
		if g.Key().Job() == "j" && g.FailureReason() != "m is odd" {
			t.Errorf("FailureReason() = %q", g.FailureReason())
		}
	}
	s.put(key(t, "job", "j"), "m 2\n")
	for g := range s.store.Snapshot().Groups() {
		if g.Key().Job() == "j" && g.FailureReason() != "m is odd" {
			t.Errorf("FailureReason() after a push = %q", g.FailureReason())
		}
	}
}

func TestLimits(t *testing.T) {
	s := newTester(t, groupstore.Config{MaxSeries: 5, MaxGroups: 2})
	a, b, c := key(t, "job", "a"), key(t, "job", "b"), key(t, "job", "c")
	s.put(a, "m 1\nn 1\n")
	s.put(b, "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\n")
	full := func(op change.Operation, k grouping.Key, text, what string) {
		t.Helper()
		before := strings.Join(s.groups(), "\n")
		o, err := s.push(op, k, text)
		if !errors.Is(err, change.Full) || !strings.HasSuffix(o.Detail, what+" (--store.max-"+what+")") || o.RetryAfter != 0 {
			t.Errorf("Push(%v, %v, %q) = %v, want one that is full of %s", op, k, text, err, what)
		}
		if after := strings.Join(s.groups(), "\n"); after != before {
			t.Errorf("a push to the full store changed\n%s\ninto\n%s", before, after)
		}
	}
	full(put, c, "", "groups")
	full(put, a, "m 1\nn 1\no 1\n", "series")
	full(post, a, "o 1\n", "series")
	s.put(a, "o 1\nm 1\n")
	s.put(b, "m 1\nn 1\n")
	if _, err := s.push(post, a, "o 2\np 1\n"); err != nil {
		t.Errorf("a push up to the limit = %v", err)
	}
	full(post, b, "q 1\n", "series")
	s.delete(b)
	s.put(c, "m 1\n")
}

func TestPushInvalid(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	if _, err := apply(t.Context(), s.store, pushing{Operation: put, At: noon}); err == nil {
		t.Error("Push without a key succeeded")
	}
	for _, op := range []change.Operation{0, change.Mark, change.Forget, 99} {
		if _, err := apply(t.Context(), s.store, pushing{Operation: op, Key: key(t, "job", "j"), At: noon}); !errors.Is(err, change.Invalid) {
			t.Errorf("Push(%v) succeeded", op)
		}
	}
	if got := s.groups(); len(got) != 0 {
		t.Errorf("groups: %q", got)
	}
}

// TestReasonsAreBrief pushes labels of a megabyte: the group may keep the reason, and not the labels.
func TestReasonsAreBrief(t *testing.T) {
	s := newTester(t, groupstore.Config{})
	huge := strings.Repeat("ä", 1<<19)
	_, err := s.push(put, key(t, "job", "j"), "m{l=\""+huge+"\"} 1\nm{l=\""+huge+"\",k=\"\"} 1\n")
	if err == nil || len(err.Error()) > 4096 || !strings.HasSuffix(err.Error(), "was collected before with the same name and label values") {
		t.Errorf("Push = %.2000v…", err)
	}
	for g := range s.store.Snapshot().Groups() {
		if got := g.FailureReason(); err.Error() != change.Contradiction(got).Detail {
			t.Errorf("FailureReason() = %.2000s", got)
		}
	}
}
