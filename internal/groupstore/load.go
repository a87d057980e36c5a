package groupstore

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/series"
)

// A Loader fills an empty store from the records of a [Cut]. It is made by [Store.Loader] and used by one goroutine, and
// the store by nobody else until Finish has returned. After an error the store is worth nothing.
//
// What was in quarantine stays there, for the same reasons and in the same order. What was exposed is checked against the
// program's own metrics, which may be others than they were.
type Loader struct {
	s        *Store
	begun    bool
	position uint64
	sets     []*series.Set  // by number; nil for those that are lost
	hidings  []loadedHiding // of parts that were in quarantine
	fallen   []loadedHiding // of parts that were not
	departed []departure    // the fallen ones, for those who waited for them

	// Of a cut of which records are missing; see Missing.
	lossy    bool
	adrift   bool           // the number of the next set of a former record is not known
	drifting []*series.Set  // those without a number
	orphans  []loadedHiding // what waits for a group that is lost
	lost     []string
}

// A loadedHiding is a hidden part whose place in the order is settled when all are known.
type loadedHiding struct {
	h      *hiding
	g      *group
	family string
	by     string // the canonical key of hiding.by
	order  uint64
}

// Loader returns a loader. The store must be empty and must never have had a change.
func (s *Store) Loader() *Loader {
	s.loading = true
	return &Loader{s: s}
}

// Add takes the next record, and keeps nothing of it.
func (l *Loader) Add(record []byte) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	add := l.add
	if isFormer(record) {
		add = l.addFormer
	}
	if err := add(record); err != nil {
		return fmt.Errorf("loading the store: %w", err)
	}
	return nil
}

var errNoHead = errors.New("it does not begin with its position")

func (l *Loader) add(record []byte) error {
	if len(record) == 0 {
		return errRecord
	}
	kind, message := record[0], record[1:]
	if !l.begun && kind != headKind && !l.lossy {
		return errNoHead
	}
	switch kind {
	case headKind:
		m := &storagev1.Head{}
		if err := readWhole(message, m); err != nil {
			return err
		}
		return l.begin(m.GetPosition())
	case groupKind:
		return l.addGroup(message)
	case traceKind:
		m := &storagev1.Trace{}
		if err := proto.Unmarshal(message, m); err != nil {
			return errRecord
		}
		return l.addTrace(m)
	case answerKind:
		m := &storagev1.Answer{}
		if err := proto.Unmarshal(message, m); err != nil {
			return errRecord
		}
		return l.addAnswer(m)
	case sourceKind:
		m := &storagev1.Source{}
		if err := proto.Unmarshal(message, m); err != nil {
			return errRecord
		}
		return l.addSource(m)
	default:
		return fmt.Errorf("records of kind %d are not understood", kind)
	}
}

// readWhole reads a message of which nothing unknown can be kept.
func readWhole(b []byte, m proto.Message) error {
	if proto.Unmarshal(b, m) != nil {
		return errRecord
	}
	if unknownOf(m) != "" {
		return errUnknown
	}
	return nil
}

func (l *Loader) begin(position uint64) error {
	if l.begun || !l.lossy && (l.s.position != 0 || len(l.s.groups.byKey) > 0) {
		return errors.New("the store is not empty")
	}
	l.position, l.begun = position, true
	return nil
}

// A loadedGroup is what a group record says.
type loadedGroup struct {
	effect  Effect
	version uint64
	born    uint64
	hidings []loadedHiding // of the parts that have a hiding
	lost    int            // parts
}

// groupFields are the fields of a message of Group. They alias it, apart from the notes.
type groupFields struct {
	key           []byte
	version, born uint64
	notes         notes
	pushed        int64
	families      familiesFields
}

func (gf *groupFields) read(b []byte) error {
	*gf = groupFields{}
	var notes, families []byte
	for len(b) > 0 {
		f, rest, ok := cutField(b)
		if !ok {
			return errRecord
		}
		var err error
		switch b = rest; f.tag {
		case groupKey<<3 | bytesType:
			gf.key = f.bytes
		case groupVersion<<3 | varintType:
			gf.version = f.n
		case groupBorn<<3 | varintType:
			gf.born = f.n
		case groupNotes<<3 | bytesType:
			err = f.once(&notes)
		case groupFamilies<<3 | bytesType:
			err = f.once(&families)
		default:
			err = f.unknown(groupFamilies)
		}
		if err != nil {
			return err
		}
	}
	var err error
	if gf.notes, gf.pushed, err = readNotes(notes); err != nil {
		return err
	}
	return gf.families.read(families)
}

// addGroup takes a group, and the sets that it defines.
func (l *Loader) addGroup(message []byte) error {
	var gf groupFields
	if err := readMessage(message, &storagev1.Group{}, gf.read); err != nil {
		return err
	}
	if err := l.define(&gf.families); err != nil {
		return err
	}
	lg, err := l.decodeGroup(&gf)
	if err != nil {
		return err
	}
	return l.enter(&lg)
}

// maxAdrift bounds how many sets can be missing at one place.
const maxAdrift = 1 << 22

// define takes the sets that a group defines. Their numbers leave a gap where others are lost.
func (l *Loader) define(ff *familiesFields) error {
	sizes, definitions, n := ff.setSizes, ff.sets, ff.definitions()
	if n == 0 {
		return nil
	}
	known := uint64(len(l.sets))
	if ff.first < known || ff.first > known && (!l.lossy || ff.first-known > maxAdrift) {
		return errRecord
	}
	l.sets = append(l.sets, make([]*series.Set, ff.first-known)...)
	for i := range n {
		definition, rest, err := sizes.cut(definitions, i == n-1)
		if err != nil {
			return err
		}
		k, err := l.s.sets.Decode(definition)
		if err != nil {
			return err
		}
		l.sets, definitions = append(l.sets, l.s.sets.Adopt(k)), rest
	}
	return nil
}

// set returns the set with that number; nil for one that is lost.
func (l *Loader) set(number uint64) (*series.Set, error) {
	if number >= uint64(len(l.sets)) || l.sets[number] == nil {
		if !l.lossy {
			return nil, errRecord
		}
		return nil, nil
	}
	k := l.s.sets.Intern(l.sets[number]) // it may be equal to one that has come since
	l.sets[number] = k
	return k, nil
}

// decodeGroup reads a group as the change that makes it.
func (l *Loader) decodeGroup(gf *groupFields) (lg loadedGroup, err error) {
	n, c := &gf.notes, &lg.effect
	*c = Effect{
		Operation: change.Replace, PushedAt: gf.pushed, FailedAt: n.failed, Reason: n.reason, life: n.declared(), broken: n.broken,
		marks: l.s.origins.adoptMarks(n.marks), hidden: n.hidden,
	}
	lg.version, lg.born = gf.version, cmp.Or(gf.born, gf.version)
	if c.Key, err = grouping.FromCanonical(string(gf.key)); err != nil {
		return lg, err
	}
	if err := l.place(&lg); err != nil {
		return lg, err
	}
	f, err := gf.families.decode(c.PushedAt, c.Key.Labels(), &l.s.sets, l.set)
	if err != nil {
		return lg, err
	}
	if c.hidden != "" && len(f.hidings) != len(f.parts) {
		return lg, errRecord
	}
	c.parts, c.lines, c.valueSize, c.later = f.parts, f.lines, f.valueSize, newLater(n.later.ofNotes(), f.later)
	lg.hidings, lg.lost = f.hidings, f.lost
	return lg, nil
}

// place checks the positions of a group.
func (l *Loader) place(lg *loadedGroup) error {
	if l.lossy {
		l.position = max(l.position, lg.version) // The record that has it may be lost.
	}
	if lg.effect.Key.IsZero() || lg.version > l.position || lg.born > lg.version {
		return errRecord
	}
	return nil
}

// enter puts a group into the store.
func (l *Loader) enter(lg *loadedGroup) error {
	if l.noteLost(lg, lg.lost) {
		return nil
	}
	c := lg.effect
	if l.s.groups.byKey[c.Key.Canonical()] != nil {
		return fmt.Errorf("group %v is there twice", c.Key)
	}
	g := l.s.groups.newGroup(nil, c.Key, c.Key.Labels())
	l.judge(&c, g)
	l.s.position = lg.version // what commit takes for the group's version
	l.s.commit(&c, g)
	g.born = lg.born
	for _, h := range lg.hidings {
		h.g = g
		l.hidings = append(l.hidings, h)
	}
	return nil
}

func (l *Loader) addTrace(m *storagev1.Trace) error {
	t, err := readTrace(m)
	if err != nil {
		return err
	}
	return l.enterTrace(t)
}

// enterTrace takes what is left of a mark.
func (l *Loader) enterTrace(t tracedMark) error {
	src := l.s.origins.sourceOf(t.source)
	if _, known := src.traced(t.key); known {
		return fmt.Errorf("a trace of %q is there twice", authorOf(t.source))
	}
	l.s.origins.addSource(src)
	src.sequence = max(src.sequence, t.sequence) // The digest comes with the record of the source.
	if t.passed > 0 {
		l.s.origins.pass(src, t.key, passedTrace{t.trace, t.passed})
	} else {
		l.s.origins.addTrace(src, t.keyedTrace)
	}
	src.traces.keepUnknown(t.key, t.unknown)
	return nil
}

// addAnswer takes an answer, the oldest first.
func (l *Loader) addAnswer(m *storagev1.Answer) error {
	a, err := readAnswer(m)
	if err != nil {
		return err
	}
	as := &l.s.answers
	if n := len(as.oldest); m.GetPosition() == 0 || n > 0 && as.oldest[n-1].position >= m.GetPosition() {
		return errRecord
	}
	as.add(keyedAnswer{string(m.GetGroup()), m.GetPosition(), a})
	return nil
}

func (l *Loader) addSource(m *storagev1.Source) error {
	d, err := readSource(m)
	if err != nil {
		return err
	}
	return l.enterSource(d)
}

// enterSource takes how far a source was decided: at least as far as its marks tell, and further if the highest of them is
// forgotten.
func (l *Loader) enterSource(d decided) error {
	src := l.s.origins.sources[d.name]
	if src == nil || d.sequence < src.sequence {
		if l.lossy {
			return nil // The marks that it is about are lost.
		}
		return errRecord
	}
	src.sequence, src.digest, src.unknown = d.sequence, d.digest, d.unknown
	return nil
}

// judge hides what was exposed and does not fit any more. Since what was exposed was consistent, that can only be because of
// the program's own metrics.
func (l *Loader) judge(c *Effect, g *group) {
	t := trial{s: l.s, g: g}
	for i := range c.parts {
		p := &c.parts[i]
		if p.hidden != nil {
			continue
		}
		if p.hidden = t.judge(p.set); p.hidden != nil {
			l.fallen = append(l.fallen, loadedHiding{h: p.hidden, g: g, family: p.set.Name()})
			l.departed = append(l.departed, departure{by: g, name: p.set.Name(), typ: p.set.Type()})
		}
	}
}

// Finish ends the loading. The store is then at the position of the cut.
func (l *Loader) Finish() error {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.begun && !l.lossy {
		return errors.New("loading the store: there is not even a position")
	}
	s.position = l.position
	slices.SortFunc(l.hidings, func(a, b loadedHiding) int { return cmp.Compare(a.order, b.order) })
	s.waiting.order = 0
	for _, h := range l.hidings {
		h.h.order = h.order
		s.waiting.order = h.order
		if h.by == "" {
			continue
		}
		h.h.by = s.groups.byKey[h.by]
		if h.h.by == nil && l.lossy {
			l.orphans = append(l.orphans, h)
			continue
		}
		if h.h.by == nil {
			return fmt.Errorf("loading the store: family %q of group %v waits for a group that is not there", exposition.Shown(h.family), h.g.key)
		}
	}
	for _, h := range l.fallen {
		s.waiting.order++
		h.h.order = s.waiting.order
	}
	l.orderWaiting()
	s.loading = false
	for _, name := range slices.Sorted(maps.Keys(s.accounts.byName)) {
		if s.accounts.isHeld(name) {
			l.departed = append(l.departed, s.oust(name)...)
		}
	}
	l.reconsider()
	if l.lossy {
		l.release()
	}
	return nil
}

// orderWaiting puts those who wait in the order in which they came.
func (l *Loader) orderWaiting() {
	for name := range l.s.waiting.byName {
		l.s.waiting.sort(name)
	}
	for normal := range l.s.groups.shadowed {
		l.s.groups.sortShadowed(normal)
	}
}

// reconsider looks again at those who may be exposed now: because the program's own metrics were in the way and are not any
// more, or because what was in the way is hidden itself.
func (l *Loader) reconsider() {
	for _, h := range l.hidings {
		if h.h.by != nil || l.isInTheWay(h.h.name) || h.g.state.hidden() != "" {
			continue
		}
		if p := h.g.state.find(h.family); p != nil && p.hidden == h.h {
			l.s.rejudge(h.g, p)
		}
	}
	l.s.reconsider(l.departed)
}

// isInTheWay says whether groups expose a family of that name, or hold the account that it stands for.
func (l *Loader) isInTheWay(name string) bool {
	s := l.s
	if account, ok := strings.CutPrefix(name, s.accounts.waitName("")); ok {
		return s.accounts.isHeld(account)
	}
	x := s.exposed.of(name)
	return x != nil && x.visible > 0
}
