package groupstore

import (
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// What groups expose is known by family, so that the cost of a push depends on what is pushed and never on how many groups there are (S8).

// maxShapes is how many shapes a family may have before the exact index takes over from looking up possible owners.
const maxShapes = 8

// An exposure is what all groups together expose under one name. The zero exposure is nothing. All fields are guarded by Store.mu.
type exposure struct {
	// shape is the one of all visible parts. Once they have had several it is nil and several is not, until none is visible.
	shape   *shape
	several *severalShapes
	example *group // one that exposes the family; nil if none is known
	visible uint32 // parts that are exposed
	typ     metric.Type
}

// SeveralShapes says where to look for the owner of a series of a family whose parts have several shapes.
type severalShapes struct {
	counts []shapeCount // not kept up once there is an index
	index  *index
}

// A shape is what the labels of a group that are not empty are called.
//
// Two groups of one shape never hold the same series, since their values differ; and of all groups of another shape only
// one can hold a given series: the one whose labels are that series' own. So shapes are all that need be tried.
type shape struct {
	id    string // tells shapes apart
	names []string
}

// A shapeCount is how many visible parts belong to groups of a shape.
type shapeCount struct {
	shape *shape
	parts int
}

func (s *shape) equal(other *shape) bool { return s == other || s.id == other.id }

// exposures are what is exposed, by family. They are guarded by Store.mu.
type exposures struct {
	sets     *series.Table // has the numbers of the families
	slots    *slots        // all groups
	byFamily []exposure
}

// of returns what is exposed under a name, or nil.
func (xs *exposures) of(name string) *exposure {
	id, ok := xs.sets.Family(name)
	if !ok || int(id) >= len(xs.byFamily) {
		return nil
	}
	return &xs.byFamily[id]
}

// add counts a part as visible. Its set is in the table.
func (xs *exposures) add(g *group, k *series.Set) {
	id := int(k.FamilyID())
	if id >= len(xs.byFamily) {
		xs.byFamily = append(xs.byFamily, make([]exposure, id+1-len(xs.byFamily))...)
	}
	x := &xs.byFamily[id]
	x.visible++
	if x.example == nil {
		x.example = g
	}
	x.typ = k.Type()
	if x.several == nil {
		if x.visible == 1 || x.shape.equal(g.layout.shape) {
			x.shape = g.layout.shape
			return
		}
		x.several = &severalShapes{counts: []shapeCount{{x.shape, int(x.visible) - 1}}}
		x.shape = nil
	}
	x.several.add(xs.slots, g, k)
}

func (v *severalShapes) add(all *slots, g *group, k *series.Set) {
	if v.index != nil {
		v.index.insert(g, k)
		return
	}
	for i := range v.counts {
		if v.counts[i].shape.equal(g.layout.shape) {
			v.counts[i].parts++
			return
		}
	}
	if len(v.counts) < maxShapes {
		v.counts = append(v.counts, shapeCount{shape: g.layout.shape, parts: 1})
		return
	}
	v.index = newIndex(all, k.Name(), v.counts)
	v.counts = nil
	v.index.insert(g, k)
}

// remove counts a part as no longer visible.
func (xs *exposures) remove(g *group, k *series.Set) {
	x := &xs.byFamily[k.FamilyID()]
	x.visible--
	if x.example == g {
		x.example = nil
	}
	if x.visible == 0 {
		*x = exposure{}
		return
	}
	if x.several != nil {
		x.several.remove(g, k)
	}
}

func (v *severalShapes) remove(g *group, k *series.Set) {
	if v.index != nil {
		v.index.remove(g, k)
		return
	}
	for i := range v.counts {
		if !v.counts[i].shape.equal(g.layout.shape) {
			continue
		}
		v.counts[i].parts--
		if v.counts[i].parts == 0 {
			last := len(v.counts) - 1
			v.counts[i] = v.counts[last]
			v.counts = v.counts[:last]
		}
		return
	}
}

// advance lets the index of a family that changed be filled further.
func (xs *exposures) advance(name string) {
	if x := xs.of(name); x != nil && x.several != nil && x.several.index != nil {
		x.several.index.advance()
	}
}
