package series

import (
	"hash/maphash"
	"math/bits"
)

// A Hasher gives label pairs hashes that can be added up: the sum over a label set does not depend on the order, and the
// labels of a group can be added to or taken from it. The seed is random, so that nobody can push collisions; and a collision costs an exact
// comparison, never a wrong answer. It is made by [NewHasher].
type Hasher struct{ seed maphash.Seed }

// NewHasher returns a hasher with a seed of its own.
func NewHasher() Hasher { return Hasher{seed: maphash.MakeSeed()} }

// Pair returns the hash of one label.
func (h Hasher) Pair(name, value string) uint64 {
	hi, lo := bits.Mul64(maphash.String(h.seed, name)|1, maphash.String(h.seed, value)+0x9e3779b97f4a7c15)
	return hi ^ lo
}

// name is the part of Pair that depends on the name alone, and value returns the whole.
func (h Hasher) name(name []byte) uint64 { return maphash.Bytes(h.seed, name) | 1 }

func (h Hasher) value(name uint64, value []byte) uint64 {
	hi, lo := bits.Mul64(name, maphash.Bytes(h.seed, value)+0x9e3779b97f4a7c15)
	return hi ^ lo
}
