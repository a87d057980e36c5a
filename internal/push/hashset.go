package push

import "hash/maphash"

// hashSeed keeps a body from choosing its hashes.
var hashSeed = maphash.MakeSeed()

// addHash returns the hash of what h stands for followed by text.
func addHash(h uint64, text []byte) uint64 {
	const odd = 0x9E3779B97F4A7C15
	h = (h ^ maphash.Bytes(hashSeed, text)) * odd
	return h ^ h>>32
}

// A hashSet finds what has been met already by hash: indices of something, each with its hash. Its memory is used again.
type hashSet struct {
	slots []hashSlot // a power of two, at most half of them in use
}

type hashSlot struct {
	hash  uint32 // the upper half
	index int32  // one more than the index; 0 if the slot is free
}

// maxKeptSlots is the size from which the memory is not kept.
const maxKeptSlots = 1 << 16

// reset empties the set and makes room for n indices.
func (s *hashSet) reset(n int) {
	size := 16
	for size < 2*n {
		size *= 2
	}
	if cap(s.slots) < size || cap(s.slots) > max(size, maxKeptSlots) {
		s.slots = make([]hashSlot, size)
		return
	}
	s.slots = s.slots[:size]
	clear(s.slots)
}

// find returns the index that was added with the hash and for which same is true.
func (s *hashSet) find(hash uint64, same func(index int) bool) (index int, ok bool) {
	at, ok := s.look(hash, same)
	return int(s.slots[at].index) - 1, ok
}

// add adds the index unless find would return another one, and says whether it did.
func (s *hashSet) add(hash uint64, index int, same func(index int) bool) bool {
	at, ok := s.look(hash, same)
	if !ok {
		s.slots[at] = hashSlot{hash: uint32(hash >> 32), index: int32(index) + 1}
	}
	return !ok
}

// look returns the slot of the index, or a free one.
func (s *hashSet) look(hash uint64, same func(index int) bool) (at int, ok bool) {
	mask := len(s.slots) - 1
	for at = int(hash) & mask; s.slots[at].index != 0; at = (at + 1) & mask {
		if s.slots[at].hash == uint32(hash>>32) && same(int(s.slots[at].index)-1) {
			return at, true
		}
	}
	return at, false
}
