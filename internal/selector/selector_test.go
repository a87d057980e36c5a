package selector_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/grouping"
	"pushrelay/internal/selector"
)

func key(t testing.TB, pairs ...string) grouping.Key {
	t.Helper()
	var labels []grouping.Label
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, grouping.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	k, err := grouping.New(labels...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestMatches(t *testing.T) {
	group := key(t, "job", "backup", "team", "a", "empty", "", "größe", "7", "path", "a\nb")
	tests := []struct {
		selectors []string
		want      bool
	}{
		{[]string{`{job="backup"}`}, true},
		{[]string{`{job='backup', team="a",}`}, true},
		{[]string{`{job="backup",team="b"}`}, false},
		{[]string{`{job="other"}`, `{team="a"}`}, true},
		{[]string{`{job="other"}`, `{team="b"}`}, false},
		{[]string{`{team!="b"}`}, true},
		{[]string{`{team!="a"}`}, false},
		{[]string{`{team=~"a|b"}`}, true},
		{[]string{`{job=~"back"}`}, false}, // anchored at both ends
		{[]string{`{job=~"back.*"}`}, true},
		{[]string{`{job!~"back.*"}`}, false},
		{[]string{`{path=~"a.b"}`}, true}, // a point is any character
		{[]string{`{missing=""}`}, true},
		{[]string{`{missing!=""}`}, false},
		{[]string{`{missing=~".*"}`}, true},
		{[]string{`{empty=""}`}, true}, // as if it were not there
		{[]string{`{"größe"="7"}`}, true},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.selectors, " "), func(t *testing.T) {
			s, err := selector.Parse(tt.selectors)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Matches(group); got != tt.want {
				t.Errorf("Matches(%v) = %v, want %v", group, got, tt.want)
			}
		})
	}
	if new(selector.Selector).Matches(group) {
		t.Error("the zero Selector matches a group")
	}
}

func TestRefusedSelectors(t *testing.T) {
	many := make([]string, selector.MaxSelectors+1)
	for i := range many {
		many[i] = fmt.Sprintf("{job=%q}", fmt.Sprint(i))
	}
	tests := []struct {
		name      string
		selectors []string
		want      string
	}{
		{"none", nil, "there is no selector"},
		{"empty text", []string{""}, `selector "" cannot be read`},
		{"no braces", []string{"job=backup"}, "cannot be read, want one such as"},
		{"no matcher", []string{"{}"}, `{job=~".+"} is all groups`},
		{"one of two", []string{`{job="a"}`, `{job=}`}, `selector "{job=}" cannot be read`},
		{"a metric", []string{"up"}, "names a metric"},
		{"a metric in the braces", []string{`{"up",job="a"}`}, "names a metric"},
		{"a range", []string{`{job="a"}[5m]`}, "cannot be read"},
		{"no RE2", []string{`{job=~"(?!a)"}`}, "cannot be read"},
		{"repetitions that multiply", []string{`{job=~"((a{10}){10}){100}"}`}, "cannot be read"},
		{"a large expression", []string{`{job=~"(.x{900}|y{900}z){1,}[ab]{900}"}`}, "want at most 2000"},
		{"a large expression of several", []string{`{job=~"[ab]{900}"}`, `{job=~"[ab]{900}"}`, `{job!~"[ab]{900}"}`}, "too large"},
		{"many", many, "there are 33 selectors, want at most 32"},
		{"long", []string{`{job="` + strings.Repeat("x", selector.MaxBytes) + `"}`}, "want at most 4096 together"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := selector.Parse(tt.selectors); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// TestListsAreNoLargeExpressions: a long list of names is what people write, and is looked up.
func TestListsAreNoLargeExpressions(t *testing.T) {
	names := make([]string, 250)
	for i := range names {
		names[i] = fmt.Sprintf("host-%06d", i)
	}
	s, err := selector.Parse([]string{`{instance=~"` + strings.Join(names, "|") + `"}`})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Matches(key(t, "job", "j", "instance", "host-000249")) || s.Matches(key(t, "job", "j", "instance", "host-000250")) {
		t.Error("the list does not match what it lists")
	}
}

func TestCheckSpecific(t *testing.T) {
	for text, specific := range map[string]bool{
		`{job="a"}`: true, `{job=~".+"}`: true, `{team!="a",job=~".+"}`: true, `{team!=""}`: true,
		`{team!="a"}`: false, `{team=""}`: false, `{job=~".*"}`: false, `{team!~"a|b"}`: false,
	} {
		s, err := selector.Parse([]string{`{job="b"}`, text})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CheckSpecific(); (err == nil) != specific {
			t.Errorf("CheckSpecific of %s = %v", text, err)
		} else if err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("CheckSpecific = %v, want it to quote %s", err, text)
		}
	}
}

// TestReadingIsBounded has texts whose reading would make millions of instructions: they are refused before they are compiled.
func TestReadingIsBounded(t *testing.T) {
	for _, evil := range []string{
		`{job=~"` + strings.Repeat("x{999}.", 580) + `"}`,
		`{job=~"(?:` + strings.Repeat("xy", 1500) + `){1000}"}`,
		"{job!~`(?:" + strings.Repeat("[ab]c", 500) + "){1000}`}",
	} {
		start := time.Now()
		if _, err := selector.Parse([]string{evil}); err == nil || !strings.Contains(err.Error(), "too large") {
			t.Errorf("Parse(%.20s…) = %v, want that it is too large", evil, err)
		}
		if took := time.Since(start); took > 2*time.Second { // compiling any of them takes that and more under the race detector
			t.Errorf("%.20s… was refused after %v", evil, took)
		}
	}
}

// FuzzParse: whatever is read as selectors can be applied, within the bounds, and means the same each time that it is read.
func FuzzParse(f *testing.F) {
	for _, text := range []string{`{job="a"}`, `{job=~"a|b.*",team!~"x{3}"}`, `{"größe"!=""}`, `up{job="a"}`, "{}", `{job="\xff"}`, `{job=~"(?i)A[^b]"}`} {
		f.Add(text, "a", "b")
	}
	f.Fuzz(func(t *testing.T, text, job, team string) {
		k, err := grouping.New(grouping.Label{Name: "job", Value: job}, grouping.Label{Name: "team", Value: team})
		if err != nil {
			return
		}
		s, err := selector.Parse([]string{text})
		if err != nil {
			return
		}
		if len(text) > selector.MaxBytes {
			t.Errorf("Parse took %d bytes", len(text))
		}
		again, err := selector.Parse([]string{text, text})
		if err != nil {
			return // twice is too much
		}
		if s.Matches(k) != again.Matches(k) {
			t.Errorf("%q matches %v only once", text, k)
		}
		if s.CheckSpecific() == nil && s.Matches(grouping.Key{}) {
			t.Errorf("%q is called specific and matches a group without labels", text)
		}
	})
}

func BenchmarkMatches(b *testing.B) {
	k := key(b, "job", "batch", "instance", "host-000042.example.com:9091", "team", "a7")
	for _, text := range []string{`{team="a8"}`, `{team=~"a[0-9]"}`, `{team=~"a8|b8"}`, `{team=~"(a|b)*c"}`} {
		b.Run(text, func(b *testing.B) {
			s, err := selector.Parse([]string{text})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				s.Matches(k)
			}
		})
	}
}
