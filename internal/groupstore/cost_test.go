package groupstore_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"pushrelay/internal/groupstore"
)

// TestOddShapesDoNotSlowOthers fills a family with groups of 10,000 different label names and counts the look-ups that the
// check of somebody else's push then takes (S8).
func TestOddShapesDoNotSlowOthers(t *testing.T) {
	const series, groups = 20, 10_000
	s := newTester(t, groupstore.Config{})
	body := func(run int) string {
		var b strings.Builder
		for i := range series {
			fmt.Fprintf(&b, "m{i=\"%d\",run=\"%d\",l1=\"x\",l2=\"y\"} 1\n", i, run)
		}
		return b.String()
	}
	probes := func(text string) int {
		before := s.store.Probes()
		s.put(key(t, "job", "honest"), text)
		return s.store.Probes() - before
	}
	alone := probes(body(1))
	honest := key(t, "job", "other")
	s.put(honest, body(1))
	for i := range groups {
		pairs := []string{"job", "honest", fmt.Sprintf("odd%d", i), "x"}
		switch i % 4 {
		case 0:
			pairs = []string{"job", "honest", "l1", "other", fmt.Sprintf("odd%d", i), "x"}
		case 1:
			pairs = []string{"job", fmt.Sprintf("odd%d", i), "l1", "x", "l2", strconv.Itoa(i)}
		}
		if _, err := s.push(put, key(t, pairs...), "m 1\n"); err != nil {
			t.Fatal(err)
		}
	}
	indexed, pending, sums := s.store.Indexed("m")
	if !indexed || pending != 0 || sums != groups+2*series {
		t.Fatalf("Indexed(m) = %v, %d pending, %d sums; want all %d", indexed, pending, sums, groups+2*series)
	}
	if got := probes(body(2)); got > 2*series+alone {
		t.Errorf("pushing %d new series took %d look-ups, %d when it was alone", series, got, alone)
	}
	if got := probes(body(2)); got != 0 {
		t.Errorf("pushing the same series again took %d look-ups", got)
	}
	if got := probes("unrelated 1\n"); got != 0 {
		t.Errorf("pushing another family took %d look-ups", got)
	}
	if _, err := s.push(put, key(t, "job", "honest", "i", "1"), "m{run=\"1\",l1=\"x\",l2=\"y\"} 1\n"); err != nil {
		t.Errorf("a series that left is still held against others: %v", err)
	}
	if _, err := s.push(put, key(t, "job", "honest"), body(1)); err == nil || !strings.Contains(err.Error(), "was collected before") {
		t.Errorf("a series that is there twice = %v", err)
	}
}

// TestIndexIsFilledInSteps has a family with so many series that no single push may move them all.
func TestIndexIsFilledInSteps(t *testing.T) {
	const old = 3_000
	s := newTester(t, groupstore.Config{})
	for i := range old {
		s.put(key(t, "job", strconv.Itoa(i)), "m{a=\"1\",x=\"1\"} 1\nm{b=\"1\"} 1\nm{c=\"1\"} 1\n")
	}
	steps := 0
	for i := 0; ; i++ {
		indexed, pending, _ := s.store.Indexed("m")
		if indexed && pending == 0 {
			break
		}
		if indexed {
			steps++
		}
		// Both what is moved and what is not yet must be found.
		for _, job := range []int{0, old / 2, old - 1} {
			_, err := s.push(put, key(t, "job", strconv.Itoa(job), "x", "1"), "m{a=\"1\"} 1\n")
			if err == nil || !strings.Contains(err.Error(), "was collected before") {
				t.Fatalf("after %d shapes, %d groups pending: the series of group %d again = %v", i, pending, job, err)
			}
		}
		if _, err := s.push(put, key(t, "job", "odd", fmt.Sprintf("odd%d", i), "1"), "m 1\n"); err != nil {
			t.Fatal(err)
		}
	}
	if steps < 2 {
		t.Errorf("the index was filled in %d steps", steps)
	}
	// Old groups that leave or change leave the index, too.
	for i := range old {
		s.delete(key(t, "job", strconv.Itoa(i)))
	}
	s.put(key(t, "job", "1", "x", "1"), "m{a=\"1\"} 1\n")
	if _, _, sums := s.store.Indexed("m"); sums > 50 {
		t.Errorf("%d series are indexed after most were deleted", sums)
	}
}
