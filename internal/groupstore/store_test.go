package groupstore_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
)

const (
	put  = change.Replace
	post = change.Merge
)

// A step is one push of a scenario and what should come of it.
type step struct {
	op   change.Operation
	key  []string
	body string
	want string // part of the error; empty if the push is taken
}

func TestPush(t *testing.T) {
	a, b := []string{"job", "a"}, []string{"job", "b"}
	tests := []struct {
		name  string
		steps []step
		want  string // the exposition without the times
	}{
		{
			name:  "labels",
			steps: []step{{put, []string{"job", "j", "instance", "i"}, "m{job=\"x\",instance=\"y\",k=\"v\"} 1\n", ""}},
			want:  "# TYPE m untyped\nm{instance=\"i\",job=\"j\",k=\"v\"} 1\n",
		},
		{
			name:  "body keeps its instance",
			steps: []step{{put, a, "m{instance=\"bi\"} 1\n", ""}},
			want:  "# TYPE m untyped\nm{instance=\"bi\",job=\"a\"} 1\n",
		},
		{
			name:  "implicit instance stands in sorted place",
			steps: []step{{put, []string{"job", "a", "z", "1"}, "m{a=\"1\",kk=\"\"} 1e9\n", ""}},
			want:  "# TYPE m untyped\nm{a=\"1\",instance=\"\",job=\"a\",kk=\"\",z=\"1\"} 1e+09\n",
		},
		{
			name: "put replaces the group, post the family",
			steps: []step{
				{put, a, "a 1\nb 2\n", ""}, {put, a, "c 3\nd{x=\"1\"} 1\nd{x=\"2\"} 2\n", ""}, {post, a, "d{x=\"3\"} 3\n", ""},
			},
			want: "# TYPE c untyped\nc{instance=\"\",job=\"a\"} 3\n# TYPE d untyped\nd{instance=\"\",job=\"a\",x=\"3\"} 3\n",
		},
		{
			name:  "empty put empties the group",
			steps: []step{{put, a, "a 1\n", ""}, {put, a, "", ""}},
		},
		{
			name:  "empty post keeps it",
			steps: []step{{put, a, "a 1\n", ""}, {post, a, "", ""}},
			want:  "# TYPE a untyped\na{instance=\"\",job=\"a\"} 1\n",
		},
		{
			name:  "retype within the group",
			steps: []step{{put, a, "# TYPE m counter\nm 1\n", ""}, {put, a, "# TYPE m gauge\nm 2\n", ""}, {post, a, "# TYPE m counter\nm 3\n", ""}},
			want:  "# TYPE m counter\nm{instance=\"\",job=\"a\"} 3\n",
		},
		{
			name: "type clash",
			steps: []step{
				{put, a, "# TYPE m counter\nm 1\n", ""},
				{put, b, "# TYPE m gauge\nm 2\n", "is not a COUNTER"},
				{put, b, "m 1\n", "is not a COUNTER"},
			},
			want: "# TYPE m counter\nm{instance=\"\",job=\"a\"} 1\n",
		},
		{
			name:  "help of the first group that has one",
			steps: []step{{put, b, "# HELP m second\nm 1\n", ""}, {put, a, "m 1\n", ""}, {put, []string{"job", "c"}, "# HELP m third\nm 1\n", ""}},
			want:  "# HELP m second\n# TYPE m untyped\nm{instance=\"\",job=\"a\"} 1\nm{instance=\"\",job=\"b\"} 1\nm{instance=\"\",job=\"c\"} 1\n",
		},
		{
			name: "same series in two groups",
			steps: []step{
				{put, []string{"job", "a", "k", "v"}, "m 1\n", ""},
				{put, a, "m{k=\"v\"} 2\n", "was collected before with the same name and label values"},
				{put, a, "m{k=\"w\"} 2\n", ""},
			},
			want: "# TYPE m untyped\nm{instance=\"\",job=\"a\",k=\"w\"} 2\nm{instance=\"\",job=\"a\",k=\"v\"} 1\n",
		},
		{
			name:  "grouping labels make two series one",
			steps: []step{{put, a, "m{job=\"x\",k=\"1\"} 1\nm{job=\"y\",k=\"1\"} 2\n", "was collected before with the same name and label values"}},
		},
		{
			name:  "an empty label is none",
			steps: []step{{put, a, "m 1\nm{k=\"\"} 2\n", "was collected before"}, {put, a, "m 1\nm{instance=\"\"} 2\n", "was collected before"}},
		},
		{
			name: "a key that differs in an empty label only",
			steps: []step{
				{put, a, "m 1\n", ""},
				{put, []string{"job", "a", "instance", ""}, "n 1\n", "was collected before with the same name and label values"},
				{put, []string{"job", "a", "k", "", "instance", ""}, "", "was collected before with the same name and label values"},
				{put, b, "n 1\n", ""},
			},
			want: "# TYPE m untyped\nm{instance=\"\",job=\"a\"} 1\n# TYPE n untyped\nn{instance=\"\",job=\"b\"} 1\n",
		},
		{
			name: "suffixes of a histogram",
			steps: []step{
				{put, a, "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n", ""},
				{put, b, "h_count 1\n", "collides with previously collected histogram named \"h\""},
				{put, b, "h_sum 1\n", "collides with previously collected histogram named \"h\""},
				{put, b, "h_bucket 1\n", "collides with previously collected histogram named \"h\""},
				{put, b, "h_total 1\nh_created 1\n", ""},
			},
			want: "# TYPE h histogram\nh_bucket{instance=\"\",job=\"a\",le=\"+Inf\"} 1\nh_sum{instance=\"\",job=\"a\"} 1\n" +
				"h_count{instance=\"\",job=\"a\"} 1\n# TYPE h_created untyped\nh_created{instance=\"\",job=\"b\"} 1\n" +
				"# TYPE h_total untyped\nh_total{instance=\"\",job=\"b\"} 1\n",
		},
		{
			name: "suffixes of a summary",
			steps: []step{
				{put, b, "s_count 1\n", ""},
				{put, a, "# TYPE s summary\ns_sum 1\n", "collides with previously collected metric named \"s_count\""},
				{put, b, "s_bucket 1\n", ""},
				{put, a, "# TYPE s summary\ns{quantile=\"0.5\"} 3\ns_sum 1\n", ""},
			},
			want: "# TYPE s summary\ns{instance=\"\",job=\"a\",quantile=\"0.5\"} 3\ns_sum{instance=\"\",job=\"a\"} 1\ns_count{instance=\"\",job=\"a\"} 0\n" +
				"# TYPE s_bucket untyped\ns_bucket{instance=\"\",job=\"b\"} 1\n",
		},
		{
			name: "suffixes within one push",
			steps: []step{{
				put, a, "h_count 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\n",
				"collides with previously collected histogram named \"h\"",
			}},
		},
		{
			name: "a retype brings suffixes",
			steps: []step{
				{put, a, "# TYPE h gauge\nh 1\n", ""},
				{put, b, "h_count 1\n", ""},
				{put, a, "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n", "collides with previously collected metric named \"h_count\""},
			},
			want: "# TYPE h gauge\nh{instance=\"\",job=\"a\"} 1\n# TYPE h_count untyped\nh_count{instance=\"\",job=\"b\"} 1\n",
		},
		{
			name:  "own family of another type",
			steps: []step{{put, a, "# TYPE go_goroutines counter\ngo_goroutines 5\n", "gathered metric family go_goroutines has type COUNTER but should have GAUGE"}},
		},
		{
			name:  "suffix of an own family",
			steps: []step{{put, a, "go_gc_duration_seconds_count 5\n", "collides with previously collected summary"}},
		},
		{
			name:  "own family of the same type",
			steps: []step{{put, a, "# TYPE go_goroutines gauge\ngo_goroutines 5\n", ""}},
			want:  "# TYPE go_goroutines gauge\ngo_goroutines{instance=\"\",job=\"a\"} 5\n",
		},
		{
			name:  "reserved name",
			steps: []step{{put, a, "relay_pushes_total 1\n", "has a reserved name"}},
		},
		{
			name:  "invalid label name",
			steps: []step{{put, a, "m{__x=\"1\"} 1\n", "has a label with an invalid name: __x"}},
		},
		{
			name: "explicit quantile and le",
			steps: []step{
				{put, []string{"job", "a", "quantile", "x"}, "# TYPE s summary\ns_sum 1\n", "must not have an explicit \"quantile\" label"},
				{put, []string{"job", "a", "le", "x"}, "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\n", "must not have an explicit \"le\" label"},
				{put, []string{"job", "a", "quantile", "x", "le", "y"}, "m 1\n", ""},
			},
			want: "# TYPE m untyped\nm{instance=\"\",job=\"a\",le=\"y\",quantile=\"x\"} 1\n",
		},
		{
			name:  "timestamps",
			steps: []step{{put, a, "m 1 1000\n", "pushed metrics must not have timestamps"}},
		},
		{
			name:  "times cannot be pushed",
			steps: []step{{put, a, "push_time_seconds 5\npush_failure_time_seconds 6\n# TYPE push_x histogram\n", ""}, {post, a, "push_failure_time_seconds 6\n", ""}},
		},
		{
			name:  "a name with a NUL, which no parser survives",
			steps: []step{{put, a, "{\"a\x00b\"} 1\n", "has a name that cannot be exposed"}, {put, a, "m{\"a\x00b\"=\"x\"} 1\n", "invalid name"}, {put, []string{"job", "a", "a\x00b", "x"}, "", "invalid name"}},
		},
		{
			name:  "order within a group: fewer labels first, then values",
			steps: []step{{put, a, "m{a=\"2\",b=\"1\"} 1\nm{z=\"0\"} 2\nm{a=\"1\",b=\"2\"} 3\nm 4\n", ""}},
			want:  "# TYPE m untyped\nm{instance=\"\",job=\"a\"} 4\nm{instance=\"\",job=\"a\",z=\"0\"} 2\nm{a=\"1\",b=\"2\",instance=\"\",job=\"a\"} 3\nm{a=\"2\",b=\"1\",instance=\"\",job=\"a\"} 1\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTester(t, groupstore.Config{OwnFamilies: []groupstore.OwnFamily{
				{Name: "go_goroutines", Type: metric.Gauge}, {Name: "go_gc_duration_seconds", Type: metric.Summary},
			}})
			for i, st := range tt.steps {
				_, err := s.push(st.op, key(t, st.key...), st.body)
				checkRejection(t, i, st, err)
			}
			if diff := cmp.Diff(tt.want, s.text()); diff != "" {
				t.Errorf("exposition (-want +got):\n%s", diff)
			}
		})
	}
}

func checkRejection(t *testing.T, i int, st step, err error) {
	t.Helper()
	if st.want == "" {
		if err != nil {
			t.Fatalf("step %d: Push(%v, %q, %q) = %v", i, st.op, st.key, st.body, err)
		}
		return
	}
	if !errors.Is(err, change.Inconsistent) || !strings.Contains(err.Error(), st.want) {
		t.Fatalf("step %d: Push(%v, %q, %q) = %v, want an inconsistent one with %q", i, st.op, st.key, st.body, err, st.want)
	}
}
