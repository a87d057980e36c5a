package groupstore

import (
	"slices"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/series"
)

// Sets is what a body is to a group apart from its values: which series, and in which order the store keeps their values.
// It lets a pusher who knows that a body is the same but for its values skip what the body was parsed for (S11).
type Sets struct {
	sets   []*series.Set // sorted by family name
	values string        // of the body that the sets were made of
	lines  int
	// replaced says that labels of the body gave way to those of the group, which they do not if the change may be hidden.
	replaced bool
	// began says that the body is one that is added, whose metrics have times at which they began.
	began bool
}

// SetsOf returns the sets of a body that a change has brought, or nil if the store would not take such a body or keeps
// more of it than its values as text.
func (s *Store) SetsOf(c *change.Change, body *exposition.Body) *Sets {
	d := draft{change: c, operation: c.Operation, labels: c.Key.Labels(), at: nanoseconds(c.At)}
	s.draftBody(&d, body)
	if d.fault != "" || len(d.parts) == 0 || dependsOnPusher(c, d.replaced, s.accounts.label) {
		return nil
	}
	o := &Sets{lines: d.lines, replaced: len(d.replaced) > 0, began: c.Operation == change.Add}
	for i := range d.parts {
		k := d.parts[i].set
		if !k.HasValuesOnly() && (!o.began || k.HasExtra()) {
			return nil
		}
		o.sets = append(o.sets, k)
		o.values += k.Tokens(d.parts[i].values)
	}
	return o
}

// dependsOnPusher says whether it depends on who pushed what becomes of the labels that gave way, so that the sets would be wrong for others.
func dependsOnPusher(c *change.Change, replaced []string, accountLabel string) bool {
	return len(replaced) > 0 && (c.MayBeHidden || slices.Contains(replaced, accountLabel))
}

// Values returns the values of the body that the sets were made of, in the order in which [Content] wants them,
// each followed by a line feed.
func (o *Sets) Values() string { return o.values }

// Equal says whether they are the same series in the same order, with the same grouping labels.
func (o *Sets) Equal(other *Sets) bool {
	return slices.EqualFunc(o.sets, other.sets, (*series.Set).Equal)
}

// takesValues says whether the draft changes nothing but values of the group, and no origin stands in its way.
func (x *decision) takesValues() bool {
	d, g := &x.draft, x.group
	if g == nil || x.standing != alive || d.known.replaced && d.change.MayBeHidden || len(d.parts) == 0 || g.state.hidden() != "" || d.operation == change.Replace && len(d.parts) != len(g.state.parts) || unchanged(d.parts, g.state) != len(d.parts) {
		return false
	}
	_, duplicate, _ := x.covering()
	return !duplicate && !x.isSuperseded()
}

// replaceValues decides a draft that changes nothing but values of the group.
func (x *decision) replaceValues() {
	d, e, g := &x.draft, &x.effect, x.group
	noted := g.state.noted()
	e.Operation, e.Key, e.Seen = d.operation, d.key, g.state.version
	e.PushedAt, e.FailedAt, e.Reason = x.pushedAt(), noted.failed, noted.reason
	e.life, e.broken, e.later = noted.declared().And(d.change.Life), d.change.Failed, newLater(noted.later.ofNotes(), "")
	e.parts, e.lines, e.valueSize = d.parts, d.lines, d.valueSize
}

// parts cuts values into the parts of the sets' families; nil if they are not as many.
func (o *Sets) parts(values string, at int64) []part {
	parts := make([]part, len(o.sets))
	for i, k := range o.sets {
		end := 0
		for range k.Lines() {
			for end < len(values) && values[end] != '\n' {
				end++
			}
			if end == len(values) {
				return nil
			}
			end++
		}
		parts[i] = part{set: k, values: values[:end], pushed: at}
		values = values[end:]
	}
	if values != "" {
		return nil
	}
	if o.began {
		begin(parts, at)
	}
	return parts
}

// begin puts before the values of parts that their metrics began at that time.
func begin(parts []part, at int64) {
	size := 0
	for i := range parts {
		size += 8*parts[i].set.Metrics() + len(parts[i].values)
	}
	buf, ends := make([]byte, 0, size), make([]int, len(parts))
	for i := range parts {
		buf = append(parts[i].set.AppendBegan(buf, at), parts[i].values...)
		ends[i] = len(buf)
	}
	cutValues(parts, string(buf), ends)
}

// cutValues cuts the values of all parts from one string, in which those of each have that end.
func cutValues(parts []part, values string, ends []int) {
	start := 0
	for i := range parts {
		parts[i].values = values[start:ends[i]]
		start = ends[i]
	}
}
