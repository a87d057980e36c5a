package spool

import (
	"encoding/hex"
	"iter"
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

// cursor is how far one relay is. It belongs to the relay's store and not to its address. One of a relay that was not met yet
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
	// withdrawn are the changes above highest that nobody gets any more, and that were under way to the relay: it may have decided
	// them all the same. It is replaced whole.
	withdrawn []Decided
	later     string // fields of a later release

	pending int    // changes that the relay has still to decide
	oldest  *entry // the first of them

	// Of the sessions with the relay.
	feeds []*Feed // the first sends
	// copies are sessions with relays that run on a copy of the store which went on apart: nothing is sent to them while there are feeds.
	copies []*Feed
	// putBackAt is when the store was last found to be put back, in this life; the zero time for never.
	putBackAt time.Time
	ready     []*group               // the queue: those that have a change for the relay, whose turn it is
	held      map[*group]*time.Timer // those that the relay asked for later
}

// advance moves the cursor to the newest change of the current journal that the relay has decided.
func (cur *cursor) advance(d Decided) {
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

// slots are the cursors of the relays that the spool knows, each in its slot; nil where there is none. They are guarded by
// Spool.mu.
type slots [maxRelays]*cursor

// all yields every cursor.
func (sl *slots) all() iter.Seq[*cursor] {
	return func(yield func(*cursor) bool) {
		for _, cur := range sl {
			if cur != nil && !yield(cur) {
				return
			}
		}
	}
}

// have says that a cursor is still that of its relay.
func (sl *slots) have(cur *cursor) bool { return sl[cur.slot] == cur }

// find returns the first cursor that matches; nil if there is none.
func (sl *slots) find(match func(*cursor) bool) *cursor {
	for cur := range sl.all() {
		if match(cur) {
			return cur
		}
	}
	return nil
}

// known are all relays.
func (sl *slots) known() relays { return sl.which(func(*cursor) bool { return true }) }

// reachable are the relays that have an address.
func (sl *slots) reachable() relays {
	return sl.which(func(cur *cursor) bool { return len(cur.addresses) > 0 })
}

// attached are the relays that there is a session with.
func (sl *slots) attached() relays {
	return sl.which(func(cur *cursor) bool { return len(cur.feeds) > 0 })
}

// haveSession says whether there is a session with a relay's address. One that takes over begins before the other ends.
func (sl *slots) haveSession(relay string) bool {
	isThere := func(f *Feed) bool { return f.to.Relay == relay }
	return sl.find(func(cur *cursor) bool {
		return slices.ContainsFunc(cur.feeds, isThere) || slices.ContainsFunc(cur.copies, isThere)
	}) != nil
}

// which are the relays whose cursor matches.
func (sl *slots) which(match func(*cursor) bool) relays {
	var which relays
	for cur := range sl.all() {
		if match(cur) {
			which |= of(cur.slot)
		}
	}
	return which
}
