package series

import "pushrelay/internal/smallmap"

// A Table holds the sets that are in use, each once for all who have it, and gives the families numbers. It is made by [NewTable], and guarded
// by a lock of its owner, as are the counts in its sets. Only New may be called without it.
type Table struct {
	hasher   Hasher // static
	families familyTable
	ids      uint32
	freeIDs  []uint32
	counts   Counts
}

// Counts are the sizes of a table.
type Counts struct {
	Sets, Headings, Families int
	// Bytes is the length of all encodings, and OwnBytes without their headings.
	Bytes, OwnBytes int
}

// A family is what all headings with one name have in common. It exists as long as one of them is in the table.
type family struct {
	headings smallmap.Map[*heading] // empty once it is gone
	id       uint32                 // reused after the family is gone
}

// isGone says whether the family is not in the table any more.
func (f *family) isGone() bool { return f.headings.IsEmpty() }

func (f *family) name() string { return f.headings.Any().Name() }

// NewTable returns an empty table. The sums of its sets are those of the hasher.
func NewTable(h Hasher) Table { return Table{hasher: h, families: newFamilyTable()} }

// Clear drops all sets, whoever uses them.
func (t *Table) Clear() {
	for f := range t.families.all {
		f.headings = smallmap.Map[*heading]{}
	}
	t.families, t.ids, t.freeIDs, t.counts = newFamilyTable(), 0, nil, Counts{} // and not hasher, which others read
}

// Counts returns the present sizes.
func (t *Table) Counts() Counts {
	c := t.counts
	c.Families = t.families.len
	return c
}

// Family returns the number of the family of that name. Numbers are small, and are given again once a family is gone.
func (t *Table) Family(name string) (id uint32, ok bool) {
	f := familyOf(&t.families, name)
	if f == nil {
		return 0, false
	}
	return f.id, true
}

// Families returns a number that is higher than those of all families.
func (t *Table) Families() int { return int(t.ids) }

// FamilyID returns the number of the set's family in the table that it has entered. It stays after the set has left, and may be asked for
// without a lock.
func (h *heading) FamilyID() uint32 { return h.family.id }

// Find returns the set of the encoder's i-th family; nil if the table has none.
func (t *Table) Find(e *Encoder, i int) *Set {
	head, rest := e.pieces(i)
	h := headingOf(t, head)
	if h == nil {
		return nil
	}
	e.families[i].heading = h
	return smallmap.Find(&h.sets, rest)
}

// New returns a new set of the encoder's i-th family, which Find did not find.
func (t *Table) New(e *Encoder, i int) *Set {
	head, rest := e.pieces(i)
	h := e.families[i].heading
	if h == nil {
		h = newHeading(string(head))
	}
	return newSet(h, string(rest), t.hasher)
}

// Decode returns the set of an encoding, of which nothing is kept: the one that the table has, or one that is good for nothing but its names,
// Lines, Fits and Adopt.
func (t *Table) Decode(encoding []byte) (*Set, error) {
	head, rest, ok := cutHeading(encoding)
	if !ok {
		return nil, errEncoding
	}
	h := headingOf(t, head)
	if h != nil {
		if k := smallmap.Find(&h.sets, rest); k != nil {
			return k, nil
		}
	}
	lines, err := inspect(encoding)
	if err != nil {
		return nil, err
	}
	if h == nil {
		h = newHeading(string(head))
	}
	return &Set{heading: h, rest: string(rest), lines: uint32(lines)}, nil
}

// newSet derives a set from the two pieces of its encoding.
func newSet(h *heading, rest string, hasher Hasher) *Set {
	k := &Set{heading: h, rest: rest}
	sums := k.sum[:0]
	if h.metrics > 1 {
		sums = make([]uint64, 0, h.metrics)
	}
	k.derive(hasher, new(reader), sums)
	return k
}

// headingOf returns the heading with that text, or nil.
func headingOf[T string | []byte](t *Table, text T) *heading {
	f := familyOf(&t.families, nameIn(text))
	if f == nil {
		return nil
	}
	return smallmap.Find(&f.headings, text)
}

// Intern returns the set of the table that is equal to k, or one that can enter it. One that has been there before cannot, nor can its heading,
// since others may still read to which family they belonged. k is of this table.
func (t *Table) Intern(k *Set) *Set {
	if k.refs.Load() > 0 && !k.family.isGone() {
		return k
	}
	h := headingOf(t, k.text)
	switch {
	case h != nil:
		if same := smallmap.Find(&h.sets, k.rest); same != nil {
			return same
		}
	case k.family == nil:
		h = k.heading
	default:
		h = newHeading(k.text)
	}
	if k.entered {
		return newSet(h, k.rest, t.hasher)
	}
	k.heading = h
	return k
}

// Adopt returns the set of the table that is equal to k, or a new one that can enter it. It takes nothing over from k, which may have been decoded
// or be of another table.
func (t *Table) Adopt(k *Set) *Set {
	h := headingOf(t, k.text)
	if h == nil {
		return newSet(newHeading(k.text), k.rest, t.hasher)
	}
	if same := smallmap.Find(&h.sets, k.rest); same != nil {
		return same
	}
	return newSet(h, k.rest, t.hasher)
}

// Exchange counts that somebody uses a set in the place of another. One of them may be nil.
func (t *Table) Exchange(before, after *Set) {
	switch {
	case before == nil:
		t.acquire(after)
	case after == nil:
		t.release(before)
	case before.heading == after.heading && before.refs.Load() == 1 && after.refs.Load() == 0:
		t.swap(before, after)
	default:
		t.acquire(after) // first, or what both belong to would be dropped and made again
		t.release(before)
	}
}

// swap puts a set into the table in the place of one that the same group alone has used. It is for groups with label
// values of their own: when one of them changes, each of their families gets another set.
func (t *Table) swap(before, after *Set) {
	before.refs.Store(0)
	after.refs.Store(1)
	after.sets.Replace(before, after)
	t.countOut(before)
	t.countIn(after)
}

// countIn accounts for a set that enters the table, countOut for one that leaves it for good.
func (t *Table) countIn(k *Set) {
	k.entered = true
	t.counts.Sets++
	t.counts.Bytes += k.Size()
	t.counts.OwnBytes += len(k.rest)
}

func (t *Table) countOut(k *Set) {
	t.counts.Sets--
	t.counts.Bytes -= k.Size()
	t.counts.OwnBytes -= len(k.rest)
}

// acquire counts one more who uses the set, and puts it into the table if it is not there.
func (t *Table) acquire(k *Set) {
	if k.refs.Add(1) > 1 {
		return
	}
	if k.sets.IsEmpty() {
		t.addHeading(k.heading)
	}
	k.sets.Add(k)
	t.countIn(k)
}

func (t *Table) addHeading(h *heading) {
	f := familyOf(&t.families, h.Name())
	if f != nil {
		f.headings.Add(h)
	} else {
		f = &family{id: t.takeID()}
		f.headings.Add(h)
		t.families.add(f)
	}
	h.family = f
	t.counts.Headings++
}

// release counts one less. An unused set leaves the table for good, and its heading and family go with their last set. One that is left to a
// single user keeps no pieces.
func (t *Table) release(k *Set) {
	switch k.refs.Add(-1) {
	case 0:
	case 1:
		k.renditions.Store(nil)
		return
	default:
		return
	}
	k.sets.Remove(k)
	t.countOut(k)
	if k.sets.IsEmpty() {
		t.dropHeading(k.heading)
	}
}

func (t *Table) dropHeading(h *heading) {
	t.counts.Headings--
	f := h.family
	if f.headings.Remove(h); f.isGone() {
		t.families.remove(f, h.Name())
		t.freeIDs = append(t.freeIDs, f.id)
	}
	if t.families.len == 0 {
		t.ids, t.freeIDs = 0, nil
	}
}

func (t *Table) takeID() uint32 {
	if n := len(t.freeIDs); n > 0 {
		id := t.freeIDs[n-1]
		t.freeIDs = t.freeIDs[:n-1]
		return id
	}
	t.ids++
	return t.ids - 1
}
