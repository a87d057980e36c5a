package groupstore

import (
	"strconv"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// The registry knows, per family name, what other groups expose under it. Its cost per push depends on what is pushed and
// never on how many groups there are (S8).

// maxShapes is how many shapes a family may have before the exact index takes over from looking up possible owners.
const maxShapes = 8

// A sharedFamily is what all groups together have under one name. It exists as long as a heading of that name is in the table.
// All fields are guarded by Store.mu, but id never changes.
type sharedFamily struct {
	headings smallMap[*heading] // never empty
	// shape is the one of all visible parts. Once they have had several it is nil and several is not, until none is visible.
	shape   *shape
	several *severalShapes
	id      uint32 // dense; reused after the family is gone
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

// name returns the family's name.
func (f *sharedFamily) name() string { return f.headings.one.name() }

// known returns the skeleton with that encoding, or nil, and its heading, which may be there without it.
func (s *Store) known(head, rest []byte) (*heading, *skeleton) {
	h := headingOf(s, head)
	if h == nil {
		return nil, nil
	}
	return h, lookUp(&h.skeletons, rest)
}

// headingOf returns the heading with that text, or nil.
func headingOf[T string | []byte](s *Store, text T) *heading {
	f := familyOf(&s.families, nameIn(text))
	if f == nil {
		return nil
	}
	return lookUp(&f.headings, text)
}

// exchange counts that a group uses another skeleton, or its first or none.
func (s *Store) exchange(x replacement) {
	switch {
	case x.before == nil:
		s.acquire(x.after.skeleton)
	case x.after == nil:
		s.release(x.before.skeleton)
	default:
		s.exchangeSkeletons(x.before.skeleton, x.after.skeleton)
	}
}

func (s *Store) exchangeSkeletons(old, k *skeleton) {
	if old.heading == k.heading && old.refs.Load() == 1 && k.refs.Load() == 0 {
		s.swap(old, k)
		return
	}
	s.acquire(k) // first, or what both belong to would be dropped and made again
	s.release(old)
}

// swap puts a skeleton into the table in the place of one that the same group alone has used. It is for groups with label
// values of their own: when one of them changes, each of their families gets another skeleton.
func (s *Store) swap(old, k *skeleton) {
	old.refs.Store(0)
	k.refs.Store(1)
	k.skeletons.replace(old, k)
	s.leave(old)
	s.enter(k)
}

// enter accounts for a skeleton that enters the table, leave for one that leaves it for good.
func (s *Store) enter(k *skeleton) {
	k.entered = true
	s.totals.skeletons++
	s.totals.skeletonBytes += k.size()
	s.totals.ownBytes += len(k.rest)
}

func (s *Store) leave(k *skeleton) {
	s.totals.skeletons--
	s.totals.skeletonBytes -= k.size()
	s.totals.ownBytes -= len(k.rest)
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
	s.enter(k)
}

func (s *Store) addHeading(h *heading) {
	f := familyOf(&s.families, h.name())
	if f != nil {
		f.headings.add(h)
	} else {
		f = &sharedFamily{id: s.takeFamilyID()}
		f.headings.add(h)
		s.families.add(f)
	}
	h.family = f
	s.totals.headings++
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
	s.leave(k)
	if k.skeletons.empty() {
		s.dropHeading(k.heading)
	}
}

func (s *Store) dropHeading(h *heading) {
	s.totals.headings--
	f := h.family
	if f.headings.remove(h); f.headings.empty() {
		s.families.remove(f, h.name())
		s.freeFamilyIDs = append(s.freeFamilyIDs, f.id)
	}
	if s.families.len == 0 {
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
	head := headingOf(s, k.text)
	switch {
	case head != nil:
		if same := lookUp(&head.skeletons, k.rest); same != nil {
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
	head := headingOf(s, k.text)
	if head == nil {
		return newSkeleton(newHeading(k.text), k.rest, s.hasher)
	}
	if same := lookUp(&head.skeletons, k.rest); same != nil {
		return same
	}
	return newSkeleton(head, k.rest, s.hasher)
}

// expose counts a part as visible.
func (s *Store) expose(g *group, k *skeleton) {
	s.claim(g, k)
	f := k.family
	f.visible++
	f.typ = k.typ
	if f.several == nil {
		if f.visible == 1 || f.shape.equal(g.layout.shape) {
			f.shape = g.layout.shape
			return
		}
		f.several = &severalShapes{counts: []shapeCount{{f.shape, int(f.visible) - 1}}}
		f.shape = nil
	}
	f.several.expose(s, g, k)
}

func (v *severalShapes) expose(s *Store, g *group, k *skeleton) {
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
	v.index = s.newIndex(k.name(), v.counts)
	v.counts = nil
	v.index.insert(g, k)
}

// conceal counts a part as no longer visible.
func (s *Store) conceal(g *group, k *skeleton) {
	s.unclaim(g, k)
	f := k.family
	f.visible--
	if f.visible == 0 {
		f.shape, f.several = nil, nil
		return
	}
	if f.several != nil {
		f.several.conceal(g, k)
	}
}

func (v *severalShapes) conceal(g *group, k *skeleton) {
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

// collectedBefore is what clients know as the word for a series that is there twice.
const collectedBefore = "was collected before with the same name and label values"

// describe returns the beginning of an error about one metric of a family in a group.
func describe(k *skeleton, g *group, metric int) string {
	text := "collected metric " + strconv.Quote(brief(k.name(), shownBytes)) + " "
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
