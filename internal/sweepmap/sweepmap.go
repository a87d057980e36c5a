// Package sweepmap has a map of what is remembered of others, which forgets by itself those of whom nothing is to be remembered.
package sweepmap

// least is how many entries there are before it is looked for those that can go.
const least = 64

// A Map holds at most twice as many entries as are worth it, or a few. It looks at all of them when there are twice as many as it left the last time, so that an entry costs
// little on the average. It is not safe for concurrent use: who has it has a lock.
type Map[K comparable, V any] struct {
	isOver  func(V) bool // static
	entries map[K]V
	sweepAt int // how many entries there are when it is looked next
}

// New returns an empty map. An entry for which isOver is true may be forgotten.
func New[K comparable, V any](isOver func(V) bool) *Map[K, V] {
	return &Map[K, V]{isOver: isOver, entries: map[K]V{}, sweepAt: least}
}

// Get returns the entry of a key; zero if there is none.
func (m *Map[K, V]) Get(key K) V { return m.entries[key] }

// Take returns the entry of a key, or else a first one that it keeps.
func (m *Map[K, V]) Take(key K, first func() V) V {
	if there, found := m.entries[key]; found {
		return there
	}
	m.sweep()
	made := first()
	m.entries[key] = made
	return made
}

// Len returns how many entries there are.
func (m *Map[K, V]) Len() int { return len(m.entries) }

func (m *Map[K, V]) sweep() {
	if len(m.entries) < m.sweepAt {
		return
	}
	for key, entry := range m.entries {
		if m.isOver(entry) {
			delete(m.entries, key)
		}
	}
	m.sweepAt = max(least, 2*len(m.entries))
}
