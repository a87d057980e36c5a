package smallmap_test

import (
	"testing"

	"pushrelay/internal/smallmap"
)

type value string

func (v value) Key() string { return string(v) }

// TestMap adds and removes in every order of three.
func TestMap(t *testing.T) {
	values := []value{"a", "b", "c"}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		var m smallmap.Map[value]
		for _, v := range values {
			m.Add(v)
		}
		gone := map[value]bool{}
		for _, i := range order {
			m.Remove(values[i])
			gone[values[i]] = true
			all := 0
			for v := range m.All {
				all++
				if gone[v] {
					t.Errorf("after %v of %v: %q is yielded", gone, order, v)
				}
			}
			for _, v := range values {
				if got := smallmap.Find(&m, string(v)); (got == v) == gone[v] {
					t.Errorf("after %v of %v: %q is %q", gone, order, v, got)
				}
			}
			if left := len(values) - len(gone); all != left || m.IsEmpty() != (left == 0) || gone[m.Any()] {
				t.Errorf("after %v: %d are yielded, IsEmpty() = %v, Any() = %q", gone, all, m.IsEmpty(), m.Any())
			}
		}
	}
}

// TestReplace puts one value in the place of another, wherever that stands.
func TestReplace(t *testing.T) {
	for i := range 3 {
		values := []value{"a", "b", "c"}
		var m smallmap.Map[value]
		for _, v := range values {
			m.Add(v)
		}
		m.Replace(values[i], "d")
		for _, v := range append(values, "d") {
			if got := smallmap.Find(&m, []byte(v)); (got == v) == (v == values[i]) {
				t.Errorf("after %q was replaced: %q is %q", values[i], v, got)
			}
		}
	}
}
