package grouping_test

import (
	"testing"

	"pushrelay/internal/grouping"
)

func TestFinder(t *testing.T) {
	keys := [][]grouping.Label{
		{{Name: "job", Value: "j"}},
		{{Name: "job", Value: "j"}, {Name: "a", Value: ""}, {Name: "team", Value: "t"}},
		{{Name: "job", Value: "team"}, {Name: "team", Value: "job"}}, // a value that looks like the name
		{{Name: "a", Value: "b"}, {Name: "b", Value: "c"}, {Name: "job", Value: "b"}, {Name: "c", Value: "c"}},
		{{Name: "job", Value: "xteam"}, {Name: "steam", Value: "no"}, {Name: "teams", Value: "no"}},
	}
	for _, labels := range keys {
		k, err := grouping.New(labels...)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"job", "team", "a", "b", "c", "steam", "x", ""} {
			want, _ := k.Get(name)
			if got := grouping.NewFinder(name).In(k); got != want {
				t.Errorf("NewFinder(%q).In(%v) = %q, want %q", name, k, got, want)
			}
		}
	}
}
