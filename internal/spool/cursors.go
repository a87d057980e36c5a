package spool

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
)

// cursors are the relays that the spool knows, and where they were met. A relay that comes, moves or goes does so here, in the
// journal and in the table of groups alike. They are guarded by Spool.mu, which the caller holds.
type cursors struct {
	// Static after New.
	logger  *slog.Logger
	resets  prometheus.Counter // of the journal
	journal *journal
	groups  *groups

	slots
}

// configure makes the cursors those of the configured relays: it drops those that are configured no more (T17) and adds one
// for each address where nobody was met yet. It is called once, after the journal is read.
func (cs *cursors) configure(addresses []string) error {
	for cur := range cs.all() {
		cur.addresses = slices.DeleteFunc(cur.addresses, func(a string) bool { return !slices.Contains(addresses, a) })
		if len(cur.addresses) > 0 {
			continue
		}
		if cur.pending > 0 {
			cs.logger.Warn("what waited for a relay that is configured no more is dropped",
				slog.String("store_id", cur.id.String()), slog.Int("changes", cur.pending))
		}
		cs.drop(cur)
	}
	for _, address := range addresses {
		if cs.find(func(c *cursor) bool { return slices.Contains(c.addresses, address) }) != nil {
			continue
		}
		if _, err := cs.add(StoreID{}, address); err != nil {
			return err
		}
	}
	return nil
}

// add begins with a relay that has nothing of this agent: all changes are to be sent to it.
func (cs *cursors) add(id StoreID, address string) (*cursor, error) {
	slot := slices.Index(cs.slots[:], nil)
	if slot < 0 {
		stale := cs.find(func(c *cursor) bool { return len(c.feeds) == 0 && len(c.addresses) == 0 })
		if stale == nil {
			return nil, fmt.Errorf("the spool cannot keep more than %d relays apart", maxRelays)
		}
		slot = stale.slot
		cs.drop(stale)
	}
	cur := &cursor{slot: slot, id: id, addresses: []string{address}, held: map[*group]*time.Timer{}}
	cs.journal.note(cursorRecord(cur, newCursor))
	cs.install(cur)
	return cur, nil
}

// install puts a new cursor in its place, behind all changes.
func (cs *cursors) install(cur *cursor) {
	cs.slots[cur.slot] = cur
	cs.groups.assignAll(cur)
}

// drop forgets a relay.
func (cs *cursors) drop(cur *cursor) {
	cs.journal.note(droppedRecord(cur.slot))
	cs.uninstall(cur)
	cs.groups.compactAll()
}

func (cs *cursors) uninstall(cur *cursor) {
	cs.slots[cur.slot] = nil
	cs.groups.resolveAll(cur)
}

// replace begins anew with a relay, as with one that has nothing of this agent.
func (cs *cursors) replace(cur, next *cursor) {
	cs.journal.note(cursorRecord(next, newCursor))
	cs.uninstall(cur)
	cs.install(next)
}

// begin begins a journal of which no relay knows anything yet.
func (cs *cursors) begin(id JournalID, last uint64) {
	cs.journal.id, cs.journal.sequence = id, last
	for cur := range cs.all() {
		cur.highest, cur.digest, cur.withdrawn = 0, change.Digest{}, nil
	}
}

// meet returns the cursor of the store that answers at an address. If that was another store before, inherited is the highest
// number that it had decided: the relay may have been restored from a backup, and then knows numbers up to there.
func (cs *cursors) meet(address string, id StoreID) (cur *cursor, inherited uint64, err error) {
	at := cs.find(func(c *cursor) bool { return slices.Contains(c.addresses, address) })
	same := cs.find(func(c *cursor) bool { return c.id == id })
	switch {
	case same != nil && same == at:
		return same, 0, nil
	case same != nil: // another address of the same store, or a relay that is back: they share the cursor
		cs.unbind(at, address)
		same.addresses = append(same.addresses, address)
		cs.journal.note(cursorRecord(same, knownCursor))
		return same, 0, nil
	case at != nil && at.id == (StoreID{}):
		at.id = id
		cs.journal.note(cursorRecord(at, knownCursor))
		return at, 0, nil
	case at != nil:
		cs.logger.Warn("relay has another store than before: it gets all groups anew",
			slog.String("addr", address), slog.String("store_id", id.String()), slog.String("before", at.id.String()))
		inherited = at.highest
		cs.unbind(at, address)
	}
	cur, err = cs.add(id, address)
	return cur, inherited, err
}

// unbind removes an address from a cursor. One that nobody was met under goes with it; any other stays until the next
// start, because its relay may come back.
func (cs *cursors) unbind(cur *cursor, address string) {
	switch {
	case cur == nil:
	case cur.id == (StoreID{}):
		cs.drop(cur)
	default:
		cur.addresses = slices.DeleteFunc(cur.addresses, func(a string) bool { return a == address })
		cs.journal.note(cursorRecord(cur, knownCursor))
	}
}
