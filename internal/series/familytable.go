package series

import "hash/maphash"

const (
	// familyShards is how many parts a table of families has. A push that makes one of them grow waits until that one is moved.
	familyShards = 64
	// familySlots is how many slots a shard begins with.
	familySlots = 8
)

// A familyTable finds families by name. It keeps a pointer for each and nothing else, because there may be as many families
// as groups have between them; a map with the names as keys takes three times as much, and gives nothing back.
type familyTable struct {
	seed   maphash.Seed
	shards [familyShards]familyShard
	len    int
}

// A familyShard is a hash table with linear probing. A family stands in the slot of its hash, or in one behind it with none
// empty between; the first slot is behind the last.
type familyShard struct {
	slots []*family // none, or a power of two; at most three quarters are taken
	len   int
}

func newFamilyTable() familyTable { return familyTable{seed: maphash.MakeSeed()} }

// familyOf returns the family of that name, or nil.
func familyOf[T string | []byte](t *familyTable, name T) *family {
	hash := hashName(t.seed, name)
	s := t.shard(hash)
	if s.len == 0 {
		return nil
	}
	for i := hash & s.mask(); s.slots[i] != nil; i = (i + 1) & s.mask() {
		if s.slots[i].name() == string(name) {
			return s.slots[i]
		}
	}
	return nil
}

func hashName[T string | []byte](seed maphash.Seed, name T) uint64 {
	if bytes, ok := any(name).([]byte); ok {
		return maphash.Bytes(seed, bytes) // as a string they might be copied
	}
	return maphash.String(seed, string(name))
}

// all yields the families, in no order.
func (t *familyTable) all(yield func(*family) bool) {
	for i := range t.shards {
		for _, f := range t.shards[i].slots {
			if f != nil && !yield(f) {
				return
			}
		}
	}
}

func (t *familyTable) shard(hash uint64) *familyShard { return &t.shards[hash>>58] }

func (s *familyShard) mask() uint64 { return uint64(len(s.slots) - 1) }

// add takes a family whose name is not there.
func (t *familyTable) add(f *family) {
	hash := hashName(t.seed, f.name())
	s := t.shard(hash)
	if 4*(s.len+1) > 3*len(s.slots) {
		s.resize(t.seed, max(familySlots, 2*len(s.slots)))
	}
	s.place(hash, f)
	s.len++
	t.len++
}

// place puts a family into the first empty slot from that of its hash on.
func (s *familyShard) place(hash uint64, f *family) {
	i := hash & s.mask()
	for s.slots[i] != nil {
		i = (i + 1) & s.mask()
	}
	s.slots[i] = f
}

func (s *familyShard) resize(seed maphash.Seed, slots int) {
	old := s.slots
	s.slots = make([]*family, slots)
	for _, f := range old {
		if f != nil {
			s.place(hashName(seed, f.name()), f)
		}
	}
}

// remove drops a family that is there under that name. It no longer needs to have one.
func (t *familyTable) remove(f *family, name string) {
	hash := hashName(t.seed, name)
	s := t.shard(hash)
	i := hash & s.mask()
	for s.slots[i] != f {
		i = (i + 1) & s.mask()
	}
	s.slots[i] = nil
	s.len--
	t.len--
	if s.len == 0 {
		s.slots = nil
		return
	}
	if len(s.slots) > familySlots && 8*s.len < len(s.slots) {
		s.resize(t.seed, len(s.slots)/2)
		return
	}
	// Those behind would not be found behind an empty slot.
	for i = (i + 1) & s.mask(); s.slots[i] != nil; i = (i + 1) & s.mask() {
		moved := s.slots[i]
		s.slots[i] = nil
		s.place(hashName(t.seed, moved.name()), moved)
	}
}
