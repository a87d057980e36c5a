package groupstore

import (
	"strconv"

	"pushrelay/internal/exposition"
)

// The registry knows, per family name, what other groups expose under it. Its cost per push depends on what is pushed and
// never on how many groups there are (S8).

// maxShapes is how many shapes a family may have before the exact index takes over from looking up possible owners.
const maxShapes = 8

// A family is what all groups together have under one name. It exists as long as a skeleton of that name is in the table.
// All fields are guarded by Store.mu, but id and name never change.
type family struct {
	name      string
	id        uint32 // dense; reused after the family is gone
	skeletons int
	visible   int // parts that are exposed
	typ       exposition.Type
	shapes    []shapeCount // of the visible parts; not kept up once there is an index
	index     *index
}

// A shapeCount is how many visible parts belong to groups whose labels that are not empty have these names.
//
// Two groups of one shape never hold the same series, since their values differ; and of all groups of another shape only
// one can hold a given series: the one whose labels are that series' own. So shapes are all that need be tried.
type shapeCount struct {
	shape string
	parts int
}

// acquire counts one more part that uses the skeleton, and puts it into the table if it is not there.
func (s *Store) acquire(k *skeleton) {
	k.refs++
	if k.refs > 1 {
		return
	}
	f := s.families[k.name]
	if f == nil {
		f = &family{name: k.name, id: s.takeFamilyID()}
		s.families[k.name] = f
	}
	f.skeletons++
	k.family = f
	s.skeletons[k.encoding] = k
	s.totals.skeletonBytes += len(k.encoding)
}

// release counts one part less. An unused skeleton leaves the table for good, and a family without skeletons goes with it.
func (s *Store) release(k *skeleton) {
	k.refs--
	if k.refs > 0 {
		return
	}
	delete(s.skeletons, k.encoding)
	s.totals.skeletonBytes -= len(k.encoding)
	k.family.skeletons--
	if k.family.skeletons == 0 {
		delete(s.families, k.name)
		s.freeFamilyIDs = append(s.freeFamilyIDs, k.family.id)
	}
	if len(s.families) == 0 {
		s.familyIDs, s.freeFamilyIDs = 0, nil
	}
}

func (s *Store) takeFamilyID() uint32 {
	if n := len(s.freeFamilyIDs); n > 0 {
		id := s.freeFamilyIDs[n-1]
		s.freeFamilyIDs = s.freeFamilyIDs[:n-1]
		return id
	}
	s.familyIDs++
	return s.familyIDs - 1
}

// interned returns the skeleton of the table that is equal to k, or one that can be put there. One that has been there
// before cannot, since views may still read to which family it belonged.
func (s *Store) interned(k *skeleton) *skeleton {
	if same := s.skeletons[k.encoding]; same != nil {
		return same
	}
	if k.family != nil {
		return newSkeleton(k.encoding, s.hasher)
	}
	return k
}

// expose counts a part as visible.
func (s *Store) expose(g *group, k *skeleton) {
	f := k.family
	f.visible++
	f.typ = k.typ
	if f.index != nil {
		f.index.insert(g, k)
		return
	}
	for i := range f.shapes {
		if f.shapes[i].shape == g.layout.shape {
			f.shapes[i].parts++
			return
		}
	}
	if len(f.shapes) < maxShapes {
		f.shapes = append(f.shapes, shapeCount{shape: g.layout.shape, parts: 1})
		return
	}
	f.index = s.newIndex(f)
	f.index.insert(g, k)
}

// conceal counts a part as no longer visible.
func (s *Store) conceal(g *group, k *skeleton) {
	f := k.family
	f.visible--
	if f.visible == 0 {
		f.shapes, f.index = nil, nil
		return
	}
	if f.index != nil {
		f.index.remove(g, k)
		return
	}
	for i := range f.shapes {
		if f.shapes[i].shape != g.layout.shape {
			continue
		}
		f.shapes[i].parts--
		if f.shapes[i].parts == 0 {
			last := len(f.shapes) - 1
			f.shapes[i] = f.shapes[last]
			f.shapes = f.shapes[:last]
		}
		return
	}
}

// typeName returns the name of a type in errors.
func typeName(t exposition.Type) string {
	switch t {
	case exposition.Gauge:
		return "GAUGE"
	case exposition.Counter:
		return "COUNTER"
	case exposition.Summary:
		return "SUMMARY"
	case exposition.Histogram:
		return "HISTOGRAM"
	case exposition.GaugeHistogram:
		return "GAUGE_HISTOGRAM"
	default:
		return "UNTYPED"
	}
}

// collectedBefore is what clients know as the word for a series that is there twice.
const collectedBefore = "was collected before with the same name and label values"

// describe returns the beginning of an error about one metric of a family in a group.
func describe(k *skeleton, g *group, metric int) string {
	text := "collected metric " + strconv.Quote(brief(k.name, shownBytes)) + " "
	for r := k.read(); metric >= 0 && r.next(); {
		if r.metric == metric {
			return text + brief(string(r.appendLabels(nil, g)), shownBytes) + " "
		}
	}
	return text
}

// appendLabels appends all labels of the current metric in braces, for people.
func (r *reader) appendLabels(dst []byte, g *group) []byte {
	dst = append(dst, '{')
	for i, l := range r.labels {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = exposition.AppendLabelName(dst, l.name)
		dst = append(dst, '=', '"')
		if l.hole >= 0 {
			dst = append(dst, g.value(l.hole)...)
		} else {
			dst = exposition.AppendEscapedLabelValue(dst, r.values[i])
		}
		dst = append(dst, '"')
	}
	return append(dst, '}')
}
