package spool

import (
	"cmp"
	"slices"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
)

// Status is how the spool is.
type Status struct {
	Journal JournalID
	// Bytes is what the spool holds, MaxBytes what it may; 0 means no limit.
	Bytes, MaxBytes int64
	// Groups counts the groups that it knows, Entries the changes that some relay has still to decide. What is kept for a store
	// that no configured address leads to any more, in case that it comes back before the next start, is not among them.
	Groups, Entries int
	// Copies counts the sessions with relays that run on a copy of another relay's store; see [Spool.Attach].
	Copies int
	// Oldest is when the oldest of these was pushed; the zero time if there is none.
	Oldest time.Time
	// Failure is why the spool accepts nothing; nil if it does.
	Failure error
	// Relays are the relays that changes are kept for, also those that are gone: see Entries.
	Relays []RelayStatus

	notes map[string]string // by address
}

// RelayStatus is how far one relay is.
type RelayStatus struct {
	// Addresses are the configured ones where the relay was met last; none for one that is gone.
	Addresses []string
	// Store is the id of its store; zero if it was not met yet.
	Store StoreID
	// Pending counts the changes that it has still to decide.
	Pending int
}

// Pending returns how many changes wait for the relay at an address.
func (st *Status) Pending(relay string) int {
	for _, r := range st.Relays {
		if slices.Contains(r.Addresses, relay) {
			return r.Pending
		}
	}
	return 0
}

// Status returns how the spool is.
func (s *Spool) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Journal: s.journal.id, Bytes: s.groups.bytes, MaxBytes: s.cfg.MaxBytes, Groups: len(s.groups.byKey) - s.groups.deletions.groups(), Entries: s.groups.entries, Failure: s.journal.failure(), notes: map[string]string{}}
	var oldest *entry
	for cur := range s.cursors.all() {
		cur.notes(st.notes)
		st.Copies += len(cur.copies)
		st.Relays = append(st.Relays, RelayStatus{Addresses: slices.Clone(cur.addresses), Store: cur.id, Pending: cur.pending})
		if c := cur.oldest; c != nil && s.groups.reachable.has(cur.slot) && (oldest == nil || c.sequence < oldest.sequence) {
			oldest = c
		}
	}
	if oldest != nil {
		st.Oldest = oldest.pushedAt
	}
	return st
}

// Pending is what waits of one group for one relay.
type Pending struct {
	Key   grouping.Key
	Relay string
	// Changes counts them, and Bytes is the size of their bodies as they will be sent.
	Changes, Bytes int
	// Oldest is when the first of them was pushed.
	Oldest time.Time
}

// Pending returns what waits, by group and relay, the oldest first; as [Status].Entries it is without what is kept for a store
// that is gone.
func (s *Spool) Pending() []Pending {
	room := s.Status().Entries // the memory is there before the lock is held for long
	all := make([]Pending, 0, room+room/8)
	s.mu.Lock()
	all = s.groups.appendPending(all)
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b Pending) int {
		return cmp.Or(a.Oldest.Compare(b.Oldest), cmp.Compare(a.Key.Canonical(), b.Key.Canonical()), cmp.Compare(a.Relay, b.Relay))
	})
	return all
}

// appendPending appends them in no useful order: pushes have to wait for this.
func (gs *groups) appendPending(all []Pending) []Pending {
	for cur := range gs.slots.all() {
		if !gs.reachable.has(cur.slot) {
			continue
		}
		relay := cur.name()
		for c := range cur.pendingChanges() {
			if g := c.group; g.next(cur.slot) == c {
				all = append(all, g.pending(cur.slot, relay))
			}
		}
	}
	return all
}

// pending returns what waits of the group for a relay.
func (g *group) pending(slot int, relay string) Pending {
	p := Pending{Key: g.key, Relay: relay}
	for _, c := range g.changes {
		if !c.undecided.has(slot) {
			continue
		}
		if p.Changes == 0 {
			p.Oldest = c.pushedAt
		}
		p.Changes++
		p.Bytes += c.bodyBytes
	}
	return p
}

// Hidden returns the groups of an owner whose newest push a relay took and does not expose all of, with what it said. It is not
// known of pushes before the start.
func (s *Spool) Hidden(owner string) map[grouping.Key]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	hidden := map[grouping.Key]string{}
	for key, g := range s.groups.byKey {
		if c := g.newest(); c != nil && c.owner == owner && c.hidden != "" {
			hidden[key] = c.hidden
		}
	}
	return hidden
}

// keptRejections is how many late rejections are remembered for people. All are counted and logged.
const keptRejections = 100

// Rejection is a push that a relay rejected after its pusher had gone: what it replaced is lost.
type Rejection struct {
	At        time.Time
	Relay     string
	Key       grouping.Key
	Operation change.Operation
	// PushedAt is when the agent accepted the push.
	PushedAt time.Time
	Reason   string
}

// rejections are the last late ones since the start, the newest last. They are guarded by Spool.mu.
type rejections []Rejection

// add remembers that a relay rejected a change too late.
func (r *rejections) add(cur *cursor, c *entry, reason string) {
	if len(*r) == keptRejections {
		*r = slices.Delete(*r, 0, 1)
	}
	*r = append(*r, Rejection{
		At: time.Now(), Relay: cur.name(), Key: c.group.key, Operation: c.operation, PushedAt: c.pushedAt, Reason: reason,
	})
}

// Rejections returns the last late rejections since the start, the newest first.
func (s *Spool) Rejections() []Rejection {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Rejection(slices.Clone(s.rejections))
	slices.Reverse(all)
	return all
}
