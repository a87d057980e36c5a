package groupstore

import (
	"hash/maphash"
	"math/bits"
)

// A hasher gives label pairs hashes that can be added up: the sum over a label set does not depend on the order, and the
// labels of a group can be added to or taken from it. The seed is random per store, so that nobody can push collisions;
// and a collision costs an exact comparison, never a wrong answer.
type hasher struct{ seed maphash.Seed }

func newHasher() hasher { return hasher{seed: maphash.MakeSeed()} }

// pair returns the hash of one label.
func (h hasher) pair(name, value string) uint64 {
	hi, lo := bits.Mul64(maphash.String(h.seed, name)|1, maphash.String(h.seed, value)+0x9e3779b97f4a7c15)
	return hi ^ lo
}
