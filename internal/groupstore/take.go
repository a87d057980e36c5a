package groupstore

import (
	"context"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
)

// take decides a draft, logs what follows and applies it, in one critical section (S6): nothing else changes a store that is in use. The
// function that is returned waits until that is durable; it may be nil. An error of the log means that nothing has changed.
func (s *Store) take(d *draft, v *verdict) (wait func(context.Context) error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.change.Origin != nil {
		d.source = s.sourceOfJournal(d.change.Agent, d.change.Origin.Journal)
	}
	present := s.groups[d.key.Canonical()]
	current := d.change.Current == nil || d.change.Current()
	if !s.meets(d, present, current) {
		return nil, nil
	}
	v.found = OtherSeries
	if !current {
		v.refusal = notCurrent()
		return nil, nil
	}
	var e Effect
	g := s.decideOnce(d, present, &e, v)
	if e.Operation == 0 {
		return nil, nil
	}
	if wait, err = s.record(&e, d, v.refusal != nil || d.operation == change.Mark); err != nil {
		return nil, err
	}
	s.position++
	s.commit(&e, g)
	v.position = s.position
	return wait, nil
}

// meets says whether the group is as the content of the change wants it.
func (s *Store) meets(d *draft, g *group, current bool) bool {
	return (d.version == 0 || versionOf(g) == d.version) && (d.outline == nil || current && s.takesValues(d, g))
}

// decideOnce decides a draft with regard to its origin, and returns the group that it is about: the one that is there, or a new one. What is decided
// for good moves the mark in any case, in the same record (T12, T13); what may be taken later moves nothing. The zero effect is none.
func (s *Store) decideOnce(d *draft, present *group, e *Effect, v *verdict) (g *group) {
	switch {
	case d.operation == change.Wipe:
		e.Operation = change.Wipe
		return nil
	case d.operation == change.Forget:
		s.forgetting(d, e)
		return nil
	case d.outline != nil: // no origin is in the way
		s.revalue(d, e, present)
		v.found = SameSeries
		return present
	}
	rejected, duplicate, sequence := s.covering(d)
	switch {
	case duplicate && rejected && s.isSuperseded(d):
		v.duplicate, v.refusal = true, superseded()
	case duplicate:
		marking(d.key, present, e)
		if rejected && sequence == d.change.Origin.Sequence {
			v.rejected = rejectedBefore(present)
		}
		v.duplicate = true
		return present
	case s.isSuperseded(d):
		v.refusal = superseded()
	case d.operation != change.Mark:
		g = s.decide(d, present, e, v)
	}
	later := v.refusal != nil && v.refusal.Kind == change.Full
	if e.Operation == 0 && d.change.Origin != nil && !later {
		marking(d.key, present, e)
		g = present
	}
	if full := s.leavesTooMany(d, e, g); full != nil {
		*e, *v = Effect{}, verdict{found: OtherSeries, refusal: full}
	}
	return g
}

// marking makes the effect one of nothing but marks. For a duplicate it does not even change those, and yet it is logged: once
// it is durable, so is all that came before.
func marking(key grouping.Key, g *group, e *Effect) {
	e.Operation, e.Key, e.Seen = change.Mark, key, versionOf(g)
}

// rejectedBefore returns why the last push to the group was rejected, as far as that is known.
func rejectedBefore(g *group) string {
	if g != nil && g.state.noted().reason != "" {
		return g.state.noted().reason
	}
	return "it was rejected when it came first"
}

// record completes an effect with the marks that follow from it, and hands it to the log.
func (s *Store) record(e *Effect, d *draft, rejected bool) (wait func(context.Context) error, err error) {
	if !e.Key.IsZero() {
		e.marks = s.marksAt(e.Key.Canonical())
	}
	if d.change.Origin != nil && !e.Key.IsZero() {
		e.marks = s.moved(e.marks, d, rejected)
	}
	if s.log == nil {
		return nil, nil
	}
	return s.log.Append(s.position+1, *e)
}
