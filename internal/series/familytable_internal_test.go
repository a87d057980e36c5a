package series

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// headingNamed returns the heading of a family without metrics.
func headingNamed(name string) *heading {
	e := encoding{}
	e.family(0, []byte(name), nil, nil, 0, nil, 0)
	return newHeading(string(e.out))
}

// TestFamilyTable does to a table what it does to a map, growing and shrinking, and looks for every name after each phase.
func TestFamilyTable(t *testing.T) {
	table, want := newFamilyTable(), map[string]*family{}
	var present []string
	compare := func() {
		t.Helper()
		if table.len != len(want) {
			t.Fatalf("the table counts %d families, want %d", table.len, len(want))
		}
		slots := 0
		for i := range table.shards {
			slots += len(table.shards[i].slots)
		}
		if most := familyShards*familySlots + 16*len(want); slots > most {
			t.Fatalf("%d slots for %d families, want at most %d", slots, len(want), most)
		}
		for i := range 20_000 {
			name := fmt.Sprint("family_", i)
			if got := familyOf(&table, name); got != want[name] {
				t.Fatalf("%s: found %p, want %p", name, got, want[name])
			}
			if got := familyOf(&table, []byte(name)); got != want[name] {
				t.Fatalf("%s as bytes: found %p, want %p", name, got, want[name])
			}
		}
	}
	for _, size := range []int{0, 1, 100, 20_000, 5_000, 9_000, 50, 0} {
		for len(present) < size {
			name := fmt.Sprint("family_", rand.IntN(20_000))
			if want[name] == nil {
				f := &family{}
				f.headings.Add(headingNamed(name))
				table.add(f)
				want[name], present = f, append(present, name)
			}
		}
		for len(present) > size {
			i, last := rand.IntN(len(present)), len(present)-1
			name := present[i]
			present[i], present = present[last], present[:last]
			f := want[name]
			f.headings.Remove(f.headings.Any())
			table.remove(f, name)
			delete(want, name)
		}
		compare()
	}
}
