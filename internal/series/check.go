package series

import (
	"bytes"
	"slices"
	"sort"
	"strconv"
	"sync"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
)

// Check returns what is wrong with a body, for people, whatever a store holds (T14); empty if nothing is. That are timestamps, names that are
// the relay's own or cannot be exposed, series that are there twice once the labels of the key are in place and those with an empty value
// are gone (S7), and families whose series get each other's names: those of ten families by name, and how many more there are.
//
// What added is says [Encoder.Encode]. The body is one that a parser returned without an error. What passes can still be refused for what other groups hold, and for the types of the
// relay's own metrics.
func Check(b *exposition.Body, key grouping.Key, added []string) (fault string) {
	c := checkers.Get().(*checker)
	defer checkers.Put(c)
	defer func() { clear(c.columns) }()
	group := key.Labels()
	if !c.isSuspect(b, group, added) {
		return ""
	}
	if slices.ContainsFunc(group, func(l grouping.Label) bool { return !soundLabel(l.Name) }) {
		return Gauge(PushTimeFamily, "", grouping.Names(group), c.hasher).Fault("")
	}
	defer c.Release()
	if fault := c.Encode(b, group, added); fault != "" {
		return fault
	}
	return c.fault()
}

var checkers = sync.Pool{New: func() any { return &checker{hasher: NewHasher()} }}

// A checker checks one body at a time. In between it keeps nothing but memory.
type checker struct {
	Encoder

	hasher  Hasher
	heading heading
	set     Set
	reader  reader
	labels  []labelSlot
	sums    []uint64
	sound   []bool   // which families are
	columns []column // of the family that is looked at
}

// isSuspect says whether there may be a fault in a body, and is not wrong if it says no. It looks for less than a set tells of itself, but without
// making one: nearly all bodies have no fault.
func (c *checker) isSuspect(b *exposition.Body, group []grouping.Label, added []string) bool {
	for i := range group {
		if !soundLabel(group[i].Name) {
			return true
		}
	}
	suffixed, bases := false, false
	for i := range b.Families {
		f := &b.Families[i]
		if !soundName(f.Name) || IsReserved(f.Name) || c.areSuspect(b, f, group, added) {
			return true
		}
		_, _, hasSuffix := metric.CutSuffix(f.Name)
		suffixed, bases = suffixed || hasSuffix, bases || !f.Type.Simple()
	}
	return suffixed && bases
}

// areSuspect does what isSuspect does for the metrics of a family.
func (c *checker) areSuspect(b *exposition.Body, f *exposition.Family, group []grouping.Label, added []string) bool {
	bound := f.Type.BoundLabel()
	if bound != "" && slices.ContainsFunc(group, func(l grouping.Label) bool { return l.Name == bound }) {
		return true
	}
	c.columns, c.sums = c.columns[:0], c.sums[:0]
	for i := f.Metrics.Start; i < f.Metrics.End; i++ {
		m := &b.Metrics[i]
		sum, sound := c.sum(b.Labels[m.Labels.Start:m.Labels.End], group, added, bound)
		if !sound || m.HasTimestamp || m.Points.Len() < f.Type.Lines(0) {
			return true
		}
		c.sums = append(c.sums, sum)
	}
	slices.Sort(c.sums)
	for i := 1; i < len(c.sums); i++ {
		if c.sums[i] == c.sums[i-1] {
			return true
		}
	}
	return false
}

// A column is what is known of the name of the label that the last metric has at one place.
type column struct {
	name        []byte
	hash        uint64
	overwritten bool // by a label of the group
}

// sum returns the sum of the hashes of the labels that are neither empty nor overwritten by those of the group, and whether all names are sound
// and stay what they are.
func (c *checker) sum(labels []exposition.Label, group []grouping.Label, added []string, bound string) (sum uint64, sound bool) {
	for i := range labels {
		l := &labels[i]
		if i == len(c.columns) {
			c.columns = append(c.columns, column{})
		}
		if col := &c.columns[i]; len(l.Name) == 0 || !bytes.Equal(col.name, l.Name) {
			if !soundLabel(l.Name) || string(l.Name) == bound {
				return 0, false
			}
			if slices.Contains(added, string(l.Name)) {
				return 0, false // what it is called then depends on what else there is
			}
			overwritten := slices.ContainsFunc(group, func(of grouping.Label) bool { return of.Name == string(l.Name) })
			*col = column{name: l.Name, hash: c.hasher.name(l.Name), overwritten: overwritten}
		}
		if len(l.Value) > 0 && !c.columns[i].overwritten {
			sum += c.hasher.value(c.columns[i].hash, l.Value)
		}
	}
	return sum, true
}

// fault returns what is wrong with the families that were encoded.
func (c *checker) fault() string {
	var faults exposition.Faults
	c.sound = c.sound[:0]
	inVain := c.InVain()
	text := string(c.encoding.out)
	for i := range c.Len() {
		head, rest := c.pieces(i)
		at := c.families[i].encoded
		c.labels = c.heading.parse(text[at:at+len(head)], c.labels)
		c.set = Set{heading: &c.heading, rest: text[at+len(head) : at+len(head)+len(rest)]}
		c.sums = c.set.derive(c.hasher, &c.reader, c.sums)
		fault := c.set.Fault(inVain)
		if base, typ, ok := suffixedBy(c.set.Name(), c.typeBefore(i)); fault == "" && ok {
			fault = clash(c.set.Name(), base, typ)
		}
		if c.sound = append(c.sound, fault == ""); fault == "" {
			continue
		}
		faults.Add(fault)
	}
	return faults.String()
}

// typeBefore returns a function that finds the type of a family among the sound ones before one.
func (c *checker) typeBefore(i int) func(name string) (metric.Type, bool) {
	return func(name string) (metric.Type, bool) {
		at := sort.Search(i, func(j int) bool {
			head, _ := c.pieces(j)
			return string(nameIn(head)) >= name
		})
		if at == i {
			return 0, false
		}
		head, _ := c.pieces(at)
		return metric.Type(head[1]), c.sound[at] && string(nameIn(head)) == name
	}
}

// suffixedBy returns the family whose series have names that begin with its own and go on as the name does: a histogram h has h_count. typeOf
// returns the type of a family, and whether there is one.
func suffixedBy(name string, typeOf func(name string) (metric.Type, bool)) (base string, typ metric.Type, ok bool) {
	base, role, ok := metric.CutSuffix(name)
	if !ok {
		return "", 0, false
	}
	typ, ok = typeOf(base)
	return base, typ, ok && typ.Suffix(role) != ""
}

// clash says that a family has the name of another one's series.
func clash(name, base string, typ metric.Type) string {
	return "collected metric named " + strconv.Quote(exposition.Shown(name)) + " collides with previously collected " + typ.Text() + " named " + strconv.Quote(exposition.Shown(base))
}
