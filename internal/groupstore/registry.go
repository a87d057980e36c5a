package groupstore

import (
	"strconv"

	"pushrelay/internal/exposition"
)

// The registry knows, per family name, what other groups expose under it. Its cost per push depends on what is pushed and
// never on how many groups there are (S8).

// maxShapes is how many shapes a family may have before the exact index takes over from looking up possible owners.
const maxShapes = 8

// A family is what all groups together have under one name. It exists as long as a heading of that name is in the table.
// All fields are guarded by Store.mu, but id and name never change.
type family struct {
	name     string
	id       uint32 // dense; reused after the family is gone
	headings int
	visible  int // parts that are exposed
	typ      exposition.Type
	shapes   []shapeCount // of the visible parts; not kept up once there is an index
	index    *index
}

// A shapeCount is how many visible parts belong to groups whose labels that are not empty have these names.
//
// Two groups of one shape never hold the same series, since their values differ; and of all groups of another shape only
// one can hold a given series: the one whose labels are that series' own. So shapes are all that need be tried.
type shapeCount struct {
	shape string
	parts int
}

// known returns the skeleton with that encoding, or nil, and its heading, which may be there without it.
func (s *Store) known(head, rest []byte) (*heading, *skeleton) {
	h := s.headings[string(head)]
	if h == nil {
		return nil, nil
	}
	return h, findSkeleton(&h.skeletons, rest)
}

// acquire counts one more part that uses the skeleton, and puts it into the table if it is not there.
func (s *Store) acquire(k *skeleton) {
	if k.refs.Add(1) > 1 {
		return
	}
	if k.skeletons.empty() {
		s.addHeading(k.heading)
	}
	k.skeletons.add(k)
	k.entered = true
	s.totals.skeletons++
	s.totals.skeletonBytes += k.size()
	s.totals.ownBytes += len(k.rest)
}

func (s *Store) addHeading(h *heading) {
	f := s.families[h.name]
	if f == nil {
		f = &family{name: h.name, id: s.takeFamilyID()}
		s.families[h.name] = f
	}
	f.headings++
	h.family = f
	s.headings[h.text] = h
}

// release counts one part less. An unused skeleton leaves the table for good, and its heading and family go with their last
// skeleton. One that is left to a single part keeps no pieces.
func (s *Store) release(k *skeleton) {
	switch k.refs.Add(-1) {
	case 0:
	case 1:
		k.renditions.Store(nil)
		return
	default:
		return
	}
	k.skeletons.remove(k)
	s.totals.skeletons--
	s.totals.skeletonBytes -= k.size()
	s.totals.ownBytes -= len(k.rest)
	if k.skeletons.empty() {
		s.dropHeading(k.heading)
	}
}

func (s *Store) dropHeading(h *heading) {
	delete(s.headings, h.text)
	if h.family.headings--; h.family.headings == 0 {
		delete(s.families, h.name)
		s.freeFamilyIDs = append(s.freeFamilyIDs, h.family.id)
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
// before cannot, nor can its heading, since views may still read to which family they belonged.
func (s *Store) interned(k *skeleton) *skeleton {
	head := s.headings[k.text]
	switch {
	case head != nil:
		if same := findSkeleton(&head.skeletons, k.rest); same != nil {
			return same
		}
	case k.family == nil:
		head = k.heading
	default:
		head = newHeading(k.text)
	}
	if k.entered {
		return newSkeleton(head, k.rest, s.hasher)
	}
	k.heading = head
	return k
}

// adopted returns the skeleton of the table that is equal to k, or a new one that can be put there. Unlike interned it takes
// nothing over from k, which may be a stand-in or belong to another store.
func (s *Store) adopted(k *skeleton) *skeleton {
	head := s.headings[k.text]
	if head == nil {
		return newSkeleton(newHeading(k.text), k.rest, s.hasher)
	}
	if same := findSkeleton(&head.skeletons, k.rest); same != nil {
		return same
	}
	return newSkeleton(head, k.rest, s.hasher)
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
