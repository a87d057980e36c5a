package spool

import (
	"cmp"
	"log/slog"
	"time"

	"pushrelay/internal/change"
)

// defaultRetry is when a change is tried again that a relay wants later, unless the relay says when.
const defaultRetry = time.Second

// retrySpread is how far apart changes at least are tried again that one relay wants later, on average.
const retrySpread = time.Millisecond

// Decide notes the relay's verdict on a change. One that is not final holds back the change's group alone.
func (f *Feed) Decide(c *Transfer, o change.Outcome) {
	s := f.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	f.land(c)
	cur := f.cursor
	if !s.cursors.have(cur) {
		return
	}
	c.point = o.Decided
	g := c.change.group
	g.busy &^= of(cur.slot)
	switch {
	case !c.change.undecided.has(cur.slot):
		f.withdrawn(c, o)
	case o.IsTaken():
		f.applied(c, o)
	case o.IsFinal():
		f.rejected(c, o)
	default:
		// Of what is full it is certain that the relay does not have the change. Anything else may stand for one that is in doubt: see change.TimedOut.
		if o.Kind == change.Full {
			c.notSent(cur)
		}
		c.change.answer.tell(cur, reply{detail: "relay " + cur.name() + " takes it later: " + o.Detail})
		f.hold(g, o)
	}
	s.groups.compact(g)
	cur.enqueue(g)
	s.groups.dropIfEmpty(g)
	s.groups.trimDeletions()
}

// applied notes that the relay has a change.
func (f *Feed) applied(c *Transfer, o change.Outcome) {
	s, cur := f.spool, f.cursor
	s.groups.resolve(cur, c.change)
	f.record(c, appliedDecision)
	c.change.applied = true
	if c.change.owner != "" && o.Detail != "" { // pushers of their own are told by none
		c.change.hidden = cmp.Or(c.change.hidden, f.attributed(o.Detail))
	}
	c.change.answer.tell(cur, reply{applied: true, unchecked: o.Kind == change.Unchecked})
}

// rejected notes a final refusal. A pusher who waits is told, and then nobody gets the change any more (T16). For anybody else
// it comes too late, and what the change replaced is lost (T15).
func (f *Feed) rejected(c *Transfer, o change.Outcome) {
	s, cur := f.spool, f.cursor
	s.groups.resolve(cur, c.change)
	f.record(c, rejectedDecision)
	if a := c.change.answer; a != nil {
		withdrawn := s.journal.note(appendVerdict(nil, verdict{slot: cur.slot, sequence: c.change.sequence, decision: withdrawnDecision}))
		s.groups.withdraw(c.change)
		refusal := o
		refusal.Detail = f.attributed(o.Detail)
		a.refuse(&refusal, withdrawn)
		return
	}
	switch {
	case o.Kind == change.Superseded:
		f.superseded(c.change)
	case c.change.isContent():
		f.rejectedLate(c.change, o.Detail)
	}
	if c.change.undecided == 0 && !c.change.applied {
		s.groups.remove(c.change)
	}
}

// attributed adds to what the relay says which one it is, where there are several.
func (f *Feed) attributed(detail string) string {
	if len(f.spool.cfg.Relays) <= 1 {
		return detail
	}
	return "relay " + f.cursor.name() + ": " + detail
}

// superseded counts and logs a push that waited for too long: a newer one of this agent's identity has effect at the relay. It is
// lost, and nobody misses it.
func (f *Feed) superseded(c *entry) {
	s := f.spool
	s.metrics.superseded.Inc()
	s.cfg.Logger.Info("a newer push of this agent has replaced one that waited: does another process run with the same certificate, or was the data dir put back to an older copy?",
		slog.String("addr", f.cursor.name()), slog.String("grouping_key", c.group.key.String()), slog.Time("pushed_at", c.pushedAt))
}

// rejectedLate counts, lists and logs a push that was rejected too late.
func (f *Feed) rejectedLate(c *entry, reason string) {
	s := f.spool
	s.metrics.lost.Inc()
	s.cfg.Logger.Warn("relay rejected a push that had been answered 202: it is lost, and what it replaced",
		slog.String("addr", f.cursor.name()), slog.String("grouping_key", c.group.key.String()), slog.Time("pushed_at", c.pushedAt), slog.String("err", reason))
	s.rejections.add(f.cursor, c, reason)
}

// withdrawn notes a verdict on a change that was withdrawn meanwhile. The relay has counted it, and will name its number
// when the next session begins. If the journal has begun anew since, the number may be another change's.
func (f *Feed) withdrawn(c *Transfer, o change.Outcome) {
	switch {
	case !o.IsFinal():
	case c.journal != f.spool.journal.id:
		f.spool.metrics.sent.Inc()
	default:
		f.record(c, rejectedDecision) // Which verdict it was is of no use to anybody.
	}
}

// record writes a final verdict down.
func (f *Feed) record(c *Transfer, d decision) {
	s, cur := f.spool, f.cursor
	if c.journal == s.journal.id {
		cur.advance(Decided{c.Origin.Sequence, c.Origin.Digest})
	}
	s.journal.noteSoon(verdict{slot: cur.slot, sequence: c.change.sequence, decision: d, point: cur.confirm(c.point)})
	s.metrics.sent.Inc()
}

// hold keeps a group back from the relay for a while.
func (f *Feed) hold(g *group, o change.Outcome) {
	s, cur := f.spool, f.cursor
	retry := defaultRetry
	if o.RetryAfter > 0 {
		retry = o.RetryAfter
	}
	s.cfg.Logger.Debug("relay wants a change later", slog.String("addr", cur.name()), slog.String("grouping_key", g.key.String()), slog.String("err", o.Detail))
	// Of many groups none is due so soon that a relay which puts all off has the agent send all the time.
	retry = max(retry, time.Duration(len(cur.held))*retrySpread)
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
