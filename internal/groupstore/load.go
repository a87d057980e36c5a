package groupstore

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
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
	adrift   bool           // the number of the next set is not known
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
	kind, r, err := openRecord(record)
	switch {
	case err != nil:
	case !l.begun && kind != cutRecord && !l.lossy:
		err = errors.New("it does not begin with its position")
	case kind == cutRecord:
		err = l.begin(r)
	case kind == setRecord:
		err = l.addSet(r.Rest)
	case kind == groupRecord:
		err = l.addGroup(r)
	case kind == tombstoneRecord:
		err = l.addTombstone(r)
	case kind == traceRecord:
		err = l.addTrace(r)
	case kind == answerRecord:
		err = l.addAnswer(r)
	case kind == sourceRecord:
		err = l.addSource(r)
	default:
		err = fmt.Errorf("records of kind %d are not understood", kind)
	}
	if err != nil {
		return fmt.Errorf("loading the store: %w", err)
	}
	return nil
}

func (l *Loader) begin(r *recordReader) error {
	if l.begun || !l.lossy && (l.s.position != 0 || len(l.s.groups.byKey) > 0) {
		return errors.New("the store is not empty")
	}
	l.position = r.Uvarint()
	if r.Bad || len(r.Rest) > 0 {
		return errRecord
	}
	l.begun = true
	return nil
}

func (l *Loader) addSet(encoding []byte) error {
	k, err := l.s.sets.Decode(encoding)
	if err != nil {
		return err
	}
	k = l.s.sets.Adopt(k)
	if l.adrift {
		l.drifting = append(l.drifting, k)
		return nil
	}
	l.sets = append(l.sets, k)
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

func (l *Loader) addGroup(r *recordReader) error {
	if err := l.numberDrifting(*r); err != nil {
		return err
	}
	lg, err := l.decodeGroup(r)
	if err != nil {
		return err
	}
	if l.noteLost(&lg, lg.lost) {
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

// addTombstone takes what is left of a group, as format 1 had it.
func (l *Loader) addTombstone(r *recordReader) error {
	key, err := grouping.FromCanonical(string(r.Text()))
	if err != nil {
		return err
	}
	marks := decodeMarks(r)
	if r.Bad || len(r.Rest) > 0 || key.IsZero() || len(marks) == 0 {
		return errRecord
	}
	if l.s.groups.byKey[key.Canonical()] != nil {
		return fmt.Errorf("group %v is there twice", key)
	}
	l.s.commit(&Effect{Operation: change.Mark, Key: key, marks: l.s.origins.adoptMarks(marks)}, nil)
	return nil
}

// addSource takes how far a source was decided: at least as far as its marks tell, and further if the highest of them is
// forgotten.
func (l *Loader) addSource(r *recordReader) error {
	src, sequence := l.s.origins.sources[string(r.Text())], r.Uvarint()
	digest := r.Bytes(16)
	if l.lossy && !r.Bad && len(r.Rest) == 0 && (src == nil || sequence < src.sequence) {
		return nil // The marks that it is about are lost.
	}
	if r.Bad || len(r.Rest) > 0 || src == nil || sequence < src.sequence {
		return errRecord
	}
	src.sequence = sequence
	copy(src.digest[:], digest)
	return nil
}

// addTrace takes what is left of a mark.
func (l *Loader) addTrace(r *recordReader) error {
	name := string(r.Text())
	t := keyedTrace{traceKey(r.Fixed()), trace{sequence: r.Uvarint(), digest: r.Fixed(), stamp: r.Uvarint()}}
	passed := r.Byte()
	if r.Bad || len(r.Rest) > 0 || name == "" || t.sequence == 0 || passed > tracePassed {
		return errRecord
	}
	src := l.s.origins.sourceOf(name)
	_, fresh := src.traces.places[t.key]
	if _, old := src.traces.passed[t.key]; old || fresh {
		return fmt.Errorf("a trace of %q is there twice", authorOf(name))
	}
	l.s.origins.addSource(src)
	src.sequence = max(src.sequence, t.sequence) // The digest comes with the record of the source.
	if passed == tracePassed {
		l.s.origins.remember(src, t)
	} else {
		l.s.origins.addTrace(src, t)
	}
	return nil
}

// decodeGroup reads a group as the change that makes it.
func (l *Loader) decodeGroup(r *recordReader) (loadedGroup, error) {
	var lg loadedGroup
	c := &lg.effect
	c.Operation = change.Replace
	canonical := r.Text()
	lg.version, lg.born = r.Uvarint(), r.Uvarint()
	c.PushedAt, c.FailedAt = r.Varint(), r.Varint()
	c.Reason = string(r.Text())
	c.marks = l.s.origins.adoptMarks(decodeMarks(r))
	c.hidden = string(r.Text())
	c.life, c.broken = decodeLife(r)
	var err error
	if c.Key, err = grouping.FromCanonical(string(canonical)); err != nil {
		return lg, err
	}
	if l.lossy {
		l.position = max(l.position, lg.version) // The record that has it may be lost.
	}
	if r.Bad || c.Key.IsZero() || lg.version > l.position || lg.born > lg.version {
		return lg, errRecord
	}
	labels := c.Key.Labels()
	var sizes []int
	var skip []bool
	for range r.Count(leastPart + 1) {
		number, pushed, size := r.Uvarint(), c.PushedAt+r.Varint(), r.Uvarint()
		h, hidden := decodeHiding(r)
		unknown := number >= uint64(len(l.sets)) || l.sets[number] == nil
		if r.Bad || unknown && !l.lossy || size > uint64(len(r.Rest)) {
			return lg, errRecord
		}
		sizes, skip = append(sizes, int(size)), append(skip, unknown)
		if unknown {
			lg.lost++
			continue
		}
		k := l.s.sets.Intern(l.sets[number]) // it may be equal to one that has come since
		l.sets[number] = k
		if !k.HasHoles(labels) {
			return lg, errHoles
		}
		if n := len(c.parts); n > 0 && c.parts[n-1].set.Name() >= k.Name() {
			return lg, errRecord
		}
		p := part{set: k, pushed: pushed}
		if hidden {
			h.family, p.hidden = k.Name(), h.h
			lg.hidings = append(lg.hidings, h)
		}
		c.parts = append(c.parts, p)
		c.lines += k.Lines()
	}
	if r.Bad || c.hidden != "" && len(lg.hidings) != len(c.parts) {
		return lg, errRecord
	}
	values := r.Rest
	if lg.lost > 0 {
		if values, sizes, err = keptValues(values, sizes, skip); err != nil {
			return lg, err
		}
	}
	return lg, c.decodeValues(values, sizes)
}

func decodeHiding(r *recordReader) (h loadedHiding, hidden bool) {
	switch r.Byte() {
	case partExposed:
		return h, false
	case partHidden:
		h.order = r.Uvarint()
		h.h = &hiding{reason: string(r.Text()), name: string(r.Text())}
		h.by = string(r.Text())
		return h, true
	default:
		r.Fail()
		return h, false
	}
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
