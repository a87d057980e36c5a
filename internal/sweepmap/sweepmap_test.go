package sweepmap_test

import (
	"testing"

	"pushrelay/internal/sweepmap"
)

type entry struct{ over bool }

// TestForgets: it does not grow with all that there ever were, and forgets nobody of whom something is to be remembered.
func TestForgets(t *testing.T) {
	m := sweepmap.New[int](func(e *entry) bool { return e.over })
	const kept = 1000
	for i := range 100_000 {
		e := m.Take(i, func() *entry { return &entry{over: i%100 != 0} })
		if again := m.Take(i, func() *entry { return &entry{} }); again != e {
			t.Fatalf("the entry of %d is another one when it is asked for again", i)
		}
		if most := 2*(i/100+1) + 64; m.Len() > most {
			t.Fatalf("after %d there are %d, want at most %d", i, m.Len(), most)
		}
	}
	for i := range kept {
		if e := m.Get(100 * i); e == nil || e.over {
			t.Errorf("%d is forgotten", 100*i)
		}
	}
	if m.Get(-1) != nil {
		t.Error("somebody is there who never came")
	}
}
