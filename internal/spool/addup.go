package spool

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
)

// Changes that are onto what the group has (L11) cannot make each other pointless. So that they do not wait by the number of pushes, neighbours are
// added up, under the number and the identity of the newer one, where no relay can tell the two apart: the same ones lack both, and to none of them
// either was sent. On the disk both stay as they were accepted. After a kill they are two changes again; if a relay has decided their sum, it has
// the mark of the newer number, by which both are duplicates there, and a verdict in the journal resolves both (T12).

const (
	// addedAtOnceBytes is up to which size a body is added to whenever there is a change to add.
	addedAtOnceBytes = 16 << 10
	// addedAtRatio is how much larger a body may be than one that is added to it, beyond that size. Smaller ones are added up with each other
	// first: otherwise each push would cost as much as all that the group has.
	addedAtRatio = 4
	// maxDecidedOnto is how many changes that are onto something a group keeps after all relays have decided them.
	maxDecidedOnto = 16
)

// addUp adds up neighbours of a group, oldest first.
func (gs *groups) addUp(g *group) {
	kept := g.changes[:0]
	for _, c := range g.changes {
		// A sum may be large enough for what is before it.
		for last := len(kept) - 1; last >= 0 && kept[last].canTake(c) && gs.add(kept[last], c); last-- {
			gs.forget(kept[last])
			kept = kept[:last]
		}
		kept = append(kept, c)
	}
	clear(g.changes[len(kept):])
	g.changes = kept
}

// canTake says whether the change may be added up with the next one of its group.
func (c *entry) canTake(next *entry) bool {
	return c.operation.IsOnto() && c.operation == next.operation && c.gauges == next.gauges && c.owner == next.owner && c.later == next.later &&
		!c.isFixed() && !next.isFixed() && c.undecided == next.undecided && c.anew == next.anew && c.applied == next.applied &&
		next.apart != c && (c.bodyBytes <= addedAtOnceBytes || c.bodyBytes <= addedAtRatio*next.bodyBytes)
}

// add makes a change the sum of the one before it and itself, and reports whether it could: otherwise both stay as they are.
func (gs *groups) add(older, newer *entry) bool {
	newer.apart = older
	sum, err := sumOf(gs.parsers, older, newer)
	if err != nil {
		return false
	}
	push := &change.Change{Operation: newer.operation, Key: newer.group.key, Format: exposition.ProtobufDelimited, Body: sum, Owner: newer.owner}
	families, err := gs.check(push)
	if err != nil {
		return false
	}
	gs.setBody(newer, sum, families)
	newer.format, newer.apart, newer.from = exposition.ProtobufDelimited, nil, cmp.Or(older.from, older.sequence)
	gs.bytes -= newer.bytes()
	newer.life = older.life.Then(newer.life)
	gs.bytes += newer.bytes()
	return true
}

var errNotAlike = errors.New("their sum is not the same as one after the other")

// sumOf returns the sum of the bodies of two changes, such that a relay comes to the same as by one after the other.
func sumOf(ps *parsers, older, newer *entry) ([]byte, error) {
	everything := func([]byte) bool { return true }
	parts, err := familiesIn(ps, older, everything)
	if err != nil {
		return nil, err
	}
	more, err := familiesIn(ps, newer, everything)
	if err != nil {
		return nil, err
	}
	t := newTotals()
	t.take(older, parts)
	for _, mf := range more {
		if before := t.families[mf.GetName()]; before != nil && !addup.AreAlike(before, mf) {
			return nil, errNotAlike
		}
	}
	t.take(newer, more)
	return t.encode()
}

// settle makes the newest change that is onto something, and that all relays have decided, one that replaces families, so that older ones become
// pointless; and reports whether it did. It does while there are many.
func (gs *groups) settle(g *group) bool {
	decided, last := 0, -1
	for i, c := range g.changes {
		if c.isContent() && c.undecided != 0 {
			break // So are all after it.
		}
		if c.operation.IsOnto() && !c.isFixed() {
			decided, last = decided+1, i
		}
	}
	if decided <= maxDecidedOnto {
		return false
	}
	c := g.changes[last]
	total, err := totalOf(gs.parsers, g.changes[:last+1])
	if err != nil {
		return false // They stay as they are, and say so when they are sent.
	}
	gs.setBody(c, total, c.families)
	c.operation, c.gauges, c.format = change.Merge, addup.Last, exposition.ProtobufDelimited
	c.from = cmp.Or(c.from, c.sequence)
	return true
}

// totalOf returns what the families of the last of these changes of a group come to by all of them, oldest first. The changes are only read.
func totalOf(ps *parsers, changes []*entry) ([]byte, error) {
	families := changes[len(changes)-1].families
	isOfLast := func(name []byte) bool {
		_, found := slices.BinarySearch(families, hashOf(name))
		return found
	}
	t := newTotals()
	for _, c := range changes {
		if c.isBase() {
			t = newTotals()
		}
		more, err := familiesIn(ps, c, isOfLast)
		if err != nil {
			return nil, err
		}
		t.take(c, more)
	}
	return t.encode()
}

// totals are what families come to by several changes of a group.
type totals struct {
	names    []string // in the order in which they came first
	families map[string]*dto.MetricFamily
}

func newTotals() *totals { return &totals{families: map[string]*dto.MetricFamily{}} }

// take takes a newer change into account, of which these are the families.
func (t *totals) take(c *entry, more []*dto.MetricFamily) {
	for _, mf := range more {
		name := mf.GetName()
		if t.families[name] == nil {
			t.names = append(t.names, name)
		}
		t.families[name] = c.onto(t.families[name], mf)
	}
}

// familiesIn returns the families in the body of a change that are wanted, without the labels that a relay sets to those of the key: two series that
// differ in these only are one.
func familiesIn(ps *parsers, c *entry, wanted func(name []byte) bool) (families []*dto.MetricFamily, err error) {
	r, err := c.request(nil)
	if err != nil {
		return nil, err
	}
	parser := ps.get()
	defer ps.put(parser)
	// The wider scheme understands every body that the narrower one takes in the same way.
	body, err := parser.Parse(r.Format, r.Body, exposition.Options{Names: metric.UTF8Names})
	if err != nil {
		return nil, err
	}
	for i := range body.Families {
		if !wanted(body.Families[i].Name) {
			continue
		}
		mf, err := body.Message(i)
		if err != nil {
			return nil, err
		}
		if c.owner == "" {
			dropLabels(mf, c.group.key)
		}
		families = append(families, mf)
	}
	return families, nil
}

// onto returns what the change makes of a family; base is nil if there is none.
func (c *entry) onto(base, more *dto.MetricFamily) *dto.MetricFamily {
	switch c.operation {
	case change.Add:
		return addup.Add(base, more, c.gauges, c.pushedAt)
	case change.MergeSeries:
		return addup.Merge(base, more)
	default:
		return more
	}
}

// encode returns them as a body in protobuf.
func (t *totals) encode() ([]byte, error) {
	var body bytes.Buffer
	for _, name := range t.names {
		if _, err := protodelim.MarshalTo(&body, t.families[name]); err != nil {
			return nil, err
		}
	}
	return body.Bytes(), nil
}

// dropLabels drops the labels of the key.
func dropLabels(mf *dto.MetricFamily, key grouping.Key) {
	for _, m := range mf.Metric {
		m.Label = slices.DeleteFunc(m.Label, func(l *dto.LabelPair) bool {
			_, has := key.Get(l.GetName())
			return has
		})
	}
}
