package spool

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/wal"
)

// Recover locks the directory and fills the spool with what it holds. It must be called once, before anything else. An error
// is one of [wal.Open], or tells that the journal is not understood. Nothing on the disk was changed then.
func (s *Spool) Recover(ctx context.Context) error {
	lost, err := s.recover(ctx)
	if err == nil && lost {
		// Otherwise it would be told, and all be sent again, at every start.
		if err := s.snapshot(ctx); err != nil {
			s.cfg.Logger.Warn("no snapshot of the spool could be made: what is lost will be told again at the next start", slog.Any("err", err))
		}
	}
	return err
}

// recover is Recover, and reports whether a part of the journal is lost.
func (s *Spool) recover(ctx context.Context) (lost bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Dir != "" {
		if lost, err = s.openJournal(ctx); err != nil {
			return false, err
		}
	}
	if s.journal.id == (JournalID{}) {
		s.journal.id = newJournalID()
		s.journal.note(journalRecord(s.journal.id, 0, nil))
	}
	s.door.remembered.configure(s.cfg.Relays)
	if err := s.cursors.configure(s.cfg.Relays); err != nil {
		return false, err
	}
	s.groups.recount()
	s.groups.compactAll()
	s.groups.trimDeletions()
	return lost, nil
}

// openJournal reads the journal, and reports whether a part of it is lost. The caller holds the lock.
func (s *Spool) openJournal(ctx context.Context) (lost bool, err error) {
	start := time.Now()
	r := &replay{s: s, numbered: map[uint64]*entry{}}
	found, err := s.journal.open(ctx, r)
	if err != nil {
		return false, err
	}
	for c := range s.groups.order.all() {
		r.noteSent(c)
	}
	s.cfg.Logger.Info("spool recovered", slog.Int("groups", len(s.groups.byKey)), slog.Int64("bytes", s.groups.bytes),
		slog.Uint64("sequence", s.journal.sequence), slog.Duration("duration", time.Since(start)))
	s.journal.tell(&found)
	if found.Lossy {
		// What is missing may have been numbers, or verdicts: neither can be relied on.
		s.cfg.Logger.Error("a part of the journal is lost: what is left is sent again, under a new journal")
		s.cursors.renew(nil, "a part of it is lost")
	}
	return found.Lossy, nil
}

// replay makes a spool of payloads. Where a part of the journal is lost, payloads may speak of relays and changes that are
// not there: they change nothing.
type replay struct {
	s        *Spool
	numbered map[uint64]*entry // by sequence; also those that are gone since
	writer   writer            // of what comes next
	// sentThrough says, by the slot of a relay, up to which sequence all that waits for it may have been sent.
	sentThrough [maxRelays]uint64
	lossy       bool      // something was missing before what is read
	newest      time.Time // of the last change
}

// replay returns what the payloads of the journal are applied by.
func (r *replay) replay() wal.Replay {
	return wal.Replay{
		Snapshot: r.apply, Appended: r.apply,
		Missing: func() { r.lossy = true },
		Newest:  func() time.Time { return r.newest },
	}
}

// apply applies a payload of the snapshot or of the journal after it.
func (r *replay) apply(payload []byte) (err error) {
	if len(payload) == 0 {
		return errRecord
	}
	kind, b := storagev1.SpoolPayloadKind(payload[0]), payload[1:]
	switch kind {
	case changePayload:
		err = r.change(b)
	case verdictPayload:
		err = r.verdict(b)
	case cursorPayload:
		err = r.cursor(b)
	case droppedPayload:
		err = r.atCursor(b, decodeDropped, r.dropped)
	case attachPayload:
		err = r.atCursor(b, decodeAttach, r.attached)
	case journalPayload:
		err = r.journal(b)
	case writerPayload:
		err = r.wrote(b)
	case settingsPayload:
		err = r.settings(b)
	case forgottenPayload:
		err = r.forgotten(b)
	default:
		err = fmt.Errorf("a payload of the unknown kind %q: it was written by a later version", payload[0])
	}
	if err != nil {
		return fmt.Errorf("reading the journal: %w", r.writer.written(err))
	}
	return nil
}

// wrote notes which release wrote what follows.
func (r *replay) wrote(b []byte) (err error) {
	w, err := decodeWriter(b)
	if err == nil {
		r.writer = w
	}
	return err
}

func (r *replay) settings(b []byte) error {
	address, st, err := decodeSettings(b)
	if err == nil {
		r.s.door.remembered.byAddress[address] = st
	}
	return err
}

func (r *replay) forgotten(b []byte) error {
	address, err := decodeForgotten(b)
	if err == nil {
		delete(r.s.door.remembered.byAddress, address)
	}
	return err
}

// change adds a change. It makes nothing pointless before the journal is read to its end: it may have been withdrawn.
func (r *replay) change(b []byte) error {
	c, key, undecided, err := decodeChange(b)
	if err != nil {
		return err
	}
	if c.from != 0 && r.restated(c) {
		return nil
	}
	c.from = 0 // The journal has it as it is.
	r.newest = c.pushedAt
	if c.group = r.s.groups.byKey[key]; c.group == nil {
		c.group = &group{key: key}
	}
	r.numbered[c.sequence] = c
	r.s.journal.sequence = max(r.s.journal.sequence, c.sequence)
	r.s.groups.insert(c, undecided&r.s.cursors.known())
	return nil
}

// restated puts a change in the place of the one of the same number, and of those that were added up in it. It reports false where that is
// missing.
func (r *replay) restated(c *entry) bool {
	old := r.numbered[c.sequence]
	if old == nil || old.group == nil || r.s.groups.byKey[old.group.key] != old.group {
		return false
	}
	gs := &r.s.groups
	for _, part := range slices.Clone(old.group.changes) {
		if part.operation.IsOnto() && part.sequence >= c.from && part.sequence < c.sequence {
			gs.remove(part)
		}
	}
	gs.bytes -= old.bytes()
	old.operation, old.gauges, old.format, old.body, old.bodyBytes, old.families = c.operation, c.gauges, c.format, c.body, c.bodyBytes, c.families
	old.life, old.failed, old.later = c.life, c.failed, c.later
	gs.bytes += old.bytes()
	return true
}

// attached says that all that waits for a relay may have been sent to it, in a session that begins.
func (r *replay) attached(cur *cursor) {
	cur.withdrawn = nil
	r.sentThrough[cur.slot] = r.s.journal.sequence
}

// noteSent notes for a change which relays it may have been sent to.
func (r *replay) noteSent(c *entry) {
	c.undecided.each(func(slot int) {
		if c.sequence <= r.sentThrough[slot] {
			c.sent |= of(slot)
		}
	})
}

func (r *replay) dropped(cur *cursor) {
	r.sentThrough[cur.slot] = 0
	r.s.cursors.uninstall(cur)
}

func (r *replay) atCursor(b []byte, decode func([]byte) (slot int, err error), f func(*cursor)) error {
	slot, err := decode(b)
	if err != nil {
		return err
	}
	if slot < maxRelays && r.s.cursors.slots[slot] != nil {
		f(r.s.cursors.slots[slot])
	}
	return nil
}

func (r *replay) cursor(b []byte) error {
	cur, a, err := decodeCursor(b)
	if err != nil {
		return err
	}
	old := r.s.cursors.slots[cur.slot]
	switch {
	case a == newCursor && old != nil:
		r.dropped(old)
	case old != nil:
		cur.pending, cur.oldest = old.pending, old.oldest
	}
	r.s.cursors.slots[cur.slot] = cur
	// What tells of the relay first may be missing; then nothing says that it has any of the changes.
	if a == newCursor || old == nil && r.lossy {
		r.s.cursors.install(cur)
	}
	return nil
}

func (r *replay) verdict(b []byte) error {
	v, err := decodeVerdict(b)
	if err != nil || v.slot >= maxRelays || r.s.cursors.slots[v.slot] == nil {
		return err
	}
	cur := r.s.cursors.slots[v.slot]
	cur.confirm(v.point)
	c := r.numbered[v.sequence]
	if c == nil {
		return nil
	}
	cur.advance(Decided{v.sequence, c.identity()})
	r.noteSent(c)
	parts := r.resolveThrough(c, cur)
	switch v.decision {
	case appliedDecision:
		for _, part := range parts {
			part.applied = true
		}
	case withdrawnDecision:
		r.s.groups.withdraw(c)
	default: // rejectedDecision: decodeVerdict lets no others pass
		for _, part := range parts {
			if part.undecided == 0 && !part.applied {
				r.s.groups.remove(part)
			}
		}
	}
	return nil
}

// resolveThrough notes that a relay has decided a change, and with it all earlier ones of the group. The relay gets them in order.
// One that it had not decided by then was pointless, and was dropped and never sent. Sent now, it could bring back what was
// deleted: the relay keeps the mark of a group that is gone only until all changes up to it are decided (T12). Of those that are onto something it
// may have been sent the sum: they are returned with the change, and share its fate.
func (r *replay) resolveThrough(c *entry, cur *cursor) (parts []*entry) {
	resolve := func(o *entry) {
		if o.undecided.has(cur.slot) {
			r.s.groups.resolve(cur, o)
			if o != c && o.operation.IsOnto() {
				parts = append(parts, o)
			}
		}
	}
	resolve(c)
	all := c.group.changes
	i, _ := slices.BinarySearchFunc(all, c.sequence, func(c *entry, sequence uint64) int { return cmp.Compare(c.sequence, sequence) })
	for _, earlier := range slices.Backward(all[:i]) {
		if earlier.isContent() && !earlier.undecided.has(cur.slot) {
			break // So are all before it.
		}
		resolve(earlier)
	}
	return append(parts, c)
}

func (r *replay) journal(b []byte) error {
	id, last, numbers, err := decodeJournal(b)
	if err != nil {
		return err
	}
	renumbered := make(map[uint64]uint64, len(numbers))
	for _, n := range numbers {
		renumbered[n[0]] = n[1]
	}
	r.s.cursors.begin(id, last)
	clear(r.numbered)
	for c := range r.s.groups.order.all() {
		r.noteSent(c)
		c.doubt()
		number, ok := renumbered[c.sequence]
		if !ok { // It was gone when the numbers were given.
			r.s.groups.remove(c)
			continue
		}
		c.sequence = number
		r.numbered[number] = c
	}
	r.sentThrough = [maxRelays]uint64{}
	return nil
}
