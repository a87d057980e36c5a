package recent

import (
	"slices"

	"pushrelay/internal/grouping"
)

const (
	// maxRefusals is how many refused pushes are remembered, whatever groups they were to, and maxRefusalBytes what they may take together.
	maxRefusals     = 100
	maxRefusalBytes = 256 << 10
	// refusalBytes is what one takes beside its key and its detail.
	refusalBytes = 120
)

// A Refusal is a push that was not taken. Its key is zero where it was to no group.
type Refusal struct {
	Key grouping.Key
	Push
}

// refusals are the last ones, the newest last. The zero value has none.
type refusals struct {
	list  []Refusal
	bytes int
}

func (f *refusals) note(key grouping.Key, p Push) {
	p.Detail = cut(p.Detail)
	r := Refusal{key, p}
	f.list, f.bytes = append(f.list, r), f.bytes+sizeOf(&r)
	for len(f.list) > maxRefusals || f.bytes > maxRefusalBytes {
		f.bytes -= sizeOf(&f.list[0])
		f.list = slices.Delete(f.list, 0, 1)
	}
}

func sizeOf(r *Refusal) int { return refusalBytes + len(r.Key.Canonical()) + len(r.Detail) }

// Refusals returns the last pushes that were not taken, the newest first.
func (r *Recent) Refusals() []Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := slices.Clone(r.refusals.list)
	slices.Reverse(last)
	return last
}
