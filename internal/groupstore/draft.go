package groupstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
)

// A draft is a change made ready outside every lock: whatever needs nothing but the push is done and known.
type draft struct {
	change    *change.Change
	operation change.Operation // that of the change, or Mark if it is refused
	key       grouping.Key
	source    *source // of the change's origin, found when the draft is decided; nil without one
	labels    []grouping.Label
	group     *group // prepared in case that the store has none; nil if it had one
	at        int64  // when it was pushed
	parts     []part // sorted by family name; their skeletons may not be in the table yet
	lines     int
	valueSize int             // bytes of the string that all values are cut from
	outline   *Outline        // that the parts are of; nil if they are not
	fault     string          // what is wrong with the push whatever the store holds; empty if nothing
	told      *change.Outcome // what the pusher hears whatever is decided for good, unless it is superseded or was taken before; nil if that depends
	version   uint64          // that the group must have; 0 for any
	imported  *Import         // nil for what was pushed
}

// A drafter holds the scratch memory of drafting.
type drafter struct {
	enc    encoder
	group  []slot // the grouping labels, and an empty instance if there is none among them
	slots  []slot // the labels of the metrics of one family, one after the other
	spans  []span // the metrics of one family
	values []byte
	cuts   []encodedFamily
	heads  []*heading // of the cuts, those that the table has
	byName []int
}

// A span is one metric: its labels in drafter.slots and its place in the body.
type span struct{ start, end, metric int }

// An encodedFamily is one family: its encoding in encoder.out, the heading first and then the rest, and its values in drafter.values.
type encodedFamily struct{ encoded, rest, valued, lines int }

// draftBody encodes a body. It is not used after that.
func (s *Store) draftBody(d *draft, b *exposition.Body) {
	w := s.drafters.Get().(*drafter)
	d.fault = w.encode(b, d.labels)
	s.cutParts(d, w)
	w.enc.last, w.enc.bounds = nil, nil
	s.drafters.Put(w)
}

// nanoseconds returns t since the epoch; 0, which stands for never, only for the zero time.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// encode writes all families of the body and returns what is wrong with the push as a whole.
func (w *drafter) encode(b *exposition.Body, labels []grouping.Label) (fault string) {
	w.enc.out, w.values, w.cuts = w.enc.out[:0], w.values[:0], w.cuts[:0]
	w.setGroup(labels)
	holes := make([]string, len(labels))
	for i := range labels {
		holes[i] = labels[i].Name
	}
	w.byName = w.byName[:0]
	for i := range b.Families {
		if hasTimestamps(b, &b.Families[i]) {
			return "pushed metrics must not have timestamps"
		}
		if !isTimeFamily(b.Families[i].Name) {
			w.byName = append(w.byName, i)
		}
	}
	slices.SortFunc(w.byName, func(i, j int) int { return bytes.Compare(b.Families[i].Name, b.Families[j].Name) })
	for _, i := range w.byName {
		if fault = w.family(b, &b.Families[i], holes); fault != "" {
			return fault
		}
	}
	return ""
}

func hasTimestamps(b *exposition.Body, f *exposition.Family) bool {
	for i := f.Metrics.Start; i < f.Metrics.End; i++ {
		if b.Metrics[i].HasTimestamp {
			return true
		}
	}
	return false
}

// setGroup prepares the grouping labels. A pushed instance stays unless the key has one; the empty one is the least.
func (w *drafter) setGroup(labels []grouping.Label) {
	w.group = w.group[:0]
	instance := false
	for i, l := range labels {
		if !instance && l.Name >= model.InstanceLabel {
			instance = true
			if l.Name != model.InstanceLabel {
				w.group = append(w.group, slot{name: []byte(model.InstanceLabel), hole: -1})
			}
		}
		w.group = append(w.group, slot{name: []byte(l.Name), value: []byte(l.Value), hole: i})
	}
	if !instance {
		w.group = append(w.group, slot{name: []byte(model.InstanceLabel), hole: -1})
	}
}

// family encodes one family and its values.
func (w *drafter) family(b *exposition.Body, f *exposition.Family, holes []string) (fault string) {
	w.slots, w.spans = w.slots[:0], w.spans[:0]
	flags := flagsOf(b, f)
	for i := f.Metrics.Start; i < f.Metrics.End; i++ {
		m := &b.Metrics[i]
		if points := m.Points.Len(); points < f.Type.Lines(0) {
			return "metric family " + string(f.Name) + " lacks values"
		}
		start := len(w.slots)
		w.merge(b.Labels[m.Labels.Start:m.Labels.End])
		w.spans = append(w.spans, span{start, len(w.slots), int(i)})
	}
	if !slices.IsSortedFunc(w.spans, w.compare) {
		slices.SortStableFunc(w.spans, w.compare)
	}
	c := encodedFamily{encoded: len(w.enc.out), valued: len(w.values)}
	help := f.Help
	if flags&hasHelp != 0 && !utf8.Valid(help) {
		help = bytes.ToValidUTF8(help, []byte("\uFFFD"))
	}
	w.enc.family(f.Type, string(f.Name), string(help), string(f.Unit), flags, holes, len(w.spans))
	w.extras(b, flags)
	for _, sp := range w.spans {
		points := b.Points[b.Metrics[sp.metric].Points.Start:b.Metrics[sp.metric].Points.End]
		c.lines += len(points)
		for i := range points {
			w.values = append(append(w.values, points[i].Token...), '\n')
		}
		bounded := !f.Type.Simple()
		var bounds []exposition.Point
		if bounded {
			bounds = points[:len(points)-2]
		}
		w.enc.metric(w.slots[sp.start:sp.end], bounds, bounded)
	}
	c.rest = w.enc.headed
	w.cuts = append(w.cuts, c)
	return ""
}

func flagsOf(b *exposition.Body, f *exposition.Family) byte {
	flags := byte(0)
	if f.HasHelp {
		flags |= hasHelp
	}
	if len(f.Unit) > 0 && utf8.Valid(f.Unit) {
		flags |= hasUnit
	}
	for i := f.Metrics.Start; i < f.Metrics.End; i++ {
		if b.Metrics[i].Created != 0 {
			flags |= hasCreated
		}
		if b.Metrics[i].Extra != nil {
			flags |= hasExtra
		}
	}
	return flags
}

// extras writes what stands before the values of a family, see part.values.
func (w *drafter) extras(b *exposition.Body, flags byte) {
	if flags&hasCreated != 0 {
		for _, sp := range w.spans {
			w.values = binary.LittleEndian.AppendUint64(w.values, uint64(b.Metrics[sp.metric].Created))
		}
	}
	if flags&hasExtra == 0 {
		return
	}
	for _, sp := range w.spans {
		extra := b.Metrics[sp.metric].Extra
		if extra == nil {
			w.values = append(w.values, 0)
			continue
		}
		w.values = appendText(append(w.values, extraForm(extra)), extra.Wire)
	}
}

// The forms in which a metric can have an extra. Without one, a single zero byte stands for it.
const (
	extraClassic = 1 + iota
	extraNative
)

func extraForm(e *exposition.Extra) byte {
	if e.Native {
		return extraNative
	}
	return extraClassic
}

// merge appends the labels of one metric: the pushed ones, overwritten and completed by those of the group.
func (w *drafter) merge(pushed []exposition.Label) {
	group := w.group
	for len(pushed) > 0 && len(group) > 0 {
		switch c := bytes.Compare(pushed[0].Name, group[0].name); {
		case c < 0:
			w.slots = append(w.slots, slot{pushed[0].Name, pushed[0].Value, -1})
			pushed = pushed[1:]
		case c > 0:
			w.slots = append(w.slots, group[0])
			group = group[1:]
		case group[0].hole < 0: // the implicit instance yields to a pushed one
			group = group[1:]
		default:
			pushed = pushed[1:]
		}
	}
	for _, l := range pushed {
		w.slots = append(w.slots, slot{l.Name, l.Value, -1})
	}
	w.slots = append(w.slots, group...)
}

// compare orders metrics as the Pushgateway exposes them within a group: fewer labels first, then by the values in the
// order of the names.
func (w *drafter) compare(a, b span) int {
	if c := cmp.Compare(a.end-a.start, b.end-b.start); c != 0 {
		return c
	}
	for i := range a.end - a.start {
		if c := bytes.Compare(w.slots[a.start+i].value, w.slots[b.start+i].value); c != 0 {
			return c
		}
	}
	return 0
}

// cutParts makes the parts of what was encoded: skeletons from the table where it has them, new ones where not, and one
// string for all values.
func (s *Store) cutParts(d *draft, w *drafter) {
	if d.fault != "" || len(w.cuts) == 0 {
		return
	}
	values := string(w.values)
	d.valueSize = len(values)
	d.parts = make([]part, len(w.cuts))
	w.heads = slices.Grow(w.heads[:0], len(w.cuts))[:len(w.cuts)]
	defer clear(w.heads)
	s.mu.RLock()
	for i := range w.cuts {
		d.parts[i] = part{values: values[w.cuts[i].valued:w.valuesEnd(i)], pushed: d.at}
		w.heads[i], d.parts[i].skeleton = s.known(w.encoding(i))
		d.lines += w.cuts[i].lines
	}
	s.mu.RUnlock()
	for i := range d.parts {
		if d.parts[i].skeleton != nil {
			continue
		}
		head, rest := w.encoding(i)
		if w.heads[i] == nil {
			w.heads[i] = newHeading(string(head))
		}
		d.parts[i].skeleton = newSkeleton(w.heads[i], string(rest), s.hasher)
	}
}

// encoding returns the two pieces of a family's encoding.
func (w *drafter) encoding(i int) (head, rest []byte) {
	end := len(w.enc.out)
	if i+1 < len(w.cuts) {
		end = w.cuts[i+1].encoded
	}
	return w.enc.out[w.cuts[i].encoded:w.cuts[i].rest], w.enc.out[w.cuts[i].rest:end]
}

func (w *drafter) valuesEnd(i int) int {
	if i+1 < len(w.cuts) {
		return w.cuts[i+1].valued
	}
	return len(w.values)
}

// prepareGroup makes the group's object and its layout if the store seems to have none.
func (s *Store) prepareGroup(d *draft) {
	s.mu.RLock()
	known := s.groups[d.key.Canonical()] != nil
	s.mu.RUnlock()
	if known {
		return
	}
	d.group = newGroup(d.key, d.labels, s.hasher)
	id := layoutID(d.labels)
	s.mu.RLock()
	d.group.layout = s.layouts[id]
	s.mu.RUnlock()
	if d.group.layout == nil {
		d.group.layout = newLayout(d.labels, s.hasher)
	}
}
