package spool

import (
	"cmp"
	"log/slog"
	"time"

	"pushrelay/internal/change"
)

// defaultRetry is when a change is tried again that a relay wants later, unless the relay says when.
const defaultRetry = time.Second

// Decide takes the relay's verdict on a change. One that may pass holds back the change's group alone.
func (f *Feed) Decide(c *Transfer, o change.Outcome) {
	s := f.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(f.flying, c)
	cur := f.cursor
	if !s.cursors.have(cur) {
		return
	}
	c.decided = o.Decided
	g := c.change.group
	g.busy &^= of(cur.slot)
	switch {
	case !c.change.undecided.has(cur.slot):
		s.decidedInVain(cur, c, o)
	case o.IsTaken():
		s.decided(cur, c, appliedDecision)
		c.change.applied = true
		if c.change.owner != "" { // pushers of their own are told by none
			c.change.hidden = cmp.Or(c.change.hidden, s.said(cur, o.Detail))
		}
		c.change.answer.tell(cur, reply{applied: true, unchecked: o.Kind == change.Unchecked})
	case o.IsFinal():
		s.refused(cur, c, o)
	default:
		c.notSent(cur)
		c.change.answer.tell(cur, reply{detail: "relay " + cur.name() + " takes it later: " + o.Detail})
		s.hold(g, cur, o)
	}
	s.groups.compact(g)
	cur.enqueue(g)
	s.groups.dropIfEmpty(g)
	s.groups.trimDeletions()
}

// decided notes a final verdict.
func (s *Spool) decided(cur *cursor, c *Transfer, d decision) {
	s.groups.settle(cur, c.change)
	s.record(cur, c, d)
}

// record writes a final verdict down.
func (s *Spool) record(cur *cursor, c *Transfer, d decision) {
	if c.journal == s.journal.id {
		cur.decided(Decided{c.Origin.Sequence, c.Origin.Digest})
	}
	s.journal.noteSoon(verdict{slot: cur.slot, sequence: c.change.sequence, decision: d, point: cur.confirm(c.decided)})
	s.metrics.sent.Inc()
}

// decidedInVain notes a verdict on a change that was withdrawn meanwhile. The relay has counted it, and will name its number
// when the next session begins. If the journal has begun anew since, the number may be another change's.
func (s *Spool) decidedInVain(cur *cursor, c *Transfer, o change.Outcome) {
	switch {
	case !o.IsFinal():
	case c.journal != s.journal.id:
		s.metrics.sent.Inc()
	default:
		s.record(cur, c, rejectedDecision) // Which verdict it was is of no use to anybody.
	}
}

// refused takes a final refusal. A pusher who waits is told, and then nobody gets the change any more (T16); for anybody else
// it comes too late, and what the change replaced is lost (T15).
func (s *Spool) refused(cur *cursor, c *Transfer, o change.Outcome) {
	s.decided(cur, c, rejectedDecision)
	if a := c.change.answer; a != nil {
		withdrawn := s.journal.note(appendVerdict(nil, verdict{slot: cur.slot, sequence: c.change.sequence, decision: withdrawnDecision}))
		s.groups.withdraw(c.change)
		a.refuse(s.named(cur, o), withdrawn)
		return
	}
	switch {
	case o.Kind == change.Superseded:
		s.superseded(cur, c.change)
	case c.change.isContent():
		s.lateRejection(cur, c.change, o.Detail)
	}
	if c.change.undecided == 0 && !c.change.applied {
		s.groups.remove(c.change)
	}
}

// hold keeps a group back from a relay for a while.
func (s *Spool) hold(g *group, cur *cursor, o change.Outcome) {
	retry := defaultRetry
	if o.RetryAfter > 0 {
		retry = o.RetryAfter
	}
	s.cfg.Logger.Debug("relay wants a change later", slog.String("addr", cur.name()), slog.String("grouping_key", g.key.String()), slog.String("err", o.Detail))
	g.held |= of(cur.slot)
	var timer *time.Timer
	timer = time.AfterFunc(retry, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.cursors.have(cur) && cur.held[g] == timer {
			delete(cur.held, g)
			g.held &^= of(cur.slot)
			cur.enqueue(g)
		}
	})
	cur.held[g] = timer
	for _, c := range g.changes {
		cur.tellHeld(c)
	}
}

// tellHeld tells the pusher of a change that its group waits until the relay takes an earlier change.
func (cur *cursor) tellHeld(c *entry) {
	if c.undecided.has(cur.slot) {
		c.answer.tell(cur, reply{detail: "relay " + cur.name() + " takes an earlier push of the group later"})
	}
}
