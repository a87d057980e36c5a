package groupstore

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// headingNamed returns the heading of a family without metrics.
func headingNamed(name string) *heading {
	e := encoder{}
	e.family(0, name, "", "", 0, nil, 0)
	return newHeading(string(e.out))
}

// TestFamilyTable does to a table what it does to a map, growing and shrinking, and looks for every name after each phase.
func TestFamilyTable(t *testing.T) {
	table, want := newFamilyTable(), map[string]*sharedFamily{}
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
				f := &sharedFamily{}
				f.headings.add(headingNamed(name))
				table.add(f)
				want[name], present = f, append(present, name)
			}
		}
		for len(present) > size {
			i, last := rand.IntN(len(present)), len(present)-1
			name := present[i]
			present[i], present = present[last], present[:last]
			f := want[name]
			f.headings.remove(f.headings.one)
			table.remove(f, name)
			delete(want, name)
		}
		compare()
	}
}

// TestFew adds and removes in every order of three.
func TestFew(t *testing.T) {
	values := []*heading{headingNamed("a"), headingNamed("b"), headingNamed("c")}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		var f smallMap[*heading]
		for _, v := range values {
			f.add(v)
		}
		gone := map[*heading]bool{}
		for _, i := range order {
			f.remove(values[i])
			gone[values[i]] = true
			for _, v := range values {
				if got := lookUp(&f, v.text); (got == v) == gone[v] {
					t.Errorf("after %v of %v: %q is %p", gone, order, v.text, got)
				}
			}
			if f.empty() != (len(gone) == len(values)) {
				t.Errorf("after %v: empty() = %v", gone, f.empty())
			}
		}
		if f.more != nil {
			t.Error("an empty one keeps its map")
		}
	}
}
