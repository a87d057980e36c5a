package exposition

// table finds what the parser has met already by hash: a set of indices, each with its hash. It is emptied in no time, so
// that a parser costs no more for having seen a large body before. The zero value must be reset first.
type table struct {
	slots      []slot // a power of two; at most half of them in use
	used       int
	generation uint32 // slots of other generations are free; never 0 after reset
}

type slot struct {
	hash       uint64
	generation uint32
	index      int32
}

const (
	firstSlots = 64
	// maxKeptSlots is the size from which a table is given back to the heap when it is reset.
	maxKeptSlots = 1 << 16
)

func (t *table) reset() {
	t.used = 0
	t.generation++
	if len(t.slots) > maxKeptSlots || t.generation == 0 {
		*t = table{generation: 1}
	}
}

// find returns the index that was added with this hash and for which same says yes.
func (t *table) find(hash uint64, same func(index int32) bool) (int32, bool) {
	if t.used == 0 {
		return 0, false
	}
	mask := uint64(len(t.slots) - 1)
	for at := hash & mask; t.slots[at].generation == t.generation; at = (at + 1) & mask {
		s := &t.slots[at]
		if s.hash == hash && same(s.index) {
			return s.index, true
		}
	}
	return 0, false
}

// add puts an index into the table, which must not be there yet.
func (t *table) add(hash uint64, index int32) {
	if t.used >= len(t.slots)/2 {
		old := t.slots
		t.slots = make([]slot, max(firstSlots, 2*len(old)))
		for _, s := range old {
			if s.generation == t.generation {
				t.put(s.hash, s.index)
			}
		}
	}
	t.put(hash, index)
	t.used++
}

func (t *table) put(hash uint64, index int32) {
	mask := uint64(len(t.slots) - 1)
	at := hash & mask
	for t.slots[at].generation == t.generation {
		at = (at + 1) & mask
	}
	t.slots[at] = slot{hash: hash, generation: t.generation, index: index}
}
