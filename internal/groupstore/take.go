package groupstore

import (
	"context"
	"sync"

	"pushrelay/internal/change"
)

// take decides a draft, logs what follows and applies it, in one critical section (S6): nothing else changes a store that is in use. The
// function that is returned waits until that is durable; it may be nil. An error of the log means that nothing has changed.
func (s *Store) take(x *decision) (wait func(context.Context) error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.Store, x.group = s, s.groups.byKey[x.key.Canonical()]
	x.standing = s.lives.standingOf(x.group)
	if x.change.Origin != nil {
		x.source = s.origins.sourceOfJournal(x.change.Agent, x.change.Origin.Journal)
	}
	if x.slipped = !x.stands(); x.slipped {
		return nil, nil
	}
	current := x.change.Current == nil || x.change.Current()
	if current && x.isOutOfTurn() {
		x.found, x.refusal = OtherSeries, change.Refuse(change.OutOfTurn, "a push before this one was not taken")
		return nil, nil
	}
	if !x.answered() {
		if !x.isWanted(current) {
			return nil, nil
		}
		x.found = OtherSeries
		if !current {
			x.refusal = notCurrent()
			return nil, nil
		}
		if err := x.decideAlone(); err != nil {
			return nil, err
		}
		x.remember()
	}
	if x.effect.Operation == 0 {
		return nil, nil
	}
	x.completeMarks()
	if wait, err = s.appender.Append(s.position+1, x.effect); err != nil {
		return nil, err
	}
	s.position++
	s.commit(&x.effect, x.group)
	x.verdict.position = s.position
	return wait, nil
}

// decideAlone decides the draft, and deletes what is expired and in its way. An error of the log means that the draft has changed nothing.
func (x *decision) decideAlone() error {
	group := x.group
	for x.decide(); len(x.inTheWay) > 0; x.decide() {
		expired := x.inTheWay
		x.group, x.effect, x.verdict, x.inTheWay = group, Effect{}, verdict{found: OtherSeries}, nil
		if err := x.clear(expired); err != nil {
			return err
		}
	}
	return nil
}

// newDecision returns the decision of a draft. It is to be released.
func (s *Store) newDecision(d draft) *decision {
	x := s.decisions.Get().(*decision)
	x.draft = d
	return x
}

// release gives the decision back to the pool of its store.
func (x *decision) release(pool *sync.Pool) {
	*x = decision{}
	pool.Put(x)
}

// A decision is what comes of a draft, with everything known (S1): an effect, which may be none, and a verdict. It changes nothing; it is made
// under the store's lock. There is one for each push that is under way, and its memory is used again.
type decision struct {
	*Store
	draft
	verdict

	source   *source    // of the change's origin; nil without one
	group    *group     // that the effect is about: the one that is there, or a new one; nil for none
	standing standing   // of the one that is there
	effect   Effect     // the zero effect is none
	inTheWay []obstacle // what must be removed before the effect can be
	slipped  bool       // the footing is not there any more
}

// isWanted says whether the group is as the content of the change wants it.
func (x *decision) isWanted(current bool) bool {
	return (x.version == 0 || versionOf(x.group) == x.version || x.isDuplicate()) && (x.known == nil || current && x.takesValues())
}

// isOutOfTurn says whether the change is to come after one that was not taken (change.Origin.After).
func (x *decision) isOutOfTurn() bool {
	if x.change.Origin == nil || x.change.Origin.After == 0 {
		return false
	}
	rejected, duplicate, sequence := x.covering()
	return !duplicate && (rejected || sequence < x.change.Origin.After)
}

// isDuplicate says whether the change was decided before: the group was as it wants it then.
func (x *decision) isDuplicate() bool {
	_, duplicate, _ := x.covering()
	return duplicate
}

// wipe decides that all groups go. Of a wipe that may come again a trace is left where no group is, under the zero key.
func (x *decision) wipe() {
	x.group = nil
	switch {
	case x.change.Origin == nil:
		x.effect.Operation = change.Wipe
	case x.isDuplicate():
		x.duplicate = true
		x.moveMark(nil)
	default:
		x.effect.Operation, x.effect.marks = change.Wipe, x.moved(nil, false)
	}
}

// decide decides the draft with regard to its origin. What is decided for good moves the mark in any case, in the same record (T12, T13); what
// may be taken later moves nothing.
func (x *decision) decide() {
	switch {
	case x.operation == change.Wipe:
		x.wipe()
		return
	case x.operation == change.Forget:
		x.forgetTraces()
		x.group = nil
		return
	case x.known != nil: // no origin is in the way
		x.replaceValues()
		x.found = SameSeries
		if x.refusal = x.unrecordable(); x.refusal != nil {
			x.effect = Effect{}
		}
		return
	}
	present := x.group
	rejected, duplicate, sequence := x.covering()
	switch {
	case duplicate && rejected && x.isSuperseded():
		x.duplicate, x.refusal = true, superseded()
	case duplicate:
		x.moveMark(present)
		if rejected && sequence == x.change.Origin.Sequence {
			x.rejected = rejectedBefore(present)
		}
		x.duplicate = true
		return
	case x.isSuperseded():
		x.refusal = superseded()
	case x.operation != change.Mark:
		x.judge()
		if o := x.unrecordable(); o != nil {
			x.effect, x.verdict, x.inTheWay, x.group = Effect{}, verdict{found: OtherSeries, refusal: o}, nil, nil
		}
	}
	later := x.refusal != nil && x.refusal.Kind == change.Full
	if x.effect.Operation == 0 && x.change.Origin != nil && !later {
		x.moveMark(present)
	}
	if full := x.leavesTooMany(); full != nil {
		x.effect, x.verdict = Effect{}, verdict{found: OtherSeries, refusal: full}
	}
}

// moveMark makes the effect one of nothing but marks. For a duplicate it does not even change those, and yet it is logged: once
// it is durable, so is all that came before.
func (x *decision) moveMark(g *group) {
	x.group = g
	x.effect.Operation, x.effect.Key, x.effect.Seen = change.Mark, x.key, versionOf(g)
}

// rejectedBefore returns why the last push to the group was rejected, as far as that is known.
func rejectedBefore(g *group) string {
	if g != nil && g.state.noted().reason != "" {
		return g.state.noted().reason
	}
	return "it was rejected when it came first"
}

// completeMarks completes the effect with the marks that follow from it.
func (x *decision) completeMarks() {
	e := &x.effect
	if e.Key.IsZero() {
		return
	}
	e.marks = x.origins.living(x.groups.marksAt(e.Key.Canonical()))
	if x.change.Origin != nil {
		e.marks = x.moved(e.marks, x.refusal != nil || x.operation == change.Mark)
	}
}
