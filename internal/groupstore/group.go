package groupstore

import (
	"strings"
	"sync/atomic"

	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/series"
)

// separator stands between names and values, as in a canonical grouping key: it occurs in no valid UTF-8.
const separator = "\xff"

// A layout is what groups with the same label names have in common. It is shared by them.
type layout struct {
	// Static after construction.
	id     string // the names, with a mark at those whose value is empty
	shape  *shape
	names  []string // all names, sorted
	pushed *series.Set
	failed *series.Set
	up     *series.Set
	late   *series.Set
	expiry *series.Set

	refs int // groups that use it; guarded by Store.mu
}

// A group is one grouping key and what it holds. A deleted group's object is never used again: a later push makes a new one.
type group struct {
	// Static after construction.
	key    grouping.Key
	normal string // the canonical key without empty labels (S7)
	labels series.Labels
	sum    uint64 // the sum of the label hashes
	layout *layout

	// Guarded by Store.mu.
	account *account // that it belongs to; nil for none
	born    uint64   // position of the change that made the group; never changes once it is in the store
	slot    int      // index in Store.slots, -1 once deleted
	state   *state   // what it holds; nil once deleted
	queued  int64    // when it comes up in lives.expiring; 0 if it is not there
	place   int      // its index there

	fate atomic.Pointer[fate] // as it was worked out last; see regime.fateOf
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
	broken string // why the job failed that pushed last, by its own account; empty if it did not
	// life is what was declared of the group's life; nil for nothing. It is the same pointer for as long as it says the same.
	life *lifetime.Declaration
	// later are fields of a later release; nil for none.
	later *laterFields
}

// LaterFields are fields of a later release, which this one keeps. They are immutable.
type laterFields struct{ notes, families string }

// newLater returns nil for none.
func newLater(notes, families string) *laterFields {
	if notes == "" && families == "" {
		return nil
	}
	return &laterFields{notes, families}
}

// ofNotes returns those about the group, and ofFamilies those about its present families.
func (l *laterFields) ofNotes() string {
	if l == nil {
		return ""
	}
	return l.notes
}

func (l *laterFields) ofFamilies() string {
	if l == nil {
		return ""
	}
	return l.families
}

// A part is one family of one group. It is immutable.
type part struct {
	set *series.Set
	// values are as the set has them, see package series.
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

// declared returns what was declared of the group's life.
func (st *state) declared() lifetime.Declaration { return st.noted().declared() }

func (n notes) declared() lifetime.Declaration {
	if n.life == nil {
		return lifetime.Declaration{}
	}
	return *n.life
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
		if parts[mid].set.Name() < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(parts) && parts[lo].set.Name() == name
}

// newGroup prepares a group. The layout is the one of its labels, which the store puts in place when the group is
// interned.
func newGroup(key grouping.Key, labels []grouping.Label, h series.Hasher) *group {
	g := &group{key: key, labels: series.NewLabels(labels), slot: -1}
	for _, l := range labels {
		if l.Value != "" {
			g.sum += h.Pair(l.Name, l.Value)
		}
	}
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

func newLayout(labels []grouping.Label, h series.Hasher) *layout {
	l := &layout{names: grouping.Names(labels)}
	l.id, l.shape = layoutID(labels), newShape(labels)
	l.pushed = series.Gauge(series.PushTimeFamily, pushTimeHelp, l.names, h)
	l.failed = series.Gauge(series.FailureTimeFamily, failureTimeHelp, l.names, h)
	l.up = series.Gauge(series.UpFamily, upHelp, l.names, h)
	l.late = series.Gauge(series.DueFamily, dueHelp, l.names, h)
	l.expiry = series.Gauge(series.ExpiryFamily, expiryHelp, l.names, h)
	return l
}

// textBytes estimates what the texts of the group take.
func (g *group) textBytes() int { return 2*len(g.key.Canonical()) + g.labels.Size() }

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
