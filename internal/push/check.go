package push

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/common/model"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
)

// The words of the relay's store; a test of the store holds the two together.
const (
	reservedPrefix  = "relay_" // of the relay's own metrics (S17)
	pushTime        = "push_time_seconds"
	failureTime     = "push_failure_time_seconds"
	collectedBefore = "was collected before with the same name and label values"
	invalidLabel    = "has a label with an invalid name: "
)

// shownBytes is how much of a name or of labels an error tells.
const shownBytes = 1 << 10

// CheckBody returns what is wrong with a push whatever the relay's store holds (T14), in the words in which the relay
// refuses it: timestamps, names that are the relay's own or cannot be exposed, series that are there twice once the labels
// of the key are in place and those with an empty value are gone (S7), families whose series get each other's names. The
// error is a [*change.Outcome] that is [change.Inconsistent].
//
// The body is one that a parser returned without an error. The key should have the label that the relay adds (T20), since
// that one takes the place of a pushed one, too. What passes can still be refused for what other groups hold, and for the
// types of the relay's own metrics that are not named relay_*.
func CheckBody(b *exposition.Body, key grouping.Key) error {
	c := checkers.Get().(*checker)
	c.body, c.key = b, key.Labels()
	fault := c.fault()
	c.body, c.key = nil, nil
	checkers.Put(c)
	if fault == "" {
		return nil
	}
	return change.Contradiction(fault)
}

var checkers = sync.Pool{New: func() any { return new(checker) }}

// A checker checks one body at a time. In between it keeps nothing but memory.
type checker struct {
	body *exposition.Body
	key  []grouping.Label // sorted by name
	seen hashSet          // of the metrics of one family, or of families

	first *exposition.Family // the one with the fault, the least by name of those that have one
	text  string
}

// fault returns what is wrong with the push, or nothing.
func (c *checker) fault() string {
	for _, l := range c.key {
		if strings.IndexByte(l.Name, 0) >= 0 {
			return c.describe(pushTime, nil) + invalidLabel + brief(l.Name)
		}
	}
	for i := range c.body.Metrics {
		if c.body.Metrics[i].HasTimestamp {
			return "pushed metrics must not have timestamps"
		}
	}
	c.first, c.text = nil, ""
	hasZeros, hasSuffixes := c.hasZeros(), false
	for i := range c.body.Families {
		f := &c.body.Families[i]
		if ignored(f) {
			continue
		}
		hasSuffixes = hasSuffixes || !f.Type.Simple()
		if text := c.family(f, hasZeros); text != "" {
			c.note(f, text)
		}
	}
	if hasSuffixes {
		c.clashes()
	}
	return c.text
}

// ignored says whether the store takes no notice of the family, because it makes one of that name itself.
func ignored(f *exposition.Family) bool {
	return string(f.Name) == pushTime || string(f.Name) == failureTime
}

func (c *checker) note(f *exposition.Family, text string) {
	if c.first == nil || bytes.Compare(f.Name, c.first.Name) < 0 {
		c.first, c.text = f, text
	}
}

// hasZeros says whether some label name has a NUL in it: it is valid UTF-8, but Prometheus' text parser stops there and
// loses the whole scrape.
func (c *checker) hasZeros() bool {
	for i := range c.body.Labels {
		if bytes.IndexByte(c.body.Labels[i].Name, 0) >= 0 {
			return true
		}
	}
	return false
}

// family returns what is wrong with a family by itself, or nothing.
func (c *checker) family(f *exposition.Family, hasZeros bool) string {
	name := string(f.Name)
	switch {
	case strings.IndexByte(name, 0) >= 0:
		return "collected metric " + quoted(name) + " has a name that cannot be exposed"
	case strings.HasPrefix(name, reservedPrefix):
		return "collected metric " + quoted(name) + " has a reserved name: " + reservedPrefix + "* are the relay's own metrics"
	}
	metrics := c.body.Metrics[f.Metrics.Start:f.Metrics.End]
	if hasZeros {
		for i := range metrics {
			for _, l := range c.labels(&metrics[i]) {
				if bytes.IndexByte(l.Name, 0) >= 0 {
					return c.describe(name, &metrics[i]) + invalidLabel + brief(string(l.Name))
				}
			}
		}
	}
	if implicit := f.Type.BoundLabel(); implicit != "" && c.keyHas(implicit) {
		return c.describe(name, &metrics[0]) + "must not have an explicit " + strconv.Quote(implicit) + " label"
	}
	if i := c.repeated(metrics); i >= 0 {
		return c.describe(name, &metrics[i]) + collectedBefore
	}
	return ""
}

func (c *checker) keyHas(name string) bool {
	return slices.ContainsFunc(c.key, func(l grouping.Label) bool { return l.Name == name })
}

func (c *checker) labels(m *exposition.Metric) []exposition.Label {
	return c.body.Labels[m.Labels.Start:m.Labels.End]
}

// repeated returns the index of a metric that is the same series as one before it, or -1.
func (c *checker) repeated(metrics []exposition.Metric) int {
	if len(metrics) < 2 {
		return -1
	}
	c.seen.reset(len(metrics))
	for i := range metrics {
		same := func(k int) bool { return c.sameSeries(&metrics[i], &metrics[k]) }
		if !c.seen.add(c.hashSeries(&metrics[i]), i, same) {
			return i
		}
	}
	return -1
}

// hashSeries hashes what tells a series from the others of its family.
func (c *checker) hashSeries(m *exposition.Metric) uint64 {
	labels := c.labels(m)
	h := uint64(0)
	for i, k := c.next(labels, 0, 0); i < len(labels); i, k = c.next(labels, i+1, k) {
		h = addHash(addHash(h, labels[i].Name), labels[i].Value)
	}
	return h
}

func (c *checker) sameSeries(x, y *exposition.Metric) bool {
	a, b := c.labels(x), c.labels(y)
	i, ki := c.next(a, 0, 0)
	j, kj := c.next(b, 0, 0)
	for i < len(a) && j < len(b) {
		if !bytes.Equal(a[i].Name, b[j].Name) || !bytes.Equal(a[i].Value, b[j].Value) {
			return false
		}
		i, ki = c.next(a, i+1, ki)
		j, kj = c.next(b, j+1, kj)
	}
	return i == len(a) && j == len(b)
}

// next returns the index of the first label from i on that tells series apart: those with an empty value do not, nor do
// those whose place a label of the key takes. k is where in the key to look from, and is returned for the next call.
func (c *checker) next(labels []exposition.Label, i, k int) (nextI, nextK int) {
	for ; i < len(labels); i++ {
		if len(labels[i].Value) == 0 {
			continue
		}
		for k < len(c.key) && c.key[k].Name < string(labels[i].Name) {
			k++
		}
		if k == len(c.key) || c.key[k].Name != string(labels[i].Name) {
			break
		}
	}
	return i, k
}

// clashes looks for families that have the name of another one's sum, count or buckets.
func (c *checker) clashes() {
	families := c.body.Families
	c.seen.reset(len(families))
	for i := range families {
		if !families[i].Type.Simple() && !ignored(&families[i]) {
			c.seen.add(addHash(0, families[i].Name), i, func(int) bool { return false }) // every name comes once
		}
	}
	for i := range families {
		f := &families[i]
		if ignored(f) {
			continue
		}
		base, role, ok := metric.CutSuffix(f.Name)
		if !ok {
			continue
		}
		k, ok := c.seen.find(addHash(0, base), func(k int) bool { return bytes.Equal(families[k].Name, base) })
		if ok && families[k].Type.Suffix(role) != "" && c.first != f {
			c.note(f, "collected metric named "+quoted(string(f.Name))+" collides with previously collected "+
				families[k].Type.Text()+" named "+quoted(string(base)))
		}
	}
}

// describe returns the beginning of an error about a metric with all labels that it would have in its group; m is nil for
// one without labels of its own.
func (c *checker) describe(name string, m *exposition.Metric) string {
	labels := []exposition.Label{{Name: []byte(model.InstanceLabel)}}
	put := func(name, value []byte) {
		i, ok := slices.BinarySearchFunc(labels, name, func(l exposition.Label, name []byte) int { return bytes.Compare(l.Name, name) })
		if !ok {
			labels = slices.Insert(labels, i, exposition.Label{Name: name})
		}
		labels[i].Value = value
	}
	if m != nil {
		for _, l := range c.labels(m) {
			put(l.Name, l.Value)
		}
	}
	for _, l := range c.key {
		put([]byte(l.Name), []byte(l.Value))
	}
	text := []byte{'{'}
	for i, l := range labels {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(exposition.AppendLabelName(text, l.Name), '=', '"')
		text = append(exposition.AppendEscapedLabelValue(text, l.Value), '"')
	}
	return "collected metric " + quoted(name) + " " + brief(string(append(text, '}'))) + " "
}

func quoted(name string) string { return strconv.Quote(brief(name)) }

// brief cuts a text that is longer than an error shows.
func brief(text string) string {
	if len(text) <= shownBytes {
		return text
	}
	return strings.ToValidUTF8(text[:shownBytes], "") + "…"
}
