// Package smallmap has a map for where there is most often one value: it takes no memory beside that one.
package smallmap

// A Map finds values by their keys. The zero Map is empty.
type Map[V Keyed] struct {
	one  V            // zero only if there is none at all
	more map[string]V // all others
}

// Keyed is what a Map can hold: values that say by which key they are found, and never change it.
type Keyed interface {
	comparable
	Key() string
}

// Find returns the value of that key, or zero.
func Find[V Keyed, K string | []byte](m *Map[V], key K) V {
	var none V
	if m.one != none && m.one.Key() == string(key) {
		return m.one
	}
	return m.more[string(key)]
}

// IsEmpty says whether the map has no value.
func (m *Map[V]) IsEmpty() bool {
	var none V
	return m.one == none
}

// Any returns one of the values, the same until that is removed; zero if there is none.
func (m *Map[V]) Any() V { return m.one }

// All yields the values, in no order.
func (m *Map[V]) All(yield func(V) bool) {
	if m.IsEmpty() || !yield(m.one) {
		return
	}
	for _, v := range m.more {
		if !yield(v) {
			return
		}
	}
}

// Add takes a value whose key is not there.
func (m *Map[V]) Add(v V) {
	if m.IsEmpty() {
		m.one = v
		return
	}
	if m.more == nil {
		m.more = make(map[string]V)
	}
	m.more[v.Key()] = v
}

// Replace takes a value whose key is not there in the place of one that is.
func (m *Map[V]) Replace(old, v V) {
	if m.one == old {
		m.one = v
		return
	}
	delete(m.more, old.Key())
	m.more[v.Key()] = v
}

// Remove drops a value that is there.
func (m *Map[V]) Remove(v V) {
	if m.one == v {
		var none V
		m.one = none
		for _, other := range m.more { // any of them takes its place
			m.one, v = other, other
			break
		}
	}
	if delete(m.more, v.Key()); len(m.more) == 0 {
		m.more = nil // a map never gives its memory back
	}
}
