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

// exposureOf returns what is exposed under a name, or nil.
func (s *Store) exposureOf(name string) *exposure {
	id, ok := s.sets.Family(name)
	if !ok || int(id) >= len(s.exposures) {
		return nil
	}
	return &s.exposures[id]
}

// expose counts a part as visible. Its set is in the table.
func (s *Store) expose(g *group, k *series.Set) {
	s.claim(g, k)
	id := int(k.FamilyID())
	if id >= len(s.exposures) {
		s.exposures = append(s.exposures, make([]exposure, id+1-len(s.exposures))...)
	}
	x := &s.exposures[id]
	x.visible++
	x.typ = k.Type()
	if x.several == nil {
		if x.visible == 1 || x.shape.equal(g.layout.shape) {
			x.shape = g.layout.shape
			return
		}
		x.several = &severalShapes{counts: []shapeCount{{x.shape, int(x.visible) - 1}}}
		x.shape = nil
	}
	x.several.expose(s, g, k)
}

func (v *severalShapes) expose(s *Store, g *group, k *series.Set) {
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
	v.index = s.newIndex(k.Name(), v.counts)
	v.counts = nil
	v.index.insert(g, k)
}

// conceal counts a part as no longer visible.
func (s *Store) conceal(g *group, k *series.Set) {
	s.unclaim(g, k)
	x := &s.exposures[k.FamilyID()]
	x.visible--
	if x.visible == 0 {
		*x = exposure{}
		return
	}
	if x.several != nil {
		x.several.conceal(g, k)
	}
}

func (v *severalShapes) conceal(g *group, k *series.Set) {
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
