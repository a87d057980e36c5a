package grouping_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/grouping"
)

func TestNew(t *testing.T) {
	tests := []struct {
		name   string
		labels []grouping.Label
		want   string // String() of the key, or the text of the error
	}{
		{"job only", []grouping.Label{{"job", "j"}}, `{job="j"}`},
		{"sorted, job first", []grouping.Label{{"z", "1"}, {"job", "j"}, {"a", "2"}}, `{job="j",a="2",z="1"}`},
		{"last of a name wins", []grouping.Label{{"a", "1"}, {"job", "j"}, {"a", "2"}}, `{job="j",a="2"}`},
		{"last job wins", []grouping.Label{{"job", ""}, {"job", "j"}}, `{job="j"}`},
		{"empty value kept", []grouping.Label{{"job", "j"}, {"instance", ""}}, `{job="j",instance=""}`},
		{"UTF-8 name and value", []grouping.Label{{"job", "Π"}, {"a.b", "\"\n"}}, `{job="Π","a.b"="\"\n"}`},
		{"no label", nil, "job name is required"},
		{"no job", []grouping.Label{{"a", "1"}}, "job name is required"},
		{"empty job", []grouping.Label{{"job", ""}}, "job name is required"},
		{"empty name", []grouping.Label{{"job", "j"}, {"", "1"}}, `improper label name ""`},
		{"reserved name", []grouping.Label{{"job", "j"}, {"__a", "1"}}, `improper label name "__a"`},
		{"name not UTF-8", []grouping.Label{{"job", "j"}, {"\xff", "1"}}, `improper label name "\xff"`},
		{"value not UTF-8", []grouping.Label{{"job", "j"}, {"k", "\xff"}}, `grouping label "k" has a value that is not valid UTF-8`},
		{"job not UTF-8", []grouping.Label{{"job", "\xff"}}, `grouping label "job" has a value that is not valid UTF-8`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := grouping.New(tt.labels...)
			if err != nil {
				if err.Error() != tt.want {
					t.Errorf("New(%q) returned the error %q, want %s", tt.labels, err, tt.want)
				}
				if !k.IsZero() {
					t.Errorf("New(%q) returned %v beside an error", tt.labels, k)
				}
				return
			}
			if k.String() != tt.want {
				t.Errorf("New(%q) = %v, want %s", tt.labels, k, tt.want)
			}
		})
	}
}

func TestKeyAccess(t *testing.T) {
	k := mustNew(t, grouping.Label{Name: "job", Value: "j"}, grouping.Label{Name: "instance", Value: ""}, grouping.Label{Name: "zone", Value: "eu"})
	if got := k.Job(); got != "j" {
		t.Errorf("Job() = %q, want j", got)
	}
	want := []grouping.Label{{"instance", ""}, {"job", "j"}, {"zone", "eu"}}
	if diff := cmp.Diff(want, k.Labels()); diff != "" {
		t.Errorf("Labels() differ (-want +got):\n%s", diff)
	}
	if got, want := k.Canonical(), "instance\xff\xffjob\xffj\xffzone\xffeu"; got != want {
		t.Errorf("Canonical() = %q, want %q", got, want)
	}
	if v, ok := k.Get("instance"); v != "" || !ok {
		t.Errorf("Get(instance) = %q, %v, want an empty value that is there", v, ok)
	}
	if v, ok := k.Get("nowhere"); v != "" || ok {
		t.Errorf("Get(nowhere) = %q, %v, want nothing", v, ok)
	}
}

func TestZeroKey(t *testing.T) {
	var k grouping.Key
	if !k.IsZero() || k.Job() != "" || len(k.Labels()) != 0 || k.Path() != "" || k.Canonical() != "" || k.String() != "{}" {
		t.Errorf("the zero key is not empty: %v", k)
	}
	if mustNew(t, grouping.Label{Name: "job", Value: "j"}).IsZero() {
		t.Error("a key with a job is said to be zero")
	}
}

// A name and a value must never change places with their neighbours: equal canonical forms mean equal labels.
func TestKeysAreEqualOnlyWithEqualLabels(t *testing.T) {
	keys := []grouping.Key{
		mustNew(t, grouping.Label{Name: "job", Value: "j"}),
		mustNew(t, grouping.Label{Name: "job", Value: "j"}, grouping.Label{Name: "instance", Value: ""}),
		mustNew(t, grouping.Label{Name: "job", Value: "j"}, grouping.Label{Name: "a", Value: "b"}),
		mustNew(t, grouping.Label{Name: "job", Value: "j"}, grouping.Label{Name: "a", Value: ""}, grouping.Label{Name: "b", Value: ""}),
		mustNew(t, grouping.Label{Name: "job", Value: "j"}, grouping.Label{Name: "ab", Value: ""}),
	}
	for i, a := range keys {
		for j, b := range keys {
			if (a == b) != (i == j) {
				t.Errorf("%v == %v is %v", a, b, a == b)
			}
		}
	}
}

func TestWith(t *testing.T) {
	k := mustNew(t, grouping.Label{Name: "job", Value: "j"}, grouping.Label{Name: "instance", Value: "i"})
	tests := []struct{ name, value, want string }{
		{"agent", "site-a", `{job="j",agent="site-a",instance="i"}`},
		{"instance", "k", `{job="j",instance="k"}`},
		{"job", "l", `{job="l",instance="i"}`},
		{"zone", "", `{job="j",instance="i",zone=""}`},
	}
	for _, tt := range tests {
		if got := k.With(tt.name, tt.value).String(); got != tt.want {
			t.Errorf("With(%q, %q) = %s, want %s", tt.name, tt.value, got, tt.want)
		}
	}
	if got, want := k.String(), `{job="j",instance="i"}`; got != want {
		t.Errorf("the key itself has become %s, want %s", got, want)
	}
	for _, l := range []grouping.Label{{"", "v"}, {"__a", "v"}, {"a", "\xff"}, {"job", ""}} {
		if !panics(func() { k.With(l.Name, l.Value) }) {
			t.Errorf("With(%q, %q) did not panic", l.Name, l.Value)
		}
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func mustNew(tb testing.TB, labels ...grouping.Label) grouping.Key {
	tb.Helper()
	k, err := grouping.New(labels...)
	if err != nil {
		tb.Fatalf("making the key of %q: %v", labels, err)
	}
	return k
}

func TestFromCanonical(t *testing.T) {
	key, err := grouping.New(grouping.Label{Name: "job", Value: "j"}, grouping.Label{Name: "a", Value: ""}, grouping.Label{Name: "ö", Value: "x/y"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []grouping.Key{{}, key} {
		if got, err := grouping.FromCanonical(want.Canonical()); got != want || err != nil {
			t.Errorf("FromCanonical(%q) = %v, %v, want %v", want.Canonical(), got, err, want)
		}
	}
	for _, bad := range []string{"job", "job\xff", "job\xffj\xff", "job\xffj\xffa\xffb", "a\xffb", "job\xff\xc3"} {
		if got, err := grouping.FromCanonical(bad); err == nil {
			t.Errorf("FromCanonical(%q) = %v, want an error", bad, got)
		}
	}
}
