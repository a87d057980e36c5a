package grouping_test

import (
	"testing"

	"pushrelay/internal/grouping"
)

// FuzzFromCanonical looks for a key from a log or a journal that is another one once it is written again.
func FuzzFromCanonical(f *testing.F) {
	f.Add("job\xffj\xffinstance\xff")
	f.Add(mustNew(f, grouping.Label{Name: "job", Value: "j"}, grouping.Label{Name: "a", Value: "\x00"}).Canonical())
	f.Fuzz(func(t *testing.T, canonical string) {
		k, err := grouping.FromCanonical(canonical)
		if err != nil {
			if !k.IsZero() {
				t.Errorf("FromCanonical(%q) = %v beside the error %v", canonical, k, err)
			}
			return
		}
		if k.Canonical() != canonical || k.IsZero() != (canonical == "") {
			t.Errorf("FromCanonical(%q) = %v, which is %q", canonical, k, k.Canonical())
		}
		if again := k; !k.IsZero() && mustNew(t, again.Labels()...) != k {
			t.Errorf("New of the labels of %v is another key", k)
		}
	})
}
