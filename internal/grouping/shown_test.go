package grouping_test

import (
	"testing"

	"pushrelay/internal/grouping"
)

func TestCutString(t *testing.T) {
	for _, labels := range [][]grouping.Label{
		{{Name: "job", Value: "a"}},
		{{Name: "job", Value: `a"} in group {job="b"`}, {Name: "instance", Value: "\n\\"}, {Name: "empty", Value: ""}},
		{{Name: "job", Value: "ä\u202e"}, {Name: `a="b",c`, Value: "x"}},
	} {
		key, err := grouping.New(labels...)
		if err != nil {
			t.Fatal(err)
		}
		for _, behind := range []string{"", "; and 3 more", `,x="y"}`, `"`, "…"} {
			if got, rest, ok := grouping.CutString(key.String() + behind); !ok || got != key || rest != behind {
				t.Errorf("of %v with %q behind it there is %v, %q, %v", key, behind, got, rest, ok)
			}
		}
		for n := range key.String() {
			if got, rest, ok := grouping.CutString(key.String()[:n]); ok || rest != key.String()[:n] {
				t.Errorf("%q is the key %v", rest, got)
			}
		}
	}
	for _, text := range []string{"", "{}", "{", `{job="a"`, `{job=a}`, `{job="a",}`, `{instance="b"}`, `{instance="b",job="a"}`, `{job="a",job="b"}`, "{job=`a`}", `{"job"="a"}`, ` {job="a"}`, `{job="a",="b"}`} {
		if key, rest, ok := grouping.CutString(text); ok || rest != text {
			t.Errorf("%q is the key %v", text, key)
		}
	}
}
