package spool

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/history"
)

// A StoreID identifies the store of a relay: the groups that were sent to one need not be sent to it again (T17). The zero
// value is that of a relay that was never met.
type StoreID [16]byte

// String returns the id in hexadecimal; empty for the zero value.
func (id StoreID) String() string {
	if id == (StoreID{}) {
		return ""
	}
	return hex.EncodeToString(id[:])
}

// cursor is how far one relay is. It belongs to the relay's store and not to its address; one of a relay that was not met yet
// waits under the address for the store's id. It is guarded by Spool.mu.
type cursor struct {
	slot      int
	id        StoreID
	addresses []string // of the configured ones, where the store was met last
	// highest is the highest sequence of the current journal that the relay decided, digest that change's.
	highest uint64
	digest  change.Digest
	// confirmed is the newest change of the store that a verdict has told of. A store whose history does not have it was put back to an
	// older copy.
	confirmed history.Point
	// withdrawn are the changes above it that nobody gets any more, and that the relay may have decided all the same: they were
	// under way to it. It is replaced whole.
	withdrawn []Decided

	pending int    // changes that the relay has still to decide
	oldest  *entry // the first of them

	// Of the sessions with the relay.
	feeds []*Feed // the first sends
	// copies are sessions with relays that run on a copy of the store which went on apart: nothing is sent to them while there are feeds.
	copies []*Feed
	// putBackAt is when the store was last found to be put back, in this life; the zero time for never.
	putBackAt time.Time
	ready     []*group
	held      map[*group]*time.Timer
}

// decided says that the relay has decided a change of the current journal.
func (cur *cursor) decided(d Decided) {
	if d.Sequence <= cur.highest {
		return
	}
	cur.highest, cur.digest = d.Sequence, d.Digest
	above := []Decided(nil)
	for _, w := range cur.withdrawn {
		if w.Sequence > d.Sequence {
			above = append(above, w)
		}
	}
	cur.withdrawn = above
}

// attached are the relays that there is a session with.
func (s *Spool) attached() relays {
	var all relays
	for _, cur := range s.cursors {
		if cur != nil && len(cur.feeds) > 0 {
			all |= of(cur.slot)
		}
	}
	return all
}

// known are all relays.
func (s *Spool) known() relays {
	var all relays
	for _, cur := range s.cursors {
		if cur != nil {
			all |= of(cur.slot)
		}
	}
	return all
}

func (s *Spool) cursorOf(match func(*cursor) bool) *cursor {
	for _, cur := range s.cursors {
		if cur != nil && match(cur) {
			return cur
		}
	}
	return nil
}

// configure makes the cursors those of the configured relays: it drops those that are configured no more (T17) and adds one
// for each address where nobody was met yet. It is called once, after the journal is read.
func (s *Spool) configure(addresses []string) error {
	for _, cur := range s.cursors {
		if cur == nil {
			continue
		}
		cur.addresses = slices.DeleteFunc(cur.addresses, func(a string) bool { return !slices.Contains(addresses, a) })
		if len(cur.addresses) > 0 {
			continue
		}
		if cur.pending > 0 {
			s.cfg.Logger.Warn("what waited for a relay that is configured no more is dropped",
				slog.String("store_id", cur.id.String()), slog.Int("changes", cur.pending))
		}
		s.drop(cur)
	}
	for _, address := range addresses {
		if s.cursorOf(func(c *cursor) bool { return slices.Contains(c.addresses, address) }) != nil {
			continue
		}
		if _, err := s.addCursor(StoreID{}, address); err != nil {
			return err
		}
	}
	return nil
}

// addCursor begins with a relay that has nothing of this agent: all changes are to be sent to it.
func (s *Spool) addCursor(id StoreID, address string) (*cursor, error) {
	slot := slices.Index(s.cursors[:], nil)
	if slot < 0 {
		stale := s.cursorOf(func(c *cursor) bool { return len(c.feeds) == 0 && len(c.addresses) == 0 })
		if stale == nil {
			return nil, fmt.Errorf("the spool cannot keep more than %d relays apart", maxRelays)
		}
		slot = stale.slot
		s.drop(stale)
	}
	cur := &cursor{slot: slot, id: id, addresses: []string{address}, held: map[*group]*time.Timer{}}
	s.journal.note(cursorRecord(cur, newCursor))
	s.install(cur)
	return cur, nil
}

// install puts a new cursor in its place, behind all changes. Notes of failed pushes are not for it: it never had a say in
// those.
func (s *Spool) install(cur *cursor) {
	s.cursors[cur.slot] = cur
	for c := range s.order.all() {
		if c.isContent() {
			s.owe(cur, c)
		}
	}
}

// drop forgets a relay.
func (s *Spool) drop(cur *cursor) {
	s.journal.note(appendDropped(nil, cur.slot))
	s.uninstall(cur)
	for _, g := range s.groups {
		s.compact(g)
	}
}

func (s *Spool) uninstall(cur *cursor) {
	s.cursors[cur.slot] = nil
	for c := range s.order.all() {
		if c.undecided.has(cur.slot) {
			s.settle(cur, c)
		}
		c.sent &^= of(cur.slot)
	}
	for _, g := range s.groups {
		g.queued, g.busy, g.held = g.queued&^of(cur.slot), g.busy&^of(cur.slot), g.held&^of(cur.slot)
	}
}

// meet returns the cursor of the store that answers at an address. If that was another one before, inherited is how far it had
// decided: the relay may have been restored from a backup, and then knows numbers up to there.
func (s *Spool) meet(address string, id StoreID) (cur *cursor, inherited uint64, err error) {
	at := s.cursorOf(func(c *cursor) bool { return slices.Contains(c.addresses, address) })
	same := s.cursorOf(func(c *cursor) bool { return c.id == id })
	switch {
	case same != nil && same == at:
		return same, 0, nil
	case same != nil: // another address of the same store, or a relay that is back: they share the cursor
		s.leave(at, address)
		same.addresses = append(same.addresses, address)
		s.journal.note(cursorRecord(same, knownCursor))
		return same, 0, nil
	case at != nil && at.id == (StoreID{}):
		at.id = id
		s.journal.note(cursorRecord(at, knownCursor))
		return at, 0, nil
	case at != nil:
		s.cfg.Logger.Warn("relay has another store than before: it gets all groups anew",
			slog.String("addr", address), slog.String("store_id", id.String()), slog.String("before", at.id.String()))
		inherited = at.highest
		s.leave(at, address)
	}
	cur, err = s.addCursor(id, address)
	return cur, inherited, err
}

// leave takes an address away from a cursor. One that nobody was met under goes with it; any other stays until the next
// start, because its relay may come back.
func (s *Spool) leave(cur *cursor, address string) {
	switch {
	case cur == nil:
	case cur.id == (StoreID{}):
		s.drop(cur)
	default:
		cur.addresses = slices.DeleteFunc(cur.addresses, func(a string) bool { return a == address })
		s.journal.note(cursorRecord(cur, knownCursor))
	}
}

// name is what people know the relay by.
func (cur *cursor) name() string {
	switch {
	case cur == nil:
		return "that is gone"
	case len(cur.addresses) > 0:
		return cur.addresses[0]
	default:
		return cur.id.String()
	}
}

// decidedThrough is the floor of the relay: all changes up to that sequence are decided.
func (s *Spool) decidedThrough(cur *cursor) uint64 {
	if cur.oldest == nil {
		return s.journal.sequence
	}
	return cur.oldest.sequence - 1
}
