package spool

import (
	"log/slog"
	"slices"
)

// verify compares what a relay knows of the journal with what the spool knows of itself. The relay may have seen a number that
// was never given, or another change under it. Then this spool is a copy that was restored, or that runs elsewhere too: the
// numbers are worth nothing, and the journal begins anew with what waits.
//
// A number is such a one too if the spool has no change for it and it is above all that the relay is known to have decided: it
// is better to send something twice than to miss it as a duplicate. Numbers up to inherited were decided by the store that the
// relay had before.
func (cs *cursors) verify(cur *cursor, told Decided, inherited uint64) {
	if told.Sequence == 0 || told.Sequence < cur.highest {
		return
	}
	if told.Sequence == cur.highest {
		if told.Digest != cur.digest {
			cs.renew(cur, "the relay knows another change under the number of the last one that it decided")
		}
		return
	}
	own := cs.groups.numbered(told.Sequence)
	switch {
	case told.Sequence > cs.journal.sequence:
		cs.renew(cur, "the relay has seen numbers that were not given yet")
	case own != nil && own.identity() == told.Digest, slices.Contains(cur.withdrawn, told), own == nil && told.Sequence <= inherited:
		cur.advance(told)
		cs.journal.note(cursorRecord(cur, knownCursor))
	default:
		cs.renew(cur, "the relay knows another change under a number that was given here")
	}
}

// renew begins a new journal: all changes get new numbers, in the order of the old ones.
func (cs *cursors) renew(cur *cursor, reason string) {
	id := newJournalID()
	cs.logger.Warn("the journal begins anew: the data dir is a copy that was restored, or runs on another host as well",
		slog.String("addr", cur.name()), slog.String("reason", reason), slog.String("journal", id.String()), slog.String("before", cs.journal.id.String()))
	cs.resets.Inc()
	var numbers numbering
	last := uint64(0)
	for c := range cs.groups.order.all() {
		cs.journal.restate(c)
		c.doubt()
		last++
		numbers = append(numbers, [2]uint64{c.sequence, last})
	}
	cs.journal.note(journalRecord(id, last, numbers))
	cs.begin(id, last)
	last = 0
	for c := range cs.groups.order.all() {
		last++
		c.sequence = last
	}
}

// doubt has those relays that a change may have reached under its old number get it in a way that does no harm twice.
func (c *entry) doubt() {
	if c.operation.IsOnto() {
		c.anew |= c.sent & c.undecided
	}
}
