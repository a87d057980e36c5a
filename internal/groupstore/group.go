package groupstore

import (
	"strings"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
)

// separator stands between names and values, as in a canonical grouping key: it occurs in no valid UTF-8.
const separator = "\xff"

// A layout is what groups with the same label names have in common. It is shared by them.
type layout struct {
	// Static after construction.
	id     string // the names, with a mark at those whose value is empty
	shape  *shape
	names  []string // all names, sorted
	prefix []int    // per name the length of `name="`
	legacy bool     // every name can be written without quotes
	pushed *skeleton
	failed *skeleton

	refs int // groups that use it; guarded by Store.mu
}

// A group is one grouping key and what it holds. A deleted group's object is never used again: a later push makes a new one.
type group struct {
	// Static after construction.
	key    grouping.Key
	normal string // the canonical key without empty labels (S7)
	text   string // the labels as text, `name="value"` joined by commas
	ends   []uint32
	sum    uint64 // the sum of the label hashes
	layout *layout

	// Guarded by Store.mu.
	account *account // that it belongs to; nil for none
	born    uint64   // position of the change that made the group; never changes once it is in the store
	slot    int      // index in Store.slots, -1 once deleted
	state   *state   // what it holds; nil once deleted
}

// A state is what a group holds at one moment. It is immutable and replaced whole, so that whoever has it sees the families
// of one moment.
type state struct {
	group   *group
	version uint64 // position of the last change
	parts   []part // sorted by family name
	pushed  int64  // nanoseconds since the epoch, 0 for never
	lines   int    // exposition lines of all parts
	pinned  int    // bytes of all the strings that the parts' values are cut from
	notes   *notes // what most groups have nothing of; nil if so
}

// Notes are what a group holds only if something went wrong, or if its pushes come from somewhere that counts them.
type notes struct {
	failed int64  // nanoseconds since the epoch, 0 for never
	reason string // why the push at that time was rejected
	hidden string // why the whole group is not exposed; empty if it is
	marks  []mark // see mark
}

// A part is one family of one group. It is immutable.
type part struct {
	skeleton *skeleton
	// values holds, in the order of the skeleton's lines, each value in its text form followed by a line feed. Before them
	// stand the created timestamps and then the extras, if the skeleton says that there are any.
	values string
	pushed int64 // nanoseconds since the epoch
	hidden *hiding
}

// A hiding says why a part is in quarantine, and what it waits for (S9).
type hiding struct {
	reason string
	// name is the family whose leaving may free the part; empty if nothing can but a new push.
	name string
	// by is the group that must change or leave; nil if the whole family must.
	by *group
	// order rises in the order in which parts were hidden, and waiting parts are looked at in that order. It is set when
	// the part enters the store.
	order uint64
}

func (st *state) failed() int64 {
	if st.notes == nil {
		return 0
	}
	return st.notes.failed
}

// noted returns what a change takes over from the state unless it is about just that.
func (st *state) noted() notes {
	if st == nil || st.notes == nil {
		return notes{}
	}
	return *st.notes
}

// hidden returns why the whole group is not exposed, or nothing.
func (st *state) hidden() string {
	if st.notes == nil {
		return ""
	}
	return st.notes.hidden
}

// find returns the state's part of that family, or nil.
func (st *state) find(name string) *part {
	if st == nil {
		return nil
	}
	return findPart(st.parts, name)
}

// findPart returns the part of that family among parts that are sorted by name, or nil.
func findPart(parts []part, name string) *part {
	if i, ok := searchPart(parts, name); ok {
		return &parts[i]
	}
	return nil
}

// searchPart returns the index of the part of that family, or where it would stand, and whether it is there.
func searchPart(parts []part, name string) (int, bool) {
	lo, hi := 0, len(parts)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if parts[mid].skeleton.name() < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(parts) && parts[lo].skeleton.name() == name
}

// newGroup prepares a group. The layout is the one of its labels, which the store puts in place when the group is
// interned.
func newGroup(key grouping.Key, labels []grouping.Label, h hasher) *group {
	g := &group{key: key, ends: make([]uint32, len(labels)), slot: -1}
	text := make([]byte, 0, len(key.Canonical())+4*len(labels))
	for i, l := range labels {
		if i > 0 {
			text = append(text, ',')
		}
		text = exposition.AppendLabelName(text, l.Name)
		text = append(text, '=', '"')
		text = exposition.AppendEscapedLabelValue(text, l.Value)
		text = append(text, '"')
		g.ends[i] = uint32(len(text))
		if l.Value != "" {
			g.sum += h.pair(l.Name, l.Value)
		}
	}
	g.text = string(text)
	g.normal = normalKey(key, labels)
	return g
}

// normalKey returns the canonical key of the labels that are not empty.
func normalKey(key grouping.Key, labels []grouping.Label) string {
	full := true
	var b strings.Builder
	for _, l := range labels {
		if l.Value == "" {
			full = false
			continue
		}
		if b.Len() > 0 {
			b.WriteString(separator)
		}
		b.WriteString(l.Name)
		b.WriteString(separator)
		b.WriteString(l.Value)
	}
	if full {
		return key.Canonical()
	}
	return b.String()
}

// layoutID returns what tells layouts apart.
func layoutID(labels []grouping.Label) string {
	var id []byte
	for _, l := range labels {
		id = append(append(id, l.Name...), separator...)
		if l.Value == "" {
			id = append(id, separator...)
		}
	}
	return string(id)
}

func newShape(labels []grouping.Label) *shape {
	s := &shape{}
	for _, l := range labels {
		if l.Value != "" {
			s.names = append(s.names, l.Name)
		}
	}
	s.id = strings.Join(s.names, separator)
	return s
}

func newLayout(labels []grouping.Label, h hasher) *layout {
	l := &layout{legacy: true, names: make([]string, len(labels)), prefix: make([]int, len(labels))}
	for i, label := range labels {
		l.names[i] = label.Name
		l.prefix[i] = len(exposition.AppendLabelName(nil, label.Name)) + len(`="`)
		l.legacy = l.legacy && metric.IsLegacyLabelName(label.Name)
	}
	l.id, l.shape = layoutID(labels), newShape(labels)
	l.pushed = timeSkeleton(PushTimeFamily, pushTimeHelp, l.names, h)
	l.failed = timeSkeleton(FailureTimeFamily, failureTimeHelp, l.names, h)
	return l
}

// value returns the escaped value of the group's i-th label.
func (g *group) value(i int) string {
	start := 0
	if i > 0 {
		start = int(g.ends[i-1]) + 1
	}
	return g.text[start+g.layout.prefix[i] : g.ends[i]-1]
}

// run returns the text of the group's labels from (inclusive) to (exclusive).
func (g *group) run(from, to uint32) string {
	start := uint32(0)
	if from > 0 {
		start = g.ends[from-1] + 1
	}
	return g.text[start:g.ends[to-1]]
}

// nextLabel cuts the first label off a canonical key.
func nextLabel(canonical string) (name, value, rest string) {
	name, rest, _ = strings.Cut(canonical, separator)
	value, rest, _ = strings.Cut(rest, separator)
	return name, value, rest
}

// label returns the value of the group's label of that name as the equality of series sees it: empty if there is none.
func (g *group) label(name string) string {
	value, _ := g.key.Get(name)
	return value
}
