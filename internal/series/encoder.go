package series

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"pushrelay/internal/exposition"
	"pushrelay/internal/fields"
	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
)

// An Encoder encodes one body after the other, in the same memory. The zero Encoder is ready. It is used by one goroutine.
type Encoder struct {
	encoding encoding
	values   []byte
	families []encodedFamily // sorted by name
	byName   []int
	group    []slot // the grouping labels, and an empty instance if there is none among them
	moved    []slot // the labels of one metric that are kept under another name
	slots    []slot // the labels of the metrics of one family, one after the other
	spans    []span // the metrics of one family
}

// A span is one metric: its labels in Encoder.slots and its place in the body.
type span struct{ start, end, metric int }

// An encodedFamily is one family: where its encoding and, in that, the rest behind the heading begin, and its values.
type encodedFamily struct {
	encoded, rest, valued, lines int
	heading                      *heading // the one that a table has; nil if none was found
}

// Encode encodes all families of a body for a group with these labels, which are sorted by name. A label of the group takes the place of one of the
// same name that was pushed; but if its name is among the added ones, which the pusher did not choose, the pushed one is kept as exported_…, as
// Prometheus does at a scrape. Encode returns what is wrong with the push as a whole, and then there is nothing encoded. The memory
// of the encoder refers to the body until the next call.
func (e *Encoder) Encode(b *exposition.Body, group []grouping.Label, added []string) (fault string) {
	e.encoding.out, e.values, e.families = e.encoding.out[:0], e.values[:0], e.families[:0]
	e.setGroup(group, added)
	holes := grouping.Names(group)
	e.byName = e.byName[:0]
	for i := range b.Families {
		if hasTimestamps(b, &b.Families[i]) {
			return "pushed metrics must not have timestamps"
		}
		if !isTimeFamily(b.Families[i].Name) {
			e.byName = append(e.byName, i)
		}
	}
	slices.SortFunc(e.byName, func(i, j int) int { return bytes.Compare(b.Families[i].Name, b.Families[j].Name) })
	for _, i := range e.byName {
		if fault = e.family(b, &b.Families[i], holes); fault != "" {
			e.families = e.families[:0]
			return fault
		}
	}
	return ""
}

// Release forgets what was found in a table, and keeps the memory.
func (e *Encoder) Release() {
	clear(e.families)
	e.encoding.last, e.encoding.bounds = nil, nil
}

// Len returns how many families were encoded. They have indexes in the order of their names.
func (e *Encoder) Len() int { return len(e.families) }

// Lines returns how many exposition lines a family has.
func (e *Encoder) Lines(i int) int { return e.families[i].lines }

// Values returns the values of all families, one family after the other. They are valid until the next call of Encode.
func (e *Encoder) Values() []byte { return e.values }

// ValuesEnd returns where in Values those of a family end.
func (e *Encoder) ValuesEnd(i int) int {
	if i+1 < len(e.families) {
		return e.families[i+1].valued
	}
	return len(e.values)
}

// Replaced returns the names of the labels that were pushed with a value and gave way to those of the group, also those that are kept under another
// name.
func (e *Encoder) Replaced() (names []string) {
	for i := range e.group {
		if e.group[i].replaced {
			names = append(names, string(e.group[i].name))
		}
	}
	return names
}

// InVain says of a series that is there twice which labels were pushed in vain, if any were; it goes behind [CollectedBefore].
func (e *Encoder) InVain() string {
	var names []string
	for i := range e.group {
		if e.group[i].replaced && !e.group[i].added {
			names = append(names, string(e.group[i].name))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " once the labels of the group have taken the place of its own " + exposition.Shown(strings.Join(names, ", "))
}

// pieces returns the two pieces of a family's encoding.
func (e *Encoder) pieces(i int) (head, rest []byte) {
	end := len(e.encoding.out)
	if i+1 < len(e.families) {
		end = e.families[i+1].encoded
	}
	f := &e.families[i]
	return e.encoding.out[f.encoded:f.rest], e.encoding.out[f.rest:end]
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
func (e *Encoder) setGroup(labels []grouping.Label, added []string) {
	e.group = e.group[:0]
	instance := false
	for i, l := range labels {
		if !instance && l.Name >= model.InstanceLabel {
			instance = true
			if l.Name != model.InstanceLabel {
				e.group = append(e.group, slot{name: []byte(model.InstanceLabel), hole: -1})
			}
		}
		e.group = append(e.group, slot{name: []byte(l.Name), value: []byte(l.Value), hole: i, added: slices.Contains(added, l.Name)})
	}
	if !instance {
		e.group = append(e.group, slot{name: []byte(model.InstanceLabel), hole: -1})
	}
}

// family encodes one family and its values.
func (e *Encoder) family(b *exposition.Body, f *exposition.Family, holes []string) (fault string) {
	e.slots, e.spans = e.slots[:0], e.spans[:0]
	flags := flagsOf(b, f)
	for i := f.Metrics.Start; i < f.Metrics.End; i++ {
		m := &b.Metrics[i]
		if points := m.Points.Len(); points < f.Type.Lines(0) {
			return "metric family " + string(f.Name) + " lacks values"
		}
		start := len(e.slots)
		e.merge(b.Labels[m.Labels.Start:m.Labels.End])
		e.spans = append(e.spans, span{start, len(e.slots), int(i)})
	}
	if !slices.IsSortedFunc(e.spans, e.compare) {
		slices.SortFunc(e.spans, e.compare)
	}
	out := &e.encoding
	encoded := encodedFamily{encoded: len(out.out), valued: len(e.values)}
	help := f.Help
	if flags&hasHelp != 0 && !utf8.Valid(help) {
		help = bytes.ToValidUTF8(help, []byte("\uFFFD"))
	}
	out.family(f.Type, f.Name, help, f.Unit, flags, holes, len(e.spans))
	e.extras(b, flags)
	for _, sp := range e.spans {
		points := b.Points[b.Metrics[sp.metric].Points.Start:b.Metrics[sp.metric].Points.End]
		encoded.lines += len(points)
		for i := range points {
			e.values = append(append(e.values, points[i].Token...), '\n')
		}
		bounded := !f.Type.Simple()
		var bounds []exposition.Point
		if bounded {
			bounds = points[:len(points)-2]
		}
		out.metric(e.slots[sp.start:sp.end], bounds, bounded)
	}
	encoded.rest = out.headed
	e.families = append(e.families, encoded)
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

// extras writes what stands before the values of a family.
func (e *Encoder) extras(b *exposition.Body, flags byte) {
	if flags&hasCreated != 0 {
		for _, sp := range e.spans {
			e.values = binary.LittleEndian.AppendUint64(e.values, uint64(b.Metrics[sp.metric].Created))
		}
	}
	if flags&hasExtra == 0 {
		return
	}
	for _, sp := range e.spans {
		extra := b.Metrics[sp.metric].Extra
		if extra == nil {
			e.values = append(e.values, 0)
			continue
		}
		e.values = fields.AppendText(append(e.values, extraForm(extra)), extra.Wire)
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
func (e *Encoder) merge(pushed []exposition.Label) {
	group, start := e.group, len(e.slots)
	e.moved = e.moved[:0]
	for len(pushed) > 0 && len(group) > 0 {
		switch c := bytes.Compare(pushed[0].Name, group[0].name); {
		case c < 0:
			e.slots = append(e.slots, slot{name: pushed[0].Name, value: pushed[0].Value, hole: -1})
			pushed = pushed[1:]
		case c > 0:
			e.slots = append(e.slots, group[0])
			group = group[1:]
		case group[0].hole < 0: // the implicit instance yields to a pushed one
			group = group[1:]
		default:
			if len(pushed[0].Value) > 0 {
				group[0].replaced = true
			}
			if group[0].added && len(pushed[0].Value) > 0 {
				e.moved = append(e.moved, slot{name: pushed[0].Name, value: pushed[0].Value, hole: -1})
			}
			pushed = pushed[1:]
		}
	}
	for _, l := range pushed {
		e.slots = append(e.slots, slot{name: l.Name, value: l.Value, hole: -1})
	}
	e.slots = append(e.slots, group...)
	if len(e.moved) > 0 {
		e.keepMoved(start)
	}
}

// keepMoved adds the labels that were moved to those of the metric that begin at start: each as exported_ and its name, with as many exported_ as it
// takes until no label of that name has a value, the shorter names first. That is Prometheus' rule.
func (e *Encoder) keepMoved(start int) {
	slices.SortStableFunc(e.moved, func(a, b slot) int { return cmp.Compare(len(a.name), len(b.name)) })
	for _, l := range e.moved {
		for taken := true; taken; {
			l.name = append([]byte(model.ExportedLabelPrefix), l.name...)
			i, found := slices.BinarySearchFunc(e.slots[start:], l, func(a, b slot) int { return bytes.Compare(a.name, b.name) })
			switch at := start + i; {
			case !found:
				e.slots, taken = slices.Insert(e.slots, at, l), false
			case e.slots[at].hole < 0 && len(e.slots[at].value) == 0:
				e.slots[at], taken = l, false
			}
		}
	}
}

// compare orders metrics as the Pushgateway exposes them within a group: fewer labels first, then by the values in the
// order of the names. What is equal keeps its order.
func (e *Encoder) compare(a, b span) int {
	if c := cmp.Compare(a.end-a.start, b.end-b.start); c != 0 {
		return c
	}
	for i := range a.end - a.start {
		if c := bytes.Compare(e.slots[a.start+i].value, e.slots[b.start+i].value); c != 0 {
			return c
		}
	}
	return cmp.Compare(a.metric, b.metric)
}

// Gauge returns the set of one gauge whose labels are the grouping labels of these names, and an empty instance if there is none among them. It
// is for many groups and in no table.
func Gauge(name, help string, names []string, h Hasher) *Set {
	var e encoding
	e.family(metric.Gauge, []byte(name), []byte(help), nil, hasHelp, names, 1)
	slots := make([]slot, 0, len(names)+1)
	for i, n := range names {
		slots = append(slots, slot{name: []byte(n), hole: i})
	}
	if i, ok := slices.BinarySearch(names, model.InstanceLabel); !ok {
		slots = slices.Insert(slots, i, slot{name: []byte(model.InstanceLabel), hole: -1})
	}
	e.metric(slots, nil, false)
	k := newSet(newHeading(string(e.out[:e.headed])), string(e.out[e.headed:]), h)
	k.refs.Store(2) // its pieces are kept
	return k
}
